//! The error of this crate.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use migrate_core::{ObjectName, StepError, StepErrorKind};

/// Why a driver could not do as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The hook is not a program that can be run.
    #[error("hook {}: {reason}", path.display())]
    BadHook {
        /// Its path.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// Nobody could bring programs from there.
    #[error(
        "the programs at {given:?}: the place {reason}; name one such as \
         https://dl.k8s.io/release/v{{version}}/bin/linux/{{arch}}/{{name}}"
    )]
    BadBinaries {
        /// What was given.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The hook could not be started.
    #[error(
        "hook {}: cannot be started: {source}; see that it starts by hand, with an interpreter in \
         its first line that is there", path.display()
    )]
    HookStart {
        /// Its path.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The hook's probe did not end in time; it and its children were ended.
    #[error(
        "hook {}: its probe did not end within {}s and was ended; a probe only looks, make it \
         answer at once", path.display(), limit.as_secs()
    )]
    ProbeHangs {
        /// Its path.
        path: PathBuf,
        /// The limit.
        limit: Duration,
    },
    /// The hook says that it cannot begin now: it is asked again.
    #[error(
        "hook {}: asks to try again later{said}; see what keeps it", path.display()
    )]
    HookPutsOff {
        /// Its path.
        path: PathBuf,
        /// What it printed last, as `: …`.
        said: String,
    },
    /// The hook has said so for as long as it may take.
    #[error(
        "hook {}: has asked for {}s to try again later{said}; cure what keeps it, or give it more \
         time (deadlines.upgrade)", path.display(), limit.as_secs()
    )]
    HookNeverBegins {
        /// Its path.
        path: PathBuf,
        /// How long it was asked.
        limit: Duration,
        /// What it printed last, as `: …`.
        said: String,
    },
    /// The hook says that its addon does not work.
    #[error(
        "hook {}: its verification {reason}; see what is wrong with the addon, or take it back, then \
         go on with the run", path.display()
    )]
    NotVerified {
        /// Its path.
        path: PathBuf,
        /// How it ended, and what it printed last.
        reason: String,
    },
    /// The API refused or did not answer.
    #[error("node {node}: {source}; {}", api_cure(.source))]
    Api {
        /// The node.
        node: String,
        /// Cause.
        #[source]
        source: Box<kube::Error>,
    },
    /// A program of this machine that reaches nodes could not be run.
    #[error("{}: cannot be run: {source}; install it or name its path", program.display())]
    NoProgram {
        /// The program.
        program: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The shell cannot serve a node of this name.
    #[error("node {node}: {reason}")]
    UnknownNode {
        /// The name.
        node: String,
        /// Why, and what to do.
        reason: String,
    },
    /// No connection, or it was lost: what was under way may have been done.
    #[error(
        "node {node}: out of reach: {said}; see that it runs and that ssh reaches it from here"
    )]
    Unreachable {
        /// The node.
        node: String,
        /// What was said last.
        said: String,
    },
    /// No answer in time: what was under way may have been done.
    #[error(
        "node {node}: no answer within {}s; see how loaded it is and that ssh answers from here",
        limit.as_secs()
    )]
    NodeTimeout {
        /// The node.
        node: String,
        /// The limit.
        limit: Duration,
    },
    /// The login was refused, or the node is not who it should be.
    #[error("node {node}: ssh: {said}; {cure}")]
    SshRefused {
        /// The node.
        node: String,
        /// What ssh says.
        said: String,
        /// What to do about it.
        cure: &'static str,
    },
    /// The login works, but its user may not become root.
    #[error(
        "node {node}: {said}; give the user a line in /etc/sudoers.d on the node, such as \
         `USER ALL=(root) NOPASSWD: /usr/bin/bash`"
    )]
    SudoRefused {
        /// The node.
        node: String,
        /// What sudo says.
        said: String,
    },
    /// The API refused what a Job takes: the missing rule is spelled out.
    #[error("node {node}: {source}")]
    JobApi {
        /// The node.
        node: String,
        /// Cause.
        #[source]
        source: Box<migrate_kube::Error>,
    },
    /// The pod of a Job on the node was refused: Pod Security, a quota, a
    /// policy.
    #[error("node {node}: the pod of its Job in namespace {namespace} is refused: {said}; {cure}")]
    JobRefused {
        /// The node.
        node: String,
        /// The namespace of the Job.
        namespace: String,
        /// What the API says.
        said: String,
        /// What to do about it.
        cure: &'static str,
    },
    /// The script of a Job on the node has not begun, as far as the API knows: no
    /// kubelet, no image, no controller manager. The Job is removed, so that it
    /// does not begin later.
    #[error("node {node}: its Job did not start: {said}")]
    JobNotStarted {
        /// The node.
        node: String,
        /// What was seen, and what to do about it.
        said: String,
    },
    /// The script, or what it is told, is too long for this way to the node.
    #[error("node {node}: the script is too long: {reason}; reach the node over ssh")]
    ScriptTooLong {
        /// The node.
        node: String,
        /// How long, and how long it may be.
        reason: String,
    },
    /// Something answered that is not the script that was sent.
    #[error("node {node}: {said}; cure on the node what it complains of, then go on")]
    BadAnswer {
        /// The node.
        node: String,
        /// What it says.
        said: String,
    },
    /// A newer holder has acted on the node; nothing was begun.
    #[error(
        "node {node}: our epoch {epoch} is older than {held} which the node has seen last; \
         stop this runner, another one is in charge"
    )]
    StaleEpoch {
        /// The node.
        node: String,
        /// Our epoch.
        epoch: u64,
        /// The epoch and run that the node has seen.
        held: String,
    },
    /// Another step is going on on the node; nothing was begun.
    #[error(
        "node {node}: busy: {by}; try again when that has ended, `systemctl list-units \
         'kube-migrate-*'` on the node shows it"
    )]
    NodeBusy {
        /// The node.
        node: String,
        /// With what.
        by: String,
    },
    /// A step could not be started; whether it was is found out by a probe.
    #[error(
        "node {node}: the step could not be started: {said}; look at the journal of systemd on the \
         node, then go on with the run"
    )]
    StartFailed {
        /// The node.
        node: String,
        /// What the node says.
        said: String,
    },
    /// A load balancer did not take an API server out, or put it in.
    #[error("the load balancer of the API server of {member}: {said}")]
    LoadBalancer {
        /// The member, by its node.
        member: String,
        /// Why not, and what to do.
        said: String,
    },
    /// An API server that was changed does not serve yet, so that it stays out
    /// of its load balancer.
    #[error(
        "node {node}: its API server does not serve yet ({said}); it is put back into its load \
         balancer when it does, look at its log if that does not come"
    )]
    NotServing {
        /// The node.
        node: String,
        /// What was seen.
        said: String,
    },
    /// The manifest of a static pod was lost while kubeadm moved it: it was
    /// stopped between two moves, of its upgrade or of its own rollback. With a
    /// backup the next attempt puts it back and goes on.
    #[error(
        "node {node}: the manifest of {component} is lost, kubeadm was stopped while it moved it; {}",
        lost_cure(.backup.as_deref())
    )]
    LostManifest {
        /// The node.
        node: String,
        /// The component, such as `kube-apiserver`.
        component: String,
        /// kubeadm's backup of it on the node, of this upgrade.
        backup: Option<String>,
    },
    /// The member's etcd cannot be touched as things are; nothing was begun.
    #[error("node {node}: {code}: {reason}; {cure}")]
    Etcd {
        /// The node.
        node: String,
        /// The code of the finding, see docs/findings.md.
        code: &'static str,
        /// What was seen.
        reason: String,
        /// What to do about it.
        cure: &'static str,
        /// Whether waiting may cure it.
        retryable: bool,
    },
    /// Asked to stop before nodes had been surveyed.
    #[error(
        "cancelled while nodes were looked at; at most images were put on them, begin again when \
         you like"
    )]
    Cancelled,
    /// The action is none that the driver can do.
    #[error("{action}: {reason}")]
    BadAction {
        /// The action.
        action: String,
        /// Why not, and what to do.
        reason: String,
    },
}

