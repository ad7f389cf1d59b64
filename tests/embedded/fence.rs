//! A runner that is stopped in the middle of a request, and wakes when another
//! one holds the run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use http::{Method, Request};
use kube::Client;
use kube::client::Body;
use migrate_core::steps::{DrainCommands, DrainEvents};
use migrate_core::{
    Action, ActionStatus, Cancellation, ClusterId, ClusterModel, Fence, MigratePods, Moment,
    StepContext, StepError, StepInput, UpgradeComponents,
};
use migrate_executor::{
    AnchorState, ClusterAccess, Entry, Error, Executor, Journal, KubeAccess, MarkedNode,
    MemoryJournal, Report, RunOutcome, Setup, StopCause, adoptable_model,
};
use migrate_kube::{Claim, RunMark};
use migrate_plan::{Input, Planner};
use migrate_upgrade::SimulatedDriver;
use tokio::sync::Notify;
use tower::service_fn;

use crate::cluster::{Rig, small};

/// Where the first runner is stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Point {
    /// Before it reads a node to cordon it.
    CordonRead,
    /// Between that and the write.
    CordonWrite,
    /// Before it reads a node to give it back.
    UncordonRead,
    UncordonWrite,
    /// Before a step on a node begins.
    Begin,
}

/// What keeps the first runner from harm.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Guard {
    /// Everything.
    All,
    /// It goes on believing that it holds the run: only its writes are fenced.
    Writes,
    /// Nothing: the negative control.
    Nothing,
}

/// The way of a runner to the API server, on which it can be stopped.
#[derive(Clone)]
struct Line {
    point: Point,
    seen: Arc<Mutex<Seen>>,
    stopped: Arc<Notify>,
    go_on: Arc<Notify>,
}

#[derive(Default)]
struct Seen {
    /// Whole nodes that were read, and nodes that were patched by us, by path.
    reads: BTreeMap<String, u32>,
    patches: BTreeMap<String, u32>,
    has_stopped: bool,
    /// Changes of nodes that were accepted.
    writes: Vec<String>,
}

impl Line {
    fn new(point: Point) -> Self {
        Self {
            point,
            seen: Arc::default(),
            stopped: Arc::default(),
            go_on: Arc::default(),
        }
    }

    fn client(&self, server: &Client) -> Client {
        let (line, server) = (self.clone(), server.clone());
        let service = service_fn(move |request: Request<Body>| {
            let (line, server) = (line.clone(), server.clone());
            async move {
                if line.stops_at(&request) {
                    line.stopped.notify_one();
                    line.go_on.notified().await;
                }
                let path = request.uri().path().to_owned();
                let writes = request.method() == Method::PATCH && path.starts_with(NODES);
                let answer = server.send(request).await?;
                if writes && answer.status().is_success() {
                    line.seen.lock().unwrap().writes.push(path);
                }
                Ok::<_, kube::Error>(answer)
            }
        });
        Client::new(service, "default")
    }

    /// Whether this request is the one to be stopped at; it is the only one.
    fn stops_at(&self, request: &Request<Body>) -> bool {
        let path = request.uri().path().to_owned();
        let seen = &mut *self.seen.lock().unwrap();
        if seen.has_stopped || !path.starts_with(NODES) {
            return false;
        }
        let accept = request.headers().get("accept");
        let metadata = accept.is_some_and(|it| it.to_str().unwrap().contains("PartialObject"));
        let ours = request
            .uri()
            .query()
            .is_some_and(|it| it.contains("fieldManager"));
        let count = |of: &mut BTreeMap<String, u32>| {
            let count = of.entry(path.clone()).or_default();
            *count += 1;
            *count
        };
        let is_cordoned = seen.patches.get(&path) == Some(&1);
        let found = if request.method() == Method::GET && metadata {
            is_cordoned.then_some(Point::Begin)
        } else if request.method() == Method::GET {
            match count(&mut seen.reads) {
                1 => Some(Point::CordonRead),
                2 => Some(Point::UncordonRead),
                _ => None,
            }
        } else if ours {
            match count(&mut seen.patches) {
                1 => Some(Point::CordonWrite),
                2 => Some(Point::UncordonWrite),
                _ => None,
            }
        } else {
            None
        };
        seen.has_stopped = found == Some(self.point);
        seen.has_stopped
    }

