//! A key written to etcd again and again, as an API server would: through any
//! member, the next one when one fails.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Request;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::api::send;
use super::load::{Asking, Book, lock};
use super::{REQUEST_TIMEOUT, TIMEOUT};
use crate::control_plane::client;

/// The name of the tally.
const NAME: &str = "etcd.write";
/// How long one member may take before the next one is asked.
const ONE_MEMBER: Duration = Duration::from_millis(500);
/// Before the next member is asked.
const PAUSE: Duration = Duration::from_millis(20);
/// The key `/testbed/traffic` with the value `x`, as etcd's JSON has it; every
/// write is a revision, whatever the value.
const BODY: &[u8] = br#"{"key":"L3Rlc3RiZWQvdHJhZmZpYw==","value":"eA=="}"#;

/// Writes every so many milliseconds until standard input ends, then prints
/// the report. A write has failed when no member took it within two seconds.
pub(super) async fn load(every: &str, members: &[&str]) -> Result<(), String> {
    let (pause, clients) = pause_and_clients(every, members).await?;
    let mut asking = Asking::new();
    let book = asking.book(NAME);
    asking.requests.spawn(write_on(clients, pause, book));
    asking.until_closed().await
}

/// What is said in words: how many milliseconds to pause, and the members to ask.
pub(super) async fn pause_and_clients(
    every: &str,
    members: &[&str],
) -> Result<(Duration, Vec<kube::Client>), String> {
    let every: u64 = every
        .parse()
        .map_err(|_| format!("{every:?} are no milliseconds"))?;
    if members.is_empty() || every == 0 {
        return Err("at least one member, and at least a millisecond".to_owned());
    }
    let mut clients = Vec::new();
    for member in members {
        let client = client(Path::new(member)).await;
        clients.push(client.map_err(|error| error.to_string())?);
    }
    Ok((Duration::from_millis(every), clients))
}

async fn write_on(members: Vec<kube::Client>, pause: Duration, book: Arc<Mutex<Book>>) {
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut members = members.iter().cycle().peekable();
    loop {
        ticks.tick().await;
        let began = Instant::now();
        let write = async {
            // They never end; the one that took the last write is asked first.
            while let Some(member) = members.peek() {
                if let Ok(Ok(())) = timeout(ONE_MEMBER, write(member)).await {
                    break;
                }
                members.next();
                sleep(PAUSE).await;
            }
        };
        let written = timeout(REQUEST_TIMEOUT, write).await;
        lock(&book).note(began, written.map_err(|_| TIMEOUT.to_owned()));
    }
}

async fn write(member: &kube::Client) -> Result<(), String> {
    let request = Request::post("/v3/kv/put").body(BODY.to_vec());
    send(member, request.map_err(|error| error.to_string())?).await
}