impl Error {
    /// Whether going on with the action cures a [lost manifest](Self::LostManifest).
    pub(crate) fn is_resumable(&self) -> bool {
        matches!(
            self,
            Self::LostManifest {
                backup: Some(_),
                ..
            }
        )
    }
}

impl From<Error> for StepError {
    fn from(error: Error) -> Self {
        let of_node = |node: &String| ObjectName::cluster("Node", node.clone());
        let (kind, object) = match &error {
            Error::BadBinaries { given, .. } => (
                StepErrorKind::Invalid,
                ObjectName::cluster("File", given.clone()),
            ),
            Error::BadHook { path, .. } => (StepErrorKind::Invalid, hook(path)),
            Error::HookStart { path, .. }
            | Error::HookNeverBegins { path, .. }
            | Error::NotVerified { path, .. } => (StepErrorKind::Permanent, hook(path)),
            Error::HookPutsOff { path, .. } => (StepErrorKind::Unavailable, hook(path)),
            Error::ProbeHangs { path, .. } => (StepErrorKind::Deadline, hook(path)),
            Error::Api { node, source } => {
                let kind = match source.as_ref() {
                    kube::Error::Api(status) if status.is_forbidden() => StepErrorKind::Forbidden,
                    kube::Error::Api(status) if status.is_not_found() => StepErrorKind::Permanent,
                    _ => StepErrorKind::Unavailable,
                };
                (kind, of_node(node))
            }
            Error::NoProgram { program, .. } => (
                StepErrorKind::Permanent,
                ObjectName::cluster("Program", program.display().to_string()),
            ),
            Error::UnknownNode { node, .. } | Error::ScriptTooLong { node, .. } => {
                (StepErrorKind::Invalid, of_node(node))
            }
            Error::JobApi { node, source } => {
                use migrate_kube::Error::{Forbidden, Unauthorized};
                let kind = match source.as_ref() {
                    Forbidden { .. } | Unauthorized { .. } => StepErrorKind::Forbidden,
                    _ => StepErrorKind::Permanent,
                };
                (kind, of_node(node))
            }
            Error::JobRefused { node, .. } => (StepErrorKind::Forbidden, of_node(node)),
            Error::Unreachable { node, .. }
            | Error::JobNotStarted { node, .. }
            | Error::NodeBusy { node, .. }
            | Error::StartFailed { node, .. }
            | Error::NotServing { node, .. }
            | Error::LoadBalancer { member: node, .. }
            | Error::LostManifest {
                node,
                backup: Some(_),
                ..
            }
            | Error::Etcd {
                node,
                retryable: true,
                ..
            } => (StepErrorKind::Unavailable, of_node(node)),
            Error::NodeTimeout { node, .. } => (StepErrorKind::Deadline, of_node(node)),
            Error::SshRefused { node, .. } | Error::SudoRefused { node, .. } => {
                (StepErrorKind::Forbidden, of_node(node))
            }
            Error::Etcd { node, .. }
            | Error::BadAnswer { node, .. }
            | Error::LostManifest { node, .. } => (StepErrorKind::Permanent, of_node(node)),
            Error::StaleEpoch { node, .. } => (StepErrorKind::Conflict, of_node(node)),
            Error::Cancelled => (
                StepErrorKind::Cancelled,
                ObjectName::cluster("Kubeadm", "survey"),
            ),
            Error::BadAction { action, .. } => (
                StepErrorKind::Invalid,
                ObjectName::cluster("Action", action.clone()),
            ),
        };
        Self::new(kind, object, error.to_string()).with_source(error)
    }
}

