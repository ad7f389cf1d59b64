//! A simulated cluster that every way to upgrade it is tried on.
//!
//! Pods leave by eviction, which a budget may refuse; their controllers make new
//! ones; a scheduler places these where there is room. Nothing here knows how a
//! rollout is planned: whoever upgrades asks for evictions, takes nodes down and
//! up, and is told what happens.
//!
//! | it is | as in |
//! |---|---|
//! | an eviction is refused while a budget has no healthy pod to spare; one of a pod that is not ready only while the others are too few | the Eviction API |
//! | a budget's status is never late | better than in a cluster, for everybody |
//! | a Deployment's new pod is made with the eviction, a StatefulSet's when the old pod is gone | the controllers |
//! | a new pod goes where it fits: first where no taint says otherwise, then where fewest of its workload are, then where least is used | kube-scheduler's default scores |
//! | a pod takes its grace period to go, and the planner's constants for pulling, attaching, starting and readiness | `PhaseDurations` |

mod host;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use migrate_core::Role;

use crate::instance::Instance;
pub use host::Host;

/// Who must not be asked for more than they can spare.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Guard {
    /// The API knows the cluster's own budgets alone.
    Real,
    /// Every workload with two replicas has a budget that the API knows: the
    /// assumed ones are real, so that all tools keep the same availability.
    All,
}

/// How an eviction is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ask {
    /// As the API grants it.
    Plainly,
    /// Nor against an assumed budget that the API does not know.
    Carefully,
    /// The pod is deleted, whatever any budget says.
    Forcibly,
}

/// Something that was asked for with [`Cluster::wake`].
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Wake {
    /// Try again to evict what is left on a node.
    Retry(usize),
    /// The patience with a drain is over.
    Timeout(usize),
    /// What follows a drain is over.
    Rested(usize),
    /// A node is changed.
    Changed(usize),
    /// A node is done.
    Done(usize),
    /// Look who may begin.
    Poll,
}

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Notice {
    /// A cordoned node has no pod left.
    Empty(usize),
    /// A workload has one more healthy pod.
    Healthier(usize),
    /// As asked for.
    Woken(Wake),
}

/// What it came to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Tally {
    /// Pods that had to leave a node.
    pub moves: u64,
    /// Evictions that were refused.
    pub refused: u64,
    /// Pods that left although a budget of the cluster had nothing to spare.
    pub real_violations: u64,
    /// The same of the budgets that workloads without one are assumed to have.
    pub assumed_violations: u64,
    /// Pods that found no room when they were made.
    pub pending: u64,
    /// Drains that were not over when their patience was.
    pub failed_waits: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Pending,
    Starting,
    Ready,
    Ending,
    Gone,
}

#[derive(Clone, Debug)]
struct Replica {
    app: usize,
    host: usize,
    state: State,
}

/// A workload.
#[derive(Clone, Debug)]
struct App {
    cpu: u64,
    memory: u64,
    grace: u64,
    start: u64,
    /// Its new pod waits for the old one to be gone.
    in_place: bool,
    healthy: u32,
    /// What its own budget, and the one it is assumed to have, need.
    real: Option<u32>,
    assumed: Option<u32>,
    /// Pods of it on each host.
    on: BTreeMap<usize, u32>,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Event {
    Gone(usize),
    Ready(usize),
    Wake(Wake),
}

/// See the [module documentation](self). Times are milliseconds.
#[derive(Clone, Debug)]
pub struct Cluster {
    now: u64,
    hosts: Vec<Host>,
    pods: Vec<Replica>,
    apps: Vec<App>,
    guard: Guard,
    pending: VecDeque<usize>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    notices: VecDeque<Notice>,
    tally: Tally,
    at_start: usize,
}

impl Cluster {
    /// The workers of `instance` with their pods. Hosts have the order of the
    /// workers in the model.
    pub fn new(instance: &Instance, guard: Guard) -> Self {
        let model = &instance.model;
        let workers = model.nodes.iter().zip(&instance.ages);
        let workers = workers.filter(|(node, _)| node.role == Role::Worker);
        let hosts: Vec<Host> = workers
            .map(|(node, age)| Host::of(node, instance.policy.pools.pool_of(node), *age))
            .collect();
        let mut cluster = Self {
            now: 0,
            hosts,
            pods: Vec::new(),
            apps: Vec::new(),
            guard,
            pending: VecDeque::new(),
            events: BinaryHeap::new(),
            sequence: 0,
            notices: VecDeque::new(),
            tally: Tally::default(),
            at_start: 0,
        };
        cluster.add_apps(instance);
        cluster
    }

