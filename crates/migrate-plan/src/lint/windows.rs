//! What begins in a window ends in it, and has its length in it.

use std::time::Duration;

use migrate_core::{ClusterModel, ObjectName, Plan, Point, Policy, Severity};

use super::timeline::{Span, Timeline};
use super::{At, Report, codes, object};

/// Each target from its first phase to the end of its last, but for a canary's
/// confirmation; and for as long as the plan wants to be left of a window. A member, and
/// a task before all of them, begins only if what is left of these would end too.
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
    let mut check = |object: ObjectName, begin: Duration, needs: Duration, took: Duration| {
        let from = start + begin;
        let opening = calendar.opening(from).filter(|open| open.from == from);
        let fits = |end: Duration| opening.is_some_and(|open| start + end <= open.until);
        let [needed, taken] = [needs, took].map(|length| begin.saturating_add(length));
        let (begins, needed_to, ends) = (At(begin), At(needed), At(taken));
        if !fits(needed) {
            let evidence =
                format!("it needs a window from {begins} to {needed_to}, and there is none");
            report.broken(codes::WINDOW, object, evidence);
        } else if !fits(taken) {
            let evidence = format!(
                "by its length it begins in time at {begins}, and is predicted to end at {ends}, \
                 after its window"
            );
            report.add(codes::WINDOW, Severity::Warning, object, evidence);
        }
    };
    let took = |span: Span| span.end.saturating_sub(span.start);
    let members = plan.control_plane.iter().zip(&timeline.members);
    let members = members.map(|(member, span)| {
        let object = ObjectName::cluster("ControlPlaneMember", &member.name);
        (object, member.length, *span)
    });
    let tasks = || plan.tasks.iter().zip(&timeline.tasks);
    let before = tasks().filter(|(task, _)| task.at == Point::BeforeControlPlane);
    let before = before.map(|(task, span)| (object(&task.target), task.length, *span));
    let (mut lengths, mut spans) = (Duration::ZERO, Duration::ZERO);
    for (object, length, span) in before.chain(members).rev() {
        let Some(span) = span else {
            continue;
        };
        lengths = lengths.saturating_add(length);
        spans = spans.saturating_add(took(span));
        let needs = lengths.max(spans);
        check(object, span.start, needs, needs);
    }
    for slot in &timeline.slots {
        let object = ObjectName::cluster("Node", &slot.slot.node);
        let length = slot.slot.length;
        // It goes by its length alone, which knows nothing of other drains that the
        // scheduler is busy with, nor of what else a link carries.
        let needs = |took: Duration, length: Duration| match length.is_zero() {
            true => took,
            false => length,
        };
        let Some(provision) = slot.provision else {
            let all = took(slot.all);
            check(object, slot.all.start, needs(all, length), all);
            continue;
        };
        // Between the two its drain may have waited, for another window too.
        let work = Span {
            start: slot.drain.start,
            end: slot.all.end,
        };
        let all = took(provision).saturating_add(took(work));
        check(object.clone(), provision.start, needs(all, length), all);
        // Where what made its replacement waited too, nothing may be left of its length.
        let rest = match length.is_zero() {
            true => took(work),
            false => length.saturating_sub(took(provision)).min(took(work)),
        };
        check(object, work.start, rest, took(work));
    }
    for (task, span) in tasks().filter(|(task, _)| task.at != Point::BeforeControlPlane) {
        if let Some(span) = *span {
            let needs = took(span).max(task.length);
            check(object(&task.target), span.start, needs, needs);
        }
    }
}
