//! What the ledger has written: all of it is there, and it was away once.

use std::time::Duration;

use migrate_testbed::KubeadmCluster;

use super::objects::VOLUME;

/// Of the volume, as its pod names it.
pub(super) const LINES: &str = "lines";
/// How late a line a second may be on a busy machine.
const LATE: f64 = 5.0;
/// How long the ledger is down while its node is away: 21 to 32 s were measured.
pub(crate) const AWAY: Duration = Duration::from_secs(60);

/// A line: its number, when it was written, and when its writer began.
struct Line<'a> {
    number: u64,
    at: f64,
    writer: &'a str,
}

/// All lines, from the disk of the node that has the volume.
pub(crate) async fn read(cluster: &KubeadmCluster) -> String {
    let node = cluster.nodes().last().unwrap();
    let said = node.run(&["cat", &format!("{VOLUME}/{LINES}")]).await;
    String::from_utf8(said.unwrap().stdout).unwrap()
}

/// What is wrong with a ledger that was `before` and was moved once since; and
/// how many seconds it was away.
pub(crate) fn broken(before: &str, after: &str) -> Result<f64, String> {
    if before.is_empty() {
        return Err("nothing had been written".to_owned());
    }
    if !after.starts_with(before) {
        let kept = after.lines().zip(before.lines());
        let kept = kept.take_while(|(new, old)| new == old).count();
        return Err(format!(
            "of {} lines the first {kept} are kept",
            before.lines().count()
        ));
    }
    let mut away = Vec::new();
    let mut last: Option<Line<'_>> = None;
    for text in after.lines() {
        let line = Line::of(text).ok_or_else(|| format!("{text:?} is no line"))?;
        let number = last.as_ref().map_or(0, |last| last.number) + 1;
        if line.number != number {
            return Err(format!("{text:?} is not the line {number}"));
        }
        if let Some(last) = last {
            let pause = line.at - last.at;
            if line.writer != last.writer {
                away.push(pause);
            } else if !(0.0..=LATE).contains(&pause) {
                return Err(format!("{text:?} is {pause:.1} s behind the one before it"));
            }
        }
        last = Some(line);
    }
    match away[..] {
        [once] if (0.0..=AWAY.as_secs_f64()).contains(&once) => Ok(once),
        _ => Err(format!("it was away for {away:?} s, announced is once")),
    }
}

impl<'a> Line<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let mut words = text.split(' ');
        let line = Self {
            number: words.next()?.parse().ok()?,
            at: words.next()?.parse().ok()?,
            writer: words.next()?,
        };
        words.next().is_none().then_some(line)
    }
}

#[test]
fn a_ledger_that_has_lost_something_is_told() {
    let before = "1 10.0 9.0\n2 11.0 9.0\n";
    let moved = format!("{before}3 40.0 39.0\n4 41.0 39.0\n");
    assert_eq!(broken(before, &moved), Ok(29.0));
    let lost = "1 10.0 9.0\n";
    for (what, after, told) in [
        ("nothing", String::new(), "the first 0 are kept"),
        ("a line", lost.to_owned(), "the first 1 are kept"),
        (
            "another disk",
            "1 40.0 39.0\n".to_owned(),
            "the first 0 are kept",
        ),
        ("not moved", before.to_owned(), "announced is once"),
        (
            "twice",
            format!("{moved}5 50.0 49.0\n"),
            "announced is once",
        ),
        (
            "too long",
            format!("{before}3 99.0 98.0\n"),
            "announced is once",
        ),
        ("a hole", format!("{before}4 40.0 39.0\n"), "not the line 3"),
        ("again", format!("{before}2 40.0 39.0\n"), "not the line 3"),
        ("stalled", format!("{moved}5 50.0 39.0\n"), "9.0 s behind"),
        ("torn", format!("{moved}5 50"), "is no line"),
    ] {
        let error = broken(before, &after).unwrap_err();
        assert!(error.contains(told), "{what}: {error}");
    }
    assert!(broken("", &moved).is_err());
}
