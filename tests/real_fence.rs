//! Runners of a real control plane that are superseded: programs that are stopped
//! (SIGSTOP) while they hold a run, and wake when another one holds it, and writes that are
//! on their way then. The first takes about two minutes: a Lease is watched for 30 s each
//! time.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking"
)]

mod real;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Request};
use kube::Client;
use kube::client::Body;
use migrate_core::{Fence, Moment, Phase};
use migrate_executor::Record;
use migrate_kube::{
    Anchor, Claim, Error, Restored, RunMark, cordon, restore_cordon, take_over_nodes,
};
use migrate_sim::rules::RuleSettings;
use migrate_sim::{Pool, Scenario, Workload};
use migrate_testbed::{AuditEvent, ControlPlane, Identity, skip_or_fail};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};
use tower::service_fn;

use real::cluster::{self, ORIGIN, TARGET};
use real::observer::Observer;
use real::program::{self, Bench, JournalTail};
use real::{audit, figure};

const NODES: usize = 8;
const POLICY: &str = r#"
waive = ["KM-BACKUP-001"]
[pools]
max-unavailable = 1
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wakes_superseded_is_refused() {
    // The control plane is at the target: only nodes are left to do.
    let builder = ControlPlane::builder().minor(37).audit(true);
    let builder = builder.node_upgrade_time(Duration::from_secs(1));
    let Some(plane) = skip_or_fail(builder.start().await) else {
        return;
    };
    let mut web = Workload::deployment("shop", "web", 12);
    web.stop_seconds = Some(1);
    let scenario = Scenario::new(ORIGIN)
        .with_pool(Pool::new("general", NODES as u32))
        .with_workload(web);
    cluster::load(&plane, &scenario).await;
    let observer = Observer::start(plane.client()).await;
    let began = Instant::now();
    let rig = Rig::new(&plane);

    let mut first = rig.start("first", false, rig.hook.clone());
    rig.freeze_before_a_cordon(&mut first).await;
    let mut second = rig.start("second", true, rig.freezing_hook());
    second.until(|it| it.announced(Phase::Drain) > 0).await;
    rig.wake_and_judge(first).await;

    // The second goes on until it is about to begin a step on a node.
    let (hook, step) = second.frozen_step(&rig.bench).await;
    let mut third = rig.start("third", true, rig.hook.clone());
    let ended = third.child.wait().await.unwrap();
    assert!(ended.success(), "{}", third.said(&rig.bench));
    signal(&hook, "CONT").await;
    assert_eq!(rig.answer_to(&step).await, "1", "the node refuses the step");
    let log = std::fs::read_to_string(rig.bench.path("refused")).unwrap();
    assert!(log.contains("epoch 2 is older than 3"), "{log}");
    rig.wake_and_judge(second).await;

    cluster::assert_upgraded(&plane, &[]).await;
    let mut settings = RuleSettings::default();
    settings.widths = BTreeMap::from([("general".to_owned(), 1)]);
    let events = audit::all(&plane);
    let verdict = observer.finish(settings, &events).await;
    assert!(verdict.violations.is_empty(), "{:#?}", verdict.violations);
    let changes = audit::node_changes(&events);
    assert!(changes.values().all(|&times| times == 1), "{changes:?}");
    figure("fence.violations", verdict.violations.len(), "1");
    figure("fence", began.elapsed().as_secs_f64(), "s");
}

const RUN: &str = "run-1";

