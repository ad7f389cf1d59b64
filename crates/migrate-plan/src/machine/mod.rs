//! The rollout in ids: no names, no strings, no allocation per event.
//!
//! [`Rollout`](crate::Rollout) puts names on it for whoever acts; the planner
//! drives it as it is.
//!
//! Decisions are taken as soon as their cause is known: an input first fires
//! the timers that were due before it, each at its own time, then changes the
//! state, then begins whatever may begin. What was begun waits to be fetched.
//! So the sequence of begun actions depends on the sequence of inputs and their
//! times alone, not on when anybody fetched it. The replay law rests on this.

mod abort;
mod dispatch;
mod ending;
mod inspect;
mod lanes;
mod layout;
mod lost;
mod nodes;
mod pace;
mod queue;
mod room;
mod runner;
mod state;
mod surge;
mod tasks;
mod window;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use migrate_core::{Moment, Phase};

use crate::intern::Interned;
pub(crate) use abort::ABORTED;
pub(crate) use ending::Ended;
pub(crate) use inspect::Obstacle;
use layout::Layout;
pub(crate) use layout::{PoolRules, RoomSpec, SlotSpec, Spec, TaskSpec};
pub use lost::NODE_GONE;
use nodes::{Node, READY};
pub(crate) use pace::time_of;
use queue::{Links, NONE, Queue};
pub(crate) use state::{Cause, Emit, Halt, Mode, State, next_phase};
use window::Window;

/// A pool's share of the state.
#[derive(Clone, Debug)]
struct Pool {
    /// Nodes that are away, whatever the cause.
    away: u32,
    /// Slots in flight. The nodes of all of them are away that are not behind
    /// replacements.
    in_flight: u32,
    /// How many of these have, or get, replacements.
    surging: u32,
    /// Places of its surge that slots have kept which were given up.
    kept: u32,
    /// Slots that nothing is known to block.
    ready: Queue,
    /// Slots that do not fit into what is left of the window.
    later: Queue,
    /// Slots of another zone than the one in work; none while nothing is in flight.
    elsewhere: Queue,
    /// The zone in work, while a slot is in flight.
    zone: u32,
    /// Slots that were verified after the canary.
    verified: u32,
    /// Lanes whose budget has something free, by the first slot in them.
    open: BinaryHeap<Reverse<(u32, u32)>>,
    /// Waiting slots whose node somebody else cordoned, or has its replacement: they
    /// take no further slot of the pool. Few or none.
    cordoned: BTreeSet<u32>,
    gate: Gate,
    dirty: bool,
}

/// Whether the slots of a pool may begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Gate {
    /// One has to go alone first, and there is none that could.
    Wanted,
    /// This one goes alone.
    Canary(u32),
    Open,
}

/// Which slots may leave their gates.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Stage {
    /// None: members are to be done.
    Members,
    /// Those of control-plane nodes.
    ControlPlane,
    /// All.
    Workers,
}

/// A budget's share of the state, or a room's.
#[derive(Clone, Copy, Debug)]
struct Account {
    /// Disruptions allowed at once, ours included; what a room has to spare.
    allowed: u32,
    /// Taken by drains in flight, or by nodes that are away.
    held: u32,
    /// First of its lanes that somebody waits in.
    lane: u32,
}

/// What is taken of a room. Its account has the same, as much as there is.
#[derive(Clone, Copy, Debug, Default)]
struct Room {
    /// By nodes that are away.
    taken: u64,
    /// How many of these are in flight.
    flying: u32,
}

/// Slots of one pool that wait for one budget, or of one size that wait for one room.
#[derive(Clone, Copy, Debug)]
struct Lane {
    budget: u32,
    pool: u32,
    /// With less than that free none of them goes.
    least: u32,
    /// To be tested again as soon as the pool has a slot.
    waiting: Queue,
    /// Tested since the budget was last released.
    tried: Queue,
    /// Listed in its pool's `open`.
    open: bool,
    /// How many of those that waited here were tested since the budget was last released, and
    /// needed more, of it or of another.
    misses: u32,
    /// Listed at its budget, and the next lane there.
    listed: bool,
    next: u32,
}