    fn add_apps(&mut self, instance: &Instance) {
        let model = &instance.model;
        let needs: BTreeMap<(&str, &str), u32> = model
            .budgets
            .iter()
            .map(|budget| {
                let desired = u32::try_from(budget.status.desired_healthy).unwrap_or(0);
                ((budget.namespace.as_str(), budget.name.as_str()), desired)
            })
            .collect();
        let mut ids = BTreeMap::new();
        for workload in &model.workloads {
            let id = &workload.id;
            // The generator names a budget after its workload.
            let real = needs
                .get(&(id.namespace.as_str(), id.name.as_str()))
                .copied();
            let assumed = instance.policy.assumed_budgets.needs(workload);
            ids.insert(id, self.apps.len());
            self.apps.push(App {
                cpu: 0,
                memory: 0,
                grace: 0,
                start: 0,
                in_place: id.kind == "StatefulSet",
                healthy: 0,
                real,
                assumed: assumed.filter(|_| real.is_none()),
                on: BTreeMap::new(),
            });
        }
        let hosts: BTreeMap<String, usize> = (self.hosts.iter().map(|host| host.name.clone()))
            .zip(0..)
            .collect();
        for pod in &model.pods {
            let app = pod.workload.as_ref().and_then(|id| ids.get(id)).copied();
            let host = pod.node.as_ref().and_then(|name| hosts.get(name)).copied();
            let (Some(app), Some(host)) = (app, host) else {
                continue;
            };
            let of_app = &mut self.apps[app];
            of_app.cpu = pod.requests.cpu_milli;
            of_app.memory = pod.requests.memory_bytes;
            let grace = Duration::from_secs(pod.grace_seconds);
            of_app.grace = millis(instance.durations.stop.min(grace));
            let hold = instance
                .durations
                .budget_hold(grace, !pod.claims.is_empty());
            of_app.start = millis(hold) - of_app.grace;
            of_app.healthy += 1;
            self.pods.push(Replica {
                app,
                host,
                state: State::Ready,
            });
            self.bind(self.pods.len() - 1, host);
        }
        self.at_start = self.pods.len();
    }

    /// Now.
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// Every node, extra ones at the end.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// What it came to so far.
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// Moves for each pod that was there at the start.
    pub fn moves_per_pod(&self) -> f64 {
        self.tally.moves as f64 / self.at_start.max(1) as f64
    }

    /// Wants to be told of `wake` after `delay`.
    pub fn wake(&mut self, delay: u64, wake: Wake) {
        self.push(delay, Event::Wake(wake));
    }

    /// Lets new pods stay away from a host.
    pub fn cordon(&mut self, host: usize) {
        self.hosts[host].cordoned = true;
        self.tell_if_empty(host);
    }

    /// Has new pods prefer other hosts, or not any more.
    pub fn taint(&mut self, host: usize, is_tainted: bool) {
        self.hosts[host].tainted = is_tainted;
    }

    /// A changed host takes pods again.
    pub fn give_back(&mut self, host: usize) {
        let host = &mut self.hosts[host];
        (host.cordoned, host.tainted, host.is_new) = (false, false, true);
        self.place_pending();
    }

    /// Adds a host like `like`, of the new version.
    pub fn add_like(&mut self, like: usize) {
        let host = self.hosts[like].bare();
        self.hosts.push(host);
        self.place_pending();
    }

    /// Notes that the patience with a drain was over.
    pub fn note_failed_wait(&mut self) {
        self.tally.failed_waits += 1;
    }

    /// Pods that have not been asked to leave `host`, in the order of their
    /// making.
    pub fn staying(&self, host: usize) -> Vec<usize> {
        let mut pods: Vec<usize> = self.hosts[host].pods.clone();
        pods.retain(|pod| self.pods[*pod].state != State::Ending);
        pods.sort_unstable();
        pods
    }

    /// The workload of a pod.
    pub fn app_of(&self, pod: usize) -> usize {
        self.pods[pod].app
    }

    /// How many pods of each workload that has a budget are on `host`.
    pub fn guarded_on(&self, host: usize) -> BTreeMap<usize, u32> {
        let mut counts = BTreeMap::new();
        for pod in &self.hosts[host].pods {
            let app = self.pods[*pod].app;
            if self.needs(app, Ask::Plainly).is_some() {
                *counts.entry(app).or_default() += 1;
            }
        }
        counts
    }

    /// How many healthy pods a workload can spare, as far as the API knows.
    pub fn spare(&self, app: usize) -> u32 {
        let needs = self.needs(app, Ask::Plainly).unwrap_or(0);
        self.apps[app].healthy.saturating_sub(needs)
    }

