//! Programs that are stopped (SIGSTOP) while they hold the run of a real
//! cluster, one before a cordon and one on its way to begin a step on a node, and
//! wake when another one holds it.

use std::path::PathBuf;
use std::time::Duration;

use migrate_core::Phase;
use migrate_executor::{Entry, Record};
use tokio::process::Child;
use tokio::time::{Instant, sleep};

use crate::lane::is_at_the_target;
use crate::real::program::JournalTail;
use crate::rig::{Rig, half_done, intents, signal};
use crate::{TARGET, figure};

/// No runner takes longer to come to a point, or to its end.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ten minutes; part of cargo xtask extended"]
async fn who_wakes_superseded_is_refused_by_the_cluster_and_by_its_nodes() {
    let Some(mut rig) = Rig::start().await else {
        return;
    };
    let began = Instant::now();
    let mut first = Runner::start(&rig, "first", &[]);
    // Nothing is cordoned before the member is verified.
    first.until(|it| it.has_begun(Phase::Verify)).await;
    first.signal("STOP").await;

    let mut second = Runner::start(&rig, "second", &["--adopt"]);
    second.until(|it| it.has_begun(Phase::Drain)).await;
    first.wakes_and_is_refused().await;

    let step = rig.bench.path("frozen");
    second.until(|_| step.join("ssh").exists()).await;
    let mut third = Runner::start(&rig, "third", &["--adopt"]);
    let ended = third.ends().await;
    assert!(ended, "{}", third.said());

    let ssh = std::fs::read_to_string(step.join("ssh")).unwrap();
    signal(ssh.trim(), "CONT").await;
    let code = step.join("code");
    second.waits_for(|| code.exists()).await;
    let answer = std::fs::read_to_string(step.join("answer")).unwrap();
    println!("the node's answer to the step of the second: {answer}");
    assert_eq!(std::fs::read_to_string(code).unwrap(), "10\n", "{answer}");
    let held = |line: &str| line.starts_with("3 (run ");
    assert!(answer.lines().any(held), "{answer}");
    second.wakes_and_is_refused().await;
    figure("fenced", began.elapsed().as_secs_f64(), "s");

    is_at_the_target(&rig.cluster).await;
    rig.is_given_back().await;
    println!("{:#?}", rig.attempts().await);
    rig.packages_came_once().await;
    // The rig follows a journal that none of them writes.
    for runner in [&mut first, &mut second, &mut third] {
        runner.journal.read();
        let entries = &runner.journal.entries;
        assert!(intents(entries).count() > 0, "{}", runner.name);
        let half_done = half_done(entries);
        assert_eq!(half_done, Vec::<String>::new(), "{}", runner.name);
    }
    assert_eq!(rig.broken_rules().await, Vec::<String>::new());
}

/// A run of the program with a journal of its own.
struct Runner {
    name: &'static str,
    child: Child,
    journal: JournalTail,
    log: PathBuf,
}

impl Runner {
    fn start(rig: &Rig, name: &'static str, words: &[&str]) -> Self {
        let words = [&["--to", TARGET], words].concat();
        let mut command = rig.runner(name, &rig.cluster.ssh_config(), &words);
        if name == "second" {
            let path = std::env::var("PATH").unwrap();
            command.env("PATH", format!("{}:{path}", freezing_ssh(rig).display()));
        }
        let log = rig.bench.path(&format!("{name}.log"));
        let file = std::fs::File::create(&log).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        Self {
            name,
            child: command.spawn().unwrap(),
            journal: JournalTail::new(rig.bench.path(name)),
            log,
        }
    }

    fn has_begun(&self, phase: Phase) -> bool {
        let begins = |entry: &Entry| matches!(&entry.record, Record::Intent { action } if action.phase == phase);
        self.journal.entries.iter().any(begins)
    }

    /// Waits for a point of its run.
    async fn until(&mut self, reached: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        self.journal.read();
        while !reached(self) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{} ended\n{}", self.name, self.said());
            let is_late = Instant::now() > deadline;
            assert!(!is_late, "{} never came to it\n{}", self.name, self.said());
            sleep(PAUSE).await;
            self.journal.read();
        }
    }

    /// Waits for something while it is stopped.
    async fn waits_for(&self, there: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !there() {
            assert!(Instant::now() < deadline, "{}", self.said());
            sleep(PAUSE).await;
        }
    }

    async fn ends(&mut self) -> bool {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("{} goes on\n{}", self.name, self.said()));
        ended.unwrap().success()
    }

    /// Wakes and ends at once, for it has been superseded: it announces nothing more.
    async fn wakes_and_is_refused(&mut self) {
        self.journal.read();
        let announced = intents(&self.journal.entries).count();
        self.signal("CONT").await;
        let woke = Instant::now();
        let well = self.ends().await;
        figure(
            &format!("fenced.{}", self.name),
            woke.elapsed().as_secs_f64(),
            "s",
        );
        let said = self.said();
        println!("{said}");
        assert!(!well, "{said}");
        assert!(
            said.contains("taken over") || said.contains("has taken"),
            "{said}"
        );
        self.journal.read();
        let now = intents(&self.journal.entries).count();
        assert_eq!(now, announced, "{said}");
    }

    async fn signal(&self, name: &str) {
        signal(&self.child.id().unwrap().to_string(), name).await;
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// A folder with an `ssh` that stops its program and itself before the first
/// step of a node's own is begun, and keeps what the node then answers.
fn freezing_ssh(rig: &Rig) -> PathBuf {
    let folder = rig.bench.path("bin");
    std::fs::create_dir(&folder).unwrap();
    let body = format!(
        "if [[ $* == *.node.*upgrade*kube-migrate-* ]] && mkdir '{frozen}' 2> /dev/null; then\n\
         cd '{frozen}'\n\
         cat > script\n\
         echo $$ > ssh.part\n\
         mv ssh.part ssh\n\
         kill -STOP $PPID $$\n\
         /usr/bin/ssh \"$@\" < script > answer 2>&1\n\
         echo $? > code.part\n\
         mv code.part code\n\
         exit 255\n\
         fi\n\
         exec /usr/bin/ssh \"$@\"",
        frozen = rig.bench.path("frozen").display(),
    );
    rig.bench.script("bin/ssh", &body);
    folder
}
