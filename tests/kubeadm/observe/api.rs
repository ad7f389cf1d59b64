//! A reader of the API, ten times a second: how long nobody could.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use kube::api::GetParams;
use kube::core::Request;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::figure;

const PAUSE: Duration = Duration::from_millis(100);
/// As for every other request here.
const PATIENCE: Duration = Duration::from_secs(2);
/// What a user would notice.
const NOTICED: Duration = Duration::from_secs(1);

/// Reads until it is finished.
pub(crate) struct ApiReader {
    gaps: Arc<Mutex<Gaps>>,
    began: Instant,
    task: JoinHandle<()>,
}

/// Times without a successful read.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    pub(crate) reads: u32,
    pub(crate) failed: u32,
    /// When each gap of more than a second began and how long it was.
    pub(crate) noticed: Vec<(Duration, Duration)>,
    last_success: Duration,
}

impl ApiReader {
    pub(crate) fn start(client: Client) -> Self {
        let gaps = Arc::<Mutex<Gaps>>::default();
        let began = Instant::now();
        let book = Arc::clone(&gaps);
        let task = tokio::spawn(async move {
            let mut ticks = interval(PAUSE);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let asked = timeout(PATIENCE, read(&client)).await;
                let is_success = matches!(asked, Ok(true));
                let mut gaps = book.lock().unwrap_or_else(PoisonError::into_inner);
                gaps.note(began.elapsed(), is_success);
            }
        });
        Self { gaps, began, task }
    }

    pub(crate) fn finish(self) -> Gaps {
        self.task.abort();
        let mut gaps = self.gaps.lock().unwrap_or_else(PoisonError::into_inner);
        gaps.close(self.began.elapsed());
        std::mem::take(&mut gaps)
    }
}

impl Gaps {
    fn note(&mut self, at: Duration, is_success: bool) {
        self.reads += 1;
        if is_success {
            self.close(at);
            self.last_success = at;
        } else {
            self.failed += 1;
        }
    }

    /// Ends a gap that is open.
    fn close(&mut self, at: Duration) {
        let gap = at - self.last_success;
        if gap > NOTICED {
            self.noticed.push((self.last_success, gap));
        }
    }

    pub(crate) fn longest(&self) -> Duration {
        let gaps = self.noticed.iter().map(|(_, gap)| *gap);
        gaps.max().unwrap_or_default()
    }

    pub(crate) fn total(&self) -> Duration {
        self.noticed.iter().map(|(_, gap)| *gap).sum()
    }

    pub(crate) fn print(&self, of: &str) {
        println!("API: {} of {} reads failed", self.failed, self.reads);
        for (at, gap) in &self.noticed {
            let (at, gap) = (at.as_secs_f64(), gap.as_secs_f64());
            println!("    {at:.1} s in: away for {gap:.1} s");
        }
        figure(&format!("{of}.api.failed"), self.failed.into(), "requests");
        figure(&format!("{of}.api.away"), self.total().as_secs_f64(), "s");
        figure(
            &format!("{of}.api.longest"),
            self.longest().as_secs_f64(),
            "s",
        );
    }
}

async fn read(client: &Client) -> bool {
    let request = Request::new("/api/v1/namespaces").get("default", &GetParams::default());
    let answer: Result<Value, _> = client.request(request.unwrap()).await;
    answer.is_ok()
}

#[test]
fn a_gap_lasts_from_success_to_success_or_to_the_end() {
    let at = Duration::from_millis;
    let mut gaps = Gaps::default();
    for (time, is_success) in [(100, true), (900, false), (1100, true), (2000, false)] {
        gaps.note(at(time), is_success);
    }
    assert_eq!(gaps.noticed, []);
    gaps.note(at(3100), true);
    gaps.close(at(5000));
    assert_eq!(gaps.noticed, [(at(1100), at(2000)), (at(3100), at(1900))]);
    assert_eq!((gaps.reads, gaps.failed), (5, 2));
    assert_eq!((gaps.longest(), gaps.total()), (at(2000), at(3900)));
}
