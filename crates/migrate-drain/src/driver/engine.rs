//! Feeds the machine and does what it says, while polled.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures::future::{AbortHandle, Abortable, Aborted, BoxFuture};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use kube::Client;
use migrate_core::steps::{DrainCommand, DrainCommands, DrainEvent, DrainOutcome};
use migrate_core::{EventKind, StepContext};

use super::calls::{Calls, Reply};
use super::feed::{Change, Feed, feed};
use super::lens::{Lens, seen_now};
use super::writes::{Write, Writes, Written};
use crate::machine::{Drain, Input, Output, RequestId};

/// How many changes are taken in before the machine's answers are carried out.
const BATCH: usize = 256;

/// A machine, its watches and its requests.
pub(super) struct Engine {
    machine: Drain,
    cx: StepContext,
    commands: Option<DrainCommands>,
    calls: Calls,
    /// Begun by the first command that needs it.
    feed: Option<Feed>,
    lens: Lens,
    replies: FuturesUnordered<BoxFuture<'static, Result<Reply, Aborted>>>,
    evictions: BTreeMap<RequestId, AbortHandle>,
    writes: Writes,
    ended: VecDeque<DrainEvent>,
    untold: BTreeMap<String, DrainOutcome>,
    stopped: bool,
}

/// What woke the engine.
enum Woken {
    Cancelled,
    Command(Option<DrainCommand>),
    Changed(Vec<Input>),
    Replied(Box<Result<Reply, Aborted>>),
    Written(Box<Written>),
    Time,
}

impl Engine {
    pub(super) fn new(
        client: Client,
        machine: Drain,
        cx: StepContext,
        deadline: Duration,
        commands: DrainCommands,
    ) -> Self {
        let fence = cx.fence.clone();
        Self {
            machine,
            cx,
            commands: Some(commands),
            feed: None,
            calls: Calls {
                client,
                fence,
                deadline,
                dry_run: false,
            },
            lens: Lens::default(),
            replies: FuturesUnordered::new(),
            evictions: BTreeMap::new(),
            writes: Writes::default(),
            ended: VecDeque::new(),
            untold: BTreeMap::new(),
            stopped: false,
        }
    }

    pub(super) fn dry_run(mut self) -> Self {
        self.calls.dry_run = true;
        self
    }

    /// The next event; `None` once everything has ended, or was cancelled.
    pub(super) async fn next(&mut self) -> Option<DrainEvent> {
        loop {
            if let Some(event) = self.ended.pop_front() {
                return Some(event);
            }
            let idle = self.machine.is_idle() && self.writes.is_quiet();
            if self.stopped || (self.commands.is_none() && idle) {
                return None;
            }
            match self.wait().await {
                Woken::Cancelled => self.cancel().await,
                Woken::Command(Some(command)) => self.command(command),
                Woken::Command(None) => self.commands = None,
                Woken::Changed(inputs) => inputs.into_iter().for_each(|input| self.tell(input)),
                Woken::Replied(reply) => {
                    if let Ok(reply) = *reply {
                        self.replied(reply);
                    }
                }
                Woken::Written(written) => {
                    let ended = self.writes.conclude(&self.calls, &written);
                    self.ended.extend(ended);
                    self.tell(written.input);
                }
                Woken::Time => self.tell(Input::Tick),
            }
        }
    }

    /// Ends everything, and keeps how each drain ended that is not told.
    async fn cancel(&mut self) {
        let cut_off = self.machine.cut_off();
        self.untold
            .extend(cut_off.map(|(node, outcome)| (node.to_owned(), outcome)));
        self.tell(Input::Cancel);
        self.replies.clear();
        for event in self.writes.finish().await {
            if let DrainEvent::Drained { node, outcome, .. } = event {
                self.untold.insert(node, outcome);
            }
        }
        self.stopped = true;
    }

    /// The ends of drains that a cancellation kept from being told.
    pub(super) fn untold(self) -> BTreeMap<String, DrainOutcome> {
        self.untold
    }