    fn has_stopped(&self) -> bool {
        self.seen.lock().unwrap().has_stopped
    }

    fn writes(&self) -> usize {
        self.seen.lock().unwrap().writes.len()
    }
}

const NODES: &str = "/api/v1/nodes/";

/// The runner of `setup` on `line`.
fn on(rig: &Rig, line: &Line, guard: Guard, setup: Setup) -> Setup {
    let client = line.client(&rig.cluster.client());
    let mut setup = setup;
    let drainer = migrate_drain::Drainer::new(client.clone());
    let driver = SimulatedDriver::new(client.clone());
    setup.migration.migrate = match guard {
        Guard::Nothing => Arc::new(Blind(drainer)),
        _ => Arc::new(drainer),
    };
    setup.migration.upgrade = match guard {
        Guard::Nothing => Arc::new(Blind(driver)),
        _ => Arc::new(driver),
    };
    let access = KubeAccess::new(client);
    setup.access = match guard {
        Guard::All => Arc::new(access),
        _ => Arc::new(Stale {
            access,
            line: line.clone(),
            last: Mutex::default(),
        }),
    };
    setup
}

/// What became of the first runner.
struct Woken {
    /// `None` if it still goes on.
    report: Option<Report>,
    /// Changes of nodes after it woke.
    writes: usize,
}

/// Stops the first runner at `point`, has a second one adopt the run, and wakes
/// the first; then the second goes on to its end.
async fn freeze_and_wake(point: Point, guard: Guard) -> Woken {
    let rig = Rig::start(11, small()).await;
    let line = Line::new(point);
    let (model, plan) = rig.planned().await;
    let setup = rig.setup(Box::new(MemoryJournal::new()));
    let setup = on(&rig, &line, guard, setup).with_plan(plan, model, rig.policy.clone());
    let mut frozen = Executor::open(setup).await.unwrap();
    let never = Cancellation::new();
    tokio::select! {
        biased;
        report = frozen.run(&never) => panic!("{point:?}: it was not stopped: {}", report.unwrap()),
        () = line.stopped.notified() => {}
    }

    // What it began on a node ends by itself first.
    tokio::time::sleep(Duration::from_secs(300)).await;
    let access = KubeAccess::new(rig.cluster.client());
    let (model, _) = rig.planned().await;
    let model = adoptable_model(&access, model).await.unwrap();
    let plan = Planner::new(&model, &rig.policy, "v1.37.2".parse().unwrap()).plan();
    let setup = rig.setup(Box::new(Elsewhere(MemoryJournal::new())));
    // It has stamped every node, and is about to do something on the first.
    let second = Line::new(Point::UncordonWrite);
    let setup = on(&rig, &second, Guard::All, setup)
        .with_plan(plan.unwrap(), model, rig.policy.clone())
        .with_adopt(true);
    let mut successor = Executor::open(setup).await.unwrap();
    tokio::select! {
        biased;
        report = successor.run(&never) => panic!("{point:?}: {}", report.unwrap()),
        () = second.stopped.notified() => {}
    }
    // A step is refused by a node that the successor has come to.
    if point == Point::Begin {
        second.go_on.notify_one();
        finish(&mut successor).await;
    }

    let before = line.writes();
    line.go_on.notify_one();
    let woken = tokio::time::timeout(Duration::from_secs(300), frozen.run(&never)).await;
    let woken = Woken {
        report: woken.ok().map(Result::unwrap),
        writes: line.writes() - before,
    };
    drop(frozen);
    if guard != Guard::Nothing {
        if point != Point::Begin {
            second.go_on.notify_one();
            finish(&mut successor).await;
        }
        assert!(rig.broken().is_empty(), "{point:?}: {:?}", rig.broken());
        assert!(rig.unfinished_nodes().is_empty(), "{point:?}");
    }
    woken
}

async fn finish(executor: &mut Executor) {
    let report = executor.run(&Cancellation::new()).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
}

const POINTS: [Point; 5] = [
    Point::CordonRead,
    Point::CordonWrite,
    Point::UncordonRead,
    Point::UncordonWrite,
    Point::Begin,
];

#[tokio::test(start_paused = true)]
async fn who_wakes_superseded_leaves_off_and_writes_nothing() {
    for point in POINTS {
        let woken = freeze_and_wake(point, Guard::All).await;
        let report = woken.report.unwrap();
        let lost = matches!(
            &report.outcome,
            RunOutcome::Interrupted {
                cause: StopCause::AnchorLost { .. } | StopCause::Superseded { .. }
            }
        );
        assert!(lost, "{point:?}: {report}");
        assert_eq!(woken.writes, 0, "{point:?}");
    }
}

