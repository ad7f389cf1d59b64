//! A successor looks at every upgrade that was begun before it begins anything.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use migrate_core::{
    Action, ActionId, ActionStatus, Cancellation, ClusterModel, IntOrPercent, Phase, Plan,
    StepContext, StepError, UpgradeComponents,
};
use migrate_executor::{Entry, Error, Executor, Journal, MemoryJournal, Record, RunOutcome, Setup};
use migrate_plan::Input;
use migrate_sim::rules::RuleSettings;

use crate::cluster::{Rig, small};
use crate::crash::{Crash, Crashing, dead};

/// Upgrades that were open when the journal was read and that nobody has looked
/// at since, and what began meanwhile.
#[derive(Clone, Default)]
struct Looks(Arc<Mutex<Watched>>);

#[derive(Default)]
struct Watched {
    left: BTreeMap<ActionId, Action>,
    most: usize,
    broken: Vec<String>,
}

impl Looks {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap()
    }

    fn begins(&self, what: &Action) {
        let mut watched = self.lock();
        let others: Vec<_> = watched.left.keys().map(ToString::to_string).collect();
        if !others.is_empty() {
            watched
                .broken
                .push(format!("{what} before a look at {others:?}"));
        }
    }

    fn note(&self, entry: &Entry) {
        let mut watched = self.lock();
        match &entry.record {
            Record::Intent { action } if action.phase == Phase::Upgrade => {
                watched.left.insert(action.id.clone(), action.clone());
            }
            Record::Input {
                input: Input::ActionEnded { id, .. },
            } => drop(watched.left.remove(id)),
            _ => {}
        }
    }
}

/// The journal of the successor.
struct Read(MemoryJournal, Looks);

#[async_trait]
impl Journal for Read {
    fn place(&self) -> String {
        self.0.place()
    }

    async fn load(&mut self) -> Result<Vec<Entry>, Error> {
        let entries = self.0.load().await?;
        entries.iter().for_each(|entry| self.1.note(entry));
        let mut watched = self.1.lock();
        watched.most = watched.left.len();
        drop(watched);
        Ok(entries)
    }

    async fn append(&mut self, entry: &Entry) -> Result<(), Error> {
        match &entry.record {
            Record::Intent { action } => self.1.begins(action),
            _ => self.1.note(entry),
        }
        self.0.append(entry).await
    }
}

/// The driver of the successor.
struct Driver(Arc<dyn UpgradeComponents>, Looks);

#[async_trait]
impl UpgradeComponents for Driver {
    async fn begin(&self, cx: &StepContext, action: &Action) -> Result<(), StepError> {
        self.1.begins(action);
        self.0.begin(cx, action).await
    }

    async fn probe(&self, cx: &StepContext, action: &Action) -> Result<ActionStatus, StepError> {
        let status = self.0.probe(cx, action).await?;
        self.1.lock().left.remove(&action.id);
        Ok(status)
    }
}

/// A cluster whose workers may go by twos, and its plan.
async fn wide() -> (Rig, (ClusterModel, Plan)) {
    let mut settings = RuleSettings::default();
    settings.widths.insert("general".to_owned(), 2);
    let mut rig = Rig::judged_by(settings, 12, small()).await;
    rig.policy.pools.max_unavailable = IntOrPercent::Int(2);
    let planned = rig.planned().await;
    (rig, planned)
}

fn setup(rig: &Rig, journal: impl Journal + 'static, planned: &(ClusterModel, Plan)) -> Setup {
    let (model, plan) = planned.clone();
    let setup = rig.setup(Box::new(journal));
    setup.with_plan(plan, model, rig.policy.clone())
}

#[tokio::test(start_paused = true)]
async fn a_successor_begins_nothing_before_every_open_upgrade_was_looked_at() {
    let (rig, planned) = wide().await;
    let journal = MemoryJournal::new();
    let mut undisturbed = Executor::open(setup(&rig, journal.clone(), &planned))
        .await
        .unwrap();
    let report = undisturbed.run(&Cancellation::new()).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    let is_upgrade = |entry: &&Entry| match &entry.record {
        Record::Intent { action } => action.phase == Phase::Upgrade,
        _ => false,
    };
    let (mut crashes, mut side_by_side) = (0, 0);
    for entry in journal.entries().iter().filter(is_upgrade) {
        let (rig, planned) = wide().await;
        let journal = MemoryJournal::new();
        let died = Arc::new(AtomicBool::new(false));
        let crash = Crash::After(entry.seq);
        let crashing = Crashing::new(journal.clone(), crash, Arc::clone(&died));
        let mut first = Executor::open(setup(&rig, crashing, &planned))
            .await
            .unwrap();
        let cancel = Cancellation::new();
        tokio::select! {
            biased;
            report = first.run(&cancel) => panic!("it ended before {crash:?}: {report:?}"),
            () = dead(&died) => {}
        }
        drop(first);
        let looks = Looks::default();
        let mut setup = setup(&rig, Read(journal, looks.clone()), &planned);
        let driver = Driver(setup.migration.upgrade, looks.clone());
        setup.migration.upgrade = Arc::new(driver);
        let mut second = Executor::open(setup).await.unwrap();
        let report = second.run(&cancel).await.unwrap();
        assert_eq!(report.outcome, RunOutcome::Done, "{crash:?}: {report}");
        assert!(rig.broken().is_empty(), "{crash:?}: {:?}", rig.broken());
        assert_eq!(looks.lock().broken, [""; 0], "{crash:?}");
        crashes += 1;
        side_by_side += usize::from(looks.lock().most > 1);
    }
    assert!(crashes >= 5 && side_by_side > 0, "{crashes} {side_by_side}");
}
