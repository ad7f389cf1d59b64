//! How long things take in the embedded cluster.

use std::time::Duration;

/// Times of kubelets, controllers and storage, all in cluster time.
///
/// Times of pods and nodes get a seeded jitter of ±[`Times::jitter_percent`],
/// so that two nodes never move in step by accident.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Times {
    /// Pulling an image that a node does not have yet.
    pub image_pull: Duration,
    /// From the image being there to the containers running.
    pub container_start: Duration,
    /// From running to Ready.
    pub readiness: Duration,
    /// From the termination signal to the containers' exit; never longer than the grace period.
    pub stop: Duration,
    /// How long a Job's pod runs before it succeeds.
    pub job_run: Duration,
    /// A kubelet is down for this long while it changes its version.
    pub kubelet_restart: Duration,
    /// A control-plane member needs this long to change its version.
    pub control_plane_restart: Duration,
    /// Attaching a volume to a node.
    pub volume_attach: Duration,
    /// Detaching a volume after its last pod has left the node.
    pub volume_detach: Duration,
    /// A node silent for this long is marked `Ready=Unknown`, its pods not ready.
    pub node_monitor_grace: Duration,
    /// Controllers look at changes in batches of this length.
    pub reaction: Duration,
    /// Spread of the jitter in percent, at most 90.
    pub jitter_percent: u8,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            image_pull: Duration::from_secs(3),
            container_start: Duration::from_secs(1),
            readiness: Duration::from_secs(4),
            stop: Duration::from_secs(2),
            job_run: Duration::from_secs(60),
            kubelet_restart: Duration::from_secs(25),
            control_plane_restart: Duration::from_secs(60),
            volume_attach: Duration::from_secs(3),
            volume_detach: Duration::from_secs(5),
            node_monitor_grace: Duration::from_secs(40),
            reaction: Duration::from_millis(5),
            jitter_percent: 20,
        }
    }
}

/// What the world was built with.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) seed: u64,
    pub(crate) times: Times,
    /// Lease objects are renewed this often; `None` writes them on changes only.
    pub(crate) lease_renewal: Option<Duration>,
}

impl Settings {
    /// `time` in milliseconds with the jitter that belongs to `what`.
    ///
    /// The jitter depends on the seed and on `what` alone, never on the order
    /// in which things happen.
    pub(crate) fn jittered(&self, time: Duration, what: &[&str]) -> u64 {
        let base = millis(time);
        let spread = base * u64::from(self.times.jitter_percent.min(90)) / 100;
        if spread == 0 {
            return base;
        }
        base - spread + hash(self.seed, what) % (2 * spread + 1)
    }
}

/// Whole milliseconds, saturating.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A well-mixed 64-bit hash of a seed and some texts, stable for ever.
pub(crate) fn hash(seed: u64, texts: &[&str]) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325 ^ seed;
    for text in texts {
        for byte in text.bytes().chain([0xff]) {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

/// A hash as ten letters, the form of `pod-template-hash`.
pub(crate) fn short_hash(text: &str) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut number = hash(0, &[text]);
    let mut letters = String::with_capacity(10);
    for _ in 0..10 {
        let digit = usize::try_from(number % 27).unwrap_or_default();
        letters.extend(LETTERS.get(digit).map(|letter| char::from(*letter)));
        number /= 27;
    }
    letters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_in_its_band_and_depends_on_the_seed() {
        let settings = |seed| Settings {
            seed,
            times: Times::default(),
            lease_renewal: None,
        };
        let second = Duration::from_secs(1);
        let draws: Vec<u64> = (0..100)
            .map(|i| settings(1).jittered(second, &["pod", &i.to_string()]))
            .collect();
        assert!(draws.iter().all(|ms| (800..=1200).contains(ms)));
        assert!(draws.iter().max() > draws.iter().min());
        assert_eq!(
            settings(1).jittered(second, &["a"]),
            settings(1).jittered(second, &["a"])
        );
        assert!((0..20).any(|seed| settings(seed).jittered(second, &["a"]) != draws[0]));
    }
}
