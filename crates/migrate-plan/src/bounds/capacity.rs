//! Bounds of what nodes have to spare.

/// Nodes that pods are tied to, and what those of them that are drained take
/// away while they are away, of one resource.
#[derive(Clone, Debug)]
pub(crate) struct RoomLoad {
    /// Which room of the plan it is.
    pub(crate) at: usize,
    pub(crate) resource: String,
    /// How many nodes there are.
    pub(crate) nodes: u32,
    /// What may be away of them.
    pub(crate) spare: u64,
    /// How long each node is away that is drained, and what it offers to pods that may leave it.
    pub(crate) taken: Vec<(u64, u64)>,
}

impl RoomLoad {
    /// B4, capacity: with *d* how long a node is away and *C* what it offers, at no time more is
    /// away than can be spared, but for one node alone, and of nodes that take more than
    /// spare / (k + 1) each no more than k,
    ///
    /// ```text
    /// max { Σ dᵢ · min(Cᵢ, spare) / spare,   max over k of Σ dᵢ of those / k }
    /// ```
    pub(crate) fn bound(&self) -> u64 {
        let by_size = load_by_size(self.spare, &self.taken);
        let area = area(self.spare, &self.taken);
        by_size.into_iter().max().unwrap_or(0).max(area)
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

/// By node that takes of a room (how long it is away, what it takes): the least time that
/// nodes of its size need between them.
///
/// At most *k* nodes that take more than spare / (k + 1) each are away at once, so these need
/// their sum over *k*: it is the largest of these over all *k* that take the node in, and so
/// no less for a larger node.
pub(crate) fn load_by_size(spare: u64, taken: &[(u64, u64)]) -> Vec<u64> {
    let beside = |offer: u64| spare.checked_div(offer).unwrap_or(u64::MAX).max(1);
    let mut by_size: Vec<usize> = (0..taken.len()).collect();
    by_size.sort_unstable_by_key(|at| beside(taken[*at].1));
    let mut loads = vec![0; taken.len()];
    let mut sum = 0u64;
    for &at in &by_size {
        let (away, offer) = taken[at];
        sum = sum.saturating_add(away);
        loads[at] = sum.div_ceil(beside(offer));
    }
    let mut largest = 0;
    for &at in by_size.iter().rev() {
        largest = largest.max(loads[at]);
        loads[at] = largest;
    }
    loads
}

fn area(spare: u64, taken: &[(u64, u64)]) -> u64 {
    let areas = taken
        .iter()
        .map(|(away, offer)| u128::from(*away) * u128::from((*offer).min(spare)));
    let area = areas.sum::<u128>().div_ceil(u128::from(spare.max(1)));
    u64::try_from(area).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn room_bound_is_what_is_away_over_what_can_be_spared() {
        // Ten nodes of 5, 20 of them to spare: four at a time, each for 30.
        let mut load = RoomLoad {
            at: 0,
            resource: "cpu".into(),
            nodes: 10,
            spare: 20,
            taken: vec![(30, 5); 10],
        };
        assert_eq!(load.bound(), 75);
        assert_eq!(load.with_one_more().bound(), 60);
        // One that is larger than that goes alone.
        load.taken.push((7, 90));
        assert_eq!(load.bound(), 82);
    }

    #[test]
    fn room_bound_is_what_is_away_over_how_many_fit_beside_each_other() {
        let mut load = RoomLoad {
            at: 0,
            resource: "cpu".into(),
            nodes: 10,
            spare: 20,
            taken: vec![(30, 8); 10],
        };
        // Two at a time, though two and a half of them would fill it.
        assert_eq!(load.bound(), 150);
        assert_eq!(load.with_one_more().bound(), 100);
        // Two that go one after the other, and are longer than all that fills it.
        load.taken.extend([(100, 11), (101, 12)]);
        assert_eq!(load.bound(), 251);
        load.taken.truncate(2);
        load.taken.extend([(100, 11), (101, 12)]);
        assert_eq!(load.bound(), 201);
        assert_eq!(load_by_size(20, &load.taken), [131, 131, 201, 201]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// No schedule that keeps to the room is shorter, and no node has less load than a
        /// smaller one.
        #[test]
        fn no_schedule_is_shorter_than_the_bound_of_room(
            taken in prop::collection::vec((1..50u64, 1..40u64), 1..15),
            spare in 1..60u64,
        ) {
            // One after the other, each as soon as there is room for it.
            let mut placed: Vec<(u64, u64, u64)> = Vec::new();
            for &(away, offer) in &taken {
                let offer = offer.min(spare);
                let used = |at: u64| -> u64 {
                    let here = placed.iter().filter(|(from, to, _)| *from <= at && at < *to);
                    here.map(|(.., offer)| offer).sum()
                };
                let mut from = 0;
                while (from..from + away).any(|at| used(at) + offer > spare) {
                    from += 1;
                }
                placed.push((from, from + away, offer));
            }
            let ends = placed.iter().map(|(_, to, _)| *to).max().unwrap_or(0);
            let loads = load_by_size(spare, &taken);
            let load = RoomLoad { at: 0, resource: "cpu".into(), nodes: 15, spare, taken: taken.clone() };
            prop_assert!(load.bound() <= ends, "{} > {ends}", load.bound());
            prop_assert!(loads.iter().all(|of_one| *of_one <= load.bound()));
            for (one, of_one) in taken.iter().zip(&loads) {
                for (other, of_other) in taken.iter().zip(&loads) {
                    prop_assert!(one.1 < other.1 || of_one >= of_other);
                }
            }
        }
    }
}
