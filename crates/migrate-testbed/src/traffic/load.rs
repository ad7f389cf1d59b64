//! The client: requests at a rate, and what became of them.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::{REQUEST_TIMEOUT, TIMEOUT, Tally, Target, TrafficReport};

/// Failures that are kept with their time.
const KEPT: usize = 1000;

/// Asks until standard input ends, then prints the report.
pub(super) async fn load(rate: &str, targets: &[&str]) -> Result<(), String> {
    Asking::begin(rate, targets)?.until_closed().await
}

/// Asks until SIGTERM, with the report of so far in a file that is written
/// anew every second: for pods, whose standard input is empty.
pub(super) async fn load_into(file: &str, rate: &str, targets: &[&str]) -> Result<(), String> {
    let mut asking = Asking::begin(rate, targets)?;
    let mut end = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut seconds = interval(Duration::from_secs(1));
    let mut has_ended = false;
    while !has_ended {
        tokio::select! {
            _ = end.recv() => {
                asking.requests.shutdown().await;
                has_ended = true;
            }
            _ = seconds.tick() => {}
        }
        // Whoever reads it finds one whole report.
        let new = format!("{file}.new");
        std::fs::write(&new, asking.report()?)
            .and_then(|()| std::fs::rename(&new, file))
            .map_err(|error| format!("writing {file}: {error}"))?;
    }
    Ok(())
}

/// Requests under way to every target.
pub(super) struct Asking {
    pub(super) requests: JoinSet<()>,
    /// What is known of every target, by its name.
    books: BTreeMap<String, Arc<Mutex<Book>>>,
    began: Instant,
}

impl Asking {
    /// Nobody is asked yet.
    pub(super) fn new() -> Self {
        Self {
            requests: JoinSet::new(),
            books: BTreeMap::new(),
            began: Instant::now(),
        }
    }

    /// Opens the book of a target.
    pub(super) fn book(&mut self, name: &str) -> Arc<Mutex<Book>> {
        let book = Arc::new(Mutex::new(Book::new(name, self.began)));
        self.books.insert(name.to_owned(), Arc::clone(&book));
        book
    }

    fn begin(rate: &str, targets: &[&str]) -> Result<Self, String> {
        let rate: f64 = rate.parse().map_err(|_| format!("{rate:?} is no rate"))?;
        let targets: Vec<Target> = targets
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()?;
        if targets.is_empty() || !(0.01..=10_000.0).contains(&rate) {
            return Err("at least one target, and a rate of 0.01 to 10000".to_owned());
        }
        let pause = Duration::from_secs_f64(1.0 / rate);
        let mut asking = Self::new();
        for target in targets {
            let book = asking.book(&target.name);
            asking.requests.spawn(ask_on(target, pause, book));
        }
        Ok(asking)
    }

    /// Asks until standard input ends, then prints what became of it.
    pub(super) async fn until_closed(mut self) -> Result<(), String> {
        closed().await;
        self.requests.shutdown().await;
        println!("{}", self.report()?);
        Ok(())
    }

    /// The report of so far, as JSON.
    fn report(&self) -> Result<String, String> {
        let books = self.books.iter();
        let report: TrafficReport = books
            .map(|(name, book)| (name.clone(), lock(book).tally()))
            .collect();
        serde_json::to_string(&report).map_err(|error| error.to_string())
    }
}

/// Waits for the end of standard input: whoever started this closes the pipe, or dies
/// and so closes it too.
pub(super) async fn closed() {
    let mut input = tokio::io::stdin();
    let mut ignored = [0; 64];
    while matches!(input.read(&mut ignored).await, Ok(read) if read > 0) {}
}

