//! The thin async driver around [`machine::Drain`](crate::machine::Drain).

mod calls;
mod engine;
mod feed;
mod lens;
mod rehearse;
mod report;
mod unsure;
mod writes;

pub use rehearse::{Rehearsal, Rehearsed, Rehearser};
pub use report::DrainReport;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use kube::Client;
use migrate_core::steps::{DrainCommand, DrainCommands, DrainEvent, DrainEvents, DrainOutcome};
use migrate_core::{Event, Fence, MigratePods, Policy, StepContext, StepError, StepInput};
use migrate_kube::TokioClock;

use crate::Error;
use crate::machine::{Drain, Options, Pools};
use engine::Engine;

/// Who owns the cordons of a drain that is part of no run.
const STANDALONE: &str = migrate_kube::DRAINED_BY_HAND;

/// Drains nodes through a [`Client`].
///
/// One watch of each kind serves all nodes of a call; at most 32 evictions are
/// under way at once. Nothing is spawned: work is done while the returned
/// future or stream is polled, and dropping it leaves nothing running.
///
/// # Guarantees
/// A node's cordon does not change any more by what a drain or release of it
/// has begun once its end is told, or once a cancelled one has ended: a change
/// that is under way then is waited for, and one whose answer is lost is settled
/// by one more, each at most three deadlines of a request. Where that fails too,
/// the end of the drain says that the cordon is unknown.
///
/// # Caveats
/// Budgets are joint over the nodes of one call; two calls at once spend an
/// assumed budget twice.
///
/// Dropping it leaves cordons as they are, and what was sent may still arrive:
/// a dropped drain is continued by draining the node once more, or undone by
/// releasing it. After a deadline the API may still carry out an eviction whose
/// answer is missing; the ledger counts that pod as going for two minutes.
#[derive(Clone)]
pub struct Drainer {
    client: Client,
    policy: Policy,
    grace: Option<u32>,
    max_requests: Option<usize>,
    run: String,
    guarded: bool,
    looks: bool,
}

impl Drainer {
    /// A drainer with the default [`Policy`].
    pub fn new(client: Client) -> Self {
        Self {
            client,
            policy: Policy::default(),
            grace: None,
            max_requests: None,
            run: STANDALONE.to_owned(),
            guarded: true,
            looks: true,
        }
    }

    /// With this policy in [`drain`](Self::drain) and
    /// [`release`](Self::release): consent, assumed budgets and deadlines.
    /// [`MigratePods::migrate`] gets its own.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// With this grace in seconds, at least 1, in place of each pod's own.
    #[must_use]
    pub fn with_grace(mut self, seconds: u32) -> Self {
        self.grace = Some(seconds);
        self
    }

    /// With at most this many evictions under way at once, at least 1.
    #[must_use]
    pub fn with_max_requests(mut self, requests: usize) -> Self {
        self.max_requests = Some(requests);
        self
    }

    /// With this owner of cordons in [`drain`](Self::drain) and
    /// [`release`](Self::release). A node that another owner has cordoned is
    /// refused.
    #[must_use]
    pub fn with_run(mut self, run: impl Into<String>) -> Self {
        self.run = run.into();
        self
    }

    /// Without its budget ledger, for negative controls of tests: the API
    /// server's own budgets are all that is left.
    #[doc(hidden)]
    #[must_use]
    pub fn unguarded(mut self) -> Self {
        self.guarded = false;
        self
    }

    /// Without the last look at a pool before a cordon, for negative controls
    /// of tests.
    #[doc(hidden)]
    #[must_use]
    pub fn without_last_look(mut self) -> Self {
        self.looks = false;
        self
    }

    /// Drains `nodes` under one ledger until each is empty or cannot be.
    ///
    /// The nodes stay cordoned; [`release`](Self::release) gives them back. One that
    /// is named twice is drained once.
    ///
    /// # Caveats
    /// Another call at the same time has a ledger of its own: name all nodes in one.
    ///
    /// # Errors
    /// [`Error::Cancelled`] only, with what became of each node until then. A node
    /// that is not empty is an `Ok` report; [`DrainReport::ensure_empty`] makes an
    /// error of it.
    pub async fn drain<N: Into<String>>(
        &self,
        nodes: impl IntoIterator<Item = N>,
    ) -> Result<DrainReport, Error> {
        self.drain_in(&self.context(), nodes).await
    }

