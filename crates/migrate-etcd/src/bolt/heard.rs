//! Who hears how far a file was read.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that are read before it is told again.
const STEP: u64 = 1 << 20;

/// What is told of work on a file: bytes done, and bytes in all.
#[derive(Clone)]
pub(crate) struct Told(Arc<dyn Fn(u64, u64) + Send + Sync>);

impl Told {
    pub(crate) fn new(told: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        Self(Arc::new(told))
    }

    /// That all of `of` bytes are done.
    pub(crate) fn end(&self, of: u64) {
        (self.0)(of, of);
    }
}

#[cfg(feature = "seal")]
impl Told {
    /// Nobody wants to hear it.
    pub(crate) fn nobody() -> Self {
        Self::new(|_, _| {})
    }

    /// Hears how much of `inner`, which has `of` bytes, was read; never the end.
    pub(crate) fn reading<R>(self, inner: R, of: u64) -> Reading<R> {
        let heard = Heard::new(self, of);
        Reading { inner, heard }
    }
}

/// A reader that somebody listens to.
#[cfg(feature = "seal")]
pub(crate) struct Reading<R> {
    inner: R,
    heard: Heard,
}

#[cfg(feature = "seal")]
impl<R: std::io::Read> std::io::Read for Reading<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.heard.add(count as u64);
        Ok(count)
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told")
    }
}

/// Counts what is read of `of` bytes. Whoever reads tells the end.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) told: Told,
    pub(super) of: u64,
    read: AtomicU64,
}

impl Heard {
    pub(super) fn new(told: Told, of: u64) -> Self {
        Self {
            told,
            of,
            read: AtomicU64::new(0),
        }
    }

    /// That so many more were read. Some are read more than once, which is not the end.
    pub(super) fn add(&self, bytes: u64) {
        let before = self.read.fetch_add(bytes, Ordering::Relaxed);
        let after = before.saturating_add(bytes);
        if before / STEP != after / STEP && after < self.of {
            (self.told.0)(after, self.of);
        }
    }
}
