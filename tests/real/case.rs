//! A run of the program that is to end with an error.

use std::path::{Path, PathBuf};

use migrate_testbed::{ControlPlane, Identity};
use tokio::process::Command;

use super::audit;
use super::cluster::{self, TARGET};
use super::program::{self, Bench, Ended};

/// What every case runs under unless it says otherwise.
pub(crate) const POLICY: &str = r#"
waive = ["KM-BACKUP-001"]
[deadlines]
upgrade = 5
verify = 5
"#;

/// One way in which it cannot go well.
pub(crate) struct Case<'a> {
    plane: &'a ControlPlane,
    name: &'static str,
    /// Whose requests the case's are; may do everything.
    user: String,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) to: &'static str,
    pub(crate) policy: &'static str,
    pub(crate) bench: Bench,
}

impl<'a> Case<'a> {
    pub(crate) fn new(plane: &'a ControlPlane, name: &'static str) -> Self {
        let user: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        let identity = Identity::new(&user).with_group("system:masters");
        Self {
            plane,
            name,
            kubeconfig: plane.kubeconfig_for(&identity).unwrap(),
            user,
            to: TARGET,
            policy: POLICY,
            bench: Bench::new(),
        }
    }

    /// A command with which nothing is wrong.
    pub(crate) fn command(&self) -> Command {
        self.with_hook(self.plane.hook_program())
    }

    pub(crate) fn with_hook(&self, hook: &Path) -> Command {
        let mut command = self.bench.program(&self.kubeconfig);
        command.arg("--yes");
        self.arguments(&mut command, hook);
        command
    }

    pub(crate) fn arguments(&self, command: &mut Command, hook: &Path) {
        let policy = self.bench.write("policy.toml", self.policy);
        command.args(["--to", self.to]).arg("--policy").arg(policy);
        command.args(["--journal", "journal"]);
        command
            .arg("--node-hook")
            .arg(hook)
            .arg("--control-plane-hook")
            .arg(hook);
    }

    /// Runs into an error that says all of `says`, and changes nothing.
    pub(crate) async fn refused(&self, mut command: Command, says: &[&str]) {
        let before = cluster::kubelets(&self.plane.client()).await;
        self.failed(&mut command, says).await;
        assert_eq!(
            cluster::kubelets(&self.plane.client()).await,
            before,
            "{}",
            self.name
        );
        self.changed_nothing().await;
    }

    /// Nothing was written, and no cordon or run is there.
    pub(crate) async fn changed_nothing(&self) {
        self.wrote_nothing();
        assert_eq!(
            cluster::cordoned(&self.plane.client()).await,
            Vec::<String>::new()
        );
        assert_eq!(
            cluster::anchored_run(&self.plane.client()).await,
            None,
            "{}",
            self.name
        );
    }

    pub(crate) fn wrote_nothing(&self) {
        let events = audit::all(self.plane);
        let changes = audit::mutations(&events, &self.user);
        assert_eq!(audit::lines(changes), Vec::<String>::new(), "{}", self.name);
    }

    /// Runs into an error that says all of `says`, after one node at the most.
    pub(crate) async fn stopped(&self, mut command: Command, says: &[&str]) -> Ended {
        let ended = self.failed(&mut command, says).await;
        let cordoned = cluster::cordoned(&self.plane.client()).await;
        assert_eq!(
            cordoned.len(),
            1,
            "{}: only the canary: {cordoned:?}",
            self.name
        );
        assert!(
            ended.out.contains(&cordoned[0]),
            "{}: {}",
            self.name,
            ended.said()
        );
        ended
    }

    pub(crate) async fn failed(&self, command: &mut Command, says: &[&str]) -> Ended {
        let ended = program::finish(command).await;
        let said = ended.said();
        println!(
            "--- {}: {}",
            self.name,
            ended.err.lines().last().unwrap_or_default()
        );
        assert!(!ended.status.success(), "{}: {said}", self.name);
        for word in says {
            assert!(
                said.contains(word),
                "{}: {word:?} is not in: {said}",
                self.name
            );
        }
        ended
    }
}
