//! What the hooks were asked to do and how far it is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;

use super::call::{Answer, Call, Phase, Target};
use super::node;
use crate::control_plane::{Inner, client};
use crate::{Binaries, Error, Release};

/// The memory of the hooks of one control plane.
pub(super) struct Actions {
    inner: Arc<Inner>,
    node_upgrade_time: Duration,
    /// Made on first use, in the runtime of the hook server.
    client: OnceCell<kube::Client>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    actions: BTreeMap<String, Action>,
    /// The newest epoch that began something.
    epochs: BTreeMap<Target, u64>,
}

struct Action {
    target: Target,
    state: State,
}

#[derive(Clone)]
enum State {
    Running,
    Succeeded,
    Failed(String),
}

impl Actions {
    pub(super) fn new(inner: Arc<Inner>, node_upgrade_time: Duration) -> Self {
        Self {
            inner,
            node_upgrade_time,
            client: OnceCell::new(),
            memory: Mutex::default(),
        }
    }

    pub(super) async fn handle(self: &Arc<Self>, call: Call) -> Answer {
        let answer = match call.phase {
            Phase::Begin => self.begin(&call).await,
            Phase::Probe => self.probe(&call).await,
        };
        // The API may be away while the control plane is swapped.
        answer.unwrap_or_else(|error| Answer::Later(error.to_string()))
    }

    async fn begin(self: &Arc<Self>, call: &Call) -> Result<Answer, Error> {
        if let Some(answer) = self.answer_from_memory(call) {
            return Ok(answer);
        }
        match self.look(call).await? {
            Looked::AtTarget => {
                let message = format!("{} is at {} already", call.target, call.to);
                return Ok(Answer::Accepted(message));
            }
            Looked::Impossible(reason) => return Ok(Answer::Failed(reason)),
            Looked::Below(_) => {}
        }
        // Looking took time, in which the same call may have come again.
        if let Some(answer) = self.answer_from_memory(call) {
            return Ok(answer);
        }
        {
            let mut memory = self.memory();
            memory.epochs.insert(call.target.clone(), call.epoch);
            let action = Action {
                target: call.target.clone(),
                state: State::Running,
            };
            memory.actions.insert(call.action.clone(), action);
        }
        let (actions, begun) = (Arc::clone(self), call.clone());
        tokio::spawn(async move {
            let result = actions.perform(&begun).await;
            if let Some(action) = actions.memory().actions.get_mut(&begun.action) {
                action.state = match result {
                    Ok(()) => State::Succeeded,
                    Err(error) => State::Failed(error.to_string()),
                };
            }
        });
        Ok(Answer::Accepted(format!(
            "began {} to {}",
            call.target, call.to
        )))
    }

    /// The answer to a begin that follows from earlier calls alone.
    fn answer_from_memory(&self, call: &Call) -> Option<Answer> {
        let memory = self.memory();
        if let Some(&newest) = memory.epochs.get(&call.target)
            && call.epoch < newest
        {
            let message = format!("epoch {} is older than {newest}", call.epoch);
            return Some(Answer::Failed(message));
        }
        match memory.actions.get(&call.action).map(|action| &action.state) {
            Some(State::Running | State::Succeeded) => {
                return Some(Answer::Accepted(format!(
                    "{} was begun before",
                    call.action
                )));
            }
            Some(State::Failed(_)) | None => {}
        }
        let other = memory.actions.iter().find(|(_, action)| {
            action.target == call.target && matches!(action.state, State::Running)
        });
        other.map(|(name, _)| Answer::Later(format!("{name} is under way on {}", call.target)))
    }

    async fn probe(&self, call: &Call) -> Result<Answer, Error> {
        let known = self
            .memory()
            .actions
            .get(&call.action)
            .map(|action| action.state.clone());
        match &known {
            Some(State::Running) => return Ok(Answer::Running(call.target.to_string())),
            Some(State::Failed(reason)) => return Ok(Answer::Later(reason.clone())),
            Some(State::Succeeded) | None => {}
        }
        // What is there counts, not what is remembered.
        Ok(match (self.look(call).await?, known) {
            (Looked::AtTarget, _) => {
                Answer::Succeeded(format!("{} is at {}", call.target, call.to))
            }
            (Looked::Impossible(reason), _) => Answer::Failed(reason),
            (Looked::Below(seen), None) => Answer::Absent(seen),
            (Looked::Below(seen), Some(_)) => Answer::Failed(format!("was done, but {seen}")),
        })
    }

    async fn look(&self, call: &Call) -> Result<Looked, Error> {
        let name = match &call.target {
            Target::ControlPlane(_) => {
                self.inner.settle().await;
                let version = self.client().await?.apiserver_version().await;
                let version = version
                    .map_err(Error::api("asking the control plane for its version"))?
                    .git_version;
                if version == call.to {
                    return Ok(Looked::AtTarget);
                }
                return Ok(match self.release_for(&call.to).await {
                    Ok(_) => Looked::Below(format!("the control plane is at {version}")),
                    Err(reason) => Looked::Impossible(reason.to_string()),
                });
            }
            Target::Node(name) => name,
        };
        let Some(seen) = node::look(self.client().await?, name).await? else {
            return Ok(Looked::Impossible(format!("there is no node {name}")));
        };
        Ok(if seen.kubelet_version == call.to && seen.ready {
            Looked::AtTarget
        } else {
            Looked::Below(format!("node {name} is at {seen}"))
        })
    }

    async fn perform(&self, call: &Call) -> Result<(), Error> {
        match &call.target {
            Target::ControlPlane(_) => {
                let binaries = self.release_for(&call.to).await?;
                self.inner.swap_to(binaries).await?;
                Ok(())
            }
            Target::Node(name) => {
                let client = self.client().await?;
                node::upgrade(client, name, &call.to, self.node_upgrade_time).await
            }
        }
    }

    /// The programs of exactly this version.
    async fn release_for(&self, version: &str) -> Result<Binaries, Error> {
        let unknown = || Error::UnknownVersion {
            version: version.to_owned(),
        };
        let minor = version.split('.').nth(1).and_then(|text| text.parse().ok());
        let release = minor.and_then(|minor| Release::of_minor(minor).ok());
        match release {
            Some(release) if format!("v{}", release.kubernetes) == version => {
                self.inner.find(release.minor).await
            }
            _ => Err(unknown()),
        }
    }

    async fn client(&self) -> Result<&kube::Client, Error> {
        let kubeconfig = self.inner.hook_kubeconfig();
        self.client.get_or_try_init(|| client(kubeconfig)).await
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Each change of the memory is a single assignment: a panic elsewhere
        // cannot leave it half changed.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is there now.
enum Looked {
    AtTarget,
    /// Somewhere else, in words.
    Below(String),
    /// Will never be there, in words.
    Impossible(String),
}
