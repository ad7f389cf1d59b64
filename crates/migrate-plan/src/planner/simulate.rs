//! An event heap around the machine: what happens if all goes as predicted.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use migrate_core::{Moment, Phase};

use super::Job;
use super::scheduler::Scheduler;
use super::times::Times;
use super::transfers::Transfers;
use crate::intern::Interned;
use crate::machine::{Emit, Ended, Machine};

/// A begun action and when it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) target: u32,
    pub(crate) phase: Phase,
    pub(crate) begin: Moment,
    pub(crate) end: Moment,
}

/// What the machine was told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fed {
    Budget { budget: u32, allowed: u32 },
    ConsentMissing { node: u32 },
    Ended { target: u32, phase: Phase },
    Started,
    Uncordoned { target: u32 },
}

/// How long an action lasts. Of those that end at one moment, that with the
/// lowest rank ends first, then that which was begun first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lasts {
    pub(crate) length: Duration,
    pub(crate) rank: usize,
}

/// What is predicted for what is done alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alone<'t> {
    pub(super) member: Times,
    pub(super) tasks: &'t [Times],
}

/// What is predicted for each action, of a run from its start on. Drains wait for
/// `scheduler`, who has nothing to do yet, and what nodes and pods fetch for what others do.
pub(super) fn predicted<'a>(
    jobs: &'a [Job<'_>],
    alone: Alone<'a>,
    mut scheduler: Scheduler,
    mut transfers: Transfers<'a>,
) -> impl FnMut(&Machine, u32, Phase) -> Lasts {
    move |machine, target, phase| {
        let slot = machine.slot_of(target);
        let times = match (slot, machine.task_of(target)) {
            (Some(slot), _) => &jobs[slot as usize].times,
            (_, Some(task)) => &alone.tasks[task as usize],
            _ => &alone.member,
        };
        let is_behind = slot.is_some_and(|slot| machine.is_behind_replacement(slot));
        let length = match phase {
            Phase::Upgrade if !is_behind => times.whole_upgrade(),
            Phase::Drain => {
                let pods = slot.map_or(0, |slot| jobs[slot as usize].pods);
                let placed = scheduler.drain(machine.now(), pods, times.of(phase));
                transfers.pull(machine.now(), pods, placed)
            }
            _ => times.of(phase),
        };
        // One behind a replacement has fetched before.
        let fetches = slot.is_some() && (phase != Phase::Upgrade || !is_behind);
        let besides = times.besides_fetching(phase, length);
        let length = match besides.filter(|_| fetches) {
            Some(besides) => transfers.fetch(machine.now(), besides),
            None => length,
        };
        Lasts { length, rank: 0 }
    }
}

/// Runs `machine` until nothing more happens, and gives what it began in order.
///
/// Budgets are told to have recovered at the start, and nodes with pods that nobody has agreed
/// to move not to begin. A node that was seen cordoned, or
/// not Ready, is taken to be well once it has been verified: whose cordon it
/// was, nobody says. Where others could never begin without that,
/// [`preconditions`](migrate_core::preconditions) have a blocker.
pub(crate) fn simulate(
    machine: &mut Machine,
    start: Moment,
    interned: &Interned<'_>,
    lasts: impl FnMut(&Machine, u32, Phase) -> Lasts,
    mut record: impl FnMut(Moment, Fed),
) -> Vec<Step> {
    machine.advance(start);
    for (id, budget) in (0..).zip(&interned.budgets) {
        if budget.allowed < budget.steady {
            let allowed = budget.steady;
            record(
                start,
                Fed::Budget {
                    budget: id,
                    allowed,
                },
            );
            machine.budget_seen(id, allowed);
        }
    }
    for &node in &interned.asking {
        if machine.slot_of_node(node).is_some() {
            record(start, Fed::ConsentMissing { node });
            machine.consent_missing(node, true);
        }
    }
    record(start, Fed::Started);
    machine.start();
    play(machine, start, &[], lasts, record)
}

/// Lets `machine` go on from `start`, beside actions that are `running` and end
/// when it says, until nothing more happens. As [`simulate`], which it is a part of.
pub(crate) fn play(
    machine: &mut Machine,
    start: Moment,
    running: &[Step],
    mut lasts: impl FnMut(&Machine, u32, Phase) -> Lasts,
    mut record: impl FnMut(Moment, Fed),
) -> Vec<Step> {
    let mut steps = Vec::with_capacity(machine.targets() as usize * 3);
    steps.extend_from_slice(running);
    let running = running.iter().zip(0..);
    let mut ends: BinaryHeap<_> = running
        .map(|(step, at)| Reverse((step.end, 0, at, step.target, step.phase)))
        .collect();
    let mut now = start;
    loop {
        while let Some(emit) = machine.pop() {
            if let Emit::Begin { target, phase } = emit {
                let Lasts { length, rank } = lasts(machine, target, phase);
                let end = now + length;
                ends.push(Reverse((end, rank, steps.len(), target, phase)));
                steps.push(Step {
                    target,
                    phase,
                    begin: now,
                    end,
                });
            }
        }
        let next_end = ends.peek().map(|Reverse((end, ..))| *end);
        if let Some(at) = machine.timer_at()
            && next_end.is_none_or(|end| at <= end)
        {
            now = at;
            machine.advance(now);
            continue;
        }
        let Some(Reverse((end, _, _, target, phase))) = ends.pop() else {
            return steps;
        };
        now = end;
        machine.advance(now);
        record(now, Fed::Ended { target, phase });
        machine.ended(target, phase, Ended::Succeeded);
        let node = machine.slot_of(target).map(|slot| machine.node_in(slot));
        if let Some(node) = node.filter(|node| machine.is_seen_away(*node))
            && phase == Phase::Verify
        {
            record(now, Fed::Uncordoned { target });
            machine.node_seen(node, true, false, true);
        }
    }
}
