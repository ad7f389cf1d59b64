//! Which nodes admit a placement.

use super::labelled::{Demand, Labelled};
use crate::model::{Node, Placement};

/// Finds the nodes that [admit](Placement::admits) placements by the labels that
/// these demand: for many placements among many nodes.
///
/// Cost: each key that a placement demands is put in order once, and a placement
/// costs the nodes with its rarest label, or all where it demands none.
pub struct Admitting<'a> {
    nodes: Labelled<'a, Node>,
}

impl<'a> Admitting<'a> {
    /// Ready to be asked about `nodes`.
    pub fn among(nodes: &'a [Node]) -> Self {
        Self {
            nodes: Labelled::new(nodes, |node, key| node.selectable(key).map(String::as_str)),
        }
    }

    /// Those that admit `placement`, each once, by name.
    pub fn nodes(&mut self, placement: &'a Placement) -> Vec<&'a Node> {
        let candidates = self.nodes.candidates(Demand::of_placement(placement));
        let admitting = candidates.filter(|node| placement.admits(node));
        let mut admitting: Vec<&Node> = admitting.collect();
        admitting.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        admitting.dedup_by(|a, b| a.name == b.name);
        admitting
    }
}