    /// [`drain`](Self::drain) with cancellation, clock and events of the
    /// caller. Cordons belong to the run of `cx`.
    ///
    /// # Errors
    /// As [`drain`](Self::drain).
    pub async fn drain_in<N: Into<String>>(
        &self,
        cx: &StepContext,
        nodes: impl IntoIterator<Item = N>,
    ) -> Result<DrainReport, Error> {
        let told = Arc::new(Mutex::new(DrainReport::default()));
        let cx = collecting(cx, &told);
        let wanted: BTreeSet<String> = nodes.into_iter().map(Into::into).collect();
        let commands: Vec<_> = wanted
            .iter()
            .map(|node| DrainCommand::Drain { node: node.clone() })
            .collect();
        let mut ended = BTreeMap::new();
        let mut engine = self.engine(&cx, &self.policy, stream::iter(commands).boxed());
        while let Some(event) = engine.next().await {
            if let DrainEvent::Drained { node, outcome, .. } = event {
                ended.insert(node, outcome);
            }
        }
        ended.extend(engine.untold());
        let told = told.lock().map(|mut told| std::mem::take(&mut *told));
        let mut report = told.unwrap_or_default();
        let untouched = DrainOutcome::Cancelled {
            cordoned: false,
            evictions: 0,
        };
        report.nodes = wanted
            .into_iter()
            .map(|node| {
                let outcome = ended.remove(&node);
                (node, outcome.unwrap_or_else(|| untouched.clone()))
            })
            .collect();
        let is_cut_off = |outcome: &DrainOutcome| matches!(outcome, DrainOutcome::Cancelled { .. });
        match report.nodes.values().any(is_cut_off) {
            true => Err(Error::Cancelled(Box::new(report))),
            false => Ok(report),
        }
    }

    /// Gives `nodes` back: each gets the cordon that it had before.
    ///
    /// # Caveats
    /// Nothing is remembered of an earlier call: pods that only these nodes can
    /// host are not waited for. One call of [`MigratePods::migrate`] for both
    /// does that.
    ///
    /// # Errors
    /// [`Error::NotReleased`] with what went wrong.
    pub async fn release<N: Into<String>>(
        &self,
        nodes: impl IntoIterator<Item = N>,
    ) -> Result<(), Error> {
        let cx = self.context();
        let commands = nodes
            .into_iter()
            .map(|node| DrainCommand::Release { node: node.into() });
        let commands: Vec<DrainCommand> = commands.collect();
        let mut engine = self.engine(&cx, &self.policy, stream::iter(commands).boxed());
        let mut errors = Vec::new();
        while let Some(event) = engine.next().await {
            if let DrainEvent::Released {
                node,
                error: Some(error),
            } = event
            {
                errors.push((node, error));
            }
        }
        match errors.is_empty() {
            true => Ok(()),
            false => Err(Error::NotReleased(errors)),
        }
    }

    fn context(&self) -> StepContext {
        StepContext::new(
            Arc::new(TokioClock::system()),
            Fence::without_lease(&self.run),
        )
    }

    fn options(&self, policy: &Policy) -> Options {
        let mut options = Options::new(policy);
        options.guarded = self.guarded;
        if let Some(seconds) = self.grace {
            options = options.with_grace(seconds);
        }
        if let Some(requests) = self.max_requests {
            options = options.with_max_requests(requests);
        }
        options
    }

    fn engine(&self, cx: &StepContext, policy: &Policy, commands: DrainCommands) -> Engine {
        let machine = Drain::new(self.options(policy));
        Engine::new(
            self.client.clone(),
            machine,
            cx.clone(),
            policy.deadlines.request,
            commands,
        )
    }
}

impl std::fmt::Debug for Drainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drainer")
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl MigratePods for Drainer {
    async fn migrate(
        &self,
        cx: &StepContext,
        input: &StepInput,
        commands: DrainCommands,
    ) -> Result<DrainEvents, StepError> {
        let mut options = self.options(&input.policy).with_dry_run(input.dry_run);
        if self.looks {
            options = options.with_pools(Pools::of(&input.model, &input.policy));
        }
        let machine = Drain::new(options).with_baseline(&input.model);
        let deadline = input.policy.deadlines.request;
        let mut engine = Engine::new(self.client.clone(), machine, cx.clone(), deadline, commands);
        engine.watch();
        if input.dry_run {
            engine = engine.dry_run();
        }
        Ok(stream::unfold(engine, |mut engine| async move {
            let event = engine.next().await?;
            Some((event, engine))
        })
        .boxed())
    }
}

/// `cx`, with every finding and eviction noted in `report`.
fn collecting(cx: &StepContext, report: &Arc<Mutex<DrainReport>>) -> StepContext {
    let (events, report) = (Arc::clone(&cx.events), Arc::clone(report));
    cx.clone().with_events(Arc::new(move |event: &Event| {
        if let Ok(mut report) = report.lock() {
            report.note(&event.kind);
        }
        events.emit(event);
    }))
}
