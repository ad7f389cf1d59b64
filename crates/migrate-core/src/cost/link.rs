//! Links that nodes and pods fetch packages and images over: *D* and *S* of T = N · D / S.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::terms::over_rate;
use super::{Bytes, BytesPerSecond, CostError, TermKind};

/// Fewer samples say nothing of a link: through two there is always a line.
const LEAST_SAMPLES: usize = 3;
/// As many samples are compared pair by pair, evenly chosen from more.
const MOST_COMPARED: usize = 512;

/// A link that all nodes share, as to a registry or a mirror of packages: what one
/// of them fetches over it, another waits for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// What plans and bounds call it.
    pub name: String,
    /// What all transfers over it have together: *S*.
    pub throughput: BytesPerSecond,
    /// From asking until data come, for each transfer. Meanwhile the link is free for
    /// others.
    #[serde(default, skip_serializing_if = "Duration::is_zero")]
    pub latency: Duration,
    /// What each node that is upgraded takes over it: *D*.
    #[serde(default)]
    pub per_node: Bytes,
    /// What each pod that is displaced takes over it where it goes: of its images, what is not
    /// there yet.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub per_pod: Bytes,
}

/// One transfer that was measured.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct TransferSample {
    /// How much it was.
    pub bytes: Bytes,
    /// How long it took, from asking for it to its end.
    pub took: Duration,
}

/// Why samples say nothing of a link. Places count from 0.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum FitError {
    /// A figure is no number, or infinite.
    #[error("a transfer of which a figure is no number; leave it out")]
    NotFinite,
    /// A figure is below zero.
    #[error("a transfer of which a figure is negative; leave it out")]
    Negative,
    /// A transfer of nothing.
    #[error("sample {at} is of no bytes at all; leave it out")]
    NoBytes {
        /// Its place.
        at: usize,
    },
    /// A transfer in no time.
    #[error("sample {at} took no time at all; leave it out, or measure more finely")]
    NoTime {
        /// Its place.
        at: usize,
    },
    /// Fewer samples than a link is known by.
    #[error(
        "{found} transfers were measured, and {needed} are needed; measure more, or give a throughput"
    )]
    TooFew {
        /// How many there are.
        found: usize,
        /// How many are needed.
        needed: usize,
    },
}

impl Link {
    /// A link without latency, over which nodes take nothing yet.
    pub fn new(name: impl Into<String>, throughput: BytesPerSecond) -> Self {
        Self {
            name: name.into(),
            throughput,
            latency: Duration::ZERO,
            per_node: Bytes(0),
            per_pod: Bytes(0),
        }
    }

    /// Each transfer begins so long after it was asked for.
    #[must_use]
    pub const fn with_latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Each node that is upgraded takes so much over it.
    #[must_use]
    pub const fn with_per_node(mut self, bytes: Bytes) -> Self {
        self.per_node = bytes;
        self
    }

    /// Each pod that is displaced takes so much over it where it goes.
    #[must_use]
    pub const fn with_per_pod(mut self, bytes: Bytes) -> Self {
        self.per_pod = bytes;
        self
    }

    /// The same link at another throughput.
    #[must_use]
    pub const fn with_throughput(mut self, throughput: BytesPerSecond) -> Self {
        self.throughput = throughput;
        self
    }

    /// How long the data of `nodes` nodes and `pods` displaced pods keep it busy, without
    /// latency: (N · D + M · P) / S, which without pods is
    /// [`transfer_time`](super::transfer_time). Rounded down to the nanosecond; saturates at
    /// [`Duration::MAX`].
    ///
    /// # Errors
    /// [`CostError::ZeroRate`] if the throughput is zero.
    pub fn time(&self, nodes: u64, pods: u64) -> Result<Duration, CostError> {
        let of = |count: u64, each: Bytes| u128::from(count) * u128::from(each.0);
        let bytes = of(nodes, self.per_node).saturating_add(of(pods, self.per_pod));
        over_rate(bytes, self.throughput.0).ok_or(CostError::ZeroRate {
            term: TermKind::Bandwidth,
        })
    }