    async fn wait(&mut self) -> Woken {
        let wake = self.machine.wake_at().map(|at| {
            // A clock of whole milliseconds may be behind by a part of one.
            at.since(self.cx.clock.now()) + Duration::from_millis(1)
        });
        let time = async {
            match wake {
                Some(delay) => tokio::time::sleep(delay).await,
                None => std::future::pending().await,
            }
        };
        let command = async {
            match &mut self.commands {
                Some(commands) => commands.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.cx.cancel.cancelled() => Woken::Cancelled,
            Some(reply) = self.replies.next(), if !self.replies.is_empty() => {
                Woken::Replied(Box::new(reply))
            }
            Some(written) = self.writes.answer(), if !self.writes.is_quiet() => {
                Woken::Written(Box::new(written))
            }
            command = command => Woken::Command(command),
            change = changed(&mut self.feed) => {
                let mut inputs = self.lens.show(change);
                while inputs.len() < BATCH
                    && let Some(change) = changed(&mut self.feed).now_or_never()
                {
                    inputs.extend(self.lens.show(change));
                }
                Woken::Changed(inputs)
            }
            () = time => Woken::Time,
        }
    }

    /// Begins to watch, if it has not yet.
    pub(super) fn watch(&mut self) {
        let client = &self.calls.client;
        self.feed.get_or_insert_with(|| feed(client));
    }

    fn command(&mut self, command: DrainCommand) {
        match command {
            DrainCommand::Drain { node } => {
                self.watch();
                self.tell(Input::NodesAdded(vec![node]));
            }
            DrainCommand::Release { node } => self.tell(Input::Release(node)),
            DrainCommand::Move { node, pods } => {
                self.watch();
                self.tell(Input::Move { node, pods });
            }
            other => tracing::warn!(?other, "a command this version does not know"),
        }
    }

    fn replied(&mut self, reply: Reply) {
        let input = match reply {
            Reply::Input(input) => *input,
            Reply::Looked(node, Ok((pods, seen))) => {
                self.tell(seen_now(&node, seen.as_deref()));
                let pods = Ok(self.lens.all(pods));
                Input::Looked { node, pods }
            }
            Reply::Looked(node, Err(failure)) => Input::Looked {
                node,
                pods: Err(failure),
            },
        };
        if let Input::Answer { request, .. } = &input {
            self.evictions.remove(request);
        }
        self.tell(input);
    }

    fn tell(&mut self, input: Input) {
        let now = self.cx.clock.now();
        self.machine.handle(now, input);
        while let Some(output) = self.machine.poll() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Abandon { request } => {
                if let Some(handle) = self.evictions.remove(&request) {
                    handle.abort();
                }
            }
            Output::Cordon { node, room } => {
                self.writes.begin(&self.calls, node, Write::Cordon(room));
            }
            Output::Done(event) => self.ended.extend(self.writes.hold(event)),
            Output::Event(event) => {
                if let EventKind::Found { finding } = &event {
                    tracing::info!(%finding, "finding");
                }
                self.cx.emit(event);
            }
            Output::Evict {
                request,
                pod,
                grace,
                ..
            } => {
                let handle = self.send(self.calls.evict(request, pod, grace));
                self.evictions.insert(request, handle);
            }
            Output::Look { node } => drop(self.send(self.calls.look(node))),
            Output::RestoreCordon { node } => {
                self.writes.begin(&self.calls, node, Write::Restore);
            }
            Output::Waiting { node, pods } => {
                self.ended.push_back(DrainEvent::Waiting { node, pods });
            }
        }
    }

    fn send(&self, call: BoxFuture<'static, Reply>) -> AbortHandle {
        let (handle, registration) = AbortHandle::new_pair();
        self.replies
            .push(Abortable::new(call, registration).boxed());
        handle
    }
}

/// The next change; never, while nothing is watched.
async fn changed(feed: &mut Option<Feed>) -> Change {
    if let Some(feed) = feed
        && let Some(change) = feed.next().await
    {
        return change;
    }
    std::future::pending().await
}
