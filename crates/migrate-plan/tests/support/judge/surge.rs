//! Nodes behind replacements, judged from the log alone.

use std::collections::BTreeMap;

use migrate_core::{Action, ActionId, Outcome, Phase, Target};
use migrate_plan::{ActionResult, Command, Input};

use super::super::world::{Entry, World};
use super::Judge;

/// Of runs in which no node vanishes or changes by itself.
#[derive(Default)]
pub(crate) struct SurgeJudge {
    running: BTreeMap<ActionId, Action>,
    /// Nodes of the plan behind replacements, and whether these are Ready.
    behind: BTreeMap<String, bool>,
    /// Those that were drained without.
    alone: BTreeMap<String, String>,
    pools: BTreeMap<String, String>,
    /// Nodes that came for others, and how many of these are to be verified.
    origin: BTreeMap<String, String>,
    further: BTreeMap<String, usize>,
}

impl SurgeJudge {
    pub(crate) fn watch(world: &World) {
        let mut judge = Self::default();
        let log = world.decided();
        for (at, entry) in log.iter().enumerate() {
            match entry {
                Entry::Out(_, Command::Begin { action }) => judge.begins(world, action),
                Entry::In(recorded) => {
                    if let Input::ActionEnded { id, result } = &recorded.input
                        && let Some(action) = judge.running.remove(id)
                    {
                        judge.ends(&log[at + 1..], &action, result);
                    }
                }
                Entry::Out(..) => {}
            }
        }
    }

    fn root(&self, node: &str) -> String {
        let origin = self.origin.get(node);
        origin.map_or_else(|| node.to_owned(), Clone::clone)
    }

    fn begins(&mut self, world: &World, action: &Action) {
        self.running.insert(action.id.clone(), action.clone());
        let Target::Node { pool, node } = &action.target else {
            return;
        };
        let mut pools = world.plan.pools.iter();
        let planned = pools.find(|planned| planned.name == *pool).unwrap();
        self.pools.insert(node.clone(), pool.clone());
        match action.phase {
            Phase::Provision => {
                self.behind.entry(node.clone()).or_insert(false);
                let behind = self.behind.keys();
                let more = behind.filter(|node| self.pools[*node] == *pool).count();
                assert!(more <= planned.surge as usize, "{more} behind replacements");
                assert!(!self.alone.contains_key(node), "{action}");
            }
            Phase::Drain => match self.behind.get(node) {
                Some(is_ready) => assert!(is_ready, "{action} before its replacement"),
                None => {
                    self.alone.insert(node.clone(), pool.clone());
                    let away = self.alone.values().filter(|of| *of == pool).count();
                    assert!(away <= planned.width as usize, "{action}: {away} away");
                }
            },
            _ => {}
        }
    }

    fn ends(&mut self, later: &[Entry], action: &Action, result: &ActionResult) {
        let Target::Node { node, .. } = &action.target else {
            return;
        };
        let root = self.root(node);
        let is_over = match result {
            ActionResult::Succeeded(outcome) => {
                if action.phase == Phase::Provision {
                    self.behind.insert(node.clone(), true);
                }
                if let Outcome::ReplacedBy { nodes } = outcome {
                    let origin = nodes.iter().map(|new| (new.clone(), root.clone()));
                    self.origin.extend(origin);
                    self.further.insert(root.clone(), nodes.len() - 1);
                }
                let further = self.further.entry(root.clone()).or_default();
                let left = *further;
                if action.phase == Phase::Verify {
                    *further = left.saturating_sub(1);
                }
                action.phase == Phase::Verify && left == 0
            }
            ActionResult::TooLate => {
                action.phase == Phase::Provision || !self.behind.contains_key(&root)
            }
            ActionResult::Deferred { .. } => !self.behind.contains_key(&root),
            _ => Judge::is_given_up(later, &action.target),
        };
        if is_over {
            self.behind.remove(&root);
            self.alone.remove(&root);
        }
    }
}
