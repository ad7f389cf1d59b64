//! What a script printed, framed so that nothing of it can be missing unseen.

use migrate_core::content_hash;

use super::super::Script;

/// Runs a script and frames what it prints: MARK SCRIPT ARGUMENT…
pub(super) const WRAPPER: &str = include_str!("frame.sh");

/// More than a whole frame is never read.
pub(super) const LONGEST: usize = (1 << 20) + (16 << 10) + (64 << 10);

/// How a framed script ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Framed {
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Whether a log, as far as it has been read, may have reached its end.
pub(super) fn may_be_whole(log: &[u8], mark: &str) -> bool {
    // The last line is far shorter.
    let tail = log.get(log.len().saturating_sub(512)..).unwrap_or_default();
    tail.ends_with(b"\n") && find(tail, format!("kube-migrate: end {mark} ").as_bytes()).is_some()
}

/// What a log has of a frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Reading {
    /// Nothing: what is there was said by what should have run the script.
    NotBegun,
    /// Not its end, or not all that its end says there is.
    Unfinished,
    /// All of it.
    Whole(Framed),
}

/// What is on the lines that frame the output of `script`. It hangs on the
/// script, which therefore cannot have it in its text.
pub(super) fn mark(script: &Script) -> String {
    content_hash(&(script.text(), script.arguments()))
}

/// Reads the log of a container from its beginning.
pub(super) fn read(log: &[u8], mark: &str) -> Reading {
    let begins = format!("kube-migrate: out {mark}\n");
    let Some(start) = find(log, begins.as_bytes()) else {
        return Reading::NotBegun;
    };
    let framed = log.get(start + begins.len()..).unwrap_or_default();
    whole(framed, mark).map_or(Reading::Unfinished, Reading::Whole)
}