/// What the runner itself has looked at was right: only the server can refuse it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_on_its_way_when_another_takes_over_is_refused() {
    let builder = ControlPlane::builder().minor(37);
    let Some(plane) = skip_or_fail(builder.start().await) else {
        return;
    };
    let scenario = Scenario::new(ORIGIN).with_pool(Pool::new("general", 1));
    cluster::load(&plane, &scenario).await;
    let node = scenario.node_names().next().unwrap();
    let client = plane.client();
    let is_fenced = |error: &Error, by: u64| matches!(error, Error::Fenced { ours, found, .. } if (*ours, *found) == (by - 1, by));

    // A cordon: one write is sent, and refused.
    let old = next_epoch(&client, "first").await;
    let (late, answers) = overtaken(&client);
    let error = cordon(&late, &node, &old).await.unwrap_err();
    assert!(is_fenced(&error, 2), "{error}");
    assert_eq!(*answers.lock().unwrap(), [409]);
    assert!(cluster::cordoned(&client).await.is_empty());

    // Giving one back.
    let old = next_epoch(&client, "first").await;
    cordon(&client, &node, &old).await.unwrap();
    let (late, answers) = overtaken(&client);
    let error = restore_cordon(&late, &node, &old).await.unwrap_err();
    assert!(is_fenced(&error, 4), "{error}");
    assert_eq!(*answers.lock().unwrap(), [409]);
    assert_eq!(cluster::cordoned(&client).await.len(), 1);

    // The Lease, by its version: the holder's stays.
    let old = next_epoch(&client, "first").await;
    let (late, answers) = overtaken(&client);
    let mark = RunMark::new(RUN, "first", "plan");
    let now = Moment::EPOCH + Duration::from_secs(60);
    let seen = Anchor::renew(&late, &mark, old.epoch, now).await.unwrap();
    assert_eq!((seen.epoch, seen.is_held_by(&mark, old.epoch)), (6, false));
    assert_eq!(*answers.lock().unwrap(), [409]);
    let seen = Anchor::read(&client).await.unwrap();
    assert_eq!(
        seen.holder.map(|holder| holder.identity).as_deref(),
        Some("second")
    );

    // The negative control: whose epoch is not compared reads again, and writes.
    let (late, answers) = overtaken(&client);
    let blind = Fence::without_lease(RUN);
    let restored = restore_cordon(&late, &node, &blind).await.unwrap();
    assert!(
        matches!(restored, Restored::Released { .. }),
        "{restored:?}"
    );
    assert_eq!(*answers.lock().unwrap(), [409, 200]);
    assert!(cluster::cordoned(&client).await.is_empty());
    plane.stop().await.unwrap();
}

/// Takes the next epoch of the run, for the runner with this journal.
async fn next_epoch(client: &Client, journal: &str) -> Fence {
    let holder = Anchor::read(client).await.unwrap().holder;
    let mark = RunMark::new(RUN, journal, "plan");
    let claim = Claim::new(mark, Duration::from_secs(30)).with_lapsed(holder);
    let anchor = Anchor::claim(client, &claim, Moment::EPOCH).await.unwrap();
    Fence::new(RUN, anchor.epoch)
}

/// A way to `server` on which the first write is overtaken: a second runner takes the
/// run over before it arrives. Gives the codes of the answers to writes, too.
fn overtaken(server: &Client) -> (Client, Arc<Mutex<Vec<u16>>>) {
    let answers: Arc<Mutex<Vec<u16>>> = Arc::default();
    let (server, told) = (server.clone(), Arc::clone(&answers));
    let service = service_fn(move |request: Request<Body>| {
        let (server, told) = (server.clone(), Arc::clone(&told));
        async move {
            if request.method() != Method::PATCH {
                return server.send(request).await;
            }
            let is_first = told.lock().unwrap().is_empty();
            if is_first {
                let new = next_epoch(&server, "second").await;
                take_over_nodes(&server, &new).await.unwrap();
            }
            let answer = server.send(request).await?;
            told.lock().unwrap().push(answer.status().as_u16());
            Ok::<_, kube::Error>(answer)
        }
    });
    (Client::new(service, "default"), answers)
}

struct Rig<'a> {
    plane: &'a ControlPlane,
    bench: Bench,
    policy: PathBuf,
    hook: PathBuf,
}

/// A run of the program, as a user of its own and with a journal of its own.
struct Runner {
    name: &'static str,
    child: Child,
    journal: JournalTail,
}

impl<'a> Rig<'a> {
    fn new(plane: &'a ControlPlane) -> Self {
        let bench = Bench::new();
        let hook = bench.bookkeeping(plane.hook_program());
        let policy = bench.write("policy.toml", POLICY);
        Self {
            plane,
            bench,
            policy,
            hook,
        }
    }

    fn start(&self, name: &'static str, adopt: bool, hook: PathBuf) -> Runner {
        let user = Identity::new(name).with_group("system:masters");
        let kubeconfig = self.plane.kubeconfig_for(&user).unwrap();
        let mut command = self.bench.program(&kubeconfig);
        command.args(["--to", TARGET, "--yes", "--journal", name]);
        command.arg("--policy").arg(&self.policy);
        command.arg("--node-hook").arg(&hook);
        command.arg("--control-plane-hook").arg(&hook);
        if adopt {
            command.arg("--adopt");
        }
        let words = std::fs::File::create(self.bench.path(&format!("{name}.log"))).unwrap();
        command.stdout(words.try_clone().unwrap()).stderr(words);
        Runner {
            name,
            child: command.spawn().unwrap(),
            journal: JournalTail::new(self.bench.path(name)),
        }
    }

