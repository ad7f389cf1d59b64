//! The samples of a forecast: one after the other, or on all processors with the feature `rayon`.

use std::time::Duration;

#[cfg(feature = "rayon")]
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

/// Where one sample ended.
pub(super) struct Ends {
    /// By key: the last action of it, from the start on.
    pub(super) last: Vec<Duration>,
    /// Targets were left over.
    pub(super) is_unended: bool,
}

/// So many samples, at least one, in their order. Each depends on its number alone, so that it
/// is the same which of them are made at once.
pub(super) fn samples(runs: u32, sample: impl Fn(u32) -> Ends + Send + Sync) -> Vec<Ends> {
    let runs = 0..runs.max(1);
    #[cfg(feature = "rayon")]
    let runs = runs.into_par_iter();
    runs.map(sample).collect()
}
