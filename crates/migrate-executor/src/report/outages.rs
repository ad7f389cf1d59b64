//! When the API server did not answer, and whether the run was the cause.

use std::fmt;
use std::time::Duration;

use migrate_core::{Finding, Moment, ObjectName, Severity};
use serde::{Deserialize, Serialize};

use super::table::Human;

/// A time in which the API server did not answer this runner.
///
/// It is known to within a few seconds: from the call that had no answer to the
/// next that had one (`Pace::retry`).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Outage {
    /// Since when.
    pub since: Moment,
    /// Until when.
    pub until: Moment,
    /// The control-plane member, or its node, that this run was upgrading or
    /// waiting for when it began. `None`: nothing of this run explains it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub during: Option<String>,
}

impl Outage {
    pub(crate) fn new(since: Moment, until: Moment, during: Option<String>) -> Self {
        Self {
            since,
            until,
            during,
        }
    }

    /// How long it was.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.until.since(self.since)
    }

    /// What is waited for in one that began while `during` was upgraded.
    #[must_use]
    pub fn on(during: Option<&str>) -> String {
        match during {
            Some(name) => format!("the API server, which is away while {name} is upgraded"),
            None => "the API server, which does not answer, and nothing of this run explains it"
                .to_owned(),
        }
    }
}

/// What is told of those that nothing of the run explains.
pub(super) fn unexplained(outages: &[Outage]) -> Option<Finding> {
    let lengths = lengths(outages, false);
    let (first, longest) = (
        outages.iter().find(|outage| outage.during.is_none())?,
        lengths.iter().max()?,
    );
    let total: Duration = lengths.iter().sum();
    Some(Finding::new(
        "KM-RUN-009",
        Severity::Warning,
        ObjectName::cluster("Service", "kubernetes"),
        format!(
            "the API server did not answer for {} in all, {} at the longest, first at {}, while this \
             run changed nothing of the control plane",
            Human(total),
            Human(*longest),
            first.since
        ),
        "see the logs of the API servers and of what stands before them at that time",
    ))
}

fn lengths(outages: &[Outage], explained: bool) -> Vec<Duration> {
    let of_kind = outages
        .iter()
        .filter(|outage| outage.during.is_some() == explained);
    of_kind.map(Outage::length).collect()
}

/// Both kinds in one line each.
pub(super) fn write(outages: &[Outage], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (explained, what) in [
        (true, "while control-plane nodes were upgraded"),
        (false, "with no cause in this run"),
    ] {
        let lengths = lengths(outages, explained);
        let Some(longest) = lengths.iter().max() else {
            continue;
        };
        writeln!(
            f,
            "  API away   {} {what}, {} at the longest",
            Human(lengths.iter().sum()),
            Human(*longest)
        )?;
    }
    Ok(())
}
