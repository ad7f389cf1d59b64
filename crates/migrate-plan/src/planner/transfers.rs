//! What nodes and pods fetch over links that they share.
//!
//! As with the [scheduler](super::scheduler), no rule of the machine is about it, and no run
//! ever waits for it: what it makes longer are the upgrades and drains that are predicted. A
//! link carries one transfer after the other, each at its full throughput, in the order in
//! which they are asked for.

use std::time::Duration;

use migrate_core::Moment;
use migrate_core::cost::{Bytes, BytesPerSecond, CostError, Link, Transfer};

use super::Planner;
use super::measured::millis;
use super::times::whole_millis;

/// Moments are whole milliseconds.
const MILLI: Duration = Duration::from_millis(1);

impl Planner<'_> {
    /// Counts the data that has to be moved in the estimate: T = N · D / S with
    /// `per_node` bytes for each node to be upgraded, over links that together carry
    /// `rate`. The schedule knows nothing of it: for that, see
    /// [`with_link`](Self::with_link).
    #[must_use]
    pub fn with_transfer(mut self, per_node: Bytes, rate: BytesPerSecond) -> Self {
        self.transfer = Some((per_node, rate));
        self
    }

    /// Has each node that is upgraded fetch what [`Link::per_node`] says over `link`: its
    /// upgrade, or the provision of the machine that comes in its place, is longer by that
    /// and by what nodes before it still fetch. A node fetches over all links at once; a
    /// link of a name that is there already takes its place. Members take nothing over it:
    /// what they fetch is a part of
    /// [`control_plane_member`](migrate_core::cost::PhaseDurations::control_plane_member).
    ///
    /// And each pod that a drain displaces fetches what [`Link::per_pod`] says: pods are taken
    /// to come as their drain begins, and the drain is over no sooner than the last of them has
    /// its images. What pods take for these besides is
    /// [`pull`](migrate_core::cost::PhaseDurations::pull), which goes on meanwhile.
    ///
    /// # Guarantees
    /// - Where nodes go one by one and nothing but their transfer takes time, the plan takes
    ///   N · D / S, to the millisecond.
    /// - A bound of its own: [`BoundKind::Bandwidth`](migrate_core::cost::BoundKind::Bandwidth).
    /// - What was [measured](Self::with_measured) of upgrades and drains has their transfers in
    ///   it: then only waiting is added.
    /// - With [windows](migrate_core::RolloutPolicy::windows), what a node and its pods fetch is
    ///   a part of what has to be left of one, and what they wait for others is not.
    ///
    /// A throughput of zero is refused by [`plan`](Self::plan).
    #[must_use]
    pub fn with_link(mut self, link: Link) -> Self {
        self.links.retain(|known| known.name != link.name);
        self.links.push(link);
        self
    }

    /// All links before anything is asked for.
    pub(super) fn transfers(&self) -> Transfers<'_> {
        Transfers::new(&self.links)
    }

    /// That of all links which takes longest for the nodes that go `beside` each other, and
    /// the `pods` of these, since what the others fetch is a part of what they take one by one;
    /// or what was given for the estimate alone, of all `nodes`, if that does.
    pub(super) fn longest_transfer(
        &self,
        nodes: u64,
        beside: u64,
        pods: u64,
    ) -> Result<Option<Transfer>, CostError> {
        let given = self.transfer.iter();
        let given = given.map(|&(per_node, rate)| Transfer::new(nodes, per_node, rate));
        let links = self.links.iter().filter(|link| takes(link, beside, pods));
        let links = links.map(|link| {
            let (Bytes(node), Bytes(pod)) = (link.per_node, link.per_pod);
            if pod == 0 {
                return Transfer::new(beside, link.per_node, link.throughput);
            }
            let all = node.saturating_mul(beside);
            let all = all.saturating_add(pod.saturating_mul(pods));
            Transfer::new(1, Bytes(all), link.throughput)
        });
        let mut longest: Option<(Duration, Transfer)> = None;
        for transfer in given.chain(links) {
            let time = transfer.time()?;
            if longest.is_none_or(|(other, _)| other < time) {
                longest = Some((time, transfer));
            }
        }
        Ok(longest.map(|(_, transfer)| transfer))
    }
}

/// What so many nodes or pods that wait for nobody fetch for, over all `links` at once. In
/// whole milliseconds, rounded **down**: a transfer that follows another goes on in the middle
/// of one, and no more than this is certain.
pub(super) fn alone(links: &[Link], nodes: u64, pods: u64) -> Duration {
    let each = links.iter().filter(|link| takes(link, nodes, pods));
    let longest = each.map(|link| busy(link, nodes, pods)).max();
    Duration::from_millis(millis(longest.unwrap_or_default()))
}

