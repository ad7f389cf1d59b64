//! Faults between a client and the server.

use std::fmt;
use std::time::Duration;

use super::route::RequestInfo;
use crate::store::ApiError;

/// What becomes of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It is served.
    #[default]
    Pass,
    /// It is served after a further delay.
    Delay(Duration),
    /// The connection is refused; nothing happens.
    Refuse,
    /// It is served, but the connection breaks before the answer: the client
    /// cannot know whether it took effect.
    DropAnswer,
    /// It is answered with this error; nothing happens.
    Answer(ApiError),
    /// If it is a watch, it ends after this time.
    CloseWatch(Duration),
    /// If it is an eviction, others write this object between each of the
    /// handler's reads and its write, until its tries are spent.
    Contend(Contended),
}

/// What others write faster than the eviction handler can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Contended {
    /// The status of the budget, as evictions of many pods at once do.
    Budget,
    /// The pod, as its kubelet does while the pod starts.
    Pod,
}

/// Decides about each request, in the order in which they arrive.
pub(super) type FaultHook = Box<dyn FnMut(&RequestInfo) -> Fault + Send>;

/// The hook, if one is set.
#[derive(Default)]
pub(super) struct Faults(pub(super) Option<FaultHook>);

impl Faults {
    pub(super) fn decide(&mut self, request: &RequestInfo) -> Fault {
        self.0.as_mut().map_or(Fault::Pass, |hook| hook(request))
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Faults").field(&self.0.is_some()).finish()
    }
}
