//! What a node with a control plane needs before and after it is touched: its
//! etcd hands on the lead, its API server leaves the load balancer and comes
//! back.

use migrate_core::{ActionStatus, Fence, Finding, ObjectName, Severity};

use super::etcd::{self, State, Verdict};
use super::{COMMON, FILES, Kubeadm};
use crate::unit::{FENCE, unreadable};
use crate::{ApiServerBackend, Error, Script, Standing};

pub(super) const MEMBER: &str = include_str!("member.sh");
/// How often leadership is moved before that counts as failed: an election may
/// come between.
const MOVES: u32 = 3;

const LEFT_OUT: &str = "KM-LB-001";
const UNKNOWN: &str = "whether its API server is in its load balancer cannot be told";

/// Where the API server of a node stands.
enum Outside {
    /// Not out, as far as this node remembers.
    In,
    /// Out, for a step that runs or a holder that is newer than we are.
    Held,
    /// Out, and it serves.
    Serving,
    /// Out, and it does not, for this reason.
    Dead(String),
}

/// What became of the mark of a node that its API server is out.
enum Mark {
    /// It is removed.
    Forgotten,
    /// There was none.
    Gone,
    /// It is that of a newer holder, named here, and stays.
    Newer(String),
}

impl Kubeadm {
    /// Makes a node ready to be touched. Nothing happens on one without an API
    /// server; `again` as in [`State::judge`].
    pub(super) async fn clear_the_way(
        &self,
        node: &str,
        fence: &Fence,
        again: bool,
    ) -> Result<(), Error> {
        let mut moves = 0;
        loop {
            let state = self.etcd_state(node).await?;
            // One that vanishes after its lead was moved is no node without.
            if moves == 0 && !state.has_api_server() {
                return Ok(());
            }
            match state.judge(again) {
                Verdict::Clear => return self.take_out(node, fence).await,
                Verdict::Refused(refusal) => return Err(refusal.on(node)),
                Verdict::MoveLeader { .. } if moves == MOVES => {
                    return Err(etcd::still_leads("it came back each time").on(node));
                }
                Verdict::MoveLeader { to } => {
                    moves += 1;
                    self.move_leader(node, fence, &to).await?;
                }
            }
        }
    }

    async fn etcd_state(&self, node: &str) -> Result<State, Error> {
        let text = format!("{COMMON}\n{}\netcd_state \"$@\"\n", etcd::script());
        let script = Script::new(text).arg(&self.layout.root);
        let output = self.shell.run(node, &script, self.options.answer).await?;
        match output.code {
            0 => Ok(State::read(&output.stdout)),
            _ => Err(etcd::silent(output.stderr.trim()).on(node)),
        }
    }

    /// Under the node's lock and epoch: the member that a superseded holder would hand the
    /// lead to may be the one that its successor is about to touch.
    async fn move_leader(&self, node: &str, fence: &Fence, to: &str) -> Result<(), Error> {
        let script = member_script("move_lead").arg(&self.layout.root).arg(to);
        let output = self.steps.fenced(node, fence, &script).await?;
        match output.code {
            0 => Ok(()),
            _ => Err(etcd::still_leads(output.stderr.trim()).on(node)),
        }
    }

    /// Takes the API server of a node out of its load balancer, if one is
    /// known. The node remembers it before it is done, so that whoever comes
    /// after a crash puts it back.
    async fn take_out(&self, node: &str, fence: &Fence) -> Result<(), Error> {
        let Some(balancer) = &self.balancer else {
            return Ok(());
        };
        let script = member_script("mark_out");
        let output = self.steps.fenced(node, fence, &script).await?;
        if output.code != 0 {
            return Err(unreadable(node, UNKNOWN, &output));
        }
        let is_new = output.stdout.trim() == "now";
        let standing = balancer.quiesce(node, fence).await?;
        if is_new && standing == Standing::WasOut {
            self.forget_own(node, fence).await?;
        }
        Ok(())
    }

    /// A newer holder has come between our taking the API server of a node out
    /// and the start of our step. Ours may have been the later word of the two to
    /// the load balancer: where nobody remembers it as out, it goes in again.
    pub(super) async fn give_way(&self, node: &str, fence: &Fence) -> Result<(), Error> {
        match &self.balancer {
            Some(balancer) => self.follow(balancer.as_ref(), node, fence, true).await,
            None => Ok(()),
        }
    }

    /// Our word to the load balancer, that the API server is out or not (`is_out`), may
    /// have come after that of a newer holder. It is taken back until it is what the node
    /// remembers after it was said.
    async fn follow(
        &self,
        balancer: &dyn ApiServerBackend,
        node: &str,
        fence: &Fence,
        mut is_out: bool,
    ) -> Result<(), Error> {
        loop {
            let shall_be_out = match self.forget_out(node, fence).await? {
                Mark::Newer(_) => true,
                Mark::Gone => false,
                Mark::Forgotten => return Ok(()),
            };
            if is_out == shall_be_out {
                return Ok(());
            }
            match shall_be_out {
                true => balancer.quiesce(node, fence).await.map(drop)?,
                false => balancer.restore(node, fence).await?,
            }
            is_out = shall_be_out;
        }
    }

