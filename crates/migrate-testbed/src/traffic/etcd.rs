//! A key written to etcd again and again, as an API server would: through any
//! member, the next one when one fails.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Request;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::REQUEST_TIMEOUT;
use super::api::{config, send};
use super::load::{Asking, Book, Books, lock};

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
    let every: u64 = every
        .parse()
        .map_err(|_| format!("{every:?} are no milliseconds"))?;
    if members.is_empty() || every == 0 {
        return Err("at least one member, and at least a millisecond".to_owned());
    }
    let mut clients = Vec::new();
    for member in members {
        let client = kube::Client::try_from(config(member).await?);
        clients.push(client.map_err(|error| format!("{member}: {error}"))?);
    }
    let book = Arc::new(Mutex::new(Book::new(NAME, Instant::now())));
    let books = Books::from([(NAME.to_owned(), Arc::clone(&book))]);
    let mut asking = JoinSet::new();
    asking.spawn(write_on(clients, Duration::from_millis(every), book));
    Asking {
        requests: asking,
        books,
    }
    .until_closed()
    .await
}

async fn write_on(members: Vec<kube::Client>, pause: Duration, book: Arc<Mutex<Book>>) {
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut members = members.iter().cycle().peekable();
    loop {
        ticks.tick().await;
        let began = Instant::now();
        let write = async {
            let mut last = "timeout".to_owned();
            // The member that took the last one is asked first.
            while let Some(member) = members.peek() {
                let asked = timeout(ONE_MEMBER, write(member)).await;
                match asked.unwrap_or_else(|_| Err("timeout".to_owned())) {
                    Ok(()) => return Ok(()),
                    Err(said) => last = said,
                }
                members.next();
                sleep(PAUSE).await;
            }
            Err(last)
        };
        let seen = timeout(REQUEST_TIMEOUT, write).await;
        let seen = seen.unwrap_or_else(|_| Err("timeout".to_owned()));
        lock(&book).note(began, seen);
    }
}

async fn write(member: &kube::Client) -> Result<(), String> {
    let request = Request::post("/v3/kv/put").body(BODY.to_vec());
    send(member, request.map_err(|error| error.to_string())?).await
}