fn whole(framed: &[u8], mark: &str) -> Option<Framed> {
    let ends = format!("\nkube-migrate: end {mark} ");
    let framed = framed.strip_suffix(b"\n")?;
    let end = framed
        .windows(ends.len())
        .rposition(|window| window == ends.as_bytes())?;
    let (printed, last) = framed.split_at_checked(end)?;
    let last = std::str::from_utf8(last.get(ends.len()..)?).ok()?;
    let number = |name: &str| {
        let mut words = last.split(' ');
        words.find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    };
    let (out, err): (usize, usize) = (number("out")?, number("err")?);
    if out.checked_add(err) != Some(printed.len()) {
        return None;
    }
    let (stdout, stderr) = printed.split_at_checked(out)?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Some(Framed {
        code: i32::try_from(number("code")?).ok()?,
        stdout: text(stdout),
        stderr: text(stderr),
    })
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;
    use crate::shell::tests::ODD;

    fn frame(out: &[u8], code: i32, err: &[u8]) -> Vec<u8> {
        let end = format!(
            "\nkube-migrate: end M out={} code={code} err={} \n",
            out.len(),
            err.len()
        );
        [b"kube-migrate: out M\n", out, err, end.as_bytes()].concat()
    }

    /// What the wrapper prints of a script.
    fn framed(script: &Script) -> (i32, Vec<u8>) {
        let mut bash = Command::new("bash");
        bash.args(["-c", WRAPPER, "bash"]);
        bash.arg(mark(script)).arg(script.text());
        let output = bash.args(script.arguments()).output().unwrap();
        assert_eq!(output.stderr, b"");
        (output.status.code().unwrap(), kept(&output.stdout))
    }

    /// What a container runtime keeps of it: it reads lines, and a carriage
    /// return before the end of one counts as a part of that.
    fn kept(printed: &[u8]) -> Vec<u8> {
        let lines = printed.split_inclusive(|byte| *byte == b'\n');
        let line = |line: &[u8]| match line.strip_suffix(b"\r\n") {
            Some(line) => [line, b"\n"].concat(),
            None => line.to_vec(),
        };
        lines.flat_map(line).collect()
    }

    fn run(script: &Script) -> Framed {
        let (code, log) = framed(script);
        assert_eq!(code, 0, "an exit code of the script is no error");
        match read(&log, &mark(script)) {
            Reading::Whole(framed) => framed,
            other => panic!("{other:?}: {}", String::from_utf8_lossy(&log)),
        }
    }

    proptest! {
        #[test]
        fn what_is_framed_comes_back(
            out in proptest::collection::vec(any::<u8>(), 0..200),
            err in proptest::collection::vec(any::<u8>(), 0..200),
            code in 0..256,
            said in "(nsenter: [a-z ]*\n)?",
        ) {
            let log = [said.as_bytes(), &frame(&out, code, &err)].concat();
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            let whole = Framed { code, stdout: text(&out), stderr: text(&err) };
            prop_assert_eq!(read(&log, "M"), Reading::Whole(whole));
        }

        /// A cut at either end, or a piece that is missing between.
        #[test]
        fn nothing_is_missing_unseen(
            out in proptest::collection::vec(any::<u8>(), 1..60),
            err in "(\nkube-migrate: end M )?[ -~\n]{0,30}",
            at in any::<prop::sample::Index>(),
            to in any::<prop::sample::Index>(),
        ) {
            let log = frame(&out, 3, err.as_bytes());
            let at_any = at.index(log.len());
            prop_assert_eq!(read(&log[at_any + 1..], "M"), Reading::NotBegun);
            prop_assert!(!matches!(read(&log[..at_any], "M"), Reading::Whole(_)));
            let (first, printed) = (b"kube-migrate: out M\n".len(), out.len() + err.len());
            let from = at.index(printed);
            let to = from + 1 + to.index(printed - from);
            let cut = [&log[..first + from], &log[first + to..]].concat();
            prop_assert_eq!(read(&cut, "M"), Reading::Unfinished);
        }
    }

    #[test]
    fn the_wrapper_frames_what_a_script_prints() {
        let print = r#"printf '%s\0' "$@"; printf 'no newline' >&2; exit 3"#;
        let framed = run(&Script::new(print).args(ODD));
        let words: Vec<&str> = framed.stdout.trim_end_matches('\0').split('\0').collect();
        assert_eq!(words, ODD);
        assert_eq!((framed.code, framed.stderr.as_str()), (3, "no newline"));
        let framed = run(&Script::new("exit 255"));
        assert_eq!((framed.code, framed.stdout.as_str()), (255, ""));
        let framed = run(&Script::new("kill -9 $$"));
        assert_eq!(framed.code, 137);
        // Neither the image's environment nor somebody's input.
        let framed = run(&Script::new(
            "cat; echo \"${CARGO_MANIFEST_DIR-none} $HOME\"",
        ));
        assert_eq!(framed.stdout, "none /root\n");
    }

    #[test]
    fn what_a_runtime_drops_is_not_missed() {
        let print = r"printf 'a\r\nb\r\r\nc\rd\r'; printf 'e\r\n' >&2";
        let framed = run(&Script::new(print));
        assert_eq!(framed.stdout, "a\nb\nc\rd");
        assert_eq!(framed.stderr, "e\n");
    }

    #[test]
    fn output_is_bounded() {
        let script = Script::new(
            "head -c 3000000 /dev/zero | tr '\\0' x; head -c 100000 /dev/zero | tr '\\0' y >&2; echo end >&2",
        );
        let (_, log) = framed(&script);
        assert!(log.len() <= LONGEST);
        let framed = run(&script);
        assert_eq!(framed.code, 0);
        assert_eq!(framed.stdout, "x".repeat(1 << 20));
        assert!(framed.stderr.len() == 16 << 10 && framed.stderr.ends_with("yend\n"));
    }

    #[test]
    fn a_script_that_prints_marks_ends_when_it_ends() {
        let script = Script::new("echo \"kube-migrate: end $1 out=0 code=0 err=0 \"; exit 4");
        let script = script.arg("0000");
        let framed = run(&script);
        assert_eq!(framed.code, 4);
        assert_eq!(
            framed.stdout,
            "kube-migrate: end 0000 out=0 code=0 err=0 \n"
        );
    }

    #[test]
    fn what_the_way_there_says_is_no_script() {
        assert_eq!(
            read(b"nsenter: failed to execute bash\n", "M"),
            Reading::NotBegun
        );
        assert_eq!(read(b"", "M"), Reading::NotBegun);
        assert_eq!(
            read(b"kube-migrate: out M\nbegun\n", "M"),
            Reading::Unfinished
        );
    }
}
