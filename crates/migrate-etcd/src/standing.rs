//! What a member says of itself, and whether that makes it one to take a snapshot of.

use etcd_client::StatusResponse;

use crate::Error;

/// Per cent of its quota beyond which a database is nearly full.
const NEARLY: u128 = 90;

/// What a member says of itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Standing {
    /// Of its etcd cluster.
    pub(crate) cluster: u64,
    pub(crate) id: u64,
    /// 0: it knows none.
    pub(crate) leader: u64,
    pub(crate) is_learner: bool,
    /// Of its store, as far as it has got.
    pub(crate) revision: i64,
    /// Bytes of its database; 0 where it does not say.
    pub(crate) size: u64,
    /// Bytes that its database may have; 0 where it does not say, as before etcd 3.6, or
    /// where there is no limit.
    pub(crate) quota: u64,
    /// Of its program, e.g. `3.6.16`; empty where it does not say.
    pub(crate) version: String,
    pub(crate) applied: u64,
    /// Alarms among them, those of the whole cluster: etcd's `maintenance.go` lists
    /// all that are raised, and each by its member.
    pub(crate) errors: Vec<String>,
}

impl Standing {
    pub(crate) fn of(status: &StatusResponse) -> Self {
        let header = status.header();
        Self {
            cluster: header.map_or(0, |header| header.cluster_id()),
            id: header.map_or(0, |header| header.member_id()),
            leader: status.leader(),
            is_learner: status.is_learner(),
            revision: header.map_or(0, |header| header.revision()),
            size: status.db_size().try_into().unwrap_or(0),
            quota: status.db_size_quota().try_into().unwrap_or(0),
            version: status.version().to_owned(),
            applied: status.raft_applied_index(),
            errors: status.errors().to_vec(),
        }
    }

    /// Whether the database takes, or may soon take, no writes. It speaks against no snapshot.
    pub(crate) fn fullness(&self) -> Option<Fullness> {
        if self.errors.iter().any(|error| error.contains("NOSPACE")) {
            return Some(Fullness::NoSpace);
        }
        let used = u128::from(self.size) * 100;
        let is_nearly = self.quota > 0 && used > u128::from(self.quota) * NEARLY;
        is_nearly.then_some(Fullness::Nearly {
            size: self.size,
            quota: self.quota,
        })
    }

    /// Why a snapshot of it may be old or wrong, and what to do. It serves them all
    /// the same, without a hint.
    pub(crate) fn unfit(&self) -> Option<String> {
        if self.leader == 0 && !self.is_learner {
            let reason = "knows no leader, so its data may be old: wait for quorum, or force it \
                          where there is none to come";
            return Some(reason.to_owned());
        }
        self.unfit_by_force()
    }

    /// As [`unfit`](Self::unfit), for who takes what there is without quorum.
    pub(crate) fn unfit_by_force(&self) -> Option<String> {
        if self.is_learner {
            return Some("is a learner, which may be behind: name a voting member".to_owned());
        }
        let alarm = self.errors.iter().find(|it| is_corrupt(it, self.id))?;
        Some(format!(
            "says {:?}, so its data are not those of the others: name another member",
            alarm.trim_end()
        ))
    }
}

/// How full a database is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fullness {
    /// A member has raised the alarm `NOSPACE`: the cluster refuses writes.
    NoSpace,
    /// More than [`NEARLY`] per cent of what it may have, in bytes.
    Nearly { size: u64, quota: u64 },
}

/// What a snapshot has to reach, and who has it already.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Newest {
    pub(crate) revision: i64,
    pub(crate) endpoint: String,
}

impl Newest {
    /// Of those that belong to etcd cluster `cluster`; revision 0 where there are none.
    pub(crate) fn of(members: &[(String, Standing)], cluster: u64) -> Self {
        let ours = members.iter().filter(|(_, it)| it.cluster == cluster);
        let newest = ours.max_by_key(|(_, member)| member.revision);
        newest.map_or_else(Self::default, |(endpoint, member)| Self {
            revision: member.revision,
            endpoint: endpoint.clone(),
        })
    }

    /// That `endpoint` has `revision` only.
    pub(crate) fn than(self, endpoint: &str, revision: i64) -> Error {
        Error::Behind {
            endpoint: endpoint.to_owned(),
            revision,
            newest: self.revision,
            ahead: self.endpoint,
        }
    }
}

/// Whether `error` is the alarm that the data of member `id` are corrupt. It is a message of
/// protobuf as text, `memberID:7 alarm:CORRUPT`, which leaves out a 0: then etcd does not
/// know whose data they are, and they may be those of any.
fn is_corrupt(error: &str, id: u64) -> bool {
    if !error.contains("CORRUPT") {
        return false;
    }
    let whose = error.split_once("memberID:").and_then(|(_, rest)| {
        let digits = rest
            .trim_start()
            .split(|c: char| !c.is_ascii_digit())
            .next()?;
        digits.parse::<u64>().ok()
    });
    whose.is_none_or(|whose| whose == 0 || whose == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_of_the_same_cluster() {
        let member = |name: &str, cluster: u64, revision: i64| {
            let standing = Standing {
                cluster,
                revision,
                ..Standing::default()
            };
            (name.to_owned(), standing)
        };
        let members = [member("a", 1, 5), member("b", 1, 9), member("c", 2, 70)];
        let newest = Newest::of(&members, 1);
        assert_eq!((newest.revision, newest.endpoint.as_str()), (9, "b"));
        assert_eq!(Newest::of(&members, 3), Newest::default());
    }

    #[test]
    fn a_database_is_full_by_its_quota_or_the_alarm() {
        let of = |size: u64, quota: u64, error: &str| {
            let standing = Standing {
                size,
                quota,
                errors: vec![error.to_owned()],
                ..Standing::default()
            };
            standing.fullness()
        };
        let nearly = |size, quota| Some(Fullness::Nearly { size, quota });
        assert_eq!(of(90, 100, ""), None);
        assert_eq!(of(91, 100, ""), nearly(91, 100));
        assert_eq!(of(u64::MAX, u64::MAX, ""), nearly(u64::MAX, u64::MAX));
        // It does not say what it may have.
        assert_eq!(of(91, 0, ""), None);
        let raised = of(1, 100, "memberID:7 alarm:NOSPACE ");
        assert_eq!(raised, Some(Fullness::NoSpace));
        assert_eq!(of(1, 100, "memberID:7 alarm:CORRUPT "), None);
    }

    #[test]
    fn an_alarm_is_of_the_member_that_it_names() {
        for (text, of_seven) in [
            // As etcd up to 3.6 writes it, and 3.7, which varies the space between.
            ("memberID:7 alarm:CORRUPT ", true),
            ("memberID:7  alarm:CORRUPT", true),
            ("memberID:8 alarm:CORRUPT ", false),
            ("memberID:77 alarm:CORRUPT ", false),
            ("memberID:18446744073709551615 alarm:CORRUPT ", false),
            // Of nobody in particular.
            ("alarm:CORRUPT ", true),
            ("memberID:0 alarm:CORRUPT", true),
            // What cannot be read is taken for the worse.
            ("memberID:? alarm:CORRUPT", true),
            // A full database has to be backed up all the more.
            ("memberID:7 alarm:NOSPACE ", false),
            ("etcdserver: no leader", false),
        ] {
            let standing = Standing {
                id: 7,
                leader: 8,
                errors: vec!["etcdserver: x".to_owned(), text.to_owned()],
                ..Standing::default()
            };
            assert_eq!(standing.unfit().is_some(), of_seven, "{text}");
        }
    }
}
