//! When the API server did not answer, and whether the run was the cause.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use migrate_core::{ClusterModel, Finding, Moment, ObjectName, Severity};
use serde::{Deserialize, Serialize};

use super::table::Human;

/// A time in which the API server did not answer this runner.
///
/// It is known to within a few seconds: from the call that had no answer to the
/// next that had one (`Pace::retry`).
/// Of one in whose middle the runner ended, and that the next one did not find any
/// more, the end is the last that the journal knows: it may have lasted longer.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Outage {
    /// Since when.
    pub since: Moment,
    /// Until when.
    pub until: Moment,
    /// The only control-plane member, or its node, if this run was upgrading it or
    /// waiting for it when that began: it explains it. `None`: nothing of this run
    /// does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub during: Option<String>,
    /// The same of one of several members, whose others should have answered in its
    /// place: it probably has to do with it, and is no excuse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<String>,
}

impl Outage {
    /// One of a run on the cluster of `model`, with the member `changing`, or its node,
    /// at work when it began: that explains it only where there is no other member.
    /// Each is taken out of what stands before it, or should be, before it is touched.
    #[must_use]
    pub fn new(
        since: Moment,
        until: Moment,
        changing: Option<String>,
        model: &ClusterModel,
    ) -> Self {
        let (during, beside) = match model.has_one_member() {
            true => (changing, None),
            false => (None, changing),
        };
        Self {
            since,
            until,
            during,
            beside,
        }
    }

    /// How long it was.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.until.since(self.since)
    }

    /// What is waited for in it.
    #[must_use]
    pub fn on(&self) -> String {
        match (&self.during, &self.beside) {
            (Some(name), _) => format!("the API server, which is away while {name} is upgraded"),
            (None, Some(name)) => format!(
                "the API server, which does not answer while {name} is upgraded, although others \
                 should"
            ),
            (None, None) => {
                "the API server, which does not answer, and nothing of this run explains it"
                    .to_owned()
            }
        }
    }

    /// What this run did then.
    pub(super) fn meanwhile(&self) -> String {
        match (&self.during, &self.beside) {
            (Some(name), _) => format!("{name} was upgraded"),
            (None, Some(name)) => format!("{name} was upgraded, and others should have answered"),
            (None, None) => "nothing of this run explains it".to_owned(),
        }
    }

    fn kind(&self) -> Kind {
        match (&self.during, &self.beside) {
            (Some(_), _) => Kind::Explained,
            (None, Some(_)) => Kind::Beside,
            (None, None) => Kind::Nobodys,
        }
    }
}

/// What an outage has to do with the run.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Kind {
    Explained,
    Beside,
    Nobodys,
}

/// What is told of those that nothing of the run explains.
pub(super) fn unexplained(outages: &[Outage]) -> Option<Finding> {
    let is_one = |outage: &&Outage| outage.kind() != Kind::Explained;
    let first = outages.iter().find(is_one)?;
    let lengths = outages.iter().filter(is_one).map(Outage::length);
    let (total, longest) = (lengths.clone().sum(), lengths.max()?);
    let besides: BTreeSet<&str> = outages
        .iter()
        .filter_map(|at| at.beside.as_deref())
        .collect();
    let besides: Vec<&str> = besides.into_iter().collect();
    let mut parts = Vec::new();
    if !besides.is_empty() {
        let (length, names) = (total_of(outages, Kind::Beside), besides.join(", "));
        parts.push(format!(
            "{} that began while {names} was upgraded, in whose place others should have answered",
            Human(length)
        ));
    }
    if outages.iter().any(|at| at.kind() == Kind::Nobodys) {
        let length = total_of(outages, Kind::Nobodys);
        parts.push(format!(
            "{} that began while this run changed nothing of the control plane",
            Human(length)
        ));
    }
    let mut cure =
        "see the logs of the API servers and of what stands before them at that time".to_owned();
    if !besides.is_empty() {
        cure.push_str(
            "; the address that is asked should be one that leads to whichever server is ready, and \
             what leads there should be told before one is changed (docs/kubeadm.md, several \
             control planes)",
        );
    }
    Some(Finding::new(
        "KM-RUN-009",
        Severity::Warning,
        ObjectName::cluster("Service", "kubernetes"),
        format!(
            "the API server did not answer for {} in all, {} at the longest, first at {}: {}",
            Human(total),
            Human(longest),
            first.since,
            parts.join(", and ")
        ),
        cure,
    ))
}

fn total_of(outages: &[Outage], kind: Kind) -> Duration {
    lengths(outages, kind).sum()
}

fn lengths(outages: &[Outage], kind: Kind) -> impl Iterator<Item = Duration> {
    let of_kind = outages.iter().filter(move |outage| outage.kind() == kind);
    of_kind.map(Outage::length)
}

/// Each kind in one line.
pub(super) fn write(outages: &[Outage], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (kind, what) in [
        (Kind::Explained, "while control-plane nodes were upgraded"),
        (
            Kind::Beside,
            "while control-plane nodes were upgraded and others should have answered",
        ),
        (Kind::Nobodys, "with no cause in this run"),
    ] {
        let Some(longest) = lengths(outages, kind).max() else {
            continue;
        };
        writeln!(
            f,
            "  API away   {} {what}, {} at the longest",
            Human(total_of(outages, kind)),
            Human(longest)
        )?;
    }
    Ok(())
}
