//! Save over mTLS, inspect and restore beside `etcdctl` and `etcdutl`: whole
//! processes, on one machine, in one run, taking turns.
//!
//! `cargo bench -p migrate-etcd --features tls --bench etcd_vs_etcdctl`
//!
//! Prints lines `figure NAME VALUE UNIT`: the median of `ETCD_BENCH_RUNS` (5), the
//! ratio to the tool's, and the most memory that a process of ours had. Ratios are
//! published; the memory has a bound, 24 MiB and 24 bytes for each live key, and beyond
//! it the bench fails when all is printed.
//! `ETCD_BENCH_MB` is the least size of the database (600); the disk has to hold
//! three times that.

#![allow(clippy::unwrap_used, reason = "a bench may panic")]

mod ours;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use server::Server;

/// The release of all three programs.
const VERSION: &str = "3.6.16";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mark, what, paths @ ..] = arguments.as_slice()
        && mark == ours::MARK
    {
        return ours::run(what, &paths.iter().map(PathBuf::from).collect::<Vec<_>>());
    }
    let number = |name: &str, default| {
        let value = std::env::var(name).ok();
        value.and_then(|it| it.parse().ok()).unwrap_or(default)
    };
    compare(number("ETCD_BENCH_MB", 600), number("ETCD_BENCH_RUNS", 5));
}

fn compare(megabytes: usize, runs: usize) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let server = Server::start(VERSION, folder, megabytes);
    let [etcdctl, etcdutl] = server::tools(VERSION);
    let file = folder.join("theirs.db");
    let data = |who: &str| folder.join(format!("{who}.etcd"));

    let mut save = Duel::new("save");
    let mut restore = Duel::new("restore");
    let mut inspect = Duel::new("inspect");
    let mut bytes = 0;
    for _ in 0..runs {
        let mut theirs = server.client(&etcdctl);
        save.theirs(theirs.args(["snapshot", "save"]).arg(&file));
        let ours = folder.join("ours.db");
        save.ours(&[&ours, &server.endpoint(), &server.tls()]);
        fs::remove_file(&ours).unwrap();

        let mut theirs = Command::new(&etcdutl);
        inspect.theirs(theirs.args(["snapshot", "status"]).arg(&file));
        inspect.ours(&[&file]);

        let mut theirs = Command::new(&etcdutl);
        let theirs = theirs.args(["snapshot", "restore"]).arg(&file);
        let bump = ["--bump-revision", "1000000000", "--mark-compacted"];
        restore.theirs(theirs.arg("--data-dir").arg(data("theirs")).args(bump));
        fs::remove_dir_all(data("theirs")).unwrap();
        restore.ours(&[&file, &data("ours")]);
        fs::remove_dir_all(data("ours")).unwrap();
        bytes = fs::metadata(&file).unwrap().len();
        fs::remove_file(&file).unwrap();
    }
    let keys = server.keys();
    println!("figure etcd_snapshot {:.0} MB", bytes as f64 / 1e6);
    println!("figure etcd_live_keys {keys} keys");
    let duels = [save, inspect, restore];
    for duel in &duels {
        duel.print(bytes, keys);
    }
    let over = duels
        .iter()
        .filter(|duel| duel.most_memory() > allowed(keys));
    let over: Vec<_> = over.map(|duel| duel.what).collect();
    assert!(over.is_empty(), "more memory than is allowed: {over:?}");
}

/// Bytes of memory that a process of ours may have, whatever it does with so many keys.
fn allowed(keys: u64) -> f64 {
    24.0 * MIB + 24.0 * keys as f64
}

/// One thing, done by both.
struct Duel {
    what: &'static str,
    theirs: Vec<f64>,
    ours: Vec<f64>,
    /// Most memory of each run of ours, in bytes.
    memory: Vec<f64>,
}

impl Duel {
    fn new(what: &'static str) -> Self {
        Self {
            what,
            theirs: Vec::new(),
            ours: Vec::new(),
            memory: Vec::new(),
        }
    }

    fn theirs(&mut self, command: &mut Command) {
        let (seconds, _) = timed(command);
        self.theirs.push(seconds);
    }

    fn ours(&mut self, paths: &[&Path]) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let (seconds, said) = timed(command.args([ours::MARK, self.what]).args(paths));
        self.ours.push(seconds);
        self.memory.push(said.trim().parse::<f64>().unwrap());
    }

    fn print(&self, bytes: u64, keys: u64) {
        let what = self.what;
        let [theirs, ours] = [&self.theirs, &self.ours].map(|it| median(it));
        println!("figure etcd_{what}_theirs {theirs:.2} s");
        println!("figure etcd_{what}_ours {ours:.2} s");
        println!(
            "figure etcd_{what}_ours_speed {:.0} MB/s",
            bytes as f64 / 1e6 / ours
        );
        println!(
            "figure etcd_{what}_theirs_to_ours {:.2} ratio",
            theirs / ours
        );
        let most = self.most_memory();
        println!("figure etcd_{what}_memory {:.1} MiB", most / MIB);
        let allowed = allowed(keys);
        println!("figure etcd_{what}_memory_allowed {:.1} MiB", allowed / MIB);
    }

    fn most_memory(&self) -> f64 {
        self.memory.iter().copied().fold(0.0, f64::max)
    }
}

const MIB: f64 = 1_048_576.0;

/// Seconds that it took, and what it said.
fn timed(command: &mut Command) -> (f64, String) {
    let start = tokio::time::Instant::now();
    let output = command.stdin(Stdio::null()).output().unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {told}");
    (seconds, said)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
