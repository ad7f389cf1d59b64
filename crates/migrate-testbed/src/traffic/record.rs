//! What has been written stays: a file that grows by a line a second.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

/// Between two lines.
const EVERY: Duration = Duration::from_secs(1);

/// Adds a line a second to a file until SIGTERM, each on disk before the next:
/// its number, which goes on from the last line there, the seconds that the
/// machine is up, and those when this writer began. Fails on a file that does
/// not end with a whole line of its own: it adds nothing to damage.
pub(super) async fn record(file: &str) -> Result<(), String> {
    // As the first process of a container it would not be ended otherwise.
    let mut end = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let path = Path::new(file);
    let said = |error: std::io::Error| format!("{file}: {error}");
    let mut lines = open(path).map_err(said)?;
    let mut text = String::new();
    lines.read_to_string(&mut text).map_err(said)?;
    let mut number = last_number(&text).ok_or_else(|| format!("{file}: its end is no line"))?;
    let began = uptime()?;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = end.recv() => return Ok(()),
            _ = ticks.tick() => {}
        }
        number += 1;
        let line = format!("{number} {} {began}\n", uptime()?);
        lines.write_all(line.as_bytes()).map_err(said)?;
        lines.sync_all().map_err(said)?;
    }
}

/// The file, whose name is on disk too.
fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).read(true).open(path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(file)
}

/// The number of the last line, 0 if there is none yet.
fn last_number(text: &str) -> Option<u64> {
    if text.is_empty() {
        return Some(0);
    }
    let last = text.strip_suffix('\n')?.rsplit('\n').next()?;
    last.split(' ').next()?.parse().ok()
}

/// Goes on while the writer is away, and nobody sets it.
fn uptime() -> Result<String, String> {
    let said = std::fs::read_to_string("/proc/uptime");
    let said = said.map_err(|error| format!("/proc/uptime: {error}"))?;
    let up = said.split(' ').next();
    Ok(up.unwrap_or_default().to_owned())
}

#[test]
fn numbers_go_on_from_the_last_whole_line() {
    assert_eq!(last_number(""), Some(0));
    assert_eq!(last_number("1 5.00 4.00\n2 6.00 4.00\n"), Some(2));
    for damaged in ["1 5.00 4.00\n2 6.0", "1 5.00 4.00\n\n", "\0\0\n"] {
        assert_eq!(last_number(damaged), None, "{damaged:?}");
    }
}
