//! Which member a snapshot is taken of. Pure.

use crate::standing::Standing;

/// How many entries a member may be behind, as where a member may be changed: it
/// catches up in a moment.
const MAX_LAG: u64 = 1_000;

/// The place of the member to take a snapshot of; else why each of them is none.
pub(super) fn choose(members: &[(String, Standing)]) -> Result<usize, Vec<String>> {
    let newest = members.iter().map(|(_, member)| member.applied).max();
    let newest = newest.unwrap_or_default();
    let cluster = members.first().map(|(_, member)| member.cluster);
    let mut reasons = Vec::new();
    let mut fit = Vec::new();
    for (at, (url, member)) in members.iter().enumerate() {
        let lag = newest.saturating_sub(member.applied);
        let reason = if Some(member.cluster) != cluster {
            // Whichever is meant: the snapshot would be of one, the proof of the other.
            return Err(vec![format!(
                "{url} is of another etcd cluster than {}",
                members.first().map_or("", |(url, _)| url)
            )]);
        } else if let Some(reason) = member.unfit() {
            reason
        } else if lag > MAX_LAG {
            format!("is {lag} entries behind, {MAX_LAG} are allowed")
        } else {
            fit.push((at, member));
            continue;
        };
        reasons.push(format!("{url} {reason}"));
    }
    // A snapshot is work for the member, which who leads has enough of.
    let best = fit.into_iter().min_by_key(|(at, member)| {
        let leads = member.leader == member.id;
        (leads, newest - member.applied, *at)
    });
    best.map(|(at, _)| at).ok_or(reasons)
}

/// The member to take what there is of where nobody knows a leader: the one that has got
/// furthest. `None` where somebody does, for then there is quorum, or where it is not
/// clear of which etcd cluster they are.
pub(super) fn furthest(members: &[(String, Standing)]) -> Option<usize> {
    let (_, first) = members.first()?;
    let is_alike = |it: &Standing| it.leader == 0 && it.cluster == first.cluster;
    if !members.iter().all(|(_, member)| is_alike(member)) {
        return None;
    }
    let all = members.iter().enumerate();
    let fit = all.filter(|(_, (_, member))| member.unfit_by_force().is_none());
    let furthest = fit.max_by_key(|(at, (_, member))| {
        // Of equals the first.
        (member.revision, member.applied, std::cmp::Reverse(*at))
    });
    furthest.map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, leader: u64, applied: u64) -> (String, Standing) {
        let standing = Standing {
            cluster: 7,
            id,
            leader,
            applied,
            ..Standing::default()
        };
        (format!("https://10.0.0.{id}:2379"), standing)
    }

    #[test]
    fn a_follower_that_is_furthest_is_asked_before_the_leader() {
        let three = [member(1, 1, 100), member(2, 1, 98), member(3, 1, 99)];
        assert_eq!(choose(&three), Ok(2));
        assert_eq!(choose(&[member(1, 1, 100), member(2, 1, 100)]), Ok(1));
        // Who is far behind is no better than the leader.
        let behind = [member(1, 1, 2_000), member(2, 1, 999)];
        assert_eq!(choose(&behind), Ok(0));
        assert_eq!(choose(&[member(1, 1, 5)]), Ok(0));
    }

    #[test]
    fn who_may_be_wrong_is_not_asked() {
        let mut learner = member(1, 2, 10);
        learner.1.is_learner = true;
        let mut corrupt = member(2, 2, 10);
        corrupt.1.errors = vec!["memberID:2 alarm:CORRUPT ".to_owned()];
        let lost = member(3, 0, 10);
        let reasons = choose(&[learner.clone(), corrupt, lost]).unwrap_err();
        for (reason, words) in reasons.iter().zip(["learner", "CORRUPT", "no leader"]) {
            assert!(reason.contains(words), "{reason}");
        }
        // A full database has to be backed up all the more.
        let mut full = member(2, 2, 10);
        full.1.errors = vec!["memberID:2 alarm:NOSPACE ".to_owned()];
        assert_eq!(choose(&[learner, full]), Ok(1));
        assert_eq!(choose(&[]), Err(Vec::new()));
    }

    #[test]
    fn without_quorum_the_one_that_is_furthest_is_forced_and_with_it_none() {
        let lost = |id: u64, revision: i64, applied: u64| {
            let mut member = member(id, 0, applied);
            member.1.revision = revision;
            member
        };
        let three = [lost(1, 7, 70), lost(2, 9, 90), lost(3, 9, 90)];
        assert!(choose(&three).is_err());
        assert_eq!(furthest(&three), Some(1));
        let mut learner = lost(4, 99, 99);
        learner.1.is_learner = true;
        let mut corrupt = lost(5, 99, 99);
        corrupt.1.errors = vec!["memberID:5 alarm:CORRUPT ".to_owned()];
        assert_eq!(furthest(&[learner, corrupt, lost(1, 7, 70)]), Some(2));
        // One of them has quorum: whatever else is wrong, force is not the cure.
        assert_eq!(furthest(&[lost(1, 7, 70), member(2, 3, 60)]), None);
        let mut other = lost(2, 9, 90);
        other.1.cluster = 8;
        assert_eq!(furthest(&[lost(1, 7, 70), other]), None);
        assert_eq!(furthest(&[]), None);
    }

    #[test]
    fn the_alarm_of_one_member_does_not_speak_against_the_others() {
        let alarm = |whose: &str| {
            // Each of them lists the alarms of all.
            let mut three = [member(1, 3, 100), member(2, 3, 100), member(3, 3, 100)];
            for (_, standing) in &mut three {
                standing.errors = vec![format!("{whose}alarm:CORRUPT ")];
            }
            choose(&three)
        };
        assert_eq!(alarm("memberID:1 "), Ok(1));
        assert_eq!(alarm("memberID:2 "), Ok(0));
        // Nobody knows whose data they are.
        assert_eq!(alarm("").unwrap_err().len(), 3);
    }

    #[test]
    fn members_of_two_clusters_are_never_taken_for_one() {
        let mut other = member(2, 2, 10);
        other.1.cluster = 8;
        let reasons = choose(&[member(1, 1, 10), other]).unwrap_err();
        assert!(reasons[0].contains("another etcd cluster"), "{reasons:?}");
    }
}
