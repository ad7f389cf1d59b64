//! The program at work on a cluster of real nodes, as a process of its own, and
//! what is to be seen of its run from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use migrate_core::{ActionId, Phase, Target};
use migrate_executor::{Entry, Record};
use migrate_plan::{ActionResult, Input};
use migrate_testbed::{KubeadmCluster, KubeadmClusterBuilder, Node};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::backup::WAIVED;
use crate::lane::broken_rules;
use crate::real::cluster::{anchored_run, kubelets, marks};
use crate::real::observer::Observer;
use crate::real::program::{self, Bench, Ended, JournalTail};
use crate::run::POLICY;
use crate::shop::{self, Shop, WORKLOADS};
use crate::{BEFORE, TARGET, watched};

/// No run, and no way to a point of one, takes longer.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Between two looks at a run.
const PAUSE: Duration = Duration::from_millis(20);
/// Before each script of a [`Sign::Step`]: `$folder` is the attempt that was
/// begun last on the node, of the run and the kind that are meant.
const STEP: &str = "read -r _ folder < /var/lib/kube-migrate/current\n\
                    [[ $folder == */\"$1\"/*.$2.* ]]\nlog=$folder/log\n";

/// A cluster with a small shop, and the program before it.
pub(crate) struct Rig {
    pub(crate) cluster: KubeadmCluster,
    pub(crate) journal: JournalTail,
    pub(crate) shop: Shop,
    pub(crate) bench: Bench,
    policy: PathBuf,
    /// What is said of the backup.
    backup: Vec<String>,
    observer: Observer,
    running: Option<Child>,
    /// How long the log was when it began.
    said: usize,
}

/// What somebody sees of a run who is not the runner.
#[derive(Clone, Copy)]
pub(crate) enum Sign {
    /// This of its records.
    Journal(fn(&Rig) -> bool),
    /// A script that ends well on the node of a step; see [`STEP`].
    Step(Place, &'static str),
    /// A pod of the shop that leaves a node.
    Leaving(Place),
    /// An API server that is kept out of the load balancer, as that says.
    TakenOut(Place),
    /// One that nobody keeps out.
    PutBack(Place),
}

/// One of the places to which a run comes, each kind in the order of the run.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// A member of the control plane.
    Member(usize),
    /// A member's node: its kubelet.
    MemberNode(usize),
    Worker(usize),
}