    /// A hook that stops its program and itself before its first step on a node,
    /// and books what the node then answers.
    fn freezing_hook(&self) -> PathBuf {
        let body = format!(
            "if [ $KUBE_MIGRATE_PHASE = begin ] && mkdir '{frozen}' 2>/dev/null; then\n\
             echo \"$$ $KUBE_MIGRATE_ACTION_ID\" > '{frozen}/step.part'\n\
             mv '{frozen}/step.part' '{frozen}/step'\n\
             kill -STOP $PPID $$\n\
             '{hook}' > '{refused}' 2>&1\n\
             exit $?\n\
             fi\n\
             exec '{hook}'",
            frozen = self.bench.path("frozen").display(),
            refused = self.bench.path("refused").display(),
            hook = self.hook.display(),
        );
        self.bench.script("freezing-hook", &body)
    }

    /// Stops `runner` between the intent of a drain and its cordon. What is
    /// announced is done within milliseconds, so this may take a few nodes.
    async fn freeze_before_a_cordon(&self, runner: &mut Runner) {
        let mut drains = 0;
        loop {
            runner.until(|it| it.announced(Phase::Drain) > drains).await;
            signal(&runner.pid(), "STOP").await;
            // What was sent before may still arrive.
            sleep(Duration::from_millis(500)).await;
            runner.journal.read();
            drains = runner.announced(Phase::Drain);
            if cluster::cordoned(&self.plane.client()).await.is_empty() {
                println!("stopped before the cordon of drain {drains}");
                return;
            }
            signal(&runner.pid(), "CONT").await;
            assert!(drains < NODES, "it was never stopped in time");
        }
    }

    /// Wakes a superseded runner: it says so, ends, and changes nothing. It was
    /// the holder when it was stopped, so what counts is what it does from now on.
    async fn wake_and_judge(&self, mut runner: Runner) {
        let changes = || {
            let events = audit::all(self.plane);
            let changes = audit::mutations(&events, runner.name);
            let took_effect = |event: &&&AuditEvent| event.code() < 300;
            audit::lines(changes.into_iter().filter(|event| took_effect(&event)))
        };
        let before = changes();
        signal(&runner.pid(), "CONT").await;
        let ended = tokio::time::timeout(Duration::from_secs(60), runner.child.wait()).await;
        let said = runner.said(&self.bench);
        let ended = ended.unwrap_or_else(|_| panic!("{} goes on\n{said}", runner.name));
        assert!(!ended.unwrap().success(), "{said}");
        assert!(
            said.contains("taken over") || said.contains("has taken"),
            "{said}"
        );
        assert_eq!(changes(), before, "{said}");
    }

    /// The exit code of the hook that began `action` last.
    async fn answer_to(&self, action: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let calls = self.bench.hook_calls();
            let begun = |call: &&program::HookCall| call.phase == "begin" && call.action == action;
            if let Some(call) = calls.iter().rev().find(begun) {
                return call.code.clone();
            }
            assert!(
                Instant::now() < deadline,
                "no answer to {action}: {calls:#?}"
            );
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Runner {
    /// How many actions of `phase` it has announced.
    fn announced(&self, phase: Phase) -> usize {
        let intents = self.journal.entries.iter().filter(
            |entry| matches!(&entry.record, Record::Intent { action } if action.phase == phase),
        );
        intents.count()
    }

    fn pid(&self) -> String {
        self.child.id().unwrap().to_string()
    }

    async fn until(&mut self, reached: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(120);
        self.journal.read();
        while !reached(self) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{} ended: {ended:?}", self.name);
            assert!(
                Instant::now() < deadline,
                "{} never came to that",
                self.name
            );
            sleep(Duration::from_millis(1)).await;
            self.journal.read();
        }
    }

    /// The process of the hook that stopped it and itself, and the action that it
    /// was to begin.
    async fn frozen_step(&mut self, bench: &Bench) -> (String, String) {
        let path = bench.path("frozen").join("step");
        self.until(|_| path.exists()).await;
        let text = std::fs::read_to_string(path).unwrap();
        let (hook, action) = text.trim().split_once(' ').unwrap();
        (hook.to_owned(), action.to_owned())
    }

    fn said(&self, bench: &Bench) -> String {
        let path = bench.path(&format!("{}.log", self.name));
        std::fs::read_to_string(path).unwrap_or_default()
    }
}

async fn signal(pid: &str, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), pid])
        .status();
    assert!(sent.await.unwrap().success());
}
