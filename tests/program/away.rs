//! The program where the API server does not answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use migrate_core::{Clock, ClusterId, ClusterModel, ControlPlaneMember, Moment, Node, Policy};
use migrate_executor::{Entry, FileJournal, Journal, Origin, Record, RunOpened};
use migrate_kube::TokioClock;
use migrate_plan::{Input, Planner};
use serde_json::{Value, json};

use crate::cluster::kubeconfig;
use crate::{demo, program, text};

#[test]
fn a_file_that_is_not_there_is_named_with_its_flag() {
    let away = Away::new();
    let refused = |command: &mut Command, says: &[&str]| {
        let output = command.output().unwrap();
        let error = text(&output.stderr);
        assert!(!output.status.success(), "{error}");
        for say in says {
            assert!(error.contains(say), "{say}: {error}");
        }
    };
    let mut command = program();
    command.args(["status", "--context", "c"]);
    command.env("KUBECONFIG", "/nowhere/kubeconfig");
    let cure = "--kubeconfig or $KUBECONFIG";
    refused(&mut command, &["/nowhere/kubeconfig", cure, "--context"]);

    let mut command = program();
    command.args(["status", "--in-cluster"]);
    command.env_remove("KUBERNETES_SERVICE_HOST");
    refused(&mut command, &["--in-cluster", "in a pod"]);

    let journal = away.path("none.journal");
    let mut command = away.command(&journal);
    refused(command.arg("status"), &["none.journal", "with --journal"]);
    let mut command = away.upgrade(&journal, &["--policy", "none.toml"]);
    refused(&mut command, &["none.toml", "name a text file"]);
}

/// A journal tells its run also where the cluster does not answer.
#[test]
fn status_tells_what_the_journal_knows() {
    let away = Away::new();
    let folder = away.folder.path();
    let journal = away.path("demo.journal");
    let ran = demo(folder, &["--journal", journal.to_str().unwrap()]);
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    let status = |arguments: &[&str]| {
        let mut command = away.command(&journal);
        command.arg("status").args(arguments).output().unwrap()
    };
    let output = status(&[]);
    let (said, error) = (text(&output.stdout), text(&output.stderr));
    let server = format!("the API server http://{} is out of reach", away.address);
    let names_it = error.contains(&server) && error.contains("correct the address");
    assert!(!output.status.success() && names_it, "{error}");
    for says in [
        "run        demo-3",
        "steps      prepare, baseline, back up, claim",
        "targets    19 of 19 done",
        "waited     ",
        "end        done",
    ] {
        assert!(said.contains(says), "{says}: {said}");
    }
    let document: Value = serde_json::from_slice(&status(&["--json"]).stdout).unwrap();
    let account = &document["status"]["account"];
    assert_eq!(account["end"], "done", "{account}");
    assert_eq!(account["targetsDone"], account["targets"]);

    let journal = away.unfinished_journal();
    let output = away.command(&journal).arg("status").output().unwrap();
    let said = text(&output.stdout);
    for says in [
        "run        run-7",
        "targets    0 of 3 done",
        "end        not ended",
    ] {
        assert!(said.contains(says), "{says}: {said}");
    }

    let lost = Record::ApiLost {
        since: Moment::from_millis(30_000),
        during: Some("cp-1".to_owned()),
    };
    let journal = away.journal_with("lost.journal", Some(lost));
    let output = away.command(&journal).arg("status").output().unwrap();
    let said = text(&output.stdout);
    let now = "now        waits for the API server, which is away while cp-1 is upgraded, since \
               1970-01-01T00:00:30";
    assert!(said.contains(now), "{said}");

    let came = |name: &str, version: &str| {
        let input = Input::NodeSeen {
            node: name.to_owned(),
            ready: true,
            unschedulable: false,
            kubelet_version: version.parse().unwrap(),
            uid: None,
        };
        let journal = away.journal_with(&format!("{name}.journal"), Some(Record::Input { input }));
        let output = away.command(&journal).arg("status").output().unwrap();
        text(&output.stdout)
    };
    let said = came("scaled-up", "v1.36.4");
    let new = "new        node scaled-up at v1.36.4: it came after the plan was made";
    assert!(said.contains(new), "{said}");
    let said = came("at-the-target", "v1.37.2");
    assert!(
        said.contains("end        not ended") && !said.contains("new  "),
        "{said}"
    );
    let asked = |change: &str| {
        let mut command = away.command(&journal);
        command
            .args(["status", "--what-if", change])
            .output()
            .unwrap()
    };
    let error = text(&asked("width:general").stderr);
    assert!(error.contains("width:POOL=NODES"), "{error}");
    let error = text(&asked("width:general=2").stderr);
    assert!(error.contains("no what-if"), "{error}");
}

