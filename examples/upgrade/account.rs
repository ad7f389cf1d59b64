//! What a journal tells about its last run, without asking the cluster.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use migrate_core::{Action, ActionId, ClusterModel, KubeVersion, Moment, Phase, Plan};
use migrate_executor::{
    FileJournal, Outage, Record, RunEnd, RunOpened, RunStep, StepResult, longest_silence,
};
use migrate_plan::{ActionResult, Input};
use serde::Serialize;

use crate::failure::Failure;
use crate::progress::human;

/// Clocks of two machines, and one that is brought into step, may be apart by less than this.
const APART: Duration = Duration::from_secs(60);

/// The last run of a journal.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Account {
    run: String,
    cluster: String,
    plan: String,
    from: String,
    to: String,
    /// Of pools that go to another version than the cluster.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    own_targets: BTreeMap<String, String>,
    opened_at: Moment,
    /// When something was last written down.
    last_at: Moment,
    /// How much of that lies between the last word of a runner and the first of the next, if
    /// that is worth a word: nobody ran it, or the clock was moved.
    #[serde(skip_serializing_if = "Duration::is_zero")]
    between_runners: Duration,
    /// Why what is told of times should not be trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<String>,
    /// The steps around the nodes that have ended.
    steps_done: Vec<String>,
    /// Members, nodes and addons that are done and verified, and a second backup,
    /// and all there are in the plan.
    targets_done: usize,
    targets: usize,
    paused: bool,
    /// Nodes that came after the plan was made and are older than its target, with their
    /// versions: the run upgrades none of them, and the verification at its end stops it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    came_meanwhile: BTreeMap<String, KubeVersion>,
    /// The API server does not answer, and what of the run takes it away.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_away: Option<Current>,
    /// What had begun and not ended.
    current: Vec<Current>,
    /// What failed and was not done since.
    failed: Vec<Failed>,
    /// Waits that are over; the longest first.
    waits: Vec<Waited>,
    /// How it ended; absent while it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<RunEnd>,
    #[serde(skip)]
    open: BTreeMap<ActionId, (Action, Moment)>,
    /// For how long nothing is written at most while it goes on.
    #[serde(skip)]
    longest_silence: Duration,
    /// Of the cluster before.
    #[serde(skip)]
    model: ClusterModel,
    /// No kubelet of the plan is older than this after it.
    #[serde(skip)]
    oldest_after: KubeVersion,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Current {
    what: String,
    since: Moment,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Failed {
    what: String,
    reason: String,
    #[serde(skip)]
    id: ActionId,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Waited {
    on: String,
    /// Members and nodes that waited for it, each once.
    targets: Vec<String>,
    total: Duration,
}

impl Account {
    /// Of the journal at `path`; `None` if there is none, or no run in it. A
    /// runner that holds it is not disturbed.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, Failure> {
        // Only a missing file is no news; one that cannot be read is.
        if !path.exists() {
            return Ok(None);
        }
        let mut account = None;
        for entry in FileJournal::read(path)? {
            match (entry.record, &mut account) {
                (Record::RunOpened(opened), account) => {
                    *account = Some(Self::new(entry.at, &opened));
                }
                (record, Some(account)) => account.take(entry.at, record),
                (_, None) => {}
            }
        }
        Ok(account.map(Self::told))
    }

    /// Whether the same command goes on with this run.
    pub(crate) fn is_unfinished(&self) -> bool {
        !matches!(
            self.end,
            Some(RunEnd::Done | RunEnd::Refused { .. } | RunEnd::Aborted)
        )
    }

    /// Told at `now`, by the clock of this machine.
    pub(crate) fn seen_at(mut self, now: Moment) -> Self {
        let (ahead, silent) = (self.last_at.since(now), now.since(self.last_at));
        let waits_for_somebody = self.paused || self.end.is_some() || self.api_away.is_some();
        self.clock = if ahead >= APART {
            Some(format!(
                "of this machine is {} behind the last entry: one of the two clocks was moved; \
                 times are those of the journal",
                human(ahead)
            ))
        } else if silent > self.longest_silence && !waits_for_somebody {
            Some(format!(
                "says that nothing was written for {}: nobody runs it, it waits for its window, \
                 or the clock was moved",
                human(silent)
            ))
        } else {
            None
        };
        self
    }

    fn new(at: Moment, opened: &RunOpened) -> Self {
        Self {
            run: opened.run.clone(),
            cluster: opened.cluster.to_string(),
            plan: opened.plan.id.clone(),
            from: opened.plan.from.to_string(),
            to: opened.plan.to.to_string(),
            own_targets: own_targets(&opened.plan),
            opened_at: at,
            last_at: at,
            between_runners: Duration::ZERO,
            clock: None,
            steps_done: Vec::new(),
            targets_done: 0,
            targets: opened.plan.targets().count(),
            paused: false,
            came_meanwhile: BTreeMap::new(),
            api_away: None,
            current: Vec::new(),
            failed: Vec::new(),
            waits: Vec::new(),
            end: None,
            open: BTreeMap::new(),
            longest_silence: longest_silence(&opened.policy),
            model: opened.model.clone(),
            oldest_after: oldest_after(&opened.plan),
        }
    }

    fn take(&mut self, at: Moment, record: Record) {
        let silent = at.since(self.last_at);
        self.last_at = self.last_at.max(at);
        // Whatever comes after the end means that it goes on.
        self.end = None;
        match record {
            Record::StepBegan { step } => self.current.push(Current {
                what: step.to_string(),
                since: at,
            }),
            Record::StepEnded { result } => {
                if let Some(step) = step_of(&result) {
                    let step = step.to_string();
                    self.current.retain(|current| current.what != step);
                    self.steps_done.push(step);
                }
            }
            Record::Intent { action } => {
                self.failed.retain(|failed| failed.id != action.id);
                self.open.insert(action.id.clone(), (action, at));
            }
            Record::Input { input } => self.told_rollout(input),
            Record::Waited { target, on, since } => self.waited(target, on, at.since(since)),
            Record::ApiLost { since, during } => {
                let on = Outage::new(since, at, during, &self.model).on();
                let what = format!("waits for {on},");
                self.api_away = Some(Current { what, since });
            }
            // Nobody asked between two runners; the new one says so if it is still away.
            Record::EpochTaken { .. } => {
                self.api_away = None;
                if silent >= APART {
                    self.between_runners += silent;
                }
            }
            Record::ApiAway { since, during } => {
                self.api_away = None;
                let outage = Outage::new(since, at, during, &self.model);
                self.waited("run".to_owned(), outage.on(), outage.length());
            }
            Record::RunEnded { end } => self.end = Some(end),
            _ => {}
        }
    }

    fn told_rollout(&mut self, input: Input) {
        match input {
            Input::Paused { paused } => self.paused = paused,
            Input::NodeSeen {
                node,
                kubelet_version,
                ..
            } => {
                let is_planned = self.model.node(&node).is_some();
                match is_planned || kubelet_version.has_reached(&self.oldest_after) {
                    true => self.came_meanwhile.remove(&node),
                    false => self.came_meanwhile.insert(node, kubelet_version),
                };
            }
            Input::NodeGone { node } => drop(self.came_meanwhile.remove(&node)),
            Input::ActionEnded { id, result } => {
                let Some((action, _)) = self.open.remove(&id) else {
                    return;
                };
                match result {
                    ActionResult::Failed { reason, .. } | ActionResult::Skipped { reason } => {
                        let what = action.to_string();
                        self.failed.push(Failed { what, reason, id });
                    }
                    _ => {
                        let is_last = matches!(action.phase, Phase::Verify | Phase::BackUp);
                        self.targets_done += usize::from(is_last);
                    }
                }
            }
            _ => {}
        }
    }

    fn waited(&mut self, target: String, on: String, length: Duration) {
        let known = self.waits.iter().position(|wait| wait.on == on);
        let index = known.unwrap_or_else(|| {
            self.waits.push(Waited {
                on,
                targets: Vec::new(),
                total: Duration::ZERO,
            });
            self.waits.len() - 1
        });
        let wait = &mut self.waits[index];
        wait.total += length;
        if !wait.targets.contains(&target) {
            wait.targets.push(target);
        }
    }

    /// Brings it into the order in which it is told.
    fn told(mut self) -> Self {
        let open = std::mem::take(&mut self.open).into_values();
        self.current.extend(open.map(|(action, since)| Current {
            what: action.to_string(),
            since,
        }));
        self.waits.sort_by_key(|wait| std::cmp::Reverse(wait.total));
        self
    }

    /// As a table.
    pub(crate) fn show(&self, out: &mut impl Write) -> Result<(), Failure> {
        writeln!(out, "run        {} on cluster {}", self.run, self.cluster)?;
        writeln!(out, "versions   {} -> {}", self.from, self.to)?;
        for (pool, own) in &self.own_targets {
            writeln!(out, "           pool {pool} -> {own}")?;
        }
        writeln!(out, "plan       {}", self.plan)?;
        let between = match self.between_runners {
            Duration::ZERO => String::new(),
            between => format!(
                "; {} of it between two runners: nobody ran it, or the clock was moved",
                human(between)
            ),
        };
        writeln!(
            out,
            "written    from {} to {} ({}{between})",
            self.opened_at,
            self.last_at,
            human(self.last_at.since(self.opened_at))
        )?;
        if let Some(clock) = &self.clock {
            writeln!(out, "clock      {clock}")?;
        }
        writeln!(out, "steps      {}", or_none(&self.steps_done))?;
        let (done, all) = (self.targets_done, self.targets);
        writeln!(out, "targets    {done} of {all} done")?;
        for current in self.api_away.iter().chain(&self.current) {
            writeln!(out, "now        {} since {}", current.what, current.since)?;
        }
        for (node, version) in &self.came_meanwhile {
            writeln!(
                out,
                "new        node {node} at {version}: it came after the plan was made, so this run \
                 does not upgrade it, and stops on it at the end"
            )?;
        }
        for failed in &self.failed {
            writeln!(out, "failed     {}: {}", failed.what, failed.reason)?;
        }
        for wait in &self.waits {
            let (total, targets) = (human(wait.total), wait.targets.len());
            writeln!(out, "waited     {total} ({targets} targets) on {}", wait.on)?;
        }
        let end = match &self.end {
            None if self.paused => "paused".to_owned(),
            None => "not ended".to_owned(),
            Some(RunEnd::Aborted) => "aborted".to_owned(),
            Some(RunEnd::Done) => "done".to_owned(),
            Some(RunEnd::Refused { cause }) => format!("refused: {cause}"),
            Some(RunEnd::Stopped { cause }) => format!("stopped, may go on: {cause}"),
            Some(_) => "ended".to_owned(),
        };
        writeln!(out, "end        {end}")?;
        Ok(())
    }
}

fn own_targets(plan: &Plan) -> BTreeMap<String, String> {
    let own = plan.own_targets();
    own.map(|(pool, own)| (pool.to_owned(), own.to_string()))
        .collect()
}

/// The oldest version that a kubelet may have after `plan`: which pool a new node is of is
/// not known here.
fn oldest_after(plan: &Plan) -> KubeVersion {
    let own = plan.own_targets().map(|(_, own)| own);
    own.chain([&plan.to]).min().unwrap_or(&plan.to).clone()
}

fn step_of(result: &StepResult) -> Option<RunStep> {
    Some(match result {
        StepResult::Prepared { .. } => RunStep::Prepare,
        StepResult::Baseline { .. } => RunStep::Baseline,
        StepResult::BackedUp { .. } => RunStep::BackUp,
        StepResult::Claimed => RunStep::Claim,
        StepResult::TakenOver { .. } => RunStep::TakeOver,
        StepResult::Verified => RunStep::FinalVerify,
        StepResult::Spread { .. } => RunStep::Spread,
        StepResult::Respread { .. } => RunStep::Respread,
        _ => return None,
    })
}

fn or_none(words: &[String]) -> String {
    if words.is_empty() {
        "none".to_owned()
    } else {
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use migrate_core::{ClusterId, ControlPlaneMember, Node, Policy};
    use migrate_executor::{Origin, StopCause};
    use migrate_plan::Planner;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const OPENED: Moment = Moment::from_millis(1_795_000_000_000);

    fn account() -> Account {
        let mut model = ClusterModel::new(ClusterId::new("c"), OPENED);
        let version: KubeVersion = "v1.36.3".parse().unwrap();
        model.control_plane = vec![ControlPlaneMember::new("cp-1", version.clone())];
        model.nodes = vec![Node::new("worker-1", version)];
        let policy = Policy::default();
        let planner = Planner::new(&model, &policy, "v1.37.2".parse().unwrap());
        let plan = planner.plan().unwrap();
        Account::new(
            OPENED,
            &RunOpened::new("run-7", Origin::Fresh, plan, policy, model),
        )
    }

    fn shown(account: Account, now: Moment) -> String {
        let mut out = Vec::new();
        account.told().seen_at(now).show(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn began(mut account: Account, at: Moment) -> Account {
        let step = RunStep::Baseline;
        account.take(at, Record::StepBegan { step });
        account
    }

    #[test]
    fn a_clock_that_was_moved_is_said() {
        let written = OPENED + HOUR;
        let said = |now: Moment| shown(began(account(), written), now);
        for now in [
            written,
            OPENED + (HOUR - Duration::from_secs(59)),
            written + 2 * APART,
        ] {
            let said = said(now);
            assert!(!said.contains("clock"), "{said}");
        }
        let behind = said(OPENED);
        let says = "clock      of this machine is 1h 00m 00s behind the last entry";
        assert!(behind.contains(says), "{behind}");
        let later = said(written + 24 * 365 * HOUR);
        let says = "clock      says that nothing was written for 8760h 00m 00s: nobody runs it,";
        assert!(later.contains(says), "{later}");
        // These wait for somebody, and may for long.
        let mut ended = began(account(), written);
        let cause = StopCause::Asked;
        ended.take(
            written,
            Record::RunEnded {
                end: RunEnd::Refused { cause },
            },
        );
        let ended = shown(ended, written + 24 * 365 * HOUR);
        assert!(!ended.contains("clock"), "{ended}");
    }

    #[test]
    fn time_between_two_runners_is_no_time_of_the_run() {
        let again = |after: Duration| {
            let mut account = began(account(), OPENED + HOUR);
            let epoch = 2;
            account.take(OPENED + HOUR + after, Record::EpochTaken { epoch });
            shown(account, OPENED + HOUR + after)
        };
        let said = again(48 * HOUR);
        let says = "(49h 00m 00s; 48h 00m 00s of it between two runners: nobody ran it, or the \
                    clock was moved)";
        assert!(said.contains(says), "{said}");
        let said = again(Duration::from_secs(30));
        assert!(said.contains("(1h 00m 30s)"), "{said}");
    }

    #[test]
    fn a_journal_whose_times_go_back_tells_no_time_before_its_begin() {
        let mut account = began(account(), OPENED + HOUR);
        let end = RunEnd::Aborted;
        account.take(Moment::from_millis(5), Record::RunEnded { end });
        let said = shown(account, OPENED + HOUR);
        assert!(said.contains("(1h 00m 00s)"), "{said}");
    }
}