/// Whether so many nodes or pods take anything over `link`.
pub(crate) fn takes(link: &Link, nodes: u64, pods: u64) -> bool {
    let by_nodes = nodes > 0 && link.per_node > Bytes(0);
    by_nodes || (pods > 0 && link.per_pod > Bytes(0))
}

/// From asking for the first transfer of so many nodes and pods to the end of the last, if
/// they follow each other without a break. Never for a link without throughput, which is
/// refused before.
pub(crate) fn busy(link: &Link, nodes: u64, pods: u64) -> Duration {
    link.latency.saturating_add(data(link, nodes, pods))
}

/// The same without latency.
fn data(link: &Link, nodes: u64, pods: u64) -> Duration {
    link.time(nodes, pods).unwrap_or(Duration::MAX)
}

/// The queues of all links.
#[derive(Clone, Debug)]
pub(super) struct Transfers<'l>(Vec<Queue<'l>>);

/// Of one link: a row of transfers that follow each other without a break.
#[derive(Clone, Copy, Debug)]
struct Queue<'l> {
    link: &'l Link,
    /// When the first of them was asked for.
    since: Moment,
    /// Whose they are.
    nodes: u64,
    pods: u64,
}

impl<'l> Transfers<'l> {
    pub(super) fn new(links: &'l [Link]) -> Self {
        let queues = links.iter().map(|link| Queue {
            link,
            since: Moment::EPOCH,
            nodes: 0,
            pods: 0,
        });
        Self(queues.collect())
    }

    /// How long an action lasts that begins at `now`, fetches what a node does, and
    /// then takes `rest`. In whole milliseconds, rounded up.
    pub(super) fn fetch(&mut self, now: Moment, rest: Duration) -> Duration {
        self.there(now, 1, 0).saturating_add(rest)
    }

    /// How long a drain of `pods` lasts that begins at `now` and would last `length` if none
    /// of them had anything to fetch: no shorter than that, and than it takes them to have it.
    /// In whole milliseconds, rounded up.
    pub(super) fn pull(&mut self, now: Moment, pods: u32, length: Duration) -> Duration {
        self.there(now, 0, pods.into()).max(length)
    }

    /// From `now`, when so many nodes or pods ask for what they take over all links, until it
    /// is there.
    fn there(&mut self, now: Moment, nodes: u64, pods: u64) -> Duration {
        let queues = self.0.iter_mut();
        let queues = queues.filter(|queue| takes(queue.link, nodes, pods));
        let there = queues.map(|queue| queue.carry(now, nodes, pods)).max();
        whole_millis(there.unwrap_or_default())
    }
}

impl Queue<'_> {
    /// From `now`, when so many nodes and pods ask for what they take, to its end.
    fn carry(&mut self, now: Moment, nodes: u64, pods: u64) -> Duration {
        // What is asked for within a millisecond of the end of the one before follows that
        // without a break: it waited for a moment, and moments are no finer. So parts of
        // milliseconds never add up.
        let data = data(self.link, self.nodes, self.pods);
        let is_first = self.nodes == 0 && self.pods == 0;
        if is_first || now.since(self.since) >= data.saturating_add(MILLI) {
            (self.since, self.nodes, self.pods) = (now, 0, 0);
        }
        self.nodes = self.nodes.saturating_add(nodes);
        self.pods = self.pods.saturating_add(pods);
        busy(self.link, self.nodes, self.pods).saturating_sub(now.since(self.since))
    }
}

#[cfg(test)]
mod tests {
    use migrate_core::cost::transfer_time;
    use proptest::prelude::*;

    use super::*;

    const MILLIS: fn(u64) -> Duration = Duration::from_millis;

    fn link(per_node: u64, throughput: u64, latency: u64) -> Link {
        let link = Link::new("registry", BytesPerSecond(throughput));
        link.with_per_node(Bytes(per_node))
            .with_latency(MILLIS(latency))
    }

    #[test]
    fn one_transfer_follows_the_other() {
        // 10 s each, which begin 2 s after they were asked for.
        let links = [link(100, 10, 2000)];
        let mut transfers = Transfers::new(&links);
        let mut fetch = |at: u64, rest: u64| {
            let took = transfers.fetch(Moment::from_millis(at), MILLIS(rest));
            took.as_millis()
        };
        assert_eq!(fetch(0, 0), 12_000);
        assert_eq!(fetch(0, 500), 22_500);
        // Its latency is over when the link is free for it.
        assert_eq!(fetch(5000, 0), 27_000);
        // It was idle for a while.
        assert_eq!(fetch(60_000, 0), 12_000);
        assert_eq!(alone(&links, 1, 0), MILLIS(12_000));
    }

