//! What begins in a window ends in it.

use std::time::Duration;

use migrate_core::{ClusterModel, ObjectName, Plan, Policy};

use super::timeline::{Span, Timeline};
use super::{At, Report, codes, object};

/// Each target from its first phase to the end of its last, but for a canary's
/// confirmation. A member begins only if those that are left would end too.
pub(super) fn check(
    plan: &Plan,
    model: &ClusterModel,
    policy: &Policy,
    timeline: &Timeline<'_>,
    report: &mut Report,
) {
    let calendar = policy.rollout.calendar();
    if calendar.is_always_open() {
        return;
    }
    let start = model.taken_at;
    let fits = |span: Span| {
        let begin = start + span.start;
        let opening = calendar.opening(begin);
        opening.is_some_and(|open| open.from == begin && start + span.end <= open.until)
    };
    let mut check = |object: ObjectName, span: Span| {
        if !fits(span) {
            let (from, to) = (At(span.start), At(span.end));
            let evidence = format!("it is at work from {from} to {to}, which is in no window");
            report.broken(codes::WINDOW, object, evidence);
        }
    };
    let mut left = Duration::ZERO;
    let members = plan.control_plane.iter().zip(&timeline.members).rev();
    for (member, span) in members {
        let Some(span) = *span else {
            continue;
        };
        left += span.end.saturating_sub(span.start);
        let end = span.start + left;
        let object = ObjectName::cluster("ControlPlaneMember", &member.name);
        check(object, Span { end, ..span });
    }
    for slot in &timeline.slots {
        check(ObjectName::cluster("Node", &slot.slot.node), slot.all);
    }
    for (task, span) in plan.tasks.iter().zip(&timeline.tasks) {
        if let Some(span) = *span {
            check(object(&task.target), span);
        }
    }
}
