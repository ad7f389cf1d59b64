//! Whether pinned nodes keep their places in the order of their pools.

use std::collections::BTreeMap;

use migrate_core::{ObjectName, Plan, PlannedSlot, Severity};

use super::{Report, codes};

/// Pins that the rules of the plan itself leave no place for.
pub(super) fn check(plan: &Plan, report: &mut Report) {
    if !plan.slots.iter().any(|slot| slot.pinned) {
        return;
    }
    let mut pools: BTreeMap<&str, Vec<&PlannedSlot>> = BTreeMap::new();
    for slot in &plan.slots {
        pools.entry(&slot.pool).or_default().push(slot);
    }
    for (pool, slots) in pools {
        let canary = slots.iter().position(|slot| slot.canary);
        let runner = slots.iter().position(|slot| slot.hosts_runner);
        for (place, slot) in slots.iter().enumerate().filter(|(_, slot)| slot.pinned) {
            let why = match (canary, runner) {
                (Some(canary), _) if canary == place && place > 0 => {
                    "it is the canary, which goes first".to_owned()
                }
                (Some(canary), _) if canary > place => {
                    format!("the canary {} goes first", slots[canary].node)
                }
                (_, Some(runner)) if runner == place && place + 1 < slots.len() => {
                    "the runner's own pod is on it, so it goes last".to_owned()
                }
                (_, Some(runner)) if runner < place => {
                    let runner = &slots[runner].node;
                    format!("the runner's own pod is on node {runner}, so that one goes last")
                }
                _ => continue,
            };
            let number = place + 1;
            let evidence =
                format!("its pin as number {number} of pool {pool} cannot be kept: {why}");
            tell(slot, evidence, report);
        }
    }
}

/// Nodes pinned by `parent` and by `plan` that have another place: not as many nodes of
/// their pool before them as there, less those that `plan` does not have.
pub(super) fn since(plan: &Plan, parent: &Plan, report: &mut Report) {
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    let places = plan.slots.iter().map(|slot| {
        let size = sizes.entry(&slot.pool).or_default();
        *size += 1;
        (slot.node.as_str(), (slot, *size))
    });
    let now: BTreeMap<&str, (&PlannedSlot, usize)> = places.collect();
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for slot in &parent.slots {
        let Some((now, number)) = now.get(slot.node.as_str()) else {
            continue;
        };
        // Where it is now, also if it has come from another pool.
        let size = sizes.entry(&now.pool).or_default();
        *size += 1;
        if !slot.pinned || (now.pool == slot.pool && (!now.pinned || number == size)) {
            continue;
        }
        let (pool, id) = (&slot.pool, &parent.id);
        let evidence = match now.pool == slot.pool {
            true => format!(
                "plan {id} has it pinned as number {size} of those of pool {pool} that are left, \
                 and it is number {number}"
            ),
            false => format!(
                "plan {id} has it pinned in pool {pool}, and it is in {}",
                now.pool
            ),
        };
        tell(slot, evidence, report);
    }
}

fn tell(slot: &PlannedSlot, evidence: String, report: &mut Report) {
    let object = ObjectName::cluster("Node", &slot.node);
    report.add(codes::PIN, Severity::Warning, object, evidence);
}
