//! Machine shapes, and how zones differ in them.

use migrate_core::model::Resources;

use crate::random::{Random, Zipf};

/// Cores of the nine sizes.
const CORES: [u64; 9] = [2, 4, 8, 16, 24, 32, 48, 64, 96];
/// GiB of memory for each core: compute, general, memory.
const GIB_PER_CORE: [u64; 3] = [2, 4, 8];
const GIB: u64 = 1 << 30;

/// How many shapes there are.
pub const SHAPES: usize = CORES.len() * GIB_PER_CORE.len();

/// What shape `number` (below [`SHAPES`]) offers to pods: some is kept for the
/// system, and no more than 110 pods, nor more than ten for each core.
pub fn shape(number: usize) -> Resources {
    let cores = CORES[number % CORES.len()];
    let gib = cores * GIB_PER_CORE[number / CORES.len() % GIB_PER_CORE.len()];
    let pods = (cores * 10).min(110);
    Resources::new(cores * 1000 - 100, gib * GIB - GIB / 2, pods)
}

/// The shapes of one zone, from the commonest to the rarest: few are common, and
/// which those are differs from zone to zone.
#[derive(Clone, Debug)]
pub(super) struct Mix {
    order: Vec<usize>,
    ranks: Zipf,
}

impl Mix {
    pub(super) fn new(random: &mut Random) -> Self {
        let mut order: Vec<usize> = (0..SHAPES).collect();
        random.shuffle(&mut order);
        Self {
            order,
            ranks: Zipf::new(SHAPES, 1.2),
        }
    }

    pub(super) fn draw(&self, random: &mut Random) -> Resources {
        let rank = self.ranks.draw(random) - 1;
        shape(self.order[rank])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn there_are_twenty_seven_shapes() {
        let all: BTreeSet<_> = (0..SHAPES)
            .map(shape)
            .map(|shape| (shape.cpu_milli, shape.memory_bytes))
            .collect();
        assert_eq!(all.len(), 27);
    }
}
