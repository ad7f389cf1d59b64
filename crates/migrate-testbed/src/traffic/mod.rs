//! Requests at a steady rate, counted: what users of a cluster notice.
//!
//! One program plays both sides, `kube-migrate-traffic`: a server that runs in
//! pods, and a client that asks every [`Target`] at the same rate, open loop
//! (a slow answer delays no later request), without retries.

mod api;
mod etcd;
mod leaders;
mod load;
mod record;
mod run;
mod serve;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Error;

pub use run::Traffic;

/// Longest that a request may take, connecting included.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// What a request that took longer is counted as.
const TIMEOUT: &str = "timeout";

/// A client that stalls fails everywhere within so many milliseconds.
const STALL: u64 = 1000;

/// One thing to send requests to.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Target {
    /// Its name in the report; without `=`.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether requests share a connection; otherwise each opens its own.
    pub keep_alive: bool,
}

impl Target {
    /// A target whose requests open a connection each.
    pub fn new(name: impl Into<String>, address: impl Into<SocketAddr>) -> Self {
        Self {
            name: name.into(),
            address: address.into(),
            keep_alive: false,
        }
    }

    /// The same with one connection kept, opened again when it has ended.
    #[must_use]
    pub fn kept_alive(mut self) -> Self {
        self.keep_alive = true;
        self
    }
}

impl fmt::Display for Target {
    /// As the program takes it: `name=address`, or `name=kept:address`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.keep_alive { "kept:" } else { "" };
        write!(f, "{}={how}{}", self.name, self.address)
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let malformed = || format!("{text:?} is not NAME=[kept:]ADDRESS:PORT");
        let (name, rest) = text.split_once('=').ok_or_else(malformed)?;
        let kept = rest.strip_prefix("kept:");
        let address = kept.unwrap_or(rest).parse().map_err(|_| malformed())?;
        Ok(Self {
            name: name.to_owned(),
            address,
            keep_alive: kept.is_some(),
        })
    }
}

/// What became of the requests to one target.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// Requests that have ended.
    pub requests: u64,
    /// Of these, the failed ones by what was seen: `refused`, `reset`, `eof`,
    /// `timeout`, `status 503`.
    pub failures: BTreeMap<String, u64>,
    /// When each failed request began, in milliseconds since the load did,
    /// with what was seen; the first thousand.
    pub failed_at: Vec<(u64, String)>,
    /// Longest time between two successes, in milliseconds.
    pub longest_gap: u64,
    /// Of the successes, in microseconds.
    pub median: u64,
    /// Of the successes, in microseconds.
    pub percentile_99: u64,
}

impl Tally {
    /// All failed requests.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// How many of the failed requests are the client's own fault: time-outs
    /// within a second of a failure of `control`, a target that the same client
    /// asked at the same rate and that nothing is done to. Of the failures that
    /// were kept with their time.
    pub fn stalled(&self, control: &Self) -> u64 {
        let is_stall = |(at, what): &&(u64, String)| {
            let mut failures = control.failed_at.iter();
            what == TIMEOUT && failures.any(|(other, _)| other.abs_diff(*at) <= STALL)
        };
        self.failed_at.iter().filter(is_stall).count() as u64
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} failed {:?}, longest gap {} ms, median {} µs, p99 {} µs",
            self.failed(),
            self.requests,
            self.failures,
            self.longest_gap,
            self.median,
            self.percentile_99
        )
    }
}

/// Tallies by the name of their target.
pub type TrafficReport = BTreeMap<String, Tally>;

/// The program that serves and asks, which cargo puts where tests are built.
///
/// # Errors
/// [`Error::Io`] if it has not been built.
pub fn traffic_program() -> Result<PathBuf, Error> {
    let looking = || "looking for the program kube-migrate-traffic".to_owned();
    let own = std::env::current_exe().map_err(Error::io(looking()))?;
    let found = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("kube-migrate-traffic"))
        .find(|program| program.is_file());
    found.ok_or_else(|| Error::Io {
        what: format!(
            "{}: cargo build --package migrate-testbed --bins",
            looking()
        ),
        source: std::io::ErrorKind::NotFound.into(),
    })
}

const USAGE: &str = "serve PORT [READY_AFTER_SECONDS] | serve-held PORT | load RATE NAME=ADDRESS:PORT... \
    | load-into FILE RATE NAME=ADDRESS:PORT... | api RATE KUBECONFIG \
    | etcd MILLISECONDS KUBECONFIG... | leaders MILLISECONDS KUBECONFIG... | record FILE";

/// The program's `main`.
///
/// `serve PORT [READY_AFTER_SECONDS]` serves until asked to end, and `serve-held PORT`
/// until its standard input ends;
/// `load REQUESTS_PER_SECOND TARGET...` asks until its standard input ends and
/// then prints a [`TrafficReport`] as JSON;
/// `load-into FILE REQUESTS_PER_SECOND TARGET...` asks until SIGTERM and keeps
/// the report of so far in a file. `api REQUESTS_PER_SECOND KUBECONFIG` does as
/// `load` with reads and writes of the API, and `etcd MILLISECONDS
/// KUBECONFIG...` with a key of etcd. `leaders MILLISECONDS KUBECONFIG...` prints
/// what members of etcd say of their version and of leading, until its standard input ends. `record FILE` adds a line a second to a
/// file until SIGTERM, each on disk before the next: its number, which goes on
/// from the last one there, the seconds that the machine is up, and those when
/// this writer began. On standard error they say when a target
/// begins to answer, or to fail in another way.
pub async fn traffic_main(arguments: &[String]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["serve", port] => serve::serve(port, "0").await,
        ["serve", port, ready_after] => serve::serve(port, ready_after).await,
        ["serve-held", port] => serve::serve_held(port).await,
        ["load", rate, targets @ ..] => load::load(rate, targets).await,
        ["load-into", file, rate, targets @ ..] => load::load_into(file, rate, targets).await,
        ["api", rate, kubeconfig] => api::load(rate, kubeconfig).await,
        ["etcd", every, members @ ..] => etcd::load(every, members).await,
        ["leaders", every, members @ ..] => leaders::watch(every, members).await,
        ["record", file] => record::record(file).await,
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed_at(failures: &[(u64, &str)]) -> Tally {
        let failed_at = failures.iter().map(|(at, what)| (*at, (*what).to_owned()));
        Tally {
            failed_at: failed_at.collect(),
            ..Tally::default()
        }
    }

    #[test]
    fn only_time_outs_beside_a_failure_of_the_control_target_are_stalls() {
        let control = failed_at(&[(5000, TIMEOUT)]);
        let target = failed_at(&[
            (3999, TIMEOUT),
            (4000, TIMEOUT),
            (5000, "refused"),
            (6000, TIMEOUT),
            (6001, TIMEOUT),
        ]);
        assert_eq!(target.stalled(&control), 2);
        assert_eq!(target.stalled(&Tally::default()), 0);
    }
}
