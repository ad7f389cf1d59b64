//! Control plane first, one at a time; the runner's node last.

use std::time::Duration;

use migrate_core::{ObjectName, Plan};

use super::timeline::{SlotSpan, Span, Timeline};
use super::{At, Report, codes};

pub(super) fn check(plan: &Plan, timeline: &Timeline<'_>, report: &mut Report) {
    let members = plan.control_plane.iter().map(|member| &member.name);
    let members: Vec<(&str, Option<Span>)> = members
        .map(String::as_str)
        .zip(timeline.members.iter().copied())
        .collect();
    let is_first = |slot: &&SlotSpan<'_>| timeline.is_first(slot.slot);
    let first: Vec<&SlotSpan<'_>> = timeline.slots.iter().filter(is_first).collect();
    let nodes = plan.slots.iter().filter(|slot| timeline.is_first(slot));
    let nodes = nodes.map(|slot| {
        let begun = first.iter().find(|begun| begun.slot.node == slot.node);
        (slot.node.as_str(), begun.map(|begun| begun.all))
    });
    let nodes: Vec<(&str, Option<Span>)> = nodes.collect();
    one_by_one("ControlPlaneMember", &members, report);
    one_by_one("Node", &nodes, report);
    let begins = |of: &[&SlotSpan<'_>]| of.iter().map(|slot| slot.all.start).min();
    let workers: Vec<&SlotSpan<'_>> = timeline.slots.iter().filter(|s| !is_first(s)).collect();
    let any = [begins(&first), begins(&workers)];
    before(
        "ControlPlaneMember",
        &members,
        any.into_iter().flatten().min(),
        report,
    );
    before("Node", &nodes, begins(&workers), report);
    runner(timeline, report);
}

/// No two of them are at work at the same time.
fn one_by_one(kind: &str, all: &[(&str, Option<Span>)], report: &mut Report) {
    let mut spans: Vec<(Span, &str)> = all.iter().filter_map(|(n, s)| Some(((*s)?, *n))).collect();
    spans.sort_unstable();
    for pair in spans.windows(2) {
        let [(before, other), (after, name)] = [pair[0], pair[1]];
        if after.start < before.end {
            let at = At(after.start);
            let evidence = format!("it begins at {at} while {other} is at work");
            report.broken(
                codes::CONTROL_PLANE,
                ObjectName::cluster(kind, name),
                evidence,
            );
        }
    }
}

/// All of them are done before anything begins at `limit`.
fn before(kind: &str, all: &[(&str, Option<Span>)], limit: Option<Duration>, report: &mut Report) {
    let Some(limit) = limit else {
        return;
    };
    for (name, span) in all {
        let evidence = match span {
            Some(span) if span.end <= limit => continue,
            Some(span) => format!(
                "it is done at {}, and what has to wait for it begins at {}",
                At(span.end),
                At(limit)
            ),
            None => format!(
                "it never begins, and what has to wait for it begins at {}",
                At(limit)
            ),
        };
        report.broken(
            codes::CONTROL_PLANE,
            ObjectName::cluster(kind, *name),
            evidence,
        );
    }
}

/// The runner's node begins when all others of its group are done.
fn runner(timeline: &Timeline<'_>, report: &mut Report) {
    let Some(runner) = timeline.slots.iter().find(|slot| slot.slot.hosts_runner) else {
        return;
    };
    let is_first = timeline.is_first(runner.slot);
    let group = timeline.slots.iter();
    let group = group.filter(|slot| timeline.is_first(slot.slot) == is_first);
    for other in group.filter(|slot| slot.slot.node != runner.slot.node) {
        if other.all.end > runner.all.start {
            let evidence = format!(
                "the runner's own pod is on it, and it begins at {} while node {} is not done",
                At(runner.all.start),
                other.slot.node
            );
            let object = ObjectName::cluster("Node", &runner.slot.node);
            report.broken(codes::RUNNER, object, evidence);
            return;
        }
    }
}
