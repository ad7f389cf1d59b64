//! What the machine itself has: its runtime, its clock, its packages.

use std::time::Duration;

use migrate_core::{Finding, Moment, Severity, listed};

use super::super::super::readiness;
use super::super::read::{Packages, Survey};
use super::{Asked, on_node};

const OLD_RUNTIME: &str = "KM-KUBEADM-022";
const CLOCK: &str = "KM-KUBEADM-023";
const ALONG: &str = "KM-KUBEADM-024";
const REFUSED: &str = "KM-KUBEADM-025";
const NO_PATCHES: &str = "KM-KUBEADM-026";
const NO_ROOM: &str = "KM-KUBEADM-033";

/// The first minor whose kubelet misses what containerd 1 does not have
/// (`RuntimeConfig` of the CRI), and says so: `KubeletCgroupDriverFromCRI`, GA.
const ASKS_RUNTIME: (u32, u32) = (1, 34);
/// The minor by which the kubelet of 1.37 says that it goes without no longer
/// (`cri_losing_support`).
const NEEDS_RUNTIME: (u32, u32) = (1, 38);
/// From here on clocks count as apart: where etcd itself begins to warn.
const APART: Duration = Duration::from_secs(1);
/// How many files or packages are named.
const SHOWN: usize = 5;

/// When a node was asked, and when its answer was there, by our own clock.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Window {
    pub(in super::super) asked: Moment,
    pub(in super::super) answered: Moment,
}

pub(super) fn judge(node: &str, survey: &Survey, window: Window, asked: Asked<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(of_runtime(node, survey, asked));
    found.extend(of_clock(node, survey, window));
    found.extend(of_packages(node, &survey.packages, asked));
    if !survey.short_of_room.is_empty() {
        let places = survey.short_of_room.iter();
        let places = places.map(|(place, free)| format!("{place} has {free} MiB free"));
        let evidence = format!(
            "there is little room for the programs of {}: {}",
            asked.target,
            listed(places, SHOWN)
        );
        let cure = "make room there: 200 MiB at least, or the node stops in the middle of its step";
        found.push(on_node(node, NO_ROOM, Severity::Blocker, evidence, cure));
    }
    if let Some(folder) = &survey.patches_missing {
        let evidence = format!("the folder of patches {folder} is not on the node");
        let cure = "put it on every node, the same everywhere, or do without";
        found.push(on_node(node, NO_PATCHES, Severity::Blocker, evidence, cure));
    }
    found
}

fn of_runtime(node: &str, survey: &Survey, asked: Asked<'_>) -> Option<Finding> {
    let target = (asked.target.major(), asked.target.minor());
    let version = survey.containerd.as_deref()?;
    let major: u32 = version
        .trim_start_matches('v')
        .split('.')
        .next()?
        .parse()
        .ok()?;
    let (last, cure) = (NEEDS_RUNTIME, "move the node to containerd 2 before that");
    (major < 2 && target >= ASKS_RUNTIME).then(|| {
        let evidence = format!(
            "containerd {version} does not tell the kubelet its cgroup driver: the kubelet goes by \
             cgroupDriver of its configuration, which is announced to end with {}.{}",
            last.0, last.1
        );
        on_node(node, OLD_RUNTIME, Severity::Warning, evidence, cure)
    })
}

/// The node's clock was read right after the script had begun and right before
/// it ended, so that it is ahead of ours by no more than what the first reading
/// is later than when the node was asked, and by no less than what the last one
/// is later than when the answer was there.
fn of_clock(node: &str, survey: &Survey, window: Window) -> Option<Finding> {
    let [first, .., last] = survey.clock.as_slice() else {
        return None;
    };
    let ours = |moment: Moment| i64::try_from(moment.as_millis()).ok();
    let most = first - ours(window.asked)?;
    let least = last - ours(window.answered)?;
    // Somebody has set a clock meanwhile.
    if least > most {
        return None;
    }
    let apart = i64::try_from(APART.as_millis()).ok()?;
    let (way, by) = if least > apart {
        ("ahead of", least.midpoint(most))
    } else if most < -apart {
        ("behind", -least.midpoint(most))
    } else {
        return None;
    };
    let evidence = format!(
        "its clock is {:.1} s {way} the runner's, give or take {:.1} s",
        seconds(by),
        seconds((most - least) / 2)
    );
    let cure = "let both follow the same time: leases, certificates and etcd go by it";
    Some(on_node(node, CLOCK, Severity::Warning, evidence, cure))
}

#[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

fn of_packages(node: &str, packages: &Packages, asked: Asked<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let target = asked.target;
    let blocker =
        |evidence: String, cure: &str| on_node(node, REFUSED, Severity::Blocker, evidence, cure);
    if let Some(said) = &packages.refused {
        found.push(blocker(
            format!("apt cannot install the packages of {target}: {said}"),
            "see what `apt-get --simulate install` says of them on the node",
        ));
    }
    let managed = packages.managed.iter();
    found.extend(managed.map(|(name, owner)| readiness::managed(node, name, owner)));
    let unmanaged = packages.unmanaged.iter();
    found.extend(unmanaged.map(|(name, place)| readiness::unmanaged(node, name, place)));
    if !packages.removed.is_empty() {
        let names = listed(&packages.removed, SHOWN);
        found.push(blocker(
            format!("installing the packages of {target} would remove {names}"),
            "resolve that by hand; the upgrade removes nothing",
        ));
    }
    if !packages.early.is_empty() {
        let names = listed(&packages.early, SHOWN);
        found.push(blocker(
            format!(
                "installing kubeadm of {target} would change {names} before the node is drained"
            ),
            "its packages do not fit together: see what kubeadm depends on",
        ));
    }
    if !packages.along.is_empty() {
        let brought = packages
            .along
            .iter()
            .map(|(name, versions)| format!("{name} {versions}"));
        let brought = listed(brought, SHOWN);
        let changed = match packages.changed.as_slice() {
            [] => String::new(),
            files => format!(
                "; of their files these were changed by hand: {}",
                listed(files, SHOWN)
            ),
        };
        let evidence = format!(
            "the packages of {target} bring along {brought}, and write over what lies in their \
             place (kubernetes-cni: /opt/cni/bin){changed}"
        );
        let cure = "the node is drained then; see that its network plugin does with theirs, or puts \
                    its own back";
        found.push(on_node(node, ALONG, Severity::Warning, evidence, cure));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a node whose clock read so, asked at 100 s and answered
    /// at 104 s.
    fn said(first: i64, last: i64) -> Option<String> {
        let survey = Survey {
            clock: vec![first, last],
            ..Survey::default()
        };
        let window = Window {
            asked: Moment::from_millis(100_000),
            answered: Moment::from_millis(104_000),
        };
        Some(of_clock("n", &survey, window)?.evidence)
    }

    #[test]
    fn a_clock_is_apart_only_if_the_way_cannot_explain_it() {
        // Three of the four seconds were the script's own.
        let still = said(100_500, 103_500);
        assert_eq!(still, None);
        // Ahead by 1.0 to 2.0 s, which may be a second; by a little more.
        assert_eq!(said(102_000, 105_000), None);
        let ahead = said(102_100, 105_100).unwrap();
        assert!(ahead.starts_with("its clock is 1.6 s ahead of"), "{ahead}");
        assert!(ahead.ends_with("give or take 0.5 s"), "{ahead}");
        assert_eq!(said(99_000, 102_000), None);
        let behind = said(98_900, 101_900).unwrap();
        assert!(behind.starts_with("its clock is 1.6 s behind"), "{behind}");
        // It was set while the script ran.
        assert_eq!(said(90_000, 200_000), None);
    }
}
