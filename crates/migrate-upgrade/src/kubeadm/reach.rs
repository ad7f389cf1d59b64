//! Whether a node reaches an address.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use migrate_core::{ReachFrom, StepContext, StepError};

use super::Kubeadm;
use crate::{Error, Script};

const REACH: &str = include_str!("reach.sh");
/// How long the node tries: a new Service is there within a second or two where
/// agents watch.
const TRIES: Duration = Duration::from_secs(8);

impl Kubeadm {
    /// Whether `node` reaches `address`, for which it tries as long as `within`.
    pub(super) async fn reached(
        &self,
        node: &str,
        address: SocketAddr,
        within: Duration,
    ) -> Result<bool, Error> {
        let script = Script::new(format!("{REACH}\nreach \"$@\"\n"))
            .arg(address.ip().to_string())
            .arg(address.port().to_string())
            .arg(within.as_secs().to_string());
        let output = self.shell.run(node, &script, self.options.answer).await?;
        match (output.code, output.stdout.trim()) {
            (0, "reached") => Ok(true),
            (0, "not reached") => Ok(false),
            _ => Err(Error::BadAnswer {
                node: node.to_owned(),
                said: output.stderr.trim().to_owned(),
            }),
        }
    }
}

#[async_trait]
impl ReachFrom for Kubeadm {
    async fn reach(
        &self,
        _: &StepContext,
        node: &str,
        address: SocketAddr,
    ) -> Result<bool, StepError> {
        Ok(self.reached(node, address, TRIES).await?)
    }
}