/// How long it stands still at the most, waits for windows in between included: with
/// short windows policy's patience may be many years, and each opening is one step.
const LONGEST_STANDSTILL: Duration = Duration::from_secs(366 * 86_400);

/// The machine. See the [module documentation](self).
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    layout: Arc<Layout>,
    now: Moment,
    mode: Mode,
    paused: bool,
    /// What has begun is brought to its end, and nothing else begins any more.
    aborting: bool,
    states: Vec<State>,
    attempts: Vec<u8>,
    reasons: BTreeMap<u32, String>,
    /// The member whose turn it is.
    member: u32,
    /// The task whose turn is next.
    task: u32,
    /// Tasks that are neither done nor given up.
    tasks_left: u32,
    stage: Stage,
    /// Control-plane nodes that are neither done nor given up, where they come
    /// before the workers.
    control_plane_left: u32,
    /// Slots that are neither done nor given up.
    slots_left: u32,
    /// The slot whose node the runner's own pod is on.
    runner: Option<u32>,
    /// Canaries between their verification and its confirmation, and when each
    /// has soaked.
    soaking: BTreeMap<u32, Moment>,
    /// Slots in flight that have, or get, replacements.
    surged: BTreeSet<u32>,
    /// Slots that were begun and given up.
    failed: u32,
    /// Targets that had failed after their drain when the rollout was started
    /// again.
    tried_before: BTreeSet<u32>,
    /// How often slots went the whole way again after their upgrade was begun.
    made_anew: BTreeMap<u32, u8>,
    nodes: Vec<Node>,
    /// Nodes that do not begin: a person would have to agree to move pods of theirs.
    asking: BTreeSet<u32>,
    slot_nodes: Vec<u32>,
    /// Further nodes that came in place of a slot's node, still to be verified.
    further: BTreeMap<u32, Vec<u32>>,
    pools: Vec<Pool>,
    accounts: Vec<Account>,
    lanes: Vec<Lane>,
    /// By the number of a lane in the layout: one more than its place in `lanes`, where it
    /// is from when somebody first waits in it. Hardly any lane ever is.
    lane_ids: Vec<u32>,
    rooms: Vec<Room>,
    /// What each drain in flight took of each budget it needs.
    taken: Vec<u32>,
    links: Links,
    due: Queue,
    dirty: BinaryHeap<Reverse<u32>>,
    timers: BinaryHeap<Reverse<(Moment, u32)>>,
    /// Pods displaced so far have had their time then.
    paced_until: Option<Moment>,
    /// The pool whose turn it is to begin a drain, where these have a pace.
    turn: u32,
    stalled_since: Option<Moment>,
    /// When it began to stand still, waits for a window in between or not.
    still_from: Option<Moment>,
    /// How long it had stood still before, with waits for a window in between.
    stalled_for: Duration,
    window: Window,
    /// Targets that are neither done nor given up.
    remaining: u32,
    /// Targets between the begin of their first phase and the end of their last.
    busy: u32,
    out: VecDeque<Emit>,
}

