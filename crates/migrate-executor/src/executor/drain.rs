//! The link to the drainer: one call for the whole run, made again if it breaks.

use std::collections::BTreeMap;

use futures::StreamExt;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use migrate_core::spread::PodMove;
use migrate_core::steps::{DrainCommand, DrainEvent, DrainEvents};
use migrate_core::{Moment, StepError};

use super::job::{Job, Workshop};

/// Nodes handed to the drainer, and the way to it.
pub(super) struct DrainLink {
    line: Line,
    /// What it was asked for and has not answered, by node. All of it is asked
    /// again over a new line: draining and releasing go on where they stand.
    asked: BTreeMap<String, DrainCommand>,
    /// When a drain without an answer is given up: a drainer keeps its own
    /// deadline, this is for one that does not, or cannot be reached.
    give_up: BTreeMap<String, Moment>,
    /// Releases to ask for once more, and when.
    later: BTreeMap<String, Moment>,
    /// Why the last line broke.
    pub(super) trouble: Option<String>,
}

enum Line {
    /// Not needed yet, or to be made again at this moment.
    Down(Moment),
    /// Being made; commands wait in the channel.
    Dialling(UnboundedSender<DrainCommand>),
    Up(UnboundedSender<DrainCommand>, DrainEvents),
}

impl DrainLink {
    pub(super) fn new() -> Self {
        Self {
            line: Line::Down(Moment::EPOCH),
            asked: BTreeMap::new(),
            give_up: BTreeMap::new(),
            later: BTreeMap::new(),
            trouble: None,
        }
    }

    /// Asks to drain `node`, and waits for the answer until `give_up` at the
    /// longest.
    pub(super) fn drain(&mut self, node: String, give_up: Moment) {
        self.give_up.insert(node.clone(), give_up);
        self.ask(DrainCommand::Drain { node });
    }

    /// Asks to move these pods off `node`, and waits as for a drain.
    pub(super) fn move_pods(&mut self, node: String, pods: Vec<PodMove>, give_up: Moment) {
        self.give_up.insert(node.clone(), give_up);
        self.ask(DrainCommand::Move { node, pods });
    }

    /// Leaves off, with everything that was asked for and not answered: the
    /// drainer stops where it is.
    pub(super) fn hang_up(&mut self) {
        *self = Self::new();
    }

    /// Asks to give `node` back.
    pub(super) fn release(&mut self, node: String) {
        self.give_up.remove(&node);
        self.ask(DrainCommand::Release { node });
    }

    /// Asks for `command`, now or once there is a line.
    fn ask(&mut self, command: DrainCommand) {
        let (DrainCommand::Drain { node }
        | DrainCommand::Release { node }
        | DrainCommand::Move { node, .. }) = &command
        else {
            return;
        };
        self.later.remove(node);
        self.asked.insert(node.clone(), command.clone());
        if let Line::Dialling(sender) | Line::Up(sender, _) = &self.line {
            // A line that has just broken is made again, and all asked again.
            let _ = sender.unbounded_send(command);
        }
    }

    /// Asks to release `node` at `at`, since the last attempt failed.
    pub(super) fn release_later(&mut self, node: String, at: Moment) {
        self.later.insert(node, at);
    }

    /// Forgets what was asked for `node`.
    pub(super) fn settled(&mut self, node: &str) {
        self.asked.remove(node);
        self.give_up.remove(node);
        self.later.remove(node);
    }

    /// The drains that had no answer for too long.
    pub(super) fn late(&self, now: Moment) -> Vec<String> {
        let late = self.give_up.iter().filter(|(_, at)| **at <= now);
        late.map(|(node, _)| node.clone()).collect()
    }

    /// The drains that were asked for.
    pub(super) fn drains(&self) -> Vec<String> {
        self.give_up.keys().cloned().collect()
    }

    /// Sends what is due; gives the job that makes the line, if one is needed.
    pub(super) fn act(&mut self, now: Moment, shop: &Workshop) -> Option<Job> {
        let due: Vec<String> = self
            .later
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(node, _)| node.clone())
            .collect();
        for node in due {
            self.release(node);
        }
        match self.line {
            Line::Down(at) if at <= now && !self.asked.is_empty() => {
                let (sender, commands) = unbounded();
                for command in self.asked.values() {
                    // The receiver is right here.
                    let _ = sender.unbounded_send(command.clone());
                }
                self.line = Line::Dialling(sender);
                Some(shop.drainer(commands.boxed()))
            }
            _ => None,
        }
    }

    /// Takes the new line, or tries again at `retry`.
    pub(super) fn dialled(&mut self, result: Result<DrainEvents, StepError>, retry: Moment) {
        let line = std::mem::replace(&mut self.line, Line::Down(retry));
        match (result, line) {
            (Ok(events), Line::Dialling(sender)) => {
                self.trouble = None;
                self.line = Line::Up(sender, events);
            }
            (Ok(_), other) => self.line = other,
            (Err(error), _) => self.trouble = Some(error.to_string()),
        }
    }

    /// The drainer's next event; `None` when the line broke. Never returns
    /// while there is no line.
    pub(super) async fn next(&mut self) -> Option<DrainEvent> {
        match &mut self.line {
            Line::Up(_, events) => events.next().await,
            _ => std::future::pending().await,
        }
    }

    /// Takes note that the line broke.
    pub(super) fn broke(&mut self, retry: Moment) {
        self.trouble = Some("the drainer ended early".to_owned());
        self.line = Line::Down(retry);
    }

    /// When to look again without being told.
    pub(super) fn wake_at(&self) -> Option<Moment> {
        let line = match self.line {
            Line::Down(at) if !self.asked.is_empty() => Some(at),
            _ => None,
        };
        let times = self.later.values().chain(self.give_up.values());
        times.copied().chain(line).min()
    }
}
