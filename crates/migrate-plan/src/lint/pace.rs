//! How fast drains displace pods.

use std::collections::BTreeMap;
use std::time::Duration;

use migrate_core::{ClusterModel, Disposition, ObjectName, Policy, disposition};

use super::timeline::Timeline;
use super::{At, Report, codes};

/// A drain of *p* pods keeps the next from beginning for *p* minutes over the rate.
/// Of those that begin at one moment, all but one displace nothing.
pub(super) fn check(
    model: &ClusterModel,
    policy: &Policy,
    timeline: &Timeline<'_>,
    report: &mut Report,
) {
    let rate = u64::from(policy.rollout.displaced_per_minute);
    if rate == 0 {
        return;
    }
    let mut pods: BTreeMap<&str, u64> = BTreeMap::new();
    for pod in &model.pods {
        let stays = matches!(
            disposition(pod, &policy.consent, None),
            Disposition::Leave(_) | Disposition::Wait(_)
        );
        if let Some(node) = pod.node.as_deref().filter(|_| !stays) {
            *pods.entry(node).or_default() += 1;
        }
    }
    let pods = |node: &str| pods.get(node).copied().unwrap_or(0);
    let mut spans: Vec<_> = timeline.slots.iter().collect();
    // At one moment the one that displaces something is the last.
    spans.sort_by_key(|span| (span.drain.start, pods(&span.slot.node)));
    let mut free: Option<(Duration, &str)> = None;
    for span in spans {
        let (start, node) = (span.drain.start, span.slot.node.as_str());
        if let Some((free, other)) = free.filter(|(free, _)| start < *free) {
            let evidence = format!(
                "its drain begins at {}, and the pods of node {other} have their time until {}: \
                 {rate} may be displaced in a minute",
                At(start),
                At(free)
            );
            report.broken(codes::PACE, ObjectName::cluster("Node", node), evidence);
        }
        let nanos = u128::from(pods(node)) * 60_000_000_000 / u128::from(rate);
        let time = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        free = Some((start.saturating_add(time), node));
    }
}
