//! A crash at every journal record, before and after it becomes durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use migrate_core::{Addon, Point};
use migrate_executor::{Entry, Error, Journal, MemoryJournal, RunOutcome};

use crate::cluster::{Rig, small};

/// Where the process dies.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Crash {
    /// Nowhere.
    Never,
    /// Before record `n` is durable: the effects of those before it are done.
    Before(u64),
    /// After record `n` is durable: its effect has not begun.
    After(u64),
}

/// A journal whose process dies at one record.
pub(crate) struct Crashing {
    inner: MemoryJournal,
    crash: Crash,
    died: Arc<AtomicBool>,
}

impl Crashing {
    /// `journal`, in a process that sets `died` at `crash` and does nothing
    /// more.
    pub(crate) fn new(journal: MemoryJournal, crash: Crash, died: Arc<AtomicBool>) -> Self {
        Self {
            inner: journal,
            crash,
            died,
        }
    }
}

#[async_trait]
impl Journal for Crashing {
    fn place(&self) -> String {
        self.inner.place()
    }

    async fn load(&mut self) -> Result<Vec<Entry>, Error> {
        self.inner.load().await
    }

    async fn append(&mut self, entry: &Entry) -> Result<(), Error> {
        match self.crash {
            Crash::Before(seq) if seq == entry.seq => {}
            Crash::After(seq) if seq == entry.seq => self.inner.append(entry).await?,
            _ => return self.inner.append(entry).await,
        }
        // Nothing of this process happens after this point: the runner is
        // dropped as soon as this flag is seen.
        self.died.store(true, Ordering::SeqCst);
        std::future::pending().await
    }
}

/// Runs until the crash, then with a new runner to the end. Returns how many
/// records there were; `None` when the run ended before the crash.
async fn crash_and_resume(crash: Crash) -> Option<u64> {
    let mut rig = Rig::start(11, small()).await;
    rig.policy.rollout.canary_soak = std::time::Duration::from_secs(120);
    let addons = [
        ("first", Point::BeforeControlPlane),
        ("cni", Point::AfterControlPlane),
        ("last", Point::AfterAll),
    ];
    rig.policy.addons = addons.map(|(name, at)| Addon::new(name, at)).to_vec();
    let planned = rig.planned().await;
    let journal = MemoryJournal::new();
    let died = Arc::new(AtomicBool::new(false));
    let crashing = Crashing::new(journal.clone(), crash, Arc::clone(&died));
    let first = rig.run(Box::new(crashing), Arc::new(rig.drainer()), &planned);
    tokio::select! {
        biased;
        report = first => {
            let report = report.unwrap();
            assert_eq!(report.outcome, RunOutcome::Done, "{crash:?}: {report}");
            return None;
        }
        () = dead(&died) => {}
    }
    let report = rig
        .run(Box::new(journal.clone()), Arc::new(rig.drainer()), &planned)
        .await
        .unwrap_or_else(|error| panic!("{crash:?}: {error}"));
    assert_eq!(report.outcome, RunOutcome::Done, "{crash:?}: {report}");
    assert!(rig.broken().is_empty(), "{crash:?}: {:?}", rig.broken());
    assert!(
        rig.unfinished_nodes().is_empty(),
        "{crash:?}: {:?}",
        rig.unfinished_nodes()
    );
    let mut begun = rig.begun();
    begun.sort();
    let all = begun.len();
    begun.dedup();
    assert_eq!(all, begun.len(), "{crash:?}: begun twice: {begun:?}");
    assert_eq!(all, 6, "{crash:?}: a member and five nodes: {begun:?}");
    Some(journal.entries().len() as u64)
}

/// Returns once the process has died.
pub(crate) async fn dead(died: &AtomicBool) {
    while !died.load(Ordering::SeqCst) {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// Dies at every record in turn, until the run is shorter than that.
async fn crash_everywhere(crash: fn(u64) -> Crash) {
    let mut survived = 0;
    for seq in 0.. {
        match crash_and_resume(crash(seq)).await {
            Some(records) => survived += u32::from(records > seq),
            None => break,
        }
    }
    assert!(survived > 50, "a run of {survived} records is none");
    println!("figure crashes_survived {survived} crashes");
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_any_record_is_survived() {
    crash_everywhere(Crash::Before).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_any_record_is_survived() {
    crash_everywhere(Crash::After).await;
}
