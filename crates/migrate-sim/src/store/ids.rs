//! Seeded identities: uids and generated names.

/// Letters of generated names: no vowels and no look-alikes.
const SUFFIX_LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Splits one seed into independent sequences of numbers.
///
/// The sequence is SplitMix64: each number depends on the seed and on its
/// position only, so a run with the same calls gives the same identities.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ids {
    uid: u64,
    name: u64,
}

impl Ids {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            uid: mix(seed ^ 0x7569_6400),
            name: mix(seed ^ 0x6e61_6d65),
        }
    }

    /// A version 4 UUID.
    pub(super) fn uid(&mut self) -> String {
        let high = next(&mut self.uid);
        let low = next(&mut self.uid);
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            0x8000 | (low >> 48) & 0x3fff,
            low & 0xffff_ffff_ffff,
        )
    }

    /// The five letters that the server appends to `generateName`.
    pub(super) fn suffix(&mut self) -> String {
        let mut number = next(&mut self.name);
        (0..5)
            .map(|_| {
                let letter = SUFFIX_LETTERS[(number % 27) as usize];
                number /= 27;
                char::from(letter)
            })
            .collect()
    }
}

fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mix(*state)
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
