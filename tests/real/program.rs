//! The program, run as people run it.

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use migrate_executor::{Entry, Record};
use migrate_plan::Input;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

/// No run here takes longer.
const PATIENCE: Duration = Duration::from_secs(240);

/// A folder in which the program runs, with its journals, hooks and backups.
pub(crate) struct Bench {
    pub(crate) folder: TempDir,
}

/// How a run of the program ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// One call of a hook.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HookCall {
    pub(crate) phase: String,
    pub(crate) code: String,
    pub(crate) target: String,
    pub(crate) node: String,
    pub(crate) action: String,
    /// How many calls had ended when this one was made.
    pub(crate) after: usize,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// An executable bash script.
    pub(crate) fn script(&self, name: &str, body: &str) -> PathBuf {
        let path = self.write(name, &format!("#!/usr/bin/env bash\n{body}\n"));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    /// A hook that does what `hook` does and keeps a book of it, see
    /// [`hook_calls`](Self::hook_calls).
    pub(crate) fn bookkeeping(&self, hook: &Path) -> PathBuf {
        let body = format!(
            "book='{}'; touch \"$book\"; after=$(wc -l < \"$book\")\n\
             said=$('{}'); code=$?\n\
             echo \"$KUBE_MIGRATE_PHASE $code $KUBE_MIGRATE_TARGET $KUBE_MIGRATE_NODE \
             $KUBE_MIGRATE_ACTION_ID $after\" >> \"$book\"\n\
             echo \"$said\"; exit $code",
            self.path("hook-calls").display(),
            hook.display(),
        );
        self.script("hook", &body)
    }

    /// The calls of the bookkeeping hook so far, in the order of their ends.
    pub(crate) fn hook_calls(&self) -> Vec<HookCall> {
        let book = std::fs::read_to_string(self.path("hook-calls")).unwrap_or_default();
        let call = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let [phase, code, target, node, action, after] =
                <[String; 6]>::try_from(words).unwrap();
            HookCall {
                phase,
                code,
                target,
                node,
                action,
                after: after.parse().unwrap(),
            }
        };
        book.lines().map(call).collect()
    }

    /// The program on the cluster of this kubeconfig.
    pub(crate) fn program(&self, kubeconfig: impl AsRef<Path>) -> Command {
        let mut command = Command::new(executable());
        command
            .current_dir(self.folder.path())
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .arg("--kubeconfig")
            .arg(kubeconfig.as_ref());
        command
    }
}

/// Waits for the end of a run.
pub(crate) async fn finish(command: &mut Command) -> Ended {
    finish_within(command, PATIENCE).await
}

/// Waits for the end of a run that may take as long as this.
///
/// # Panics
/// With what it has said so far, if it takes longer.
pub(crate) async fn finish_within(command: &mut Command, patience: Duration) -> Ended {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let pipes = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let ended = async {
        let (mut from_out, mut from_err) = pipes;
        let read = tokio::try_join!(
            from_out.read_to_end(&mut out),
            from_err.read_to_end(&mut err)
        );
        read.unwrap();
        child.wait().await.unwrap()
    };
    let status = tokio::time::timeout(patience, ended).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&out), text(&err));
    match status {
        Ok(status) => Ended { status, out, err },
        Err(_) => panic!("the program does not end within {patience:?}:\n{out}\n{err}"),
    }
}

/// Starts a run whose words go to a file of the bench.
pub(crate) fn start(bench: &Bench, command: &mut Command) -> Child {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(bench.path("log"))
        .unwrap();
    command
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl Ended {
    /// Everything it said.
    pub(crate) fn said(&self) -> String {
        format!("{}\n{}{}", self.status, self.out, self.err)
    }

    /// The plan, of one that printed it as JSON.
    pub(crate) fn plan(&self) -> Value {
        let lines = self.out.lines();
        let mut documents = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let document = documents.find(|document| !document["plan"].is_null());
        let mut document = document.unwrap_or_else(|| panic!("{}", self.said()));
        document["plan"].take()
    }
}

/// The executable of the example `upgrade`.
pub(crate) fn executable() -> PathBuf {
    example("upgrade")
}

/// An example's executable, which cargo puts beside the tests.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let built = test
        .parent()
        .and_then(Path::parent)
        .unwrap()
        .join("examples")
        .join(name);
    assert!(
        built.exists(),
        "{} is missing: cargo build --example {name}",
        built.display()
    );
    built
}

/// Follows a journal that another process writes.
pub(crate) struct JournalTail {
    path: PathBuf,
    offset: u64,
    pub(crate) entries: Vec<Entry>,
}

impl JournalTail {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            offset: 0,
            entries: Vec::new(),
        }
    }

    /// Reads what is new and whole.
    pub(crate) fn read(&mut self) {
        let Ok(mut file) = std::fs::File::open(&self.path) else {
            return;
        };
        let mut news = Vec::new();
        file.seek(SeekFrom::Start(self.offset)).unwrap();
        file.read_to_end(&mut news).unwrap();
        let Some(end) = news.iter().rposition(|byte| *byte == b'\n') else {
            return;
        };
        self.offset += end as u64 + 1;
        for line in news[..end].split(|byte| *byte == b'\n') {
            // A checksum, a space, and JSON; the first line is a header.
            let json = line.splitn(2, |byte| *byte == b' ').nth(1).unwrap();
            self.entries
                .extend(serde_json::from_slice::<Entry>(json).ok());
        }
    }
}

/// No action is announced again once it has ended.
pub(crate) fn assert_announced_once(entries: &[Entry]) {
    let mut ended = Vec::new();
    for entry in entries {
        match &entry.record {
            Record::Intent { action } => {
                assert!(
                    !ended.contains(&action.id),
                    "{} was announced again",
                    action.id
                );
            }
            Record::Input {
                input: Input::ActionEnded { id, .. },
            } => ended.push(id.clone()),
            _ => {}
        }
    }
}
