//! Bounds of what nodes have to spare.

/// Nodes that pods are tied to, and what those of them that are drained take
/// away while they are away, of one resource.
#[derive(Clone, Debug)]
pub(crate) struct RoomLoad {
    pub(crate) resource: String,
    /// How many nodes there are.
    pub(crate) nodes: u32,
    /// What may be away of them, more than 0.
    pub(crate) spare: u64,
    /// How long each node is away that is drained, and what it offers to pods that may leave it.
    pub(crate) taken: Vec<(u64, u64)>,
}

impl RoomLoad {
    /// B4, capacity: with *d* how long a node is away and *C* what it offers, at no time more is
    /// away than can be spared, but for one node alone,
    ///
    /// ```text
    /// Σ dᵢ · min(Cᵢ, spare) / spare
    /// ```
    pub(crate) fn bound(&self) -> u64 {
        let area = self
            .taken
            .iter()
            .map(|(away, offer)| u128::from(*away) * u128::from((*offer).min(self.spare)));
        let bound = area.sum::<u128>().div_ceil(u128::from(self.spare.max(1)));
        u64::try_from(bound).unwrap_or(u64::MAX)
    }

    /// With one more of the largest node, which is not drained.
    pub(crate) fn with_one_more(&self) -> Self {
        let largest = self.taken.iter().map(|(_, offer)| *offer).max();
        Self {
            spare: self.spare.saturating_add(largest.unwrap_or(0)),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_bound_is_what_is_away_over_what_can_be_spared() {
        // Ten nodes of 8, 20 of them to spare: two at a time, each for 30.
        let mut load = RoomLoad {
            resource: "cpu".into(),
            nodes: 10,
            spare: 20,
            taken: vec![(30, 8); 10],
        };
        assert_eq!(load.bound(), 120);
        assert_eq!(load.with_one_more().bound(), 86);
        // One that is larger than that goes alone.
        load.taken.push((7, 90));
        assert_eq!(load.bound(), 127);
    }
}