impl Machine {
    pub(crate) fn new(spec: &Spec, interned: &Interned<'_>) -> Self {
        let layout = Layout::new(spec, interned);
        let slots = layout.slots.len();
        let targets = spec.members as usize + slots + spec.tasks.len();
        let pool = Pool {
            away: 0,
            in_flight: 0,
            surging: 0,
            kept: 0,
            ready: Queue::EMPTY,
            later: Queue::EMPTY,
            elsewhere: Queue::EMPTY,
            zone: NONE,
            verified: 0,
            open: BinaryHeap::new(),
            cordoned: BTreeSet::new(),
            gate: Gate::Wanted,
            dirty: false,
        };
        let mut machine = Self {
            now: Moment::EPOCH,
            mode: Mode::Idle,
            paused: false,
            aborting: false,
            states: vec![State::Gated; targets],
            attempts: vec![0; targets],
            reasons: BTreeMap::new(),
            member: 0,
            task: 0,
            tasks_left: u32::try_from(spec.tasks.len()).unwrap_or(u32::MAX),
            stage: Stage::Members,
            control_plane_left: layout.control_plane.map_or(0, |pool| {
                u32::try_from(layout.slots_of(pool).len()).unwrap_or(NONE)
            }),
            slots_left: u32::try_from(slots).unwrap_or(u32::MAX),
            runner: (0..)
                .zip(&spec.slots)
                .find_map(|(slot, spec)| spec.hosts_runner.then_some(slot)),
            soaking: BTreeMap::new(),
            surged: BTreeSet::new(),
            failed: 0,
            tried_before: BTreeSet::new(),
            made_anew: BTreeMap::new(),
            nodes: Vec::with_capacity(spec.node_pools.len()),
            asking: BTreeSet::new(),
            slot_nodes: layout.slots.iter().map(|slot| slot.node).collect(),
            further: BTreeMap::new(),
            pools: vec![pool; layout.widths.len()],
            accounts: (interned.budgets.iter().map(|budget| budget.allowed))
                .chain(layout.rooms.iter().copied())
                .map(|allowed| Account {
                    allowed,
                    held: 0,
                    lane: NONE,
                })
                .collect(),
            rooms: vec![Room::default(); layout.rooms.len()],
            lanes: Vec::new(),
            lane_ids: vec![0; layout.lanes],
            taken: vec![0; layout.needs_len()],
            links: Links::new(slots),
            due: Queue::EMPTY,
            dirty: BinaryHeap::new(),
            timers: BinaryHeap::new(),
            paced_until: None,
            turn: 0,
            stalled_since: None,
            still_from: None,
            stalled_for: Duration::ZERO,
            window: Window::UNSEEN,
            remaining: u32::try_from(targets).unwrap_or(u32::MAX),
            busy: 0,
            out: VecDeque::new(),
            layout: Arc::new(layout),
        };
        for (id, &pool) in (0..).zip(&spec.node_pools) {
            let (ready, cordoned) = spec.node_states[id as usize];
            machine.add_node(pool, id, ready, cordoned);
        }
        for (slot, spec) in (0..).zip(&spec.slots) {
            machine.nodes[spec.node as usize].slot = slot;
        }
        machine
    }

    /// The next thing to do.
    pub(crate) fn pop(&mut self) -> Option<Emit> {
        self.out.pop_front()
    }

    /// When a retry, the end of a soak time, a window or the next drain is due.
    pub(crate) fn timer_at(&self) -> Option<Moment> {
        let timers = [self.target_timer_at(), self.window_opens_at()];
        let timers = timers.into_iter().chain([self.pace_ends_at()]);
        timers.flatten().min()
    }

    fn target_timer_at(&self) -> Option<Moment> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// When something will happen without any input.
    pub(crate) fn wake_at(&self) -> Option<Moment> {
        let retry = self.timer_at();
        let stall = self.stalled_since.map(|since| {
            let left = self.layout.patience.saturating_sub(self.stalled_for);
            since + left
        });
        let stall = stall.filter(|at| *at <= self.window_closes_at());
        let year = self.still_from.map(|from| from + LONGEST_STANDSTILL);
        [retry, stall, year].into_iter().flatten().min()
    }

    /// Lets time pass. A clock that goes back is taken to stand still.
    pub(crate) fn advance(&mut self, now: Moment) {
        while let Some(at) = self.wake_at().filter(|at| *at <= now) {
            self.now = self.now.max(at);
            self.fire();
            self.dispatch();
        }
        self.now = self.now.max(now);
    }

    /// Begins, or goes on after a stop: what failed is tried again.
    pub(crate) fn start(&mut self) {
        if self.aborting {
            return;
        }
        match self.mode {
            Mode::Idle | Mode::Stopped(_) => self.mode = Mode::Running,
            Mode::Running | Mode::Finished => return,
        }
        self.open_window();
        for target in 0..self.targets() {
            if let State::Failed(phase) = self.states[target as usize] {
                self.attempts[target as usize] = 0;
                if !matches!(phase, Phase::Provision | Phase::Drain) {
                    self.tried_before.insert(target);
                }
                match self.slot_of(target) {
                    // What had stopped it is another machine by now: its place is
                    // free at once, also in a pause.
                    Some(slot) if self.is_moot(target, phase) => {
                        self.moot(slot, phase, NODE_GONE);
                    }
                    _ => self.become_due(target, phase),
                }
            }
        }
        self.dispatch();
    }