    /// Puts the API server of a node back before it is said that nothing runs
    /// there any more. An API server that does not serve holds back success
    /// only; a node or balancer that cannot be asked holds back every answer
    /// but [`Running`](ActionStatus::Running).
    pub(super) async fn put_back(
        &self,
        node: &str,
        fence: &Fence,
        status: ActionStatus,
    ) -> Result<ActionStatus, Error> {
        if status == ActionStatus::Running {
            return Ok(status);
        }
        match (self.restored(node, fence).await?, status) {
            (Outside::Dead(said), ActionStatus::Succeeded(_)) => Err(Error::NotServing {
                node: node.to_owned(),
                said,
            }),
            (Outside::Dead(said), ActionStatus::Failed { retryable, reason }) => {
                let reason = format!(
                    "{reason}; its API server stays out of its load balancer, for it does not \
                     serve ({said}): beginning the action again, or the next run, puts it back"
                );
                Ok(ActionStatus::Failed { retryable, reason })
            }
            (_, status) => Ok(status),
        }
    }

    /// Puts API servers back into their load balancer that a run which is over
    /// has left out, on those of `nodes` that remember one. Does nothing
    /// without a load balancer
    /// ([`with_api_server_backend`](Self::with_api_server_backend)), and leaves
    /// alone where a step runs. What could not be put back is a warning: a
    /// resumed run may be about to cure it.
    pub async fn put_back_all(&self, nodes: &[String], fence: &Fence) -> Vec<Finding> {
        let mut findings = Vec::new();
        for node in nodes {
            let finding = match self.restored(node, fence).await {
                Ok(Outside::Dead(said)) => format!(
                    "its API server is out of its load balancer since an earlier run and does not \
                     serve: {said}"
                ),
                Ok(_) => continue,
                Err(error) => error.to_string(),
            };
            findings.push(Finding::new(
                LEFT_OUT,
                Severity::Warning,
                ObjectName::cluster("Node", node),
                finding,
                "bring it back: the next action on the node puts it in",
            ));
        }
        findings
    }

    /// Where the API server of a node stood before it was put back.
    async fn restored(&self, node: &str, fence: &Fence) -> Result<Outside, Error> {
        let Some(balancer) = &self.balancer else {
            return Ok(Outside::In);
        };
        let script = member_script("outside").arg(&self.layout.root);
        let output = self.steps.fenced(node, fence, &script).await?;
        let said = output.stdout.trim();
        let outside = match said.split_once(' ').unwrap_or((said, "")) {
            _ if output.code != 0 => None,
            ("in", _) => Some(Outside::In),
            ("held", _) => Some(Outside::Held),
            ("serving", _) => Some(Outside::Serving),
            ("dead", why) => Some(Outside::Dead(why.to_owned())),
            _ => None,
        };
        let outside = outside.ok_or_else(|| unreadable(node, UNKNOWN, &output))?;
        if matches!(outside, Outside::Serving) {
            balancer.restore(node, fence).await?;
            let restored = self.forget_own(node, fence).await;
            if let Err(Error::StaleEpoch { node, epoch, held }) = restored {
                let followed = self.follow(balancer.as_ref(), &node, fence, false).await;
                return Err(Error::StaleEpoch {
                    held: match followed {
                        Ok(()) | Err(Error::StaleEpoch { .. }) => held,
                        Err(error) => format!("{held}, and we have put it in again: {error};"),
                    },
                    node,
                    epoch,
                });
            }
            restored?;
        }
        Ok(outside)
    }

    /// As [`forget_out`](Self::forget_out); that we were superseded is an error.
    async fn forget_own(&self, node: &str, fence: &Fence) -> Result<(), Error> {
        match self.forget_out(node, fence).await? {
            Mark::Forgotten | Mark::Gone => Ok(()),
            Mark::Newer(held) => Err(Error::StaleEpoch {
                node: node.to_owned(),
                epoch: fence.epoch,
                held,
            }),
        }
    }

    /// Removes the mark of a node, by compare-and-set under the node's lock: one
    /// that a newer holder has set stays.
    async fn forget_out(&self, node: &str, fence: &Fence) -> Result<Mark, Error> {
        let script = member_script("forget_out");
        let output = self.steps.fenced(node, fence, &script).await?;
        let said = output.stdout.trim();
        let (word, rest) = said.split_once(' ').unwrap_or((said, ""));
        match word {
            _ if output.code != 0 => Err(unreadable(node, UNKNOWN, &output)),
            "forgotten" => Ok(Mark::Forgotten),
            "gone" => Ok(Mark::Gone),
            "newer" => Ok(Mark::Newer(rest.to_owned())),
            _ => Err(unreadable(node, UNKNOWN, &output)),
        }
    }
}

/// A script that calls `function` of ours by [`fenced`](crate::unit::Steps::fenced).
fn member_script(function: &str) -> Script {
    let etcd = etcd::script();
    Script::new(format!(
        "{COMMON}\n{FILES}\n{FENCE}\n{etcd}\n{MEMBER}\n{function} \"$@\"\n"
    ))
}

#[cfg(test)]
mod tests;
