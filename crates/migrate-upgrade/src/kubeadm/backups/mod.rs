//! What kubeadm puts aside on nodes: the only way back there, and in the way one
//! day.

use std::collections::BTreeMap;
use std::time::Duration;

use migrate_core::{Fence, Finding, ObjectName, Severity};

use super::{FILES, Kubeadm};
use crate::unit::{FENCE, token, unreadable};
use crate::{Error, Script};

/// Shell functions by which a step remembers which folders are its own.
pub(super) const RECORD: &str = include_str!("record.sh");
pub(super) const CLEAN: &str = include_str!("clean.sh");

const NOT_CLEANED: &str = "KM-KUBEADM-027";

/// What [`Kubeadm::clean_backups`] has removed.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
#[must_use = "it tells what is gone, and what could not be looked at"]
pub struct Cleaned {
    /// Folders that are gone, by node.
    pub removed: BTreeMap<String, Vec<String>>,
    /// Folders of these runs that stay, and why, by node.
    pub kept: BTreeMap<String, Vec<(String, String)>>,
    /// Nodes that were not, or not wholly, cleaned: warnings.
    pub findings: Vec<Finding>,
}

impl Kubeadm {
    /// Removes from `/etc/kubernetes/tmp` of `nodes` what the steps of `runs`
    /// have made kubeadm put aside: manifests, copies of etcd, configurations of
    /// the kubelet.
    ///
    /// Of each node, these and nothing else:
    /// * recorded by a step of one of `runs` that has succeeded; what was there
    ///   before, came from a step that failed or was made by hand, stays;
    /// * recorded `retention` ago, by the node's clock;
    /// * not the newest of its kind there is, whoever made that.
    ///
    /// Nothing happens on a node while a step runs there, or for a `fence` that is
    /// older than its last holder. A node that could not be cleaned is a warning.
    ///
    /// # Caveats
    /// These folders are the only local way back. Name only runs that have passed
    /// their final verification, which this driver does not see.
    pub async fn clean_backups(
        &self,
        nodes: &[String],
        fence: &Fence,
        runs: &[String],
        retention: Duration,
    ) -> Cleaned {
        let mut cleaned = Cleaned::default();
        for node in nodes {
            match self.clean_node(node, fence, runs, retention).await {
                Ok(text) => cleaned.read(node, &text),
                Err(error) => cleaned.findings.push(Finding::new(
                    NOT_CLEANED,
                    Severity::Warning,
                    ObjectName::cluster("Node", node),
                    format!("what kubeadm has put aside was not cleaned: {error}"),
                    "do it again later; nothing is lost by it",
                )),
            }
        }
        cleaned
    }

    async fn clean_node(
        &self,
        node: &str,
        fence: &Fence,
        runs: &[String],
        retention: Duration,
    ) -> Result<String, Error> {
        let text = format!("{FILES}\n{FENCE}\n{RECORD}\n{CLEAN}\nclean \"$@\"\n");
        let script = Script::new(text)
            .arg(&self.layout.root)
            .arg(retention.as_secs().to_string())
            .args(runs.iter().map(|run| token(run)));
        let output = self.steps.fenced(node, fence, &script).await?;
        match output.code {
            0 => Ok(output.stdout),
            _ => Err(unreadable(
                node,
                "cleaning did not come to its end",
                &output,
            )),
        }
    }
}

impl Cleaned {
    fn read(&mut self, node: &str, text: &str) {
        for line in text.lines() {
            let mut words = line.splitn(3, ' ');
            let (word, name) = (words.next(), words.next().unwrap_or_default().to_owned());
            let why = words.next().unwrap_or_default().to_owned();
            match word {
                Some("removed") => self.removed.entry(node.to_owned()).or_default().push(name),
                Some("kept") => {
                    let kept = self.kept.entry(node.to_owned()).or_default();
                    kept.push((name, why));
                }
                _ => {}
            }
        }
    }
}
