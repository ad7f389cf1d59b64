use std::path::{Path, PathBuf};

use migrate_core::{Phase, Target};

use super::*;
use crate::Local;

const SETSID: &str = include_str!("tests/setsid.sh");
const SOON: Duration = Duration::from_secs(30);

impl Layout {
    /// A node in a folder, with processes for units.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self {
            state: folder.join("state").display().to_string(),
            root: folder.join("root").display().to_string(),
            launcher: SETSID,
            patience: Duration::ZERO,
        }
    }
}

struct Bench {
    folder: tempfile::TempDir,
    steps: Steps,
}

/// Names that no file or unit could have.
const NODE: &str = "o'brien's \"node\" $(x)";
const RUN_ID: &str = "../run 1/%n";

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::in_folder(folder.path());
        let steps = Steps::new(Arc::new(Local::new(NODE)), layout, SOON);
        Self { folder, steps }
    }

    /// A step that notes that it ran, then does as `body` says in its folder.
    fn step(&self, plan: &str, body: &str) -> Step {
        let target = Target::Node {
            pool: "p".into(),
            node: NODE.into(),
        };
        let text = format!("cd \"$1\"; echo run >> ran; echo \"says: $2\"; {body}");
        Step {
            action: ActionId::new(plan, &target, Phase::Upgrade),
            script: Script::new(text)
                .arg(self.folder.path().display().to_string())
                .arg("it's \"quoted\" $(x)"),
            limit: SOON,
        }
    }

    async fn start(&self, epoch: u64, step: &Step, attempt: u32) -> Result<(), Error> {
        let fence = Fence::new(RUN_ID, epoch);
        self.steps.start(NODE, &fence, step, attempt).await
    }

    async fn probe(&self, step: &Step) -> Seen {
        self.look(step, Heard::default()).await.0
    }

    async fn look(&self, step: &Step, heard: Heard) -> (Seen, News) {
        let look = self.steps.look(NODE, RUN_ID, &step.action, heard);
        look.await.unwrap()
    }

    async fn settle(&self, step: &Step) -> Seen {
        loop {
            let seen = self.probe(step).await;
            if !matches!(seen, Seen::Running { .. }) {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn runs(&self) -> usize {
        let ran = std::fs::read_to_string(self.path("ran")).unwrap_or_default();
        ran.lines().count()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program of the node; `$w` is its folder.
    fn program(&self, name: &str, text: &str) {
        let bin = self.path("bin");
        std::fs::create_dir_all(&bin).unwrap();
        let text = format!("#!/bin/bash\nw=${{0%/bin/*}}\n{text}\n");
        crate::testing::executable(&bin.join(name), &text);
    }

    fn attempt_folder(&self, step: &Step, attempt: u32) -> PathBuf {
        self.path("state")
            .join(token(RUN_ID))
            .join(token(step.action.as_str()))
            .join(attempt.to_string())
    }

    /// Ends the process of an attempt, as a reboot would.
    async fn kill(&self, step: &Step) {
        let pid = std::fs::read_to_string(self.attempt_folder(step, 1).join("pid")).unwrap();
        let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        // Wait until the step itself runs, so that all of it is in the group.
        while self.runs() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let kill = rustix::process::Signal::KILL;
        let children = format!("/proc/{0}/task/{0}/children", pid.as_raw_nonzero());
        let children = std::fs::read_to_string(children).unwrap_or_default();
        rustix::process::kill_process_group(pid, kill).unwrap();
        for child in children.split_whitespace() {
            let child = rustix::process::Pid::from_raw(child.parse().unwrap()).unwrap();
            // `timeout` leads a group of its own.
            let _ = rustix::process::kill_process_group(child, kill);
        }
    }
}

#[tokio::test]
async fn a_step_leaves_its_code_and_its_log() {
    let bench = Bench::new();
    let step = bench.step("plan", "exit 3");
    assert_eq!(bench.probe(&step).await, Seen::Absent);
    bench.start(1, &step, 1).await.unwrap();
    match bench.settle(&step).await {
        Seen::Ended { attempt, code, log } => {
            assert_eq!((attempt, code), (1, 3));
            assert!(log.contains("says: it's \"quoted\" $(x)"), "{log}");
        }
        other => panic!("{other:?}"),
    }
    let mut names: Vec<String> = std::fs::read_dir(bench.path("state"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let run = token(RUN_ID);
    assert_eq!(names, [&run, "current", "fence", "lock", "step.lock"]);
}

#[tokio::test]
async fn lines_are_known_while_a_step_runs_and_each_once() {
    let bench = Bench::new();
    let step = bench.step("plan", "while [ ! -e go ]; do sleep 0.02; done; echo late");
    bench.start(1, &step, 1).await.unwrap();
    let running = Seen::Running { attempt: 1 };
    let mut heard = Heard::default();
    let first = loop {
        let (seen, news) = bench.look(&step, heard).await;
        assert_eq!(seen, running);
        heard = news.heard;
        if !news.lines.is_empty() {
            break news.lines;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(first, ["says: it's \"quoted\" $(x)"]);
    let (seen, news) = bench.look(&step, heard).await;
    assert_eq!((seen, news.lines), (running, Vec::new()));
    std::fs::write(bench.path("go"), "").unwrap();
    bench.settle(&step).await;
    let (_, news) = bench.look(&step, heard).await;
    assert_eq!(news.lines, ["late"]);
    let (_, news) = bench.look(&step, news.heard).await;
    assert_eq!(news.lines, [""; 0]);
}

#[tokio::test]
async fn starting_again_attaches() {
    let bench = Bench::new();
    let step = bench.step("plan", "while [ ! -e go ]; do sleep 0.02; done");
    // Several at once: one starts it, the others attach or find the lock held.
    let starts = (0..4).map(|_| bench.start(1, &step, 1));
    let results = futures::future::join_all(starts).await;
    assert!(results.iter().any(Result::is_ok), "{results:?}");
    bench.start(1, &step, 1).await.unwrap();
    assert_eq!(bench.probe(&step).await, Seen::Running { attempt: 1 });
    std::fs::write(bench.path("go"), "").unwrap();
    assert!(matches!(
        bench.settle(&step).await,
        Seen::Ended { code: 0, .. }
    ));
    bench.start(1, &step, 1).await.unwrap();
    assert_eq!(bench.runs(), 1);
    // A further attempt is another thing; an old start that arrives late is not.
    bench.start(1, &step, 2).await.unwrap();
    bench.settle(&step).await;
    bench.start(1, &step, 1).await.unwrap();
    assert!(matches!(
        bench.settle(&step).await,
        Seen::Ended { attempt: 2, .. }
    ));
    assert_eq!(bench.runs(), 2);
}

#[tokio::test]
async fn an_older_epoch_is_refused_by_the_node() {
    let bench = Bench::new();
    let step = bench.step("plan", "true");
    bench.start(7, &step, 1).await.unwrap();
    bench.settle(&step).await;
    let other = bench.step("other", "true");
    for (stale, attempt) in [(&step, 1), (&step, 2), (&other, 1)] {
        match bench.start(6, stale, attempt).await.unwrap_err() {
            Error::StaleEpoch { epoch: 6, held, .. } => assert!(held.starts_with("7 "), "{held}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bench.runs(), 1);
    // Attaching is acting: it stamps, so that the one before is shut out.
    bench.start(8, &step, 1).await.unwrap();
    let error = bench.start(7, &step, 2).await.unwrap_err();
    assert!(matches!(error, Error::StaleEpoch { .. }), "{error}");
    std::fs::write(bench.path("state/fence"), "what?").unwrap();
    let error = bench.start(9, &step, 2).await.unwrap_err();
    assert!(matches!(error, Error::StaleEpoch { .. }), "{error}");
    assert_eq!(bench.runs(), 1);
}

#[tokio::test]
async fn one_step_at_a_time() {
    let bench = Bench::new();
    let step = bench.step("plan", "while [ ! -e go ]; do sleep 0.02; done");
    bench.start(1, &step, 1).await.unwrap();
    let other = bench.step("other", "true");
    for (step, attempt) in [(&other, 1), (&step, 2)] {
        let error = bench.start(2, step, attempt).await.unwrap_err();
        assert!(matches!(error, Error::NodeBusy { .. }), "{error}");
    }
    assert_eq!(bench.probe(&other).await, Seen::Absent);
    std::fs::write(bench.path("go"), "").unwrap();
    bench.settle(&step).await;
    assert_eq!(bench.runs(), 1);
}

#[tokio::test]
async fn a_held_lock_is_not_passed() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("state")).unwrap();
    let step = bench.step("plan", "true");
    for name in ["lock", "step.lock"] {
        let lock = std::fs::File::create(bench.path("state").join(name)).unwrap();
        lock.lock().unwrap();
        let error = bench.start(1, &step, 1).await.unwrap_err();
        assert!(matches!(error, Error::NodeBusy { .. }), "{name}: {error}");
        assert_eq!(bench.probe(&step).await, Seen::Absent);
    }
    bench.start(1, &step, 1).await.unwrap();
    bench.settle(&step).await;
}

#[tokio::test]
async fn what_left_no_code_is_lost_and_can_be_tried_again() {
    let bench = Bench::new();
    let step = bench.step("plan", "[ -e go ] || exec sleep 1000");
    bench.start(1, &step, 1).await.unwrap();
    bench.kill(&step).await;
    match bench.settle(&step).await {
        Seen::Lost {
            attempt: 1,
            rebooted: false,
            log,
        } => assert!(log.contains("says:"), "{log}"),
        other => panic!("{other:?}"),
    }
    std::fs::write(
        bench.attempt_folder(&step, 1).join("boot"),
        "another boot\n",
    )
    .unwrap();
    let seen = bench.probe(&step).await;
    assert!(
        matches!(seen, Seen::Lost { rebooted: true, .. }),
        "{seen:?}"
    );
    std::fs::write(bench.path("go"), "").unwrap();
    bench.start(1, &step, 2).await.unwrap();
    let seen = bench.settle(&step).await;
    assert!(
        matches!(
            seen,
            Seen::Ended {
                attempt: 2,
                code: 0,
                ..
            }
        ),
        "{seen:?}"
    );
}

/// On a full disk it may be left empty; what counts is that it goes on.
#[tokio::test]
async fn an_empty_code_is_none() {
    let bench = Bench::new();
    let step = bench.step("plan", "true");
    bench.start(1, &step, 1).await.unwrap();
    bench.settle(&step).await;
    std::fs::write(bench.attempt_folder(&step, 1).join("exit"), "").unwrap();
    let seen = bench.probe(&step).await;
    assert!(matches!(seen, Seen::Lost { attempt: 1, .. }), "{seen:?}");
    bench.start(1, &step, 2).await.unwrap();
    bench.settle(&step).await;
    assert_eq!(bench.runs(), 2);
}

#[tokio::test]
async fn a_step_over_its_limit_is_ended() {
    let bench = Bench::new();
    let mut step = bench.step("plan", "sleep 1000");
    step.limit = Duration::from_secs(1);
    bench.start(1, &step, 1).await.unwrap();
    match bench.settle(&step).await {
        Seen::Ended { code: 124, log, .. } => {
            assert!(log.contains("did not end within 1s"), "{log}")
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn systemd_is_asked_for_a_unit_and_its_silence_is_no_answer() {
    let bench = Bench::new();
    bench.program(
        "systemd-run",
        r#"printf '%s\n' "$@" > "$w/words"
        while [ "$1" != -- ]; do shift; done
        shift
        setsid "$@" < /dev/null > /dev/null 2>&1 &"#,
    );
    bench.program(
        "systemctl",
        r#"printf '%s\n' "$@" > "$w/asked"; echo activating"#,
    );
    let path = format!(
        "{}:{}",
        bench.path("bin").display(),
        std::env::var("PATH").unwrap()
    );
    let layout = Layout {
        launcher: SYSTEMD,
        ..Layout::in_folder(bench.folder.path())
    };
    let shell = Local::new(NODE).with_path(path);
    let bench = Bench {
        steps: Steps::new(Arc::new(shell), layout, SOON),
        ..bench
    };
    let step = bench.step("plan", "while [ ! -e go ]; do sleep 0.02; done");
    bench.start(1, &step, 1).await.unwrap();
    assert_eq!(bench.probe(&step).await, Seen::Running { attempt: 1 });
    let unit = format!(
        "kube-migrate-{}-1",
        token(&format!("{RUN_ID}.{}", step.action))
    );
    let words = std::fs::read_to_string(bench.path("words")).unwrap();
    assert!(words.contains(&format!("\n--unit={unit}\n")), "{words}");
    let asked = std::fs::read_to_string(bench.path("asked")).unwrap();
    assert!(asked.ends_with(&format!("--\n{unit}.service\n")), "{asked}");

    // Neither lost nor free for another step: nobody knows.
    let dumb = "echo 'Failed to connect to bus' >&2; exit 1";
    bench.program("systemctl", dumb);
    let heard = Heard::default();
    let probe = bench.steps.look(NODE, RUN_ID, &step.action, heard).await;
    assert!(matches!(probe, Err(Error::StartFailed { .. })), "{probe:?}");
    let other = bench.start(1, &bench.step("other", "true"), 1).await;
    assert!(matches!(other, Err(Error::StartFailed { .. })), "{other:?}");

    bench.program("systemctl", "echo inactive");
    assert!(matches!(bench.probe(&step).await, Seen::Lost { .. }));
    std::fs::write(bench.path("go"), "").unwrap();
    while !bench.attempt_folder(&step, 1).join("exit").exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(matches!(
        bench.probe(&step).await,
        Seen::Ended { code: 0, .. }
    ));
}

#[test]
fn tokens_are_safe_and_differ() {
    let texts = ["a", "a b", "a_20b", ".", "..", "", "_", "a/b", "ä", "o'b"];
    let tokens: std::collections::BTreeSet<String> = texts.iter().map(|t| token(t)).collect();
    assert_eq!(tokens.len(), texts.len(), "{tokens:?}");
    let long: Vec<String> = ["x", "y"].map(|end| token(&("n".repeat(400) + end))).into();
    assert_ne!(long[0], long[1]);
    for token in tokens.iter().chain(&long) {
        assert!(token.len() <= 150 && !token.starts_with('.'));
        assert!(
            token
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        );
    }
}

#[test]
fn the_shell_text_is_well_formed() {
    let bench = Bench::new();
    let systemd = Steps::new(Arc::new(Local::new("n")), Layout::default(), SOON);
    for (name, text) in [
        ("files", FILES.to_owned()),
        ("systemd", SYSTEMD.to_owned()),
        ("fence", FENCE.to_owned()),
        ("start", START.to_owned()),
        ("run", RUN.to_owned()),
        ("probe", PROBE.to_owned()),
        ("whole", systemd.start_script("true")),
    ] {
        check(&bench.path(name), &text);
    }
    assert!(![FILES, RUN, FENCE, START].concat().contains(END));
}

/// That bash accepts `text`.
pub(crate) fn check(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    let output = std::process::Command::new("bash")
        .arg("-n")
        .arg(path)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
