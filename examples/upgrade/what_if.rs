//! What a change would do to the run that goes on.

use std::path::Path;
use std::str::FromStr;

use migrate_core::cost::BytesPerSecond;
use migrate_core::{BudgetKey, Moment, WorkloadId};
use migrate_executor::{FileJournal, Standpoint};
use migrate_plan::{Beliefs, Change};
use serde::Serialize;

use crate::failure::Failure;
use crate::foresight::{DRAWS, Ends};

/// How a change is written that a run can be told. A link is read, and refused with the reason.
const FORMS: &str = "write width:POOL=NODES, replicas:NAMESPACE/BUDGET=MORE or \
                     replicas:NAMESPACE/KIND/WORKLOAD=MORE";

/// A change that is asked about: its words, and what it is.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    words: String,
    change: Change,
}

/// When the run ends as things are, and when with a change.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Otherwise {
    change: String,
    before: Ends,
    after: Ends,
}

// The change follows from the words.
impl PartialEq for Asked {
    fn eq(&self, other: &Self) -> bool {
        self.words == other.words
    }
}

impl Eq for Asked {}

impl FromStr for Asked {
    type Err = String;

    fn from_str(words: &str) -> Result<Self, String> {
        let change = change(words).ok_or_else(|| format!("this is no change; {FORMS}"))?;
        let words = words.to_owned();
        Ok(Self { words, change })
    }
}

fn change(words: &str) -> Option<Change> {
    let (kind, rest) = words.split_once(':')?;
    let (name, value) = rest.rsplit_once('=')?;
    let has_name = name.split('/').all(|part| !part.is_empty());
    Some(match kind {
        _ if !has_name => return None,
        "width" => Change::Width {
            pool: name.to_owned(),
            width: value.parse().ok()?,
        },
        "replicas" => Change::Replicas {
            budget: match name.split('/').collect::<Vec<_>>()[..] {
                [namespace, name] => BudgetKey::real(namespace, name),
                [namespace, kind, name] => {
                    BudgetKey::assumed(&WorkloadId::new(kind, namespace, name))
                }
                _ => return None,
            },
            more: value.parse().ok()?,
        },
        "link" => Change::Link {
            name: name.to_owned(),
            throughput: BytesPerSecond(value.parse().ok()?),
        },
        _ => return None,
    })
}

impl Otherwise {
    /// Of the last run in the journal at `path`, for each of what is `asked`; nothing of one
    /// that does not go on.
    pub(crate) fn of_journal(
        path: &Path,
        asked: &[Asked],
        now: Moment,
        beliefs: &Beliefs,
    ) -> Result<Vec<Self>, Failure> {
        let entries = FileJournal::read(path)?;
        let Some(standpoint) = Standpoint::of(&path.display().to_string(), entries)? else {
            return Ok(Vec::new());
        };
        let now = standpoint.seen_at(now);
        let mut all = Vec::new();
        for Asked { words, change } in asked {
            let what_if = standpoint.what_if(now, change, beliefs, &DRAWS);
            let what_if = what_if.map_err(|error| Failure::new(words, error))?;
            all.extend(what_if.map(|it| Self {
                change: words.clone(),
                before: Ends::new(now, &it.before),
                after: Ends::new(now, &it.after),
            }));
        }
        Ok(all)
    }
}

/// `width:general=4: 13:50 (P50) … 14:02 (P95) UTC instead of 14:05 (P50) … 14:20 (P95) UTC`.
impl std::fmt::Display for Otherwise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (change, before, after) = (&self.change, self.before.when(), self.after.when());
        write!(f, "{change}: {after} instead of {before}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_named_by_what_it_is_of_and_how_much() {
        let parsed = |words: &str| Asked::from_str(words).map(|it| format!("{:?}", it.change));
        let same = |words: &str, change: Change| {
            assert_eq!(parsed(words).unwrap(), format!("{change:?}"), "{words}");
        };
        let (pool, width) = ("a:b".to_owned(), 4);
        same("width:a:b=4", Change::Width { pool, width });
        let (budget, more) = (BudgetKey::real("shop", "web"), 1);
        same("replicas:shop/web=1", Change::Replicas { budget, more });
        let budget = BudgetKey::assumed(&WorkloadId::new("Deployment", "shop", "web"));
        same(
            "replicas:shop/Deployment/web=1",
            Change::Replicas { budget, more },
        );
        let (name, throughput) = ("registry".to_owned(), BytesPerSecond(5));
        same("link:registry=5", Change::Link { name, throughput });
        for wrong in [
            "",
            "width",
            "width:general",
            "width:=4",
            "width:general=-1",
            "width:general=4 ",
            "replicas:web=1",
            "replicas:a/b/c/d=1",
            "replicas:/web=1",
            "nodes:general=4",
        ] {
            assert!(
                parsed(wrong).unwrap_err().contains("width:POOL=NODES"),
                "{wrong}"
            );
        }
    }
}