fn lost_cure(backup: Option<&str>) -> String {
    match backup {
        Some(backup) => format!("beginning the action again puts back {backup} and goes on"),
        None => "kubeadm has no backup of it on the node: write it with \
                 `kubeadm init phase control-plane`, then go on with the run"
            .to_owned(),
    }
}

fn api_cure(error: &kube::Error) -> &'static str {
    match error {
        kube::Error::Api(status) if status.is_forbidden() => {
            "add the rule {apiGroups: [\"\"], resources: [\"nodes\"], verbs: [\"get\", \"patch\"]}"
        }
        kube::Error::Api(status) if status.is_not_found() => {
            "see whether it was deleted, and plan again"
        }
        _ => "see that the API server answers, and try again",
    }
}

fn hook(path: &std::path::Path) -> ObjectName {
    ObjectName::cluster("Hook", path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_a_node_names_it_and_says_what_to_do() {
        let (node, limit) = ("worker-1".to_owned(), Duration::from_secs(30));
        let said = "the words".to_owned();
        let forbidden = kube::core::Status::failure("no", "Forbidden").with_code(403);
        let errors = [
            Error::Api {
                node: node.clone(),
                source: Box::new(kube::Error::Api(forbidden.boxed())),
            },
            Error::Unreachable {
                node: node.clone(),
                said: said.clone(),
            },
            Error::NodeTimeout {
                node: node.clone(),
                limit,
            },
            Error::SudoRefused {
                node: node.clone(),
                said: said.clone(),
            },
            Error::BadAnswer {
                node: node.clone(),
                said: said.clone(),
            },
            Error::StaleEpoch {
                node: node.clone(),
                epoch: 1,
                held: said.clone(),
            },
            Error::NodeBusy {
                node: node.clone(),
                by: said.clone(),
            },
            Error::StartFailed {
                node: node.clone(),
                said: said.clone(),
            },
            Error::NotServing {
                node: node.clone(),
                said,
            },
            Error::LostManifest {
                node,
                component: "kube-apiserver".to_owned(),
                backup: None,
            },
        ];
        for error in errors {
            let text = error.to_string();
            let cure = text.rsplit_once("; ").map_or("", |(_, cure)| cure);
            assert!(text.starts_with("node worker-1: "), "{text}");
            assert!(cure.len() > 20 && !cure.contains("the words"), "{text}");
        }
    }
}
