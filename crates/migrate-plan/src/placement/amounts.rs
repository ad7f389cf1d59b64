//! Amounts of several resources, one row after the other.

use std::collections::BTreeMap;

use migrate_core::model::Resources;

/// CPU, memory and pods: what every node offers.
pub(super) const COMMON: usize = 3;

/// Which resources there are: the common three, then extended ones by name.
#[derive(Debug)]
pub(crate) struct Dimensions<'m> {
    extended: BTreeMap<&'m str, usize>,
}

impl<'m> Dimensions<'m> {
    /// Those that anything in `requests` asks for.
    pub(super) fn of(requests: impl Iterator<Item = &'m Resources>) -> Self {
        let names = requests.flat_map(|request| request.extended.keys());
        let mut extended: BTreeMap<&str, usize> = names.map(|name| (name.as_str(), 0)).collect();
        for (place, (_, at)) in extended.iter_mut().enumerate() {
            *at = COMMON + place;
        }
        Self { extended }
    }

    pub(crate) fn len(&self) -> usize {
        COMMON + self.extended.len()
    }

    /// How a resource is called.
    pub(super) fn name(&self, at: usize) -> &str {
        let extended = self.extended.iter().find(|(_, place)| **place == at);
        match at {
            0 => "cpu",
            1 => "memory",
            2 => "pods",
            _ => extended.map_or("", |(name, _)| name),
        }
    }

    fn fill(&self, row: &mut [u64], amount: &Resources) {
        row.fill(0);
        row[0] = amount.cpu_milli;
        row[1] = amount.memory_bytes;
        row[2] = amount.pods;
        for (name, quantity) in &amount.extended {
            if let Some(&at) = self.extended.get(name.as_str()) {
                row[at] = *quantity;
            }
        }
    }
}

/// Rows of amounts, all of the same resources.
#[derive(Clone, Debug)]
pub(crate) struct Amounts {
    width: usize,
    all: Vec<u64>,
}

impl Amounts {
    pub(super) fn zero(dimensions: &Dimensions<'_>, rows: usize) -> Self {
        Self {
            width: dimensions.len(),
            all: vec![0; dimensions.len() * rows],
        }
    }

    /// A row for each of `offers`.
    pub(super) fn of_offers<'r>(
        dimensions: &Dimensions<'_>,
        offers: impl ExactSizeIterator<Item = &'r Resources>,
    ) -> Self {
        let mut amounts = Self::zero(dimensions, offers.len());
        for (row, offer) in amounts.all.chunks_mut(amounts.width).zip(offers) {
            dimensions.fill(row, offer);
        }
        amounts
    }

    /// A row for each of `requests`; whatever asks for anything is one pod at
    /// least.
    pub(super) fn of_requests<'r>(
        dimensions: &Dimensions<'_>,
        requests: impl ExactSizeIterator<Item = &'r Resources>,
    ) -> Self {
        let mut amounts = Self::of_offers(dimensions, requests);
        for row in amounts.all.chunks_mut(amounts.width) {
            row[2] = row[2].max(1);
        }
        amounts
    }

    /// How many resources there are.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The same without the common resources.
    pub(super) fn beyond_common(&self) -> Self {
        let rows = self.all.chunks(self.width).flat_map(|row| &row[COMMON..]);
        Self {
            width: self.width - COMMON,
            all: rows.copied().collect(),
        }
    }

    pub(crate) fn row(&self, at: u32) -> &[u64] {
        let start = at as usize * self.width;
        &self.all[start..start + self.width]
    }

    fn row_mut(&mut self, at: u32) -> &mut [u64] {
        let start = at as usize * self.width;
        &mut self.all[start..start + self.width]
    }

    pub(crate) fn add(&mut self, at: u32, amount: &[u64]) {
        for (sum, more) in self.row_mut(at).iter_mut().zip(amount) {
            *sum = sum.saturating_add(*more);
        }
    }

    /// What is more than there was leaves nothing.
    pub(super) fn take(&mut self, at: u32, amount: &[u64]) {
        for (sum, less) in self.row_mut(at).iter_mut().zip(amount) {
            *sum = sum.saturating_sub(*less);
        }
    }

    pub(super) fn set(&mut self, at: u32, amount: &[u64]) {
        self.row_mut(at).copy_from_slice(amount);
    }

    pub(super) fn fits(&self, at: u32, request: &[u64]) -> bool {
        let free = self.row(at);
        free.iter().zip(request).all(|(free, asked)| asked <= free)
    }

    /// The largest of each resource.
    pub(super) fn largest(&self) -> Vec<u64> {
        let mut largest = vec![0; self.width];
        for row in self.all.chunks(self.width) {
            for (most, amount) in largest.iter_mut().zip(row) {
                *most = (*most).max(*amount);
            }
        }
        largest
    }
}