    /// The link that `samples` were measured on: a straight line through them, took =
    /// latency + bytes / throughput.
    ///
    /// The slope is the median of the slopes between any two samples of unlike size, and
    /// the latency the median of what is left, at least 0 (Theil and Sen): a quarter of
    /// the samples may be anything, as a transfer that stood still, and changes little.
    /// Samples that are all of one size, or of which the larger took no longer, tell no
    /// latency: then it is 0, and the throughput is the median of bytes / took. Of more
    /// than 512 samples as many are compared, evenly chosen.
    ///
    /// Samples that shared the link with others make it slower than it is: what was
    /// measured is what one of them had.
    ///
    /// # Errors
    /// [`FitError`] for fewer than three samples, and for one without bytes or time.
    ///
    /// ```
    /// use std::time::Duration;
    /// use migrate_core::cost::{Bytes, BytesPerSecond, Link, TransferSample};
    ///
    /// // Half a second, then 100 MB a second.
    /// let took = |bytes: u64| Duration::from_millis(500) + Duration::from_nanos(10 * bytes);
    /// let samples = [20, 50, 300].map(|mb: u64| mb * 1_000_000);
    /// let samples = samples.map(|bytes| TransferSample::new(Bytes(bytes), took(bytes)));
    /// let link = Link::fit("registry", &samples)?;
    /// assert_eq!(link.throughput, BytesPerSecond(100_000_000));
    /// assert_eq!(link.latency, Duration::from_millis(500));
    /// # Ok::<(), migrate_core::cost::FitError>(())
    /// ```
    pub fn fit(name: impl Into<String>, samples: &[TransferSample]) -> Result<Self, FitError> {
        for (at, sample) in samples.iter().enumerate() {
            if sample.bytes == Bytes(0) {
                return Err(FitError::NoBytes { at });
            }
            if sample.took.is_zero() {
                return Err(FitError::NoTime { at });
            }
        }
        if samples.len() < LEAST_SAMPLES {
            return Err(FitError::TooFew {
                found: samples.len(),
                needed: LEAST_SAMPLES,
            });
        }
        let step = samples.len().div_ceil(MOST_COMPARED);
        let points: Vec<(f64, f64)> = samples.iter().step_by(step).map(point).collect();
        let slope = slope(&points).filter(|slope| *slope > 0.0);
        let latency = slope.and_then(|slope| median(points.iter().map(|(x, y)| y - slope * x)));
        let (seconds_a_byte, latency) = match (slope, latency) {
            (Some(slope), Some(latency)) if latency >= 0.0 => (slope, latency),
            // No line that begins above zero: one through it.
            _ => (
                median(points.iter().map(|(x, y)| y / x)).unwrap_or(f64::MAX),
                0.0,
            ),
        };
        // A cast saturates.
        let throughput = (1.0 / seconds_a_byte).round().max(1.0) as u64;
        let latency = Duration::try_from_secs_f64(latency).unwrap_or(Duration::MAX);
        // Finer than a microsecond it is but the rounding of what was added up.
        let micros = u64::try_from((latency.as_nanos() + 500) / 1000).unwrap_or(u64::MAX);
        let link = Self::new(name, BytesPerSecond(throughput));
        Ok(link.with_latency(Duration::from_micros(micros)))
    }
}

impl TransferSample {
    /// `bytes` that took `took`.
    pub const fn new(bytes: Bytes, took: Duration) -> Self {
        Self { bytes, took }
    }

    /// From figures as metrics have them: bytes and seconds.
    ///
    /// # Errors
    /// [`FitError::NotFinite`] and [`FitError::Negative`].
    pub fn from_figures(bytes: f64, seconds: f64) -> Result<Self, FitError> {
        if !(bytes.is_finite() && seconds.is_finite()) {
            return Err(FitError::NotFinite);
        }
        if bytes < 0.0 || seconds < 0.0 {
            return Err(FitError::Negative);
        }
        let took = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        // A cast saturates.
        Ok(Self::new(Bytes(bytes.round() as u64), took))
    }
}

fn is_nothing(bytes: &Bytes) -> bool {
    *bytes == Bytes(0)
}

/// Bytes and seconds.
fn point(sample: &TransferSample) -> (f64, f64) {
    (sample.bytes.0 as f64, sample.took.as_secs_f64())
}

/// The median of the slopes between any two points that are not above each other.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let pairs = points.iter().enumerate().flat_map(|(at, (x, y))| {
        let others = points[at + 1..].iter().filter(move |(other, _)| other != x);
        others.map(move |(other, later)| (later - y) / (other - x))
    });
    median(pairs)
}