    pub(crate) fn pause(&mut self, paused: bool) {
        self.paused = paused;
        self.dispatch();
    }

    pub(crate) fn cancel(&mut self) {
        if !self.aborting {
            self.halt(Halt::Cancelled);
        }
    }

    /// Takes note of how many disruptions `budget` allows now.
    ///
    /// While drains of ours hold some, the number shows what they have spent
    /// already but not what they are about to spend. So it can lie by as much
    /// as we hold, and moves our figure only where it proves it wrong.
    pub(crate) fn budget_seen(&mut self, budget: u32, allowed: u32) {
        let account = &mut self.accounts[budget as usize];
        let before = *account;
        let most = allowed.saturating_add(account.held);
        account.allowed = account.allowed.clamp(allowed, most);
        if account.free() > before.free() {
            self.open_lanes(budget);
        }
        self.dispatch();
    }

    /// The one place where a state changes.
    fn set(&mut self, target: u32, to: State) {
        let from = std::mem::replace(&mut self.states[target as usize], to);
        self.busy = self.busy + u32::from(to.is_busy()) - u32::from(from.is_busy());
        self.remaining = self.remaining + u32::from(from.is_over()) - u32::from(to.is_over());
        if self.task_of(target).is_some() {
            let ended = u32::from(to.is_over());
            self.tasks_left = self.tasks_left + u32::from(from.is_over()) - ended;
            if !to.is_busy() {
                // Nothing was let begin beside it.
                self.mark_all_dirty();
            }
        }
        if let Some(slot) = self.slot_of(target) {
            self.slots_left = self.slots_left + u32::from(from.is_over()) - u32::from(to.is_over());
            if self.runner == Some(slot) && from.is_busy() && !to.is_busy() {
                // None of its group was let begin beside it.
                self.mark_all_dirty();
            }
            if self.layout.is_control_plane(slot) {
                self.control_plane_left =
                    self.control_plane_left + u32::from(from.is_over()) - u32::from(to.is_over());
                if self.stage == Stage::Workers && self.control_plane_left == 0 {
                    self.mark_all_dirty();
                }
            }
            self.refresh_cordoned(slot);
        }
    }

    pub(crate) fn targets(&self) -> u32 {
        self.layout.members + self.slots() + self.tasks()
    }

    /// The slot of `target`; members and tasks have none.
    pub(crate) fn slot_of(&self, target: u32) -> Option<u32> {
        let slot = target.checked_sub(self.layout.members)?;
        (slot < self.slots()).then_some(slot)
    }

    fn slots(&self) -> u32 {
        u32::try_from(self.layout.slots.len()).unwrap_or(u32::MAX)
    }

    fn is_canary(&self, slot: u32) -> bool {
        self.pools[self.layout.pool_of(slot) as usize].gate == Gate::Canary(slot)
    }

    /// Whether nothing of its own node keeps `slot` from beginning.
    fn is_ready(&self, slot: u32) -> bool {
        let node = self.slot_nodes[slot as usize];
        self.nodes[node as usize].has(READY) && !self.asking.contains(&node)
    }
}

impl Account {
    fn free(self) -> u32 {
        self.allowed.saturating_sub(self.held)
    }

    /// So much is held, or all that there is.
    fn hold_at_most(&mut self, taken: u64) {
        self.held = u32::try_from(taken).map_or(self.allowed, |taken| taken.min(self.allowed));
    }

    /// How much of it a drain of `pods` of its pods takes: it evicts as many
    /// at once as the budget allows, and needs one even where none is allowed.
    fn share(self, pods: u32) -> u32 {
        pods.min(self.allowed.max(1))
    }
}
