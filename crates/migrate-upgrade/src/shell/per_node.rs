//! Different ways to different nodes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{NodeShell, Script, ScriptOutput};
use crate::Error;

/// Reaches the nodes it was told about each by a shell of their own, and all
/// others by the one it was made with: the machine a tool runs on
/// [`Local`](crate::Local)ly, say, and the rest over [`Ssh`](crate::Ssh).
///
/// Which way a node is reached may change between two runners of one run: what
/// a step has done lies on its node.
#[derive(Clone)]
pub struct PerNode {
    others: Arc<dyn NodeShell>,
    nodes: BTreeMap<String, Arc<dyn NodeShell>>,
}

impl PerNode {
    /// Reaches every node by `shell`.
    pub fn new(shell: Arc<dyn NodeShell>) -> Self {
        Self {
            others: shell,
            nodes: BTreeMap::new(),
        }
    }

    /// Reaches `node` by `shell`.
    #[must_use]
    pub fn with_node(mut self, node: impl Into<String>, shell: Arc<dyn NodeShell>) -> Self {
        self.nodes.insert(node.into(), shell);
        self
    }
}

#[async_trait]
impl NodeShell for PerNode {
    async fn run(
        &self,
        node: &str,
        script: &Script,
        limit: Duration,
    ) -> Result<ScriptOutput, Error> {
        let shell = self.nodes.get(node).unwrap_or(&self.others);
        shell.run(node, script, limit).await
    }
}
