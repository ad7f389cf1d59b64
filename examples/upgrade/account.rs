//! What a journal tells about its last run, without asking the cluster.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use migrate_core::{Action, ActionId, ClusterModel, KubeVersion, Moment, Phase, Plan};
use migrate_executor::{FileJournal, Outage, Record, RunEnd, RunOpened, RunStep, StepResult};
use migrate_plan::{ActionResult, Input};
use serde::Serialize;

use crate::failure::Failure;
use crate::progress::human;

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
            model: opened.model.clone(),
            oldest_after: oldest_after(&opened.plan),
        }
    }

    fn take(&mut self, at: Moment, record: Record) {
        self.last_at = at;
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
            Record::EpochTaken { .. } => self.api_away = None,
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
        writeln!(
            out,
            "written    from {} to {} ({})",
            self.opened_at,
            self.last_at,
            human(self.last_at.since(self.opened_at))
        )?;
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
