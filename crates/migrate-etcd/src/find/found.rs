//! What becomes of the answers of members. Pure.

use super::choose::{choose, furthest};
use super::{FoundMembers, Way};
use crate::Member;
use crate::standing::Standing;

/// A member that has answered, by which way, or why it has not.
pub(super) type Answer = Result<(Member, Standing, Option<Way>), String>;

/// The members and which of them a snapshot is taken of, by what each was asked; else why
/// each of them is none. Forced, it is also one that has got furthest where none knows a
/// leader.
pub(super) fn found(
    asked: impl IntoIterator<Item = (Member, Answer)>,
    is_forced: bool,
) -> Result<FoundMembers, Vec<String>> {
    let mut members = Vec::new();
    let mut answered = Vec::new();
    let mut standings = Vec::new();
    let mut ways = Vec::new();
    let mut reasons = Vec::new();
    for (candidate, answer) in asked {
        match answer {
            // The same by two URLs is one that the snapshot is compared with.
            Ok((_, standing, _)) if is_known(&standings, &standing) => {}
            Ok((member, standing, way)) => {
                standings.push((member.endpoint.clone(), standing));
                answered.push(member.clone());
                members.push(member);
                ways.extend(way);
            }
            Err(reason) => {
                members.push(candidate);
                reasons.push(reason);
            }
        }
    }
    let source = choose(&standings).map(|at| (at, false)).or_else(|unfit| {
        let forced = furthest(&standings).filter(|_| is_forced);
        forced.map(|at| (at, true)).ok_or(unfit)
    });
    match source {
        Ok((at, is_forced)) => Ok(FoundMembers {
            source: answered.swap_remove(at),
            version: Some(standings.swap_remove(at).1.version).filter(|it| !it.is_empty()),
            members,
            ways,
            is_forced,
        }),
        Err(unfit) => {
            reasons.extend(unfit);
            Err(reasons)
        }
    }
}

/// Whether that member has answered already.
fn is_known(answered: &[(String, Standing)], standing: &Standing) -> bool {
    let whose = |standing: &Standing| (standing.cluster, standing.id);
    answered
        .iter()
        .any(|(_, known)| whose(known) == whose(standing))
}
