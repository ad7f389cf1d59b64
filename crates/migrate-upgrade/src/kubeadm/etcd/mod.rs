//! Whether a member's etcd may be touched. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Error;

const SCRIPT: &str = include_str!("etcd.sh");

/// How many entries of the log a member may be behind. Members are asked one
/// after the other while clients write, so that even a good follower seems
/// some entries late; at this many, etcd's own followers catch up in a moment
/// (it keeps 5,000 of them for that, `DefaultSnapshotCatchUpEntries` of its
/// server; who is further behind is sent the whole database).
const MAX_LAG: u64 = 1_000;

const UNWELL: &str = "KM-ETCD-201";
const BEHIND: &str = "KM-ETCD-202";
const ALARM: &str = "KM-ETCD-203";
const LEADS: &str = "KM-ETCD-204";
const SILENT: &str = "KM-ETCD-205";

/// What ends an alarm: nothing else does.
const ALARM_CURE: &str = "cure its cause (NOSPACE: compact, defragment; CORRUPT: replace the member), \
                          then `etcdctl alarm disarm`";

/// The shell functions, with the bound that the step judges by too, and what it
/// says of an alarm.
pub(super) fn script() -> String {
    format!("readonly ETCD_MOST_BEHIND={MAX_LAG} ETCD_ALARM_CURE='{ALARM_CURE}'\n{SCRIPT}")
}

