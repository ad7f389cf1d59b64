//! Times without an API server, and what of this run goes with them.

use std::time::Duration;

use migrate_core::{Moment, Phase, Target};

use super::{Course, RunState};
use crate::Record;
use crate::report::Outage;

/// Shorter ones are no news.
const SHORTEST: Duration = Duration::from_secs(1);

/// Those that the journal tells of.
#[derive(Debug, Default)]
pub(crate) struct Outages {
    over: Vec<Outage>,
    pub(crate) lost: Option<Lost>,
}

/// One that is not over, as far as the journal knows.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub(crate) since: Moment,
    /// The member, or its node, that the run was changing then.
    pub(crate) changing: Option<String>,
    /// Until when a runner is known to have had no answer.
    until: Moment,
}

impl Outages {
    fn add(&mut self, outage: Outage) {
        if outage.length() >= SHORTEST {
            self.over.push(outage);
        }
    }
}

impl RunState {
    /// Takes note of what the next record says of the API server.
    pub(super) fn note_outage(&mut self, at: Moment, record: &Record) {
        match record {
            Record::ApiLost { since, during } => {
                // One in whose middle a runner ended goes on.
                let over = &mut self.outages.over;
                over.pop_if(|last| last.since == *since);
                self.outages.lost = Some(Lost {
                    since: *since,
                    changing: during.clone(),
                    until: at,
                });
            }
            Record::ApiAway { since, during } => {
                self.outages.lost = None;
                let outage = self.outage(*since, at, during.clone());
                self.outages.add(outage);
            }
            // Nobody asked between two runners. Where the new one finds it so still,
            // it says that next.
            Record::EpochTaken { .. } => {
                if let Some(lost) = self.outages.lost.take() {
                    let outage = self.outage(lost.since, lost.until, lost.changing);
                    self.outages.add(outage);
                }
            }
            _ => {
                if let Some(lost) = &mut self.outages.lost {
                    lost.until = at;
                }
            }
        }
    }

    /// When the API server did not answer, in order; at `now` it still does not if the
    /// journal does not say more.
    pub(crate) fn outages(&self, now: Moment) -> Vec<Outage> {
        let lost = self.outages.lost.clone();
        let lost = lost.map(|lost| self.outage(lost.since, now, lost.changing));
        let lost = lost.filter(|outage| outage.length() >= SHORTEST);
        self.outages.over.iter().cloned().chain(lost).collect()
    }

    /// A time without an API server, with `changing` at work when it began.
    pub(crate) fn outage(&self, since: Moment, until: Moment, changing: Option<String>) -> Outage {
        Outage::new(since, until, changing, &self.model)
    }

    /// The member, or a member's node, that this run changes: whatever runs
    /// there is stopped and started. Of the only one between two attempts too.
    pub(crate) fn changing(&self) -> Option<String> {
        let mut changed = self.open.values().filter(|action| {
            matches!(action.phase, Phase::Upgrade | Phase::Verify)
                && self.is_of_control_plane(&action.target)
        });
        let changed = changed.next().map(|action| action.target.name().to_owned());
        changed.or_else(|| self.only_member_at_work())
    }

    /// The only member, or its node, if its upgrade was begun and it is not verified
    /// since: that may have left no API server.
    pub(crate) fn only_member_at_work(&self) -> Option<String> {
        let mut targets = self.traces.iter().filter(|(target, trace)| {
            let is_at_work = match trace.phase {
                Some(Phase::Upgrade) => true,
                Some(Phase::Verify) => trace.course != Course::Passed,
                _ => false,
            };
            is_at_work && self.is_of_control_plane(target)
        });
        let (target, _) = targets.next().filter(|_| self.model.has_one_member())?;
        Some(target.name().to_owned())
    }

    fn is_of_control_plane(&self, target: &Target) -> bool {
        match target {
            Target::ControlPlane { .. } => true,
            Target::Node { node, .. } => self.model.hosts_member(node),
            _ => false,
        }
    }
}
