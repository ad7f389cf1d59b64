//! Who leads etcd, as its members say themselves.

use std::time::Duration;

use http::Request;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::etcd::pause_and_clients;
use super::load::closed;

/// A member that answers later is asked again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks every member every so many milliseconds until standard input ends, and prints
/// a line each time that one says something new: its place among `members`, its
/// version, and whether it leads.
pub(super) async fn watch(every: &str, members: &[&str]) -> Result<(), String> {
    let (pause, clients) = pause_and_clients(every, members).await?;
    let mut watches = JoinSet::new();
    for (place, client) in clients.into_iter().enumerate() {
        watches.spawn(watch_one(client, place, pause));
    }
    closed().await;
    watches.shutdown().await;
    Ok(())
}

async fn watch_one(member: kube::Client, place: usize, pause: Duration) {
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = None;
    loop {
        ticks.tick().await;
        let Ok(Some(said)) = timeout(PATIENCE, ask(&member)).await else {
            continue;
        };
        if known.as_ref() != Some(&said) {
            println!("{place} {} {}", said.0, said.1);
            known = Some(said);
        }
    }
}

/// Its version and whether it leads, by the gateway that it serves for JSON.
async fn ask(member: &kube::Client) -> Option<(String, bool)> {
    let request = Request::post("/v3/maintenance/status").body(b"{}".to_vec());
    let said: Value = member.request(request.ok()?).await.ok()?;
    let own = said["header"]["member_id"].as_str()?;
    let leads = said["leader"].as_str()? == own;
    Some((said["version"].as_str()?.to_owned(), leads))
}
