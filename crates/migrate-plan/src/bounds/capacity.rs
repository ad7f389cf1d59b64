//! Bounds of what nodes have to spare.

/// Nodes that pods are tied to, and what those of them that are drained take
/// away while they are away, of one resource.
#[derive(Clone, Debug)]
pub(crate) struct RoomLoad {
    pub(crate) resource: String,
    /// How many nodes there are.
    pub(crate) nodes: u32,
    /// What they have to spare while none is away, more than 0.
    pub(crate) slack: u64,
    /// Σ dᵢ · Cᵢ, with *d* how long a node is empty and away, and *C* what it
    /// offers to pods that may leave it.
    pub(crate) area: u128,
    /// The most that one of them offers.
    pub(crate) largest: u64,
}

impl RoomLoad {
    /// B4, capacity: at no time more is away than can be spared,
    ///
    /// ```text
    /// Σ dᵢ · Cᵢ / slack
    /// ```
    pub(crate) fn bound(&self) -> u64 {
        let bound = self.area.div_ceil(u128::from(self.slack.max(1)));
        u64::try_from(bound).unwrap_or(u64::MAX)
    }

    /// With one more of the largest node, which is not drained.
    pub(crate) fn with_one_more(&self) -> Self {
        Self {
            slack: self.slack.saturating_add(self.largest),
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
        let load = RoomLoad {
            resource: "cpu".into(),
            nodes: 10,
            slack: 20,
            area: 10 * 8 * 30,
            largest: 8,
        };
        assert_eq!(load.bound(), 120);
        assert_eq!(load.with_one_more().bound(), 86);
    }
}