    #[test]
    fn a_node_fetches_over_all_links_at_once() {
        let links = [link(100, 10, 0), link(100, 100, 3000)];
        let mut transfers = Transfers::new(&links);
        assert_eq!(transfers.fetch(Moment::EPOCH, MILLIS(7)), MILLIS(10_007));
        assert_eq!(transfers.fetch(Moment::EPOCH, MILLIS(0)), MILLIS(20_000));
        assert_eq!(alone(&links, 1, 0), MILLIS(10_000));
        // Without links nothing is longer, nor over one that takes its time for nothing.
        for links in [&[][..], &[link(0, 1, 9_000)]] {
            let mut transfers = Transfers::new(links);
            assert_eq!(transfers.fetch(Moment::EPOCH, MILLIS(7)), MILLIS(7));
            assert_eq!(transfers.pull(Moment::EPOCH, 99, MILLIS(7)), MILLIS(7));
            assert_eq!(alone(links, 1, 0) + alone(links, 0, 99), Duration::ZERO);
        }
    }

    #[test]
    fn nodes_and_pods_wait_for_each_other() {
        // 2 s a node, 1 s a pod.
        let links = [link(20, 10, 0).with_per_pod(Bytes(10)), link(1, 1000, 0)];
        let mut transfers = Transfers::new(&links);
        assert_eq!(alone(&links, 0, 30), MILLIS(30_000));
        assert_eq!(
            transfers.pull(Moment::EPOCH, 30, MILLIS(56_000)),
            MILLIS(56_000)
        );
        // Whose pods come behind 30 s, and a node whose transfer comes behind both.
        assert_eq!(
            transfers.pull(Moment::EPOCH, 30, MILLIS(56_000)),
            MILLIS(60_000)
        );
        assert_eq!(
            transfers.fetch(Moment::from_millis(9_000), MILLIS(7)),
            MILLIS(53_007)
        );
        // A drain without pods waits for nobody.
        assert_eq!(transfers.pull(Moment::EPOCH, 0, MILLIS(7)), MILLIS(7));
        // What is there is no longer in the way.
        assert_eq!(
            transfers.pull(Moment::from_millis(70_000), 9, MILLIS(7)),
            MILLIS(9_000)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Asked for as soon as the one before is there, transfers take N · D / S to the
        /// millisecond, whatever parts of one each of them takes.
        #[test]
        fn transfers_in_a_row_take_the_law_to_the_millisecond(
            nodes in 1..200u64, per_node in 1..1u64 << 40, throughput in 1..1u64 << 34,
        ) {
            let links = [link(per_node, throughput, 0)];
            let mut transfers = Transfers::new(&links);
            let mut now = Moment::from_millis(7);
            for _ in 0..nodes {
                now = now + transfers.fetch(now, Duration::ZERO);
            }
            let law = transfer_time(nodes, Bytes(per_node), BytesPerSecond(throughput)).unwrap();
            prop_assert_eq!(now.since(Moment::from_millis(7)), whole_millis(law));
        }

        /// Within any time no more comes than the throughput allows, and nothing later than
        /// that makes necessary; none is shorter than it is alone.
        #[test]
        fn a_transfer_ends_when_all_up_to_its_own_may_have_come(
            waits in prop::collection::vec(0..5_000u64, 1..30),
            per_node in 1..10_000u64,
            throughput in 1..10_000u64,
            latency in 0..3_000u64,
        ) {
            let links = [link(per_node, throughput, latency)];
            let mut transfers = Transfers::new(&links);
            let one = transfer_time(1, Bytes(per_node), BytesPerSecond(throughput)).unwrap();
            let (mut at, mut begun) = (0, Vec::new());
            for wait in waits {
                at += wait;
                let took = transfers.fetch(Moment::from_millis(at), Duration::ZERO);
                begun.push(at);
                prop_assert!(took >= alone(&links, 1, 0), "{took:?}");
                // From any transfer on, all that were asked for since have to come.
                let row = |from: usize| {
                    let count = u32::try_from(begun.len() - from).unwrap();
                    MILLIS(begun[from] + latency) + one * count
                };
                let end = (0..begun.len()).map(row).max().unwrap_or_default();
                let ended = MILLIS(at) + took;
                // Parts of milliseconds, and what N · D / S is finer than N times D / S.
                let slack = Duration::from_millis(1) + Duration::from_nanos(30);
                prop_assert!(ended + slack >= end, "{ended:?} {end:?}");
                prop_assert!(ended < end + slack, "{ended:?} {end:?}");
            }
        }
    }
}
