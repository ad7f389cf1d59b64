//! One node of the simulated cluster.

use migrate_core::Node;

use crate::instance::ZONE;

/// A node: what it has room for, and what may be put there.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Host {
    /// Its name; none of one that was added.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// Its zone.
    pub zone: String,
    /// In days.
    pub age: u32,
    /// Changed already.
    pub is_new: bool,
    pub(super) cordoned: bool,
    pub(super) tainted: bool,
    pub(super) pods: Vec<usize>,
    cpu: u64,
    memory: u64,
    most_pods: usize,
    cpu_used: u64,
    memory_used: u64,
}

impl Host {
    pub(super) fn of(node: &Node, pool: &str, age: u32) -> Self {
        Self {
            name: node.name.clone(),
            pool: pool.to_owned(),
            zone: node.labels.get(ZONE).cloned().unwrap_or_default(),
            age,
            is_new: false,
            cordoned: false,
            tainted: false,
            pods: Vec::new(),
            cpu: node.allocatable.cpu_milli,
            memory: node.allocatable.memory_bytes,
            most_pods: usize::try_from(node.allocatable.pods).unwrap_or(usize::MAX),
            cpu_used: 0,
            memory_used: 0,
        }
    }

    /// One more of the kind, new and empty.
    pub(super) fn bare(&self) -> Self {
        Self {
            name: String::new(),
            is_new: true,
            cordoned: false,
            tainted: false,
            pods: Vec::new(),
            cpu_used: 0,
            memory_used: 0,
            ..self.clone()
        }
    }

    pub(super) fn fits(&self, cpu: u64, memory: u64) -> bool {
        !self.cordoned
            && self.pods.len() < self.most_pods
            && self.cpu_used + cpu <= self.cpu
            && self.memory_used + memory <= self.memory
    }

    /// The mean of what is used of its processors and of its memory.
    pub(super) fn used_permille(&self) -> u64 {
        let of = |used: u64, all: u64| u128::from(used) * 500 / u128::from(all.max(1));
        let sum = of(self.cpu_used, self.cpu) + of(self.memory_used, self.memory);
        u64::try_from(sum).unwrap_or(u64::MAX)
    }

    pub(super) fn take(&mut self, pod: usize, cpu: u64, memory: u64) {
        self.pods.push(pod);
        self.cpu_used += cpu;
        self.memory_used += memory;
    }

    pub(super) fn release(&mut self, pod: usize, cpu: u64, memory: u64) {
        self.pods.retain(|other| *other != pod);
        self.cpu_used -= cpu;
        self.memory_used -= memory;
    }
}
