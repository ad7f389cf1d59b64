//! Bound of a link that nodes share.

use migrate_core::cost::{BytesPerSecond, Link};

use crate::planner::{busy, millis};

/// Sums over the nodes that go beside each other and fetch over one link.
#[derive(Clone, Debug)]
pub(crate) struct LinkLoad {
    link: Link,
    nodes: u64,
    /// The least that comes before a node asks for its transfer, and that follows it, in
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
            head: u64::MAX,
            rest: u64::MAX,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.link.name
    }

    /// One more node, which asks after `head` and takes `rest` after its transfer.
    pub(crate) fn add(&mut self, head: u64, rest: u64) {
        self.nodes = self.nodes.saturating_add(1);
        self.head = self.head.min(head);
        self.rest = self.rest.min(rest);
    }

    /// The same with twice the throughput.
    pub(crate) fn twice_as_fast(mut self) -> Self {
        let BytesPerSecond(throughput) = self.link.throughput;
        let twice = BytesPerSecond(throughput.saturating_mul(2));
        self.link = self.link.with_throughput(twice);
        self
    }

    /// B5, bandwidth: with *N* nodes, *D* bytes for each, *S* bytes a second and *L* of
    /// latency, *aᵢ* what comes before node *i* asks and *eᵢ* what follows its transfer. The link
    /// is idle until the first one has asked, and whichever is the last, something follows:
    ///
    /// ```text
    /// least aᵢ + L + N · D / S + least eᵢ
    /// ```
    ///
    /// `None` where no node fetches anything.
    pub(crate) fn bound(&self) -> Option<u64> {
        let fetched = millis(busy(&self.link, self.nodes));
        let bound = self.head.saturating_add(fetched).saturating_add(self.rest);
        (self.nodes > 0).then_some(bound)
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
        let many = [(0, 0); 9];
        assert_eq!(load(u64::MAX, &many).twice_as_fast().bound(), Some(30));
    }
}
