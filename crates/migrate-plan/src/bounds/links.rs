//! Bound of a link that nodes and pods share.

use migrate_core::cost::{BytesPerSecond, Link};

use crate::planner::{busy, millis, takes};

/// Sums over the nodes that go beside each other, and their pods, which fetch over one link.
#[derive(Clone, Debug)]
pub(crate) struct LinkLoad {
    link: Link,
    nodes: u64,
    pods: u64,
    /// The least that comes before one of them asks for its transfer, and that follows it, in
    /// milliseconds.
    head: u64,
    rest: u64,
}

impl LinkLoad {
    /// Without nodes.
    pub(crate) const fn new(link: Link) -> Self {
        Self {
            link,
            nodes: 0,
            pods: 0,
            head: u64::MAX,
            rest: u64::MAX,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.link.name
    }

    /// One more node, which asks after `head` and takes `rest` after its transfer.
    pub(crate) fn add(&mut self, head: u64, rest: u64) {
        self.ask(1, 0, head, rest);
    }

    /// The pods of one more node, which ask as its drain begins; `rest` follows that.
    pub(crate) fn add_pods(&mut self, pods: u32, rest: u64) {
        self.ask(0, pods.into(), 0, rest);
    }

    fn ask(&mut self, nodes: u64, pods: u64, head: u64, rest: u64) {
        if takes(&self.link, nodes, pods) {
            self.nodes = self.nodes.saturating_add(nodes);
            self.pods = self.pods.saturating_add(pods);
            self.head = self.head.min(head);
            self.rest = self.rest.min(rest);
        }
    }

    /// The same with twice the throughput.
    pub(crate) fn twice_as_fast(mut self) -> Self {
        let BytesPerSecond(throughput) = self.link.throughput;
        let twice = BytesPerSecond(throughput.saturating_mul(2));
        self.link = self.link.with_throughput(twice);
        self
    }

    /// B5, bandwidth: with *N* nodes, *D* bytes for each, *M* displaced pods, *P* bytes for
    /// each, *S* bytes a second and *L* of latency, *aᵢ* what comes before node *i* or its pods
    /// ask (of pods nothing) and *eᵢ* what follows their transfer. The link is idle until the
    /// first one has asked, and whichever is the last, something follows:
    ///
    /// ```text
    /// least aᵢ + L + (N · D + M · P) / S + least eᵢ
    /// ```
    ///
    /// `None` where nobody fetches anything.
    pub(crate) fn bound(&self) -> Option<u64> {
        let fetched = millis(busy(&self.link, self.nodes, self.pods));
        let bound = self.head.saturating_add(fetched).saturating_add(self.rest);
        (self.nodes > 0 || self.pods > 0).then_some(bound)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use migrate_core::cost::Bytes;

    use super::*;

    #[test]
    fn link_bound_is_the_transfer_law_between_the_least_before_and_after() {
        let link = |throughput: u64| {
            let link = Link::new("registry", BytesPerSecond(throughput));
            link.with_per_node(Bytes(1000))
                .with_latency(Duration::from_millis(30))
        };
        let load = |throughput: u64, nodes: &[(u64, u64)]| {
            let mut load = LinkLoad::new(link(throughput));
            for &(head, rest) in nodes {
                load.add(head, rest);
            }
            load
        };
        assert_eq!(load(7, &[]).bound(), None);
        let three = [(50, 900), (20, 800), (30, 700)];
        assert_eq!(load(10, &three).bound(), Some(20 + 30 + 300_000 + 700));
        let fast = load(10, &three).twice_as_fast();
        assert_eq!(fast.bound(), Some(20 + 30 + 150_000 + 700));
        // Never more than it is: 428.571 s.
        assert_eq!(load(7, &three).bound(), Some(20 + 428_601 + 700));
        // One without throughput is refused before; here it only must not be short.
        assert_eq!(load(0, &three).bound(), Some(u64::MAX));
        let mut with_pods = load(10, &three);
        with_pods.add_pods(6, 0);
        assert_eq!(
            with_pods.bound(),
            load(10, &three).bound(),
            "they take nothing"
        );
        with_pods.link = with_pods.link.with_per_pod(Bytes(500));
        with_pods.add_pods(0, 0);
        with_pods.add_pods(6, 900);
        assert_eq!(with_pods.bound(), Some(30 + 600_000 + 700));
        let many = [(0, 0); 9];
        assert_eq!(load(u64::MAX, &many).twice_as_fast().bound(), Some(30));
    }
}