impl Rig {
    /// With one member and two workers.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_on(watched::builder()).await
    }

    /// The same on a cluster of one's own.
    pub(crate) async fn start_on(builder: KubeadmClusterBuilder) -> Option<Self> {
        let (cluster, shop) = watched::open_on(builder, &WORKLOADS[..3]).await?;
        Some(Self::before(cluster, shop).await)
    }

    /// Before a cluster of any size; with a load balancer, from which the program takes
    /// API servers.
    pub(crate) async fn before(cluster: KubeadmCluster, shop: Shop) -> Self {
        let bench = Bench::new();
        Self {
            journal: JournalTail::new(bench.path("journal")),
            policy: bench.write("policy.toml", POLICY),
            // What is tried here is mostly another thing, which the policy waives.
            backup: vec!["--no-backup".to_owned()],
            observer: Observer::start(cluster.client()).await,
            cluster,
            shop,
            bench,
            running: None,
            said: 0,
        }
    }

    /// The program over the ways of an ssh configuration.
    pub(crate) fn over(&self, ssh_config: &Path, words: &[&str]) -> Command {
        self.runner("journal", ssh_config, words)
    }

    /// A runner with a journal of this name.
    pub(crate) fn runner(&self, journal: &str, ssh_config: &Path, words: &[&str]) -> Command {
        let mut command = self.bench.program(self.cluster.kubeconfig_path());
        command.args(["--kubeadm", "--yes", "--journal", journal]);
        command.args(&self.backup);
        command.args(["--ignore-preflight-errors", "SystemVerification"]);
        command.arg("--policy").arg(&self.policy);
        command.arg("--ssh-config").arg(ssh_config).args(words);
        if let Some(balancer) = self.cluster.balancer() {
            command.arg("--haproxy-socket").arg(balancer.socket());
            command.args(["--haproxy-backend", balancer.backend()]);
            command
                .arg("--haproxy-config")
                .arg(balancer.configuration());
        }
        command
    }

    /// What runs from now on are to keep to.
    pub(crate) fn set_policy(&mut self, policy: &str) {
        self.policy = self.write("policy.toml", policy);
    }

    /// Runs from now on take a backup as these words say, and have to.
    pub(crate) fn back_up(&mut self, words: &[&str]) {
        self.backup = words.iter().map(|word| (*word).to_owned()).collect();
        self.set_policy(&POLICY.replace(WAIVED, ""));
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        self.over(&self.cluster.ssh_config(), words)
    }

    /// Runs the program to its end.
    pub(crate) async fn run(&self, words: &[&str]) -> Ended {
        self.finish(self.command(words)).await
    }

    pub(crate) async fn finish(&self, mut command: Command) -> Ended {
        program::finish_within(&mut command, PATIENCE).await
    }

    /// Begins the upgrade, or goes on with it.
    pub(crate) fn begin(&mut self) {
        self.begin_by(self.command(&["--to", TARGET]));
    }

    /// The same by a command of the caller's.
    pub(crate) fn begin_by(&mut self, mut command: Command) {
        self.said = self.log().len();
        let child = program::start(&self.bench, &mut command);
        self.running = Some(child);
    }

    /// Begins or goes on with the upgrade, if no run is under way. Workers have
    /// pods again first: what the test does for that is not judged.
    pub(crate) async fn goes(&mut self) {
        if self.running.is_some() {
            return;
        }
        self.spread().await;
        self.begin();
    }

    /// The upgrade comes to its end, by the run that is under way or by another one.
    pub(crate) async fn arrives(&mut self) {
        self.goes().await;
        let (well, said) = self.ends().await;
        println!("{said}");
        assert!(well, "{said}");
    }

    /// Waits until the run that was begun has come to a point.
    pub(crate) async fn comes_to(&mut self, name: &str, sign: Sign) {
        let deadline = Instant::now() + PATIENCE;
        while !self.shows(sign).await {
            self.is_going(name);
            assert!(
                Instant::now() < deadline,
                "it never came to {name:?}\n{}",
                self.log()
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits for the end of the run that was begun: whether it ended well, and
    /// what it has said.
    pub(crate) async fn ends(&mut self) -> (bool, String) {
        let mut child = self.running.take().unwrap();
        let status = tokio::time::timeout(PATIENCE, child.wait()).await;
        let status = status.expect("the run to end").unwrap();
        self.journal.read();
        (status.success(), self.log()[self.said..].to_owned())
    }

    /// Ends the runner as nobody can help it.
    pub(crate) async fn kill(&mut self) {
        let mut child = self.running.take().unwrap();
        child.kill().await.unwrap();
        self.journal.read();
    }

    /// The runner does nothing more, until it is killed.
    pub(crate) async fn freeze(&self) {
        let running = self.running.as_ref().unwrap();
        signal(&running.id().unwrap().to_string(), "STOP").await;
    }

    /// The run goes on by itself, API or not.
    fn is_going(&mut self, name: &str) {
        let ended = self.running.as_mut().unwrap().try_wait().unwrap();
        assert_eq!(ended, None, "it ended before {name:?}\n{}", self.log());
    }

    async fn shows(&mut self, sign: Sign) -> bool {
        self.journal.read();
        match sign {
            Sign::Journal(told) => told(self),
            Sign::Step(place, script) => {
                let (Some(run), Some(node)) = (self.run_id(), self.node(place)) else {
                    return false;
                };
                let kind = match place {
                    Place::Member(_) => "cp",
                    _ => "node",
                };
                let script = format!("{STEP}{script}");
                let words = ["bash", "-euo", "pipefail", "-c", &script, "look", run, kind];
                let output = node.output(&words).await;
                output.is_ok_and(|output| output.status.success())
            }
            Sign::Leaving(place) => {
                let Some(node) = self.node(place) else {
                    return false;
                };
                let path = "/api/v1/namespaces/default/pods";
                let client = self.cluster.client();
                let pods = crate::real::cluster::list(&client, path).await;
                pods.unwrap_or_default().iter().any(|pod| {
                    pod["spec"]["nodeName"] == node.name()
                        && !pod["metadata"]["deletionTimestamp"].is_null()
                })
            }
            Sign::TakenOut(place) => self.is_out(place).await == Some(true),
            Sign::PutBack(place) => self.is_out(place).await == Some(false),
        }
    }

    /// What the last run has written down.
    pub(crate) fn entries(&self) -> &[Entry] {
        let all = &self.journal.entries;
        let opened = |entry: &Entry| matches!(entry.record, Record::RunOpened(_));
        let from = all.iter().rposition(opened).unwrap_or(all.len());
        &all[from..]
    }

    fn run_id(&self) -> Option<&str> {
        match &self.entries().first()?.record {
            Record::RunOpened(opened) => Some(&opened.run),
            _ => None,
        }
    }

    /// Servers that somebody keeps out of the load balancer, as it says itself.
    pub(crate) async fn out(&self) -> Vec<String> {
        let servers = self.cluster.balancer().unwrap().servers().await.unwrap();
        let is_out = |status: &str| status.starts_with("MAINT") || status.starts_with("DRAIN");
        let out = servers.into_iter().filter(|(_, status)| is_out(status));
        out.map(|(name, _)| name).collect()
    }

    async fn is_out(&self, place: Place) -> Option<bool> {
        let name = self.node(place)?.name();
        Some(self.out().await.iter().any(|server| server == name))
    }

    /// The control-plane nodes.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Node> {
        let nodes = self.cluster.nodes().iter();
        nodes.filter(|node| node.is_control_plane())
    }

    /// The node of a place, once the run has come there.
    pub(crate) fn node(&self, place: Place) -> Option<&Node> {
        let (Place::Member(index) | Place::MemberNode(index) | Place::Worker(index)) = place;
        let mut nodes: Vec<&Node> = Vec::new();
        for (phase, target) in intents(self.entries()) {
            let Some(node) = self.cluster.node(target.name()) else {
                continue;
            };
            let is_of_the_kind = match place {
                Place::Member(_) => matches!(target, Target::ControlPlane { .. }),
                Place::MemberNode(_) => phase == Phase::Drain && node.is_control_plane(),
                Place::Worker(_) => phase == Phase::Drain && !node.is_control_plane(),
            };
            if is_of_the_kind && !nodes.iter().any(|known| known.name() == node.name()) {
                nodes.push(node);
            }
        }
        nodes.get(index).copied()
    }

    /// Whether a phase of a node was begun.
    pub(crate) fn has_begun(&self, phase: Phase, place: Place) -> bool {
        let Some(node) = self.node(place) else {
            return false;
        };
        intents(self.entries()).any(|(begun, target)| {
            begun == phase && matches!(target, Target::Node { .. }) && target.name() == node.name()
        })
    }

    /// Why actions of the last run have failed.
    pub(crate) fn failures(&self) -> Vec<String> {
        let reason = |entry: &Entry| match &entry.record {
            Record::Input {
                input:
                    Input::ActionEnded {
                        result: ActionResult::Failed { reason, .. },
                        ..
                    },
            } => Some(reason.clone()),
            _ => None,
        };
        self.entries().iter().filter_map(reason).collect()
    }

    /// What all runs have said so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.bench.path("log")).unwrap_or_default()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        self.bench.write(name, text)
    }

    /// Versions of the kubelets, by the order of the nodes.
    pub(crate) async fn kubelets(&self) -> Vec<String> {
        let found = kubelets(&self.cluster.client()).await;
        let nodes = self.cluster.nodes().iter();
        nodes.map(|node| found[node.name()].clone()).collect()
    }

    /// No run is under way, and no node is cordoned or marked by one.
    pub(crate) async fn is_given_back(&self) {
        let client = self.cluster.client();
        assert_eq!(anchored_run(&client).await, None, "the anchor");
        for node in shop::items(&client, "/api/v1/nodes").await {
            let name = &node["metadata"]["name"];
            assert!(
                node["spec"]["unschedulable"].is_null(),
                "{name} is cordoned"
            );
            assert_eq!(marks(&node), Vec::<String>::new(), "{name}");
            let taints = node["spec"]["taints"].to_string();
            assert!(!taints.contains("kube-migrate.dev/"), "{name}: {taints}");
        }
        self.shop.await_whole(&client).await;
    }

    /// No step has ever been begun on a node.
    pub(crate) async fn is_untouched(&self) {
        let begun = "! ls -d /var/lib/kube-migrate/*/*/[0-9]* 2> /dev/null";
        for node in self.cluster.nodes() {
            node.script(begun).await.unwrap();
        }
        assert!(self.kubelets().await.iter().all(|is| is == BEFORE));
        self.is_given_back().await;
    }

    /// Attempts of all steps on the nodes by node and action, with their exit
    /// codes; `none` of one that runs, or that left none.
    pub(crate) async fn attempts(&self) -> BTreeMap<String, Vec<String>> {
        // On a node where none was begun yet there is nothing to be listed.
        let script = "shopt -s nullglob\nfor f in /var/lib/kube-migrate/*/*/[0-9]*; do\n\
                      code=$(cat \"$f/exit\" 2> /dev/null || echo none)\n\
                      echo \"${f#/var/lib/kube-migrate/} $code\"; done";
        let mut found = BTreeMap::new();
        for node in self.cluster.nodes() {
            let said = node.script(script).await.unwrap();
            let said = String::from_utf8_lossy(&said.stdout).into_owned();
            for line in said.lines() {
                let (folder, code) = line.split_once(' ').unwrap();
                let (action, _) = folder.rsplit_once('/').unwrap();
                let key = format!("{} {action}", node.name());
                found
                    .entry(key)
                    .or_insert_with(Vec::new)
                    .push(code.trim().to_owned());
            }
        }
        found
    }

    /// One unit for each action, which ended well: each member, and every node.
    pub(crate) async fn was_done_once(&self) {
        let attempts = self.attempts().await;
        println!("{attempts:#?}");
        let actions = self.members().count() + self.cluster.nodes().len();
        assert_eq!(attempts.len(), actions);
        assert!(attempts.values().all(|codes| *codes == ["0"]));
        self.packages_came_once().await;
    }

    /// Every package was upgraded once on every node.
    pub(crate) async fn packages_came_once(&self) {
        for node in self.cluster.nodes() {
            for package in ["kubeadm", "kubelet", "kubectl"] {
                let times = self.upgrades_of(node, package).await;
                assert_eq!(times, 1, "{package} on {}", node.name());
            }
        }
    }

    /// How often apt has upgraded a package on a node.
    pub(crate) async fn upgrades_of(&self, node: &Node, package: &str) -> usize {
        let old = BEFORE.trim_start_matches('v');
        let new = TARGET.trim_start_matches('v');
        let said = node
            .run(&["cat", "/var/log/apt/history.log"])
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let change = format!("{package}:amd64 ({old}-1.1, {new}-1.1)");
        said.matches(&change).count()
    }

    /// Every worker has pods again, of which the one that came last has none.
    /// What was seen before is judged, and what the test does is not.
    pub(crate) async fn spread(&mut self) {
        assert_eq!(self.broken_rules().await, Vec::<String>::new());
        self.shop.spread(&self.cluster.client()).await;
        self.broken_rules().await;
    }

    /// What was wrong since the last time, as watches and the journal show it.
    pub(crate) async fn broken_rules(&mut self) -> Vec<String> {
        self.journal.read();
        let next = Observer::start(self.cluster.client()).await;
        let observer = std::mem::replace(&mut self.observer, next);
        let broken = broken_rules(&observer.changes().await);
        [broken, half_done(&self.journal.entries)].concat()
    }
}