/// Asked in the middle of a run, what it is told changes when it would end.
#[tokio::test]
async fn status_says_when_a_run_would_end_with_a_change() {
    let away = Away::new();
    let whole = away.path("whole.journal");
    // All workers are one pool, and there is room for some of them.
    let policy = away.path("policy.toml");
    std::fs::write(&policy, "[pools]\nlabel = 'none'\nmax-unavailable = 1\n").unwrap();
    let files = [
        "--journal",
        whole.to_str().unwrap(),
        "--policy",
        policy.to_str().unwrap(),
    ];
    let ran = demo(away.folder.path(), &files);
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    // As if it stood there now: one of its workers has just begun.
    let entries = FileJournal::read(&whole).unwrap();
    let is_begun = |entry: &Entry| match &entry.record {
        Record::Intent { action, .. } => action.target.name() == "general-2",
        _ => false,
    };
    let until = entries.iter().position(is_begun).unwrap();
    let behind = TokioClock::system().now().since(entries[until].at);
    let journal = away.path("half.journal");
    let mut half = FileJournal::open(&journal).unwrap();
    half.load().await.unwrap();
    for entry in entries.into_iter().take(until + 1) {
        let entry = Entry::new(entry.seq, entry.at + behind, entry.record);
        half.append(&entry).await.unwrap();
    }
    drop(half);

    let asked = |arguments: &[&str]| {
        let mut command = away.command(&journal);
        let output = command.arg("status").args(arguments).output().unwrap();
        (text(&output.stdout), text(&output.stderr))
    };
    let (wider, more) = ("width:default=2", "replicas:data/broker=1");
    let (said, error) = asked(&["--json", "--what-if", wider, "--what-if", more]);
    assert!(!said.is_empty() && !error.contains("no what-if"), "{error}");
    let status: Value = serde_json::from_str(&said).unwrap();
    let what_ifs = status["status"]["whatIf"].as_array().unwrap();
    let [of_width, of_replicas] = &what_ifs[..] else {
        panic!("{said}");
    };
    assert_eq!(
        (&of_width["change"], &of_replicas["change"]),
        (&json!(wider), &json!(more))
    );
    let p50 = |when: &Value| when["p50"].as_str().unwrap().to_owned();
    // Timestamps of one form: the earlier one is the less one.
    let now = p50(&status["status"]["ends"]);
    assert!(p50(&of_width["after"]) < now, "{said}");
    assert!(p50(&of_replicas["after"]) <= now, "{said}");
    for what_if in what_ifs {
        assert_eq!(p50(&what_if["before"]), now, "{said}");
    }
    let (said, _) = asked(&["--what-if", wider]);
    let line = format!("what if    {wider}: ");
    let mut lines = said.lines().filter(|it| it.starts_with(&line));
    let line = lines.next().unwrap_or_else(|| panic!("{said}"));
    assert!(
        line.contains(" UTC instead of ") && line.ends_with(" (P95) UTC"),
        "{line}"
    );

    let cure = "ask about a plan that is made anew";
    for (change, why, cure) in [
        ("width:default=12", "there may be too little room", cure),
        (
            "width:nowhere=2",
            "the cluster has no pool nowhere",
            "JSON shows",
        ),
        (
            "link:registry=5000000",
            "link registry cannot be changed",
            cure,
        ),
    ] {
        let (said, error) = asked(&["--what-if", change]);
        assert!(said.is_empty(), "{said}");
        for says in [change, why, cure] {
            assert!(error.contains(says), "{says}: {error}");
        }
    }
}

/// The API server is away, as while it is upgraded: a run that goes on waits
/// for it, also while it refuses everybody at first, and goes on as soon as it
/// knows us.
#[test]
fn a_run_that_goes_on_waits_for_the_api_server() {
    let away = Away::new();
    let journal = away.unfinished_journal();
    let (mut child, mut lines) = away.waiting(&journal, &["--wait", "10m"]);
    let server = TcpListener::bind(away.address).unwrap();
    std::thread::spawn(move || {
        let mut looks = 0;
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            // Asked once in each look, beside others.
            looks += usize::from(path(&mut stream) == "/api/v1/namespaces/kube-system");
            answer(stream, if looks < 2 { COLD } else { STRANGER });
        }
    });
    assert!(!child.wait().unwrap().success());
    let mut said = String::new();
    lines.read_to_string(&mut said).unwrap();
    let is_final = said.contains("not you") && !said.contains("waited");
    assert!(is_final && !said.contains("forbidden"), "{said}");
}