    /// The same, also by the budget it is assumed to have.
    pub fn careful_spare(&self, app: usize) -> u32 {
        let needs = self.needs(app, Ask::Carefully).unwrap_or(0);
        self.apps[app].healthy.saturating_sub(needs)
    }

    fn needs(&self, app: usize, ask: Ask) -> Option<u32> {
        let app = &self.apps[app];
        match (self.guard, ask) {
            (_, Ask::Forcibly) => None,
            (Guard::Real, Ask::Plainly) => app.real,
            _ => app.real.or(app.assumed),
        }
    }

    /// Asks for the eviction of a pod; says whether it goes.
    pub fn evict(&mut self, pod: usize, ask: Ask) -> bool {
        let Replica { app, state, .. } = self.pods[pod];
        let is_ready = state == State::Ready;
        if !matches!(state, State::Ready | State::Starting) {
            return false;
        }
        let healthy = self.apps[app].healthy;
        let left = healthy - u32::from(is_ready);
        if self.needs(app, ask).is_some_and(|needs| left < needs) {
            self.tally.refused += 1;
            return false;
        }
        let of_app = &mut self.apps[app];
        of_app.healthy = left;
        if is_ready {
            let breaks = |needs: Option<u32>| u64::from(needs.is_some_and(|needs| left < needs));
            self.tally.real_violations += breaks(of_app.real);
            self.tally.assumed_violations += breaks(of_app.assumed);
        }
        let (grace, in_place) = (of_app.grace, of_app.in_place);
        self.tally.moves += 1;
        self.pods[pod].state = State::Ending;
        self.push(grace, Event::Gone(pod));
        if !in_place {
            self.make(app);
        }
        true
    }

    /// What happens next; `None` when nothing more does.
    pub fn step(&mut self) -> Option<Notice> {
        loop {
            if let Some(notice) = self.notices.pop_front() {
                return Some(notice);
            }
            let Reverse((at, _, event)) = self.events.pop()?;
            self.now = at;
            match event {
                Event::Wake(wake) => return Some(Notice::Woken(wake)),
                Event::Gone(pod) => self.gone(pod),
                Event::Ready(pod) if self.pods[pod].state == State::Starting => {
                    self.pods[pod].state = State::Ready;
                    let app = self.pods[pod].app;
                    self.apps[app].healthy += 1;
                    self.notices.push_back(Notice::Healthier(app));
                }
                Event::Ready(_) => {}
            }
        }
    }

    fn gone(&mut self, pod: usize) {
        let Replica { app, host, .. } = self.pods[pod];
        self.pods[pod].state = State::Gone;
        let of_app = &mut self.apps[app];
        self.hosts[host].release(pod, of_app.cpu, of_app.memory);
        if let Some(count) = of_app.on.get_mut(&host) {
            *count = count.saturating_sub(1);
        }
        if of_app.in_place {
            self.make(app);
        }
        self.place_pending();
        self.tell_if_empty(host);
    }

    fn tell_if_empty(&mut self, host: usize) {
        let of_host = &self.hosts[host];
        if of_host.cordoned && of_host.pods.is_empty() {
            self.notices.push_back(Notice::Empty(host));
        }
    }

    fn make(&mut self, app: usize) {
        self.pods.push(Replica {
            app,
            host: usize::MAX,
            state: State::Pending,
        });
        let pod = self.pods.len() - 1;
        if !self.place(pod) {
            self.tally.pending += 1;
            self.pending.push_back(pod);
        }
    }

    fn place_pending(&mut self) {
        for _ in 0..self.pending.len() {
            if let Some(pod) = self.pending.pop_front()
                && !self.place(pod)
            {
                self.pending.push_back(pod);
            }
        }
    }

    /// Whether there was room for it.
    fn place(&mut self, pod: usize) -> bool {
        let app = &self.apps[self.pods[pod].app];
        let hosts = self.hosts.iter().enumerate();
        let fitting = hosts.filter(|(_, host)| host.fits(app.cpu, app.memory));
        let best = fitting.min_by_key(|(id, host)| {
            let of_app = app.on.get(id).copied().unwrap_or(0);
            (host.tainted, of_app, host.used_permille(), *id)
        });
        let Some((host, _)) = best else {
            return false;
        };
        let start = app.start;
        self.pods[pod].state = State::Starting;
        self.bind(pod, host);
        self.push(start, Event::Ready(pod));
        true
    }

    fn bind(&mut self, pod: usize, host: usize) {
        let app = &mut self.apps[self.pods[pod].app];
        self.pods[pod].host = host;
        *app.on.entry(host).or_default() += 1;
        self.hosts[host].take(pod, app.cpu, app.memory);
    }

    fn push(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        self.events
            .push(Reverse((self.now + delay, self.sequence, event)));
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
