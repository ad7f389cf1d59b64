//! What findings say of pods.

use migrate_core::ObjectName;

use super::pods::{Landscape, named};
use super::run::Homeless;

impl Landscape<'_> {
    /// What a finding about pod `pod` names: its workload, or itself.
    pub(crate) fn object(&self, pod: u32) -> ObjectName {
        self.table.object(pod)
    }

    pub(crate) fn workload(&self, workload: u32) -> ObjectName {
        named(self.table.workloads[workload as usize])
    }

    /// How many nodes as large as `like`, with the same pods that stay, take all
    /// of `homeless` that wait at one time, if they could be cut; `None` where
    /// one of them is larger than that node.
    pub(crate) fn nodes_for(&self, homeless: &[Homeless], like: u32) -> Option<u64> {
        let usable = self.usable.row(like);
        let request = |one: &Homeless| {
            let kind = self.table.pods[one.pod as usize].kind;
            self.requests.row(self.table.kinds[kind as usize].shape)
        };
        let mut events: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * homeless.len());
        for (at, one) in homeless.iter().enumerate() {
            let fits = request(one)
                .iter()
                .zip(usable)
                .all(|(asked, all)| asked <= all);
            if !fits {
                return None;
            }
            events.push((one.since, true, at));
            events.push((one.until, false, at));
        }
        events.sort_unstable();
        let mut waiting = vec![0u64; usable.len()];
        let mut most = 1;
        for (_, begins, at) in events {
            for (sum, asked) in waiting.iter_mut().zip(request(&homeless[at])) {
                *sum = match begins {
                    true => sum.saturating_add(*asked),
                    false => sum.saturating_sub(*asked),
                };
            }
            let nodes = waiting.iter().zip(usable);
            let nodes = nodes.map(|(sum, all)| sum.div_ceil((*all).max(1)));
            most = most.max(nodes.max().unwrap_or(1));
        }
        Some(most)
    }
}