/// What a control-plane node's etcd says of its cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct State {
    has_api_server: bool,
    is_here: bool,
    runs: bool,
    /// The member of this node.
    own: u64,
    members: Vec<Member>,
    statuses: BTreeMap<u64, Status>,
    /// Member and kind; `None` if nobody could say.
    alarms: Option<Vec<(u64, String)>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Member {
    id: u64,
    name: String,
    is_learner: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Status {
    leader: u64,
    applied: u64,
    errors: Vec<String>,
}

/// What may be done with a member's etcd.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// It may be touched.
    Clear,
    /// It leads: another member shall, first.
    MoveLeader {
        /// Its id as etcdctl takes it.
        to: String,
    },
    /// Not now, or not at all.
    Refused(Refusal),
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Refusal {
    code: &'static str,
    reason: String,
    cure: &'static str,
    retryable: bool,
}

impl Refusal {
    pub(super) fn on(self, node: &str) -> Error {
        Error::Etcd {
            node: node.to_owned(),
            code: self.code,
            reason: self.reason,
            cure: self.cure,
            retryable: self.retryable,
        }
    }
}

impl State {
    /// Reads what `etcd_state` prints. What cannot be read is as if it had not
    /// been said.
    pub(super) fn read(text: &str) -> Self {
        let mut state = Self::default();
        for line in text.lines() {
            let Some((name, rest)) = line.split_once(' ') else {
                continue;
            };
            let json = || serde_json::from_str::<Value>(rest).unwrap_or_default();
            match (name, rest) {
                ("api-server", "here") => state.has_api_server = true,
                ("etcd", "here") => state.is_here = true,
                ("etcd", "runs") => state.runs = true,
                ("members", _) => state.read_members(&json()),
                ("statuses", _) => state.statuses = read_statuses(&json()),
                ("alarms", _) => state.alarms = read_alarms(&json()),
                _ => {}
            }
        }
        state
    }

    fn read_members(&mut self, json: &Value) {
        self.own = number(&json["header"]["member_id"]);
        let members = json["members"].as_array().into_iter().flatten();
        self.members = members
            .map(|member| Member {
                id: number(&member["ID"]),
                name: member["name"].as_str().unwrap_or_default().to_owned(),
                is_learner: member["isLearner"] == true,
            })
            .collect();
    }

    /// Whether an API server runs on this node at all.
    pub(super) fn has_api_server(&self) -> bool {
        self.has_api_server
    }

    /// Judges whether this node's member may be touched; `again` if an attempt
    /// before this one may have left it half changed.
    ///
    /// No alarm is raised, all members are well and caught up, the others alone
    /// are a quorum, and this one does not lead. The step on the node judges the
    /// same once more (`etcd_may_rest`). A cluster of one member has
    /// nobody to wait for or to hand the lead to.
    pub(super) fn judge(&self, again: bool) -> Verdict {
        if !self.is_here {
            return Verdict::Clear;
        }
        if !self.runs {
            // Touching a member that is down takes nothing from the others.
            return if again {
                Verdict::Clear
            } else {
                refuse(
                    UNWELL,
                    "the etcd of this node does not run".to_owned(),
                    "bring it back before the node is changed",
                    true,
                )
            };
        }
        if self.members.is_empty() {
            return refuse(
                SILENT,
                "the list of etcd's members cannot be had".to_owned(),
                "see that etcd has a quorum, and that its image holds etcdctl",
                true,
            );
        }
        let refused = self
            .alarmed()
            .or_else(|| self.unwell())
            .or_else(|| self.unasked())
            .or_else(|| self.nameless())
            .or_else(|| self.behind())
            .or_else(|| self.too_few());
        match (refused, self.successor()) {
            (Some(refusal), _) => Verdict::Refused(refusal),
            (None, Some(to)) => Verdict::MoveLeader {
                to: format!("{to:x}"),
            },
            (None, None) => Verdict::Clear,
        }
    }

    fn unwell(&self) -> Option<Refusal> {
        let complaint = self.members.iter().find_map(|member| {
            let name = self.name(member.id);
            match self.statuses.get(&member.id) {
                None => Some(format!("the member {name} does not answer")),
                Some(status) => {
                    let error = status.errors.first()?;
                    Some(format!("the member {name} says {error:?}"))
                }
            }
        });
        let mut leaders = self.statuses.values().map(|status| status.leader);
        let leader = leaders.next().unwrap_or(0);
        let is_known = self.statuses.contains_key(&leader);
        let agreed = is_known && leaders.all(|other| other == leader);
        let complaint = complaint
            .or_else(|| (!agreed).then(|| "the members do not agree on a leader".to_owned()))?;
        Some(refusal(
            UNWELL,
            complaint,
            "every member has to be well before one is taken down",
            true,
        ))
    }

    /// Judged before anything else: a member with an alarm calls itself unwell too,
    /// and an alarm stays until somebody acts, so that waiting would only hide it.
    fn alarmed(&self) -> Option<Refusal> {
        let (member, kind) = self.alarms.as_ref()?.first()?;
        let reason = format!(
            "etcd has raised the alarm {kind} for {}",
            self.name(*member)
        );
        Some(refusal(ALARM, reason, ALARM_CURE, false))
    }

    /// Judged after what is unwell, which is why nobody could say.
    fn unasked(&self) -> Option<Refusal> {
        self.alarms.is_none().then(|| {
            refusal(
                SILENT,
                "etcd does not say whether an alarm is raised".to_owned(),
                "see that it has a quorum",
                true,
            )
        })
    }

    /// Without its own id every member would count as another one.
    fn nameless(&self) -> Option<Refusal> {
        let is_here = |member: &Member| member.id == self.own;
        let is_known = self.own != 0 && self.members.iter().any(is_here);
        (!is_known).then(|| {
            refusal(
                SILENT,
                "the etcd of this node does not say which of the members it is".to_owned(),
                "see that the members know each other",
                true,
            )
        })
    }

    fn behind(&self) -> Option<Refusal> {
        let newest = self.statuses.values().map(|status| status.applied).max()?;
        let others = self.statuses.iter().filter(|(id, _)| **id != self.own);
        let (slowest, status) = others.min_by_key(|(_, status)| status.applied)?;
        let lag = newest.saturating_sub(status.applied);
        (lag > MAX_LAG).then(|| {
            refusal(
                BEHIND,
                format!(
                    "the member {} is {lag} entries behind; {MAX_LAG} are allowed",
                    self.name(*slowest)
                ),
                "wait until it has caught up; if it does not, look at its disk and its network",
                true,
            )
        })
    }

    fn too_few(&self) -> Option<Refusal> {
        let voters = self.voters().count();
        let others = self.voters().filter(|member| member.id != self.own).count();
        let quorum = voters / 2 + 1;
        (voters > 1 && others < quorum).then(|| {
            refusal(
                UNWELL,
                format!("without this one, {others} of {voters} voting members are no quorum"),
                "add a member, so that there are three: the cluster would stand still",
                false,
            )
        })
    }

    /// Who should lead instead of this member, if it does.
    fn successor(&self) -> Option<u64> {
        let own = self.statuses.get(&self.own)?;
        if own.leader != self.own {
            return None;
        }
        let others = self.voters().filter(|member| member.id != self.own);
        let applied = |member: &&Member| self.statuses.get(&member.id).map(|status| status.applied);
        others.max_by_key(applied).map(|member| member.id)
    }

    fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.is_learner)
    }

    /// A member as people know it.
    fn name(&self, id: u64) -> String {
        let member = self.members.iter().find(|member| member.id == id);
        match member {
            Some(member) if !member.name.is_empty() => member.name.clone(),
            _ => format!("{id:x}"),
        }
    }
}

