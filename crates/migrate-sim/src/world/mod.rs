//! The world behind the API: controllers, scheduler and kubelets.
//!
//! [`World::step`] brings everything up to the present: it reads the changes
//! since the last step, lets the controllers concerned look at the objects
//! concerned, fires due timers, and says when it wants to be called next. It
//! is synchronous and knows no task and no clock; one step costs what has
//! changed, not the size of the cluster.

mod context;
mod control_plane;
mod dispatch;
mod disruption;
mod endpoints;
mod garbage;
mod index;
mod kubelet;
mod node;
mod scheduler;
mod settings;
mod volumes;
mod work;
mod workload;

use std::collections::BTreeSet;

pub(crate) use self::control_plane::MEMBER_LABEL;
#[cfg(feature = "snapshot")]
pub(crate) use self::control_plane::order as version_order;
pub use self::kubelet::NodeFault;
pub(crate) use self::settings::Settings;
pub use self::settings::Times;

use self::context::Context;
use self::control_plane::ControlPlane;
use self::index::Index;
use self::kubelet::Kubelets;
use self::scheduler::Scheduler;
use self::settings::millis;
use self::volumes::Volumes;
use self::work::{Timer, TimerId, Timers, Work};
use self::workload::job::Jobs;
use self::workload::{daemonset, deployment, replicaset, statefulset};
use crate::store::{Change, ChangeKind, Resource, Store};

/// Everything that acts in the cluster besides its users.
#[derive(Debug)]
pub(crate) struct World {
    common: Common,
    scheduler: Scheduler,
    kubelets: Kubelets,
    control_plane: ControlPlane,
    volumes: Volumes,
    jobs: Jobs,
    /// Namespaces on their way out.
    leaving: BTreeSet<String>,
    /// resourceVersion up to which changes were taken in; none before the first step.
    cursor: Option<u64>,
    /// How many objects were looked at so far.
    steps: u64,
}

/// What every controller works with besides the store.
#[derive(Debug)]
struct Common {
    settings: Settings,
    index: Index,
    queue: BTreeSet<Work>,
    timers: Timers,
}

impl Common {
    fn context<'a>(&'a mut self, store: &'a mut Store) -> Context<'a> {
        Context {
            now: store.now_ms(),
            store,
            settings: &self.settings,
            index: &self.index,
            queue: &mut self.queue,
            timers: &mut self.timers,
        }
    }
}

impl World {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            common: Common {
                settings,
                index: Index::default(),
                queue: BTreeSet::new(),
                timers: Timers::default(),
            },
            scheduler: Scheduler::default(),
            kubelets: Kubelets::default(),
            control_plane: ControlPlane::default(),
            volumes: Volumes::default(),
            jobs: Jobs::default(),
            leaving: BTreeSet::new(),
            cursor: None,
            steps: 0,
        }
    }

    /// How many objects controllers have looked at since the start.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    /// The version that the API answers with, once there is a control-plane member.
    pub(crate) fn version(&self) -> Option<&str> {
        self.control_plane.version()
    }

    /// Sets or clears a fault of a node at a moment.
    pub(crate) fn schedule_fault(&mut self, at_ms: u64, node: &str, fault: NodeFault) {
        self.common
            .timers
            .set(at_ms, Timer::Fault(node.to_owned(), fault));
    }

    /// Does everything that is due. Returns when the next timer is.
    pub(crate) fn step(&mut self, store: &mut Store) -> Option<u64> {
        let now = store.now_ms();
        loop {
            self.absorb(store);
            if let Some(work) = self.common.queue.pop_first() {
                self.steps += 1;
                self.look(store, work);
            } else if let Some((id, timer)) = self.common.timers.pop(now) {
                self.steps += 1;
                self.fire(store, id, timer);
            } else if !self.scheduler.run(&mut self.common.context(store)) {
                return self.common.timers.next_due();
            }
        }
    }

    /// Takes in what has changed since the last time.
    fn absorb(&mut self, store: &mut Store) {
        let newest = store.resource_version();
        let changes = match self.cursor {
            Some(cursor) if cursor == newest => return,
            Some(cursor) => store
                .changes_since(cursor)
                .map(|changes| changes.cloned().collect())
                .ok(),
            None => {
                self.start_leases(store);
                None
            }
        };
        let changes: Vec<Change> = changes.unwrap_or_else(|| {
            // The first look, or one that came too late: everything counts as new.
            self.common.index = Index::default();
            self.scheduler = Scheduler::default();
            everything(store)
        });
        self.cursor = Some(newest);
        for change in &changes {
            self.take_in(store, change);
        }
    }

    fn start_leases(&mut self, store: &Store) {
        if let Some(renewal) = self.common.settings.lease_renewal {
            self.common
                .timers
                .set(store.now_ms() + millis(renewal), Timer::Leases);
        }
    }

    /// Lets one controller look at one object.
    fn look(&mut self, store: &mut Store, work: Work) {
        let cx = &mut self.common.context(store);
        match work {
            Work::Agent(node) => self.kubelets.sync(cx, &node),
            Work::Member(node) => self.control_plane.sync(cx, &node),
            Work::Node(node) => node::sync(cx, &self.kubelets, &node),
            Work::Claim(claim) => self.volumes.sync_claim(cx, &claim),
            Work::Volume(volume) => self.volumes.sync_volume(cx, &volume),
            Work::Pod(pod) => self.kubelets.sync_pod(cx, &pod),
            Work::Deployment(key) => deployment::sync(cx, &key),
            Work::ReplicaSet(key) => replicaset::sync(cx, Resource::REPLICA_SETS, &key),
            Work::ReplicationController(key) => {
                replicaset::sync(cx, Resource::REPLICATION_CONTROLLERS, &key);
            }
            Work::StatefulSet(key) => statefulset::sync(cx, &key),
            Work::DaemonSet(key) => daemonset::sync(cx, &key),
            Work::Job(key) => self.jobs.sync(cx, &key),
            Work::Garbage(object) => garbage::sync(cx, &object),
            Work::Owner(object) => garbage::sync_owner(cx, &object),
            Work::Namespace(name) => garbage::sync_namespace(cx, &name),
            Work::Endpoints(service) => endpoints::sync(cx, &service),
            Work::Budget(budget) => disruption::sync(cx, &budget),
        }
    }

    fn fire(&mut self, store: &mut Store, id: TimerId, timer: Timer) {
        let cx = &mut self.common.context(store);
        match timer {
            Timer::Work(work) => {
                cx.queue.insert(work);
            }
            Timer::Pod(timer) => self.kubelets.fire_pod(cx, id, &timer),
            Timer::Agent(timer) => self.kubelets.fire(cx, id, &timer),
            Timer::Member(timer) => self.control_plane.fire(cx, id, &timer),
            Timer::Fault(node, fault) => self.kubelets.set_fault(cx, &node, fault),
            Timer::Schedule => self.scheduler.pause_is_over(),
            Timer::Leases => {
                self.kubelets.renew_leases(cx);
                self.start_leases(store);
            }
        }
    }
}

/// Every object as if it had just been created, nodes before the pods on them.
fn everything(store: &Store) -> Vec<Change> {
    store
        .resources()
        .flat_map(|resource| store.list(resource, None))
        .map(|object| Change {
            rv: object.rv,
            at_ms: store.now_ms(),
            kind: ChangeKind::Added,
            object: object.clone(),
            previous: None,
        })
        .collect()
}
