//! The load program counts what it is there to count.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use migrate_testbed::{Target, TrafficReport, eventually};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kube-migrate-traffic");

/// Ends its process however the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn start(words: &[String]) -> Running {
    let mut command = Command::new(PROGRAM);
    command
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Running(command.spawn().unwrap())
}

/// The address of a port that nobody else is given meanwhile.
fn free() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[tokio::test]
async fn a_server_that_is_away_is_counted_and_one_that_stays_is_not() {
    let (stays, goes) = (free(), free());
    let serve = |address: SocketAddr| start(&["serve".into(), address.port().to_string()]);
    let staying = serve(stays);
    let mut going = serve(goes);
    let serves = async |address| {
        let within = Duration::from_secs(20);
        eventually("a server", within, || async move {
            get(address, "/").map(|_| true)
        })
        .await
        .unwrap();
    };
    serves(stays).await;
    serves(goes).await;

    let mut load = start(&[
        "load".to_owned(),
        "50".to_owned(),
        Target::new("stays", stays).to_string(),
        Target::new("stays-kept", stays).kept_alive().to_string(),
        Target::new("goes", goes).to_string(),
        Target::new("goes-kept", goes).kept_alive().to_string(),
    ]);
    let mut says = BufReader::new(load.0.stderr.take().unwrap()).lines();
    let mut until = |wanted: [&str; 2]| {
        let mut open = wanted.to_vec();
        while !open.is_empty() {
            let line = says.next().unwrap().unwrap();
            open.retain(|words| !line.ends_with(words));
        }
    };
    until(["goes answers", "goes-kept answers"]);
    going.0.kill().unwrap();
    going.0.wait().unwrap();
    until(["goes refused", "goes-kept refused"]);
    let _again = serve(goes);
    until(["goes answers", "goes-kept answers"]);

    drop(load.0.stdin.take());
    let mut text = String::new();
    load.0
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert!(load.0.wait().unwrap().success());
    let report: TrafficReport = serde_json::from_str(&text).unwrap();
    for name in ["stays", "stays-kept"] {
        let tally = &report[name];
        assert!(tally.requests > 0 && tally.failed() == 0, "{name}: {tally}");
        assert!(
            tally.median > 0 && tally.median <= tally.percentile_99,
            "{name}: {tally}"
        );
    }
    for name in ["goes", "goes-kept"] {
        let tally = &report[name];
        assert!(
            tally
                .failures
                .get("refused")
                .is_some_and(|&count| count > 0),
            "{name}: {tally}"
        );
        assert!(tally.longest_gap >= 20, "{name}: {tally}");
        assert_eq!(tally.failed(), tally.failed_at.len() as u64);
        assert!(tally.requests > tally.failed(), "{name}: {tally}");
    }
    drop(staying);
}

#[tokio::test]
async fn a_load_without_input_keeps_its_report_in_a_file_until_it_is_ended() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    // Accepts and says nothing.
    let silent = Target::new("silent", listener.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report");
    let mut load = start(&[
        "load-into".to_owned(),
        file.display().to_string(),
        "50".to_owned(),
        silent.to_string(),
    ]);
    drop(load.0.stdin.take());
    let within = Duration::from_secs(20);
    eventually("a time-out in the file", within, || async {
        let text = std::fs::read(&file)?;
        let report: TrafficReport = serde_json::from_slice(&text)?;
        Ok::<_, std::io::Error>(report["silent"].failures.contains_key("timeout"))
    })
    .await
    .unwrap();
    let pid = load.0.id().to_string();
    assert!(Command::new("kill").arg(pid).status().unwrap().success());
    assert!(load.0.wait().unwrap().success());
}

#[test]
fn a_server_that_is_asked_to_end_answers_what_is_open_once_more() {
    let address = free();
    let mut server = start(&["serve".into(), address.port().to_string()]);
    let mut stream = loop {
        if let Ok(stream) = TcpStream::connect(address) {
            break stream;
        }
        std::thread::yield_now();
    };
    let pid = server.0.id().to_string();
    assert!(Command::new("kill").arg(pid).status().unwrap().success());
    while TcpStream::connect(address).is_ok() {
        std::thread::yield_now();
    }
    write!(stream, "GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("Connection: close"), "{answer}");
    assert!(server.0.wait().unwrap().success());
}

#[test]
fn a_server_that_is_held_ends_with_whoever_holds_it() {
    let address = free();
    let mut server = start(&["serve-held".into(), address.port().to_string()]);
    while get(address, "/").is_err() {
        std::thread::yield_now();
    }
    drop(server.0.stdin.take());
    assert!(server.0.wait().unwrap().success());
}

#[test]
fn readiness_comes_when_told() {
    let address = free();
    let _server = start(&["serve".into(), address.port().to_string(), "3600".into()]);
    let answer = loop {
        if let Ok(answer) = get(address, "/ready") {
            break answer;
        }
        std::thread::yield_now();
    };
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(get(address, "/").unwrap().starts_with("HTTP/1.1 200"));
}
