//! What the world still has to do: now (the queue) and later (the timers).

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::control_plane::MemberTimer;
use super::kubelet::{AgentTimer, NodeFault, PodTimer};
use crate::store::{Object, Resource};

/// Namespace and name of an object; the namespace is empty for cluster-scoped kinds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    pub(crate) fn global(name: impl Into<String>) -> Self {
        Self::new("", name)
    }

    pub(crate) fn of(object: &Object) -> Self {
        Self::new(object.namespace.as_str(), object.name.as_str())
    }
}

/// Kind and key of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObjectRef {
    pub(crate) resource: &'static Resource,
    pub(crate) key: Key,
}

impl ObjectRef {
    pub(crate) fn of(object: &Object) -> Self {
        Self {
            resource: object.resource,
            key: Key::of(object),
        }
    }

    fn order(&self) -> (&str, &str, &Key) {
        (self.resource.group, self.resource.plural, &self.key)
    }
}

impl PartialOrd for ObjectRef {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ObjectRef {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

/// One object that one controller must look at.
///
/// Level-triggered: the entry says where to look, never what happened. The
/// order of the variants is the order within one batch, so that budgets and
/// endpoints see the outcome of everything before them once, not step by step.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    /// Kubelet and its version, by node.
    Agent(String),
    /// Version of a control-plane member, by node.
    Member(String),
    /// Taints and evictions by taint, by node.
    Node(String),
    /// Binding of a volume claim.
    Claim(Key),
    /// Attachments of a persistent volume.
    Volume(String),
    /// The kubelet's view of one pod.
    Pod(Key),
    Deployment(Key),
    ReplicaSet(Key),
    ReplicationController(Key),
    StatefulSet(Key),
    DaemonSet(Key),
    Job(Key),
    /// An object whose owners may be gone.
    Garbage(ObjectRef),
    /// An object whose removal waits for its dependents.
    Owner(ObjectRef),
    Namespace(String),
    /// EndpointSlice of a Service.
    Endpoints(Key),
    /// Status of a PodDisruptionBudget.
    Budget(Key),
}

/// What happens at a moment in the future.
#[derive(Debug, Clone)]
pub(crate) enum Timer {
    Work(Work),
    Pod(PodTimer),
    Agent(AgentTimer),
    Member(MemberTimer),
    /// A node breaks or is mended.
    Fault(String, NodeFault),
    /// Pods that did not fit may be tried again.
    Schedule,
    /// Every lease is renewed.
    Leases,
}

/// Identity of a timer, for those that must know whether they are still wanted.
pub(crate) type TimerId = u64;

/// Timers in order of time, then of creation.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BTreeMap<(u64, TimerId), Timer>,
    /// Work that is already waiting, to keep one entry per object and moment.
    works: BTreeSet<(u64, Work)>,
    next: TimerId,
}

impl Timers {
    /// Sets a timer for the moment `at_ms`.
    pub(crate) fn set(&mut self, at_ms: u64, timer: Timer) -> TimerId {
        if let Timer::Work(work) = &timer
            && !self.works.insert((at_ms, work.clone()))
        {
            return self.next;
        }
        self.next += 1;
        self.heap.insert((at_ms, self.next), timer);
        self.next
    }

    /// Takes the next timer that is due at `now_ms`.
    pub(crate) fn pop(&mut self, now_ms: u64) -> Option<(TimerId, Timer)> {
        let (&(at, _), _) = self.heap.first_key_value()?;
        if at > now_ms {
            return None;
        }
        let ((at, id), timer) = self.heap.pop_first()?;
        if let Timer::Work(work) = &timer {
            self.works.remove(&(at, work.clone()));
        }
        Some((id, timer))
    }

    /// When the next timer is due.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.heap.first_key_value().map(|(&(at, _), _)| at)
    }
}