#[test]
fn waiting_for_the_api_server_ends_by_itself_or_when_asked() {
    let away = Away::new();
    let journal = away.unfinished_journal();
    let said = |mut lines: BufReader<_>| {
        let mut said = String::new();
        Read::read_to_string(&mut lines, &mut said).unwrap();
        said
    };
    let (mut child, lines) = away.waiting(&journal, &["--wait", "1s"]);
    assert!(!child.wait().unwrap().success());
    let end = said(lines);
    assert!(end.contains("waited") && end.contains("--wait"), "{end}");

    // By a person, and by a kubelet.
    for signal in ["-INT", "-TERM"] {
        let (mut child, lines) = away.waiting(&journal, &["--wait", "10m"]);
        let pid = child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.unwrap().success());
        let code = child.wait().unwrap().code();
        assert_eq!(code, Some(1), "{signal}");
        assert!(said(lines).contains("the same command goes on"));
    }

    // To end a run takes its driver and no version, and waits like the run.
    let mut command = away.command(&journal);
    command.args(["abort", "--wait", "1s"]);
    let error = text(&command.output().unwrap().stderr);
    assert!(error.contains("--node-hook"), "{error}");
    for hook in ["--node-hook", "--control-plane-hook"] {
        command.args([hook, "/bin/false"]);
    }
    let error = text(&command.output().unwrap().stderr);
    assert!(error.contains("an unfinished run"), "{error}");

    // Without an unfinished run nothing is worth waiting for.
    let output = away
        .upgrade(&away.path("new.journal"), &[])
        .output()
        .unwrap();
    let error = text(&output.stderr);
    assert!(!output.status.success());
    assert!(
        error.contains("out of reach") && !error.contains("wait"),
        "{error}"
    );
}

/// A kubeconfig of an API server that is not there.
struct Away {
    folder: tempfile::TempDir,
    address: SocketAddr,
}

impl Away {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        kubeconfig(folder.path(), &address);
        Self { folder, address }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, journal: &Path) -> Command {
        let mut command = program();
        command.current_dir(self.folder.path());
        command.arg("--kubeconfig").arg(self.path("kubeconfig"));
        command.arg("--journal").arg(journal);
        command
    }

    fn upgrade(&self, journal: &Path, arguments: &[&str]) -> Command {
        let mut command = self.command(journal);
        command.args(["--to", "v1.37.2", "--yes"]).args(arguments);
        for hook in ["--node-hook", "--control-plane-hook"] {
            command.args([hook, "/bin/false"]);
        }
        command
    }

    /// The program, once it has said that it waits, and what it says then.
    fn waiting(&self, journal: &Path, arguments: &[&str]) -> (Child, BufReader<impl Read>) {
        let mut command = self.upgrade(journal, arguments);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut first = String::new();
        lines.read_line(&mut first).unwrap();
        assert!(
            first.contains("an unfinished run is to go on: waiting"),
            "{first}"
        );
        (child, lines)
    }

    /// A journal in which a run has begun.
    fn unfinished_journal(&self) -> PathBuf {
        self.journal_with("unfinished.journal", None)
    }

    /// The same, and what was written a minute later.
    fn journal_with(&self, name: &str, later: Option<Record>) -> PathBuf {
        let path = self.path(name);
        let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
        let version = "v1.36.3".parse().unwrap();
        model.control_plane = vec![ControlPlaneMember::new("cp-1", version)];
        model.nodes = vec![Node::new("worker-1", "v1.36.3".parse().unwrap())];
        let policy = Policy::default();
        let target = "v1.37.2".parse().unwrap();
        let plan = Planner::new(&model, &policy, target).plan().unwrap();
        let opened = RunOpened::new("run-7", Origin::Fresh, plan, policy, model);
        let record = Record::RunOpened(Box::new(opened));
        let mut journal = FileJournal::open(&path).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(async {
            journal.load().await.unwrap();
            let minute = Moment::from_millis(60_000);
            let later = later.map(|record| Entry::new(1, minute, record));
            let first = Entry::new(0, Moment::EPOCH, record);
            for entry in [Some(first), later].iter().flatten() {
                journal.append(entry).await.unwrap();
            }
        });
        path
    }
}

/// What an API server answers that has just started, and what it answers to one
/// whom it does not know.
const COLD: (u16, &str) = (403, "Forbidden");
const STRANGER: (u16, &str) = (401, "Unauthorized");

/// The path of a connection's request.
fn path(stream: &mut TcpStream) -> String {
    let mut request = [0; 4096];
    // A client that is gone asks nothing.
    let length = stream.read(&mut request).unwrap_or(0);
    let request = text(&request[..length]);
    let path = request.split([' ', '?']).nth(1);
    path.unwrap_or_default().to_owned()
}

fn answer(mut stream: TcpStream, (code, reason): (u16, &str)) {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "reason": reason, "message": "not you",
    })
    .to_string();
    let answer = format!(
        "HTTP/1.1 {code} {reason}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    // A client that is gone has had its answer.
    let _ = stream.write_all(answer.as_bytes());
}
