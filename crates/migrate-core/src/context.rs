//! What every step is handed: cancellation, clock, event sink and fence.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::{Clock, Event, EventSink};

/// Tells cooperating parties to stop; free of any async runtime.
///
/// Clones share one state. Cancelling twice is harmless and nothing un-cancels.
#[derive(Clone, Default)]
pub struct Cancellation {
    inner: Arc<CancellationState>,
}

#[derive(Default)]
struct CancellationState {
    cancelled: AtomicBool,
    event: event_listener::Event,
}

impl Cancellation {
    /// A cancellation nobody has asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks every holder of a clone to stop.
    pub fn cancel(&self) {
        self.inner.cancelled.store(true, Ordering::SeqCst);
        self.inner.event.notify(usize::MAX);
    }

    /// Whether someone asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.inner.cancelled.load(Ordering::SeqCst)
    }

    /// Resolves once someone asks to stop; at once if someone already has.
    pub async fn cancelled(&self) {
        while !self.is_cancelled() {
            let listener = self.inner.event.listen();
            // A cancel between the test and `listen` would be missed otherwise.
            if self.is_cancelled() {
                return;
            }
            listener.await;
        }
    }
}

impl fmt::Debug for Cancellation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancellation")
            .field("cancelled", &self.is_cancelled())
            .finish()
    }
}

/// Who may act: the run and its epoch.
///
/// A driver compares the epoch with the one it last saw for a target and
/// refuses an older one. The executor takes a new epoch from the cluster's Lease
/// each time it opens a run, and puts it here.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Fence {
    /// The run that acts.
    pub run: String,
    /// The holder's epoch; grows with each holder. 0 is nobody's.
    pub epoch: u64,
}

impl Fence {
    /// The fence of `run` at `epoch`.
    pub fn new(run: impl Into<String>, epoch: u64) -> Self {
        Self {
            run: run.into(),
            epoch,
        }
    }

    /// The fence of who holds no Lease, as a person who drains a node by hand:
    /// epoch 0, which is neither stamped on nodes nor compared there.
    pub fn without_lease(run: impl Into<String>) -> Self {
        Self::new(run, 0)
    }
}

/// The environment of a step. Cheap to clone.
#[derive(Clone)]
pub struct StepContext {
    /// Set when the step should stop at its next safe point.
    pub cancel: Cancellation,
    /// The run's clock.
    pub clock: Arc<dyn Clock>,
    /// Where events go.
    pub events: Arc<dyn EventSink>,
    /// Who acts.
    pub fence: Fence,
}

impl StepContext {
    /// A context without a listener for events.
    pub fn new(clock: Arc<dyn Clock>, fence: Fence) -> Self {
        Self {
            cancel: Cancellation::new(),
            clock,
            events: Arc::new(|_: &Event| {}),
            fence,
        }
    }

    /// Sends events to `events`.
    #[must_use]
    pub fn with_events(mut self, events: Arc<dyn EventSink>) -> Self {
        self.events = events;
        self
    }

    /// Stops when `cancel` says so.
    #[must_use]
    pub fn with_cancel(mut self, cancel: Cancellation) -> Self {
        self.cancel = cancel;
        self
    }

    /// Emits `event` now.
    pub fn emit(&self, event: crate::EventKind) {
        self.events.emit(&Event {
            at: self.clock.now(),
            kind: event,
        });
    }
}

impl fmt::Debug for StepContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepContext")
            .field("cancel", &self.cancel)
            .field("fence", &self.fence)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancelled_resolves_for_waiters_and_late_comers() {
        let cancel = Cancellation::new();
        let waiter = cancel.clone();
        let thread = std::thread::spawn(move || futures::executor::block_on(waiter.cancelled()));
        cancel.cancel();
        thread.join().unwrap();
        futures::executor::block_on(cancel.cancelled());
        assert!(cancel.is_cancelled());
    }
}
