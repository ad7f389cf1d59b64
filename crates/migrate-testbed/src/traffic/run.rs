//! A load in a process of its own.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Target, TrafficReport, traffic_program};
use crate::Error;

/// Before every load, where that is allowed: what measures is not to wait for what is
/// measured.
const FIRST: [&str; 3] = ["nice", "-n", "-10"];

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
        Self::spawn(prefix, rate, targets, Stdio::null())
    }

    /// Asks until every target answers: a Service is there before each node's
    /// proxy knows it. Blocks; whoever waits sets the deadline.
    ///
    /// # Errors
    /// [`Error::Io`], also if the load ends before.
    pub fn await_answers(prefix: &[String], targets: &[Target]) -> Result<(), Error> {
        let waiting = || "waiting for every target to answer".to_owned();
        let mut load = Self::spawn(prefix, 10.0, targets, Stdio::piped())?;
        let mut silent: BTreeSet<&str> = targets.iter().map(|target| &*target.name).collect();
        let said = load.child.stderr.take().into_iter();
        for line in said.flat_map(|said| BufReader::new(said).lines()) {
            let line = line.map_err(Error::io(waiting()))?;
            let mut words = line.split(' ').skip(2);
            if let (Some(name), Some(what)) = (words.next(), words.next()) {
                let target = targets.iter().find(|target| target.name == name);
                match target {
                    Some(target) if what == "answers" => silent.remove(&*target.name),
                    Some(target) => silent.insert(&target.name),
                    None => false,
                };
            }
            if silent.is_empty() {
                return Ok(());
            }
        }
        Err(Error::io(waiting())(ErrorKind::UnexpectedEof.into()))
    }

    /// Begins to read from and write to the API of a kubeconfig at a rate for
    /// each of `api.read`, `api.write`, and both with connections that are kept:
    /// a namespace that the storage has to confirm, and ConfigMaps in `default`, which
    /// take turns so that no two writes under way are of the same one.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn ask_api(prefix: &[String], rate: f64, kubeconfig: &Path) -> Result<Self, Error> {
        let words = ["api".to_owned(), rate.to_string(), text(kubeconfig)];
        Self::program(prefix, words, Stdio::null())
    }

    /// Begins to write a key to etcd, as `etcd.write`: through the member that
    /// took the last write, and through the next one when that does not take it
    /// within half a second. Members are named as by
    /// [`KubeadmCluster::etcd_access`](crate::KubeadmCluster::etcd_access).
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_to_etcd(
        prefix: &[String],
        every: Duration,
        members: &[PathBuf],
    ) -> Result<Self, Error> {
        let words = ["etcd".to_owned(), every.as_millis().to_string()];
        let members = members.iter().map(|member| text(member));
        Self::program(prefix, words.into_iter().chain(members), Stdio::null())
    }

    /// Serves a port for loads to ask beside what they measure, until it is dropped: what
    /// fails there is their own fault.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn serve(prefix: &[String], port: u16) -> Result<Self, Error> {
        let words = ["serve-held".to_owned(), port.to_string()];
        Self::program(prefix, words, Stdio::null())
    }

    fn spawn(prefix: &[String], rate: f64, targets: &[Target], said: Stdio) -> Result<Self, Error> {
        let words = ["load".to_owned(), rate.to_string()];
        let targets = targets.iter().map(Target::to_string);
        Self::program(prefix, words.into_iter().chain(targets), said)
    }

    fn program(
        prefix: &[String],
        arguments: impl IntoIterator<Item = String>,
        said: Stdio,
    ) -> Result<Self, Error> {
        let [nice, higher @ ..] = FIRST;
        let child = Command::new(nice)
            .args(higher)
            .args(prefix)
            .arg(traffic_program()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(said)
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

fn text(path: &Path) -> String {
    path.display().to_string()
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