/// Sends a signal to a process.
pub(crate) async fn signal(pid: &str, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), pid])
        .status();
    assert!(sent.await.unwrap().success());
}

/// Announced actions in their order.
pub(crate) fn intents(entries: &[Entry]) -> impl Iterator<Item = (Phase, &Target)> {
    entries.iter().filter_map(|entry| match &entry.record {
        Record::Intent { action } => Some((action.phase, &action.target)),
        _ => None,
    })
}

/// Where two targets were between the beginning of their upgrade and the end of
/// their verification at once.
pub(crate) fn half_done(entries: &[Entry]) -> Vec<String> {
    let mut open: BTreeSet<String> = BTreeSet::new();
    let mut verifications: BTreeMap<&ActionId, String> = BTreeMap::new();
    let mut found = Vec::new();
    for entry in entries {
        match &entry.record {
            Record::Intent { action } => match action.phase {
                Phase::Upgrade => {
                    open.insert(action.target.to_string());
                    if open.len() > 1 {
                        found.push(format!("half done at once: {open:?}"));
                    }
                }
                Phase::Verify => {
                    verifications.insert(&action.id, action.target.to_string());
                }
                _ => {}
            },
            Record::Input {
                input:
                    Input::ActionEnded {
                        id,
                        result: ActionResult::Succeeded(_),
                    },
            } => {
                if let Some(target) = verifications.get(id) {
                    open.remove(target);
                }
            }
            _ => {}
        }
    }
    found
}
