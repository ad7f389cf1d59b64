//! Requests to a cluster's API: reads that its storage has to confirm, and
//! writes.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Request;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::load::{Asking, Book, lock};
use super::{REQUEST_TIMEOUT, TIMEOUT};
use crate::control_plane::config;

/// How requests are made, by the names of their tallies.
const KINDS: [Kind; 4] = [
    Kind::new("api.read", false, false),
    Kind::new("api.read.kept", false, true),
    Kind::new("api.write", true, false),
    Kind::new("api.write.kept", true, true),
];

#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    writes: bool,
    /// Whether connections are kept; otherwise each request opens its own.
    keeps: bool,
}

impl Kind {
    const fn new(name: &'static str, writes: bool, keeps: bool) -> Self {
        Self {
            name,
            writes,
            keeps,
        }
    }

    /// `objects` is how many ConfigMaps writes take turns with.
    fn request(&self, count: u64, objects: u64) -> Result<Request<Vec<u8>>, http::Error> {
        if self.writes {
            let name = format!("{}.{}", self.name, count % objects);
            let body = format!(
                "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\
                 \"metadata\":{{\"name\":\"{name}\"}},\"data\":{{\"count\":\"{count}\"}}}}"
            );
            let path = format!("/api/v1/namespaces/default/configmaps/{name}");
            Request::patch(path + "?fieldManager=traffic&force=true")
                .header("Content-Type", "application/apply-patch+yaml")
                .body(body.into_bytes())
        } else {
            Request::get("/api/v1/namespaces/kube-system").body(Vec::new())
        }
    }
}

/// Asks until standard input ends, then prints the report.
pub(super) async fn load(rate: &str, kubeconfig: &str) -> Result<(), String> {
    let rate: f64 = rate.parse().map_err(|_| format!("{rate:?} is no rate"))?;
    if !(0.01..=1_000.0).contains(&rate) {
        return Err("a rate of 0.01 to 1000".to_owned());
    }
    let config = config(Path::new(kubeconfig)).await;
    let config = config.map_err(|error| error.to_string())?;
    let pause = Duration::from_secs_f64(1.0 / rate);
    let mut asking = Asking::new();
    for kind in KINDS {
        let book = asking.book(kind.name);
        let ask = ask_on(kind, pause, config.clone(), book);
        asking.requests.spawn(ask);
    }
    asking.until_closed().await
}

async fn ask_on(kind: Kind, pause: Duration, config: kube::Config, book: Arc<Mutex<Book>>) {
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // No two writes under way meet at one object: API servers would try again and
    // again there, the slowest of them in vain, which is no fault of theirs.
    let objects = (REQUEST_TIMEOUT.as_secs_f64() / pause.as_secs_f64()).ceil() as u64 + 1;
    let mut count = 0;
    let mut kept = None;
    let mut requests = JoinSet::new();
    loop {
        ticks.tick().await;
        let began = Instant::now();
        let client = if kind.keeps {
            kept.get_or_insert_with(|| kube::Client::try_from(config.clone()))
        } else {
            &kube::Client::try_from(config.clone())
        };
        let client = match client {
            Ok(client) => client.clone(),
            Err(error) => {
                let seen = Err(error.to_string());
                kept = None;
                lock(&book).note(began, seen);
                continue;
            }
        };
        let book = Arc::clone(&book);
        requests.spawn(async move {
            let ask = async {
                let request = kind.request(count, objects);
                send(&client, request.map_err(|error| error.to_string())?).await
            };
            let seen = timeout(REQUEST_TIMEOUT, ask).await;
            let seen = seen.unwrap_or_else(|_| Err(TIMEOUT.to_owned()));
            lock(&book).note(began, seen);
        });
        count += 1;
        while requests.try_join_next().is_some() {}
    }
}

/// The answer is not looked at, but it has to be one.
pub(super) async fn send(client: &kube::Client, request: Request<Vec<u8>>) -> Result<(), String> {
    match client.request_text(request).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err(format!("status {}", status.code)),
        Err(error) => Err(innermost(&error)),
    }
}

/// The cause that says most and repeats least.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
