//! The busiest of many budgets, of which few are named.

/// How many are named.
const NAMED: usize = 3;

/// The greatest of what is told of budgets, the lowest id first: of equal ones those that
/// were told before.
#[derive(Debug)]
pub(crate) struct Busiest<T> {
    /// The greatest first.
    best: Vec<(T, usize)>,
}

impl<T: Copy + Ord> Busiest<T> {
    pub(crate) fn new() -> Self {
        let best = Vec::with_capacity(NAMED + 1);
        Self { best }
    }

    /// Whether a budget that bears so much would be one of them.
    pub(crate) fn takes(&self, load: T) -> bool {
        let least = self.best.get(NAMED - 1);
        least.is_none_or(|(least, _)| *least < load)
    }

    /// The budget `id`, whose id is greater than those before, bears so much.
    pub(crate) fn add(&mut self, load: T, id: usize) {
        if self.takes(load) {
            let at = self.best.partition_point(|(other, _)| *other >= load);
            self.best.insert(at, (load, id));
            self.best.truncate(NAMED);
        }
    }

    /// The greatest first, then by id.
    pub(crate) fn into_vec(self) -> Vec<(T, usize)> {
        self.best
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_busiest_are_the_first_in_order(loads in prop::collection::vec(0..9u32, 0..40)) {
            let mut busiest = Busiest::new();
            for (id, &load) in loads.iter().enumerate() {
                busiest.add(load, id);
            }
            let mut all: Vec<(u32, usize)> = loads.into_iter().zip(0..).collect();
            all.sort_by_key(|(load, id)| (Reverse(*load), *id));
            all.truncate(NAMED);
            prop_assert_eq!(busiest.into_vec(), all);
        }
    }
}