/// As if it were stopped once more right after each look at the anchor.
#[tokio::test(start_paused = true)]
async fn who_believes_to_hold_the_run_is_refused_at_each_node() {
    for point in POINTS {
        let woken = freeze_and_wake(point, Guard::Writes).await;
        assert_eq!(woken.writes, 0, "{point:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_comparison_it_writes() {
    for point in POINTS {
        let woken = freeze_and_wake(point, Guard::Nothing).await;
        assert!(woken.writes > 0, "{point:?}");
    }
}

/// Steps that tell nobody who asks: a drainer's fence is without a Lease, and a
/// driver's is the successor's.
struct Blind<T>(T);

#[async_trait]
impl MigratePods for Blind<migrate_drain::Drainer> {
    async fn migrate(
        &self,
        cx: &StepContext,
        input: &StepInput,
        commands: DrainCommands,
    ) -> Result<DrainEvents, StepError> {
        let mut cx = cx.clone();
        cx.fence.epoch = 0;
        self.0.migrate(&cx, input, commands).await
    }
}

#[async_trait]
impl UpgradeComponents for Blind<SimulatedDriver> {
    async fn begin(&self, cx: &StepContext, action: &Action) -> Result<(), StepError> {
        let mut cx = cx.clone();
        cx.fence.epoch = 2;
        self.0.begin(&cx, action).await
    }

    async fn probe(&self, cx: &StepContext, action: &Action) -> Result<ActionStatus, StepError> {
        self.0.probe(cx, action).await
    }
}

/// Shows the anchor as it was when its runner was stopped.
struct Stale {
    access: KubeAccess,
    line: Line,
    last: Mutex<AnchorState>,
}

impl Stale {
    fn remembered(&self) -> Option<AnchorState> {
        let last = self.last.lock().unwrap().clone();
        self.line.has_stopped().then_some(last)
    }

    fn remember(&self, state: AnchorState) -> AnchorState {
        *self.last.lock().unwrap() = state.clone();
        state
    }
}

#[async_trait]
impl ClusterAccess for Stale {
    async fn identity(&self) -> Result<ClusterId, StepError> {
        self.access.identity().await
    }

    async fn observe(&self, now: Moment) -> Result<ClusterModel, StepError> {
        self.access.observe(now).await
    }

    async fn anchor(&self) -> Result<AnchorState, StepError> {
        match self.remembered() {
            Some(state) => Ok(state),
            None => self.access.anchor().await.map(|it| self.remember(it)),
        }
    }

    async fn claim(&self, claim: &Claim, now: Moment) -> Result<u64, StepError> {
        self.access.claim(claim, now).await
    }

    async fn renew(
        &self,
        mark: &RunMark,
        epoch: u64,
        now: Moment,
    ) -> Result<AnchorState, StepError> {
        match self.remembered() {
            Some(state) => Ok(state),
            None => {
                let renewed = self.access.renew(mark, epoch, now).await;
                renewed.map(|it| self.remember(it))
            }
        }
    }

    async fn clear(&self, fence: &Fence) -> Result<(), StepError> {
        self.access.clear(fence).await
    }

    async fn marked_nodes(&self) -> Result<Vec<MarkedNode>, StepError> {
        self.access.marked_nodes().await
    }

    async fn take_over(&self, fence: &Fence) -> Result<Vec<String>, StepError> {
        self.access.take_over(fence).await
    }

    async fn look_at_node(&self, node: &str) -> Result<Input, StepError> {
        self.access.look_at_node(node).await
    }

    fn changes(&self, input: &StepInput) -> BoxStream<'static, Result<Vec<Input>, StepError>> {
        self.access.changes(input)
    }
}

/// A journal in another place.
struct Elsewhere(MemoryJournal);

#[async_trait]
impl Journal for Elsewhere {
    fn place(&self) -> String {
        "elsewhere".to_owned()
    }

    async fn load(&mut self) -> Result<Vec<Entry>, Error> {
        self.0.load().await
    }

    async fn append(&mut self, entry: &Entry) -> Result<(), Error> {
        self.0.append(entry).await
    }
}