/// The lead is still here after it was given away.
pub(super) fn still_leads(said: &str) -> Refusal {
    refusal(
        LEADS,
        format!("etcd's leadership could not be moved to another member: {said}"),
        "see how the members reach each other",
        true,
    )
}

/// Nothing could be learnt.
pub(super) fn silent(said: &str) -> Refusal {
    refusal(
        SILENT,
        format!("etcd could not be asked: {said}"),
        "install crictl, which kubeadm's package asks for",
        true,
    )
}

fn refusal(code: &'static str, reason: String, cure: &'static str, retryable: bool) -> Refusal {
    Refusal {
        code,
        reason,
        cure,
        retryable,
    }
}

fn refuse(code: &'static str, reason: String, cure: &'static str, retryable: bool) -> Verdict {
    Verdict::Refused(refusal(code, reason, cure, retryable))
}

/// Of `endpoint status`: only members that answered are in it.
fn read_statuses(json: &Value) -> BTreeMap<u64, Status> {
    let entries = json.as_array().into_iter().flatten();
    let read = entries.map(|entry| {
        let status = &entry["Status"];
        let errors = status["errors"].as_array().into_iter().flatten();
        let errors = errors.map(|error| error.as_str().unwrap_or_default().to_owned());
        let read = Status {
            leader: number(&status["leader"]),
            applied: number(&status["raftAppliedIndex"]),
            errors: errors.collect(),
        };
        (number(&status["header"]["member_id"]), read)
    });
    read.collect()
}

/// Of `alarm list`, whose kinds are numbers, or names in newer releases.
fn read_alarms(json: &Value) -> Option<Vec<(u64, String)>> {
    json.get("header")?;
    let alarms = json["alarms"].as_array().into_iter().flatten();
    let read = alarms.map(|alarm| {
        let kind = match (&alarm["alarm"], number(&alarm["alarm"])) {
            (Value::String(name), 0) => name.clone(),
            (_, 1) => "NOSPACE".to_owned(),
            (_, 2) => "CORRUPT".to_owned(),
            (_, other) => other.to_string(),
        };
        (number(&alarm["memberID"]), kind)
    });
    Some(read.collect())
}

/// A 64-bit number, which some JSON of etcd writes as text.
fn number(value: &Value) -> u64 {
    let text = || value.as_str().and_then(|text| text.parse().ok());
    value.as_u64().or_else(text).unwrap_or(0)
}

#[cfg(test)]
pub(super) mod tests;
