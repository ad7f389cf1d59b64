//! A load in a process of its own.

use std::process::{Child, Command, Stdio};

use super::{Target, TrafficReport, traffic_program};
use crate::Error;

/// A load that goes on until [`finish`](Self::finish), or until it is dropped.
pub struct Traffic {
    child: Child,
}

impl Traffic {
    /// Begins to ask every target at a rate, from where the words of `prefix`
    /// run a program: [`KubeadmCluster::outside`](crate::KubeadmCluster::outside),
    /// [`Node::network`](crate::Node::network), or none for this machine.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn start(prefix: &[String], rate: f64, targets: &[Target]) -> Result<Self, Error> {
        let mut words = prefix.to_vec();
        words.push(traffic_program()?.display().to_string());
        words.extend(["load".to_owned(), rate.to_string()]);
        words.extend(targets.iter().map(Target::to_string));
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        let child = command
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::io("starting a load"))?;
        Ok(Self { child })
    }

    /// Ends the load; what became of its requests.
    ///
    /// # Errors
    /// [`Error::Io`] if it had ended before or says nothing sensible.
    pub fn finish(mut self) -> Result<TrafficReport, Error> {
        let ending = || Error::io("ending a load");
        drop(self.child.stdin.take());
        let mut text = String::new();
        if let Some(mut out) = self.child.stdout.take() {
            std::io::Read::read_to_string(&mut out, &mut text).map_err(ending())?;
        }
        self.child.wait().map_err(ending())?;
        serde_json::from_str(&text).map_err(|error| ending()(error.into()))
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