/// Begins a request every `pause`, whatever became of the earlier ones.
async fn ask_on(target: Target, pause: Duration, book: Arc<Mutex<Book>>) {
    let mut ticks = interval(pause);
    // Requests that this process was too slow to send were not sent; one that is a little
    // late delays none of the later ones.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut kept: Option<TcpStream> = None;
    let mut requests = JoinSet::new();
    loop {
        ticks.tick().await;
        let began = Instant::now();
        if target.keep_alive {
            // One after the other: they share the connection.
            let asked = timeout(REQUEST_TIMEOUT, ask_kept(&target, &mut kept)).await;
            let seen = asked.unwrap_or_else(|_| Err(TIMEOUT.to_owned()));
            if seen.is_err() {
                kept = None;
            }
            lock(&book).note(began, seen);
        } else {
            let (book, address) = (Arc::clone(&book), target.address);
            requests.spawn(async move {
                let asked = timeout(REQUEST_TIMEOUT, async {
                    let mut stream = TcpStream::connect(address).await.map_err(kind)?;
                    ask(&mut stream, "close").await
                });
                let seen = asked.await.unwrap_or_else(|_| Err(TIMEOUT.to_owned()));
                lock(&book).note(began, seen);
            });
            while requests.try_join_next().is_some() {}
        }
    }
}

async fn ask_kept(target: &Target, kept: &mut Option<TcpStream>) -> Result<(), String> {
    // A connection that the server closed while it lay idle is not a failure:
    // a client that keeps connections looks before it writes.
    let mut nothing = [0; 1];
    let is_over = kept
        .as_ref()
        .is_some_and(|stream| match stream.try_read(&mut nothing) {
            Ok(_) => true,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        });
    if is_over {
        *kept = None;
    }
    let stream = match kept {
        Some(stream) => stream,
        None => kept.insert(TcpStream::connect(target.address).await.map_err(kind)?),
    };
    ask(stream, "keep-alive").await
}

async fn ask(stream: &mut TcpStream, connection: &str) -> Result<(), String> {
    let request = format!("GET / HTTP/1.1\r\nHost: traffic\r\nConnection: {connection}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(kind)?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"ok\n") {
        let read = stream.read_buf(&mut answer).await.map_err(kind)?;
        if read == 0 {
            return Err("eof".to_owned());
        }
    }
    let head = String::from_utf8_lossy(&answer);
    match head.split(' ').nth(1) {
        Some("200") => Ok(()),
        status => Err(format!("status {}", status.unwrap_or("?"))),
    }
}

fn kind(error: std::io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "refused".to_owned(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "reset".to_owned(),
        ErrorKind::TimedOut => TIMEOUT.to_owned(),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "unreachable".to_owned(),
        other => other.to_string(),
    }
}

/// What is known of one target so far.
pub(super) struct Book {
    name: String,
    /// What became of the last request.
    last: Option<Result<(), String>>,
    began: Instant,
    last_success: Instant,
    latencies: Vec<u64>,
    tally: Tally,
}

impl Book {
    pub(super) fn new(name: &str, began: Instant) -> Self {
        Self {
            name: name.to_owned(),
            last: None,
            began,
            last_success: began,
            latencies: Vec::new(),
            tally: Tally::default(),
        }
    }

    pub(super) fn note(&mut self, began: Instant, seen: Result<(), String>) {
        if self.last.as_ref() != Some(&seen) {
            self.last = Some(seen.clone());
            let what = seen.as_ref().err().map_or("answers", |what| what);
            eprintln!("{} ms: {} {what}", millis(began - self.began), self.name);
        }
        let tally = &mut self.tally;
        tally.requests += 1;
        match seen {
            Ok(()) => {
                let now = Instant::now();
                let gap = millis(now - self.last_success);
                tally.longest_gap = tally.longest_gap.max(gap);
                self.last_success = now;
                let micros = (now - began).as_micros();
                self.latencies
                    .push(u64::try_from(micros).unwrap_or(u64::MAX));
            }
            Err(what) => {
                if tally.failed_at.len() < KEPT {
                    tally
                        .failed_at
                        .push((millis(began - self.began), what.clone()));
                }
                *tally.failures.entry(what).or_default() += 1;
            }
        }
    }

    /// What became of the requests so far.
    fn tally(&mut self) -> Tally {
        self.latencies.sort_unstable();
        let at = |part: usize| {
            let index = self.latencies.len() * part / 100;
            let last = self.latencies.len().saturating_sub(1);
            self.latencies.get(index.min(last)).copied().unwrap_or(0)
        };
        let mut tally = self.tally.clone();
        (tally.median, tally.percentile_99) = (at(50), at(99));
        let open = millis(Instant::now() - self.last_success);
        tally.longest_gap = tally.longest_gap.max(open);
        tally
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn lock(book: &Mutex<Book>) -> std::sync::MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}