/// Of an even number the mean of both in the middle; `None` of none.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    match values.len() % 2 {
        0 => Some(f64::midpoint(values[values.len() / 2 - 1], upper)),
        _ => Some(upper),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(bytes: u64, millis: u64) -> TransferSample {
        TransferSample::new(Bytes(bytes), Duration::from_millis(millis))
    }

    #[test]
    fn what_says_nothing_of_a_link_is_an_error() {
        let fit = |samples: &[TransferSample]| Link::fit("registry", samples).unwrap_err();
        let too_few = |found| FitError::TooFew { found, needed: 3 };
        assert_eq!(fit(&[]), too_few(0));
        assert_eq!(fit(&[sample(1, 1), sample(2, 2)]), too_few(2));
        let with = |other| fit(&[sample(9, 9), other, sample(9, 9)]);
        assert_eq!(with(sample(0, 9)), FitError::NoBytes { at: 1 });
        assert_eq!(with(sample(9, 0)), FitError::NoTime { at: 1 });
        let of = |bytes, seconds| TransferSample::from_figures(bytes, seconds);
        assert_eq!(of(f64::NAN, 1.0), Err(FitError::NotFinite));
        assert_eq!(of(1.0, f64::INFINITY), Err(FitError::NotFinite));
        assert_eq!(of(-1.0, 1.0), Err(FitError::Negative));
        assert_eq!(of(1.0, -1.0), Err(FitError::Negative));
        assert_eq!(of(2.4, 0.25), Ok(sample(2, 250)));
        assert_eq!(of(f64::MAX, f64::MAX).unwrap().took, Duration::MAX);
        let zero = Link::new("registry", BytesPerSecond(0));
        assert!(zero.with_per_node(Bytes(1)).time(1, 0).is_err());
    }

    #[test]
    fn samples_of_one_size_and_larger_ones_that_are_faster_tell_no_latency() {
        let fit = |samples: &[TransferSample]| Link::fit("registry", samples).unwrap();
        let alike = fit(&[sample(1000, 100), sample(1000, 200), sample(1000, 900)]);
        assert_eq!(alike, Link::new("registry", BytesPerSecond(5000)));
        let falling = fit(&[sample(1000, 500), sample(2000, 400), sample(3000, 300)]);
        assert_eq!(falling, Link::new("registry", BytesPerSecond(5000)));
        // A line that would begin below zero.
        let steep = fit(&[sample(1000, 100), sample(2000, 400), sample(3000, 700)]);
        assert_eq!(steep, Link::new("registry", BytesPerSecond(5000)));
    }

    #[test]
    fn a_link_is_the_transfer_law_and_json_leaves_out_what_it_has_not() {
        let link = Link::new("registry", BytesPerSecond::mib(128)).with_per_node(Bytes::gib(2));
        assert_eq!(link.time(100, 7), Ok(Duration::from_secs(1600)));
        let json = serde_json::to_string(&link).unwrap();
        let expected = r#"{"name":"registry","throughput":134217728,"perNode":2147483648}"#;
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_str::<Link>(&json).unwrap(), link);
        let link = link.with_latency(Duration::from_millis(5));
        let link = link.with_per_pod(Bytes::mib(128));
        assert_eq!(link.time(100, 7), Ok(Duration::from_secs(1607)));
        let json = serde_json::to_string(&link).unwrap();
        assert_eq!(serde_json::from_str::<Link>(&json).unwrap(), link);
        let most = link
            .with_per_pod(Bytes(u64::MAX))
            .with_per_node(Bytes(u64::MAX));
        assert_eq!(most.time(u64::MAX, u64::MAX), Ok(Duration::MAX));
    }

    proptest! {
        /// Samples that lie on a line give that line, however many; and so they do if one in
        /// five took any longer.
        #[test]
        fn a_line_is_found_again_though_some_transfers_stood_still(
            sizes in prop::collection::btree_set(1_000u64..4_000_000, 5..80),
            kilobytes in 10u64..2_000,
            latency in 0u64..3_000,
            late in prop::collection::vec(1u64..600_000, 16),
            from in 0..5usize,
        ) {
            let exact = |size: u64| {
                let nanos = size * 1_000_000_000 / kilobytes;
                Duration::from_nanos(nanos) + Duration::from_millis(latency)
            };
            let mut samples: Vec<TransferSample> = sizes
                .iter()
                .map(|size| TransferSample::new(Bytes(size * 1000), exact(*size)))
                .collect();
            let check = |samples: &[TransferSample]| {
                let link = Link::fit("registry", samples).unwrap();
                let ratio = link.throughput.0 as f64 / (kilobytes * 1000) as f64;
                prop_assert!((ratio - 1.0).abs() < 1e-3, "{:?}", link);
                let off = link.latency.as_secs_f64() - latency as f64 / 1000.0;
                prop_assert!(off.abs() < 2e-3, "{:?} {}", link, off);
                Ok(())
            };
            check(&samples)?;
            let most = samples.len() / 5;
            let some = samples.iter_mut().skip(from).step_by(5).take(most);
            for (sample, late) in some.zip(late) {
                sample.took += Duration::from_millis(late);
            }
            check(&samples)?;
        }

        /// Whatever is measured gives a link that carries something.
        #[test]
        fn any_samples_give_a_link_that_carries_something(
            samples in prop::collection::vec((1u64.., 1u64..), 3..20),
        ) {
            let samples: Vec<TransferSample> = samples
                .iter()
                .map(|(bytes, nanos)| TransferSample::new(Bytes(*bytes), Duration::from_nanos(*nanos)))
                .collect();
            let link = Link::fit("registry", &samples).unwrap();
            prop_assert!(link.throughput.0 > 0);
            prop_assert!(link.with_per_node(Bytes(1)).time(1, 0).is_ok());
        }
    }
}
