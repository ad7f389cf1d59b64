//! `docs/disaster.md`, followed word by word: its blocks are run as they are, with names
//! of the cluster in the place of those that the first one gives as an example.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;
use tokio::time::Instant;

use crate::figure;

const TEXT: &str = include_str!("../../../docs/disaster.md");

/// What is done twice, as by somebody who does not know how far he has come. The later
/// steps let the nodes in, and clean up.
const REPEATED: std::ops::RangeInclusive<usize> = 1..=6;

/// A step: its number, its heading, and what to type.
#[derive(Clone, Copy)]
struct Step {
    number: usize,
    heading: &'static str,
    block: &'static str,
}

/// The steps, by their numbers.
fn steps() -> Vec<Step> {
    let (_, runbook) = TEXT.split_once("## Runbook\n").expect("a runbook");
    let sections = runbook.split("\n### ").skip(1);
    let step = |section: &'static str| {
        let (heading, rest) = section.split_once('\n').unwrap();
        let (number, heading) = heading.split_once(". ").unwrap();
        let (_, rest) = rest.split_once("```sh\n").expect("something to type");
        let (block, rest) = rest.split_once("```").unwrap();
        assert!(
            !rest.contains("```sh"),
            "{heading}: one block for each step"
        );
        Step {
            number: number.parse().unwrap(),
            heading,
            block,
        }
    };
    sections.map(step).collect()
}

/// The names that a block sets.
fn names(block: &str) -> Vec<&str> {
    let lines = block.lines().filter_map(|line| line.split_once('='));
    lines.map(|(name, _)| name).collect()
}

/// Somebody at a shell.
pub(super) struct Runbook {
    folder: PathBuf,
    names: String,
    path: String,
    kubeconfig: PathBuf,
    figures: String,
}

impl Runbook {
    /// In a folder, with these names in the place of the examples.
    pub(super) fn new(
        folder: PathBuf,
        names_here: &BTreeMap<&str, String>,
        programs: &[&Path],
        kubeconfig: &Path,
        figures: &str,
    ) -> Self {
        let steps = steps();
        let expected = names(steps.first().expect("a step").block);
        assert!(
            expected.iter().all(|name| names_here.contains_key(name)),
            "{expected:?}"
        );
        assert_eq!(expected.len(), names_here.len(), "{expected:?}");
        let lines = names_here
            .iter()
            .map(|(name, value)| format!("{name}='{value}'\n"));
        let own = std::env::var("PATH").unwrap_or_default();
        let programs = programs.iter().map(|folder| folder.display().to_string());
        std::fs::create_dir(&folder).unwrap();
        Self {
            folder,
            names: lines.collect(),
            path: programs.chain([own]).collect::<Vec<_>>().join(":"),
            kubeconfig: kubeconfig.to_owned(),
            figures: figures.to_owned(),
        }
    }

    /// Follows the steps from one number to another, those that may be repeated twice; what
    /// was said.
    pub(super) async fn follow(&self, from: usize, to: usize) -> String {
        let mut said = String::new();
        let steps = steps();
        let wanted = steps
            .iter()
            .filter(|step| (from..=to).contains(&step.number));
        for step in wanted {
            said += &self.run(step).await;
        }
        said
    }

    async fn run(&self, step: &Step) -> String {
        let Step {
            number,
            heading,
            block,
        } = step;
        println!("--- {number}. {heading}");
        let began = Instant::now();
        let output = self.bash(block).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let err = String::from_utf8_lossy(&output.stderr);
        println!("{said}{err}");
        assert!(
            output.status.success(),
            "{number}. {heading}: {}\n{said}{err}",
            output.status
        );
        let name = format!("{}.step-{number}", self.figures);
        figure(&name, began.elapsed().as_secs_f64(), "s");
        if REPEATED.contains(number) {
            let output = self.bash(block).await;
            assert!(output.status.success(), "{number}, again: {output:?}");
        }
        said
    }

    /// What a line of the same shell says.
    pub(super) async fn say(&self, line: &str) -> String {
        let output = self.bash(line).await;
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    async fn bash(&self, script: &str) -> std::process::Output {
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", &format!("{}{script}", self.names)])
            .current_dir(&self.folder)
            .env("PATH", &self.path)
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        bash.output().await.unwrap()
    }
}

#[test]
fn the_runbook_has_its_steps_in_order() {
    let steps = steps();
    let numbers: Vec<usize> = steps.iter().map(|step| step.number).collect();
    assert_eq!(numbers, Vec::from_iter(0..=8));
    let first = names(steps[0].block);
    assert_eq!(first.len(), steps[0].block.lines().count());
    for name in first {
        let is_used = |step: &Step| {
            step.block.contains(&format!("${name}")) || step.block.contains(&format!("${{{name}"))
        };
        assert!(steps.iter().skip(1).any(is_used), "{name} is used");
    }
}

/// In the place of programs: they write over nothing, as the real ones, and `BREAK` names one
/// that breaks off when its work is done.
const STAND_INS: [(&str, &str); 3] = [
    (
        "etcd_backup",
        r#"#!/bin/bash
set -eu
fresh() { if [ -e "$1" ]; then echo "$1: exists already"; exit 1; fi; }
case $1 in
fetch) fresh "$2/b.tar.age"; mkdir -p "$2"; touch "$2/b.tar.age" ;;
open) fresh "$3"; mkdir -p "$3/nodes/cp-1/etc"; touch "$3/nodes/cp-1/etc/file" "$3/snapshot.db" ;;
save) fresh "$2"; touch "$2" ;;
compare) ls "$2" "$3" ;;
restore) fresh "$3"; mkdir -p "$3/member" ;;
esac
if [ "${BREAK:-}" = "$1" ]; then exit 1; fi
"#,
    ),
    (
        "ssh",
        r#"#!/bin/bash
set -eu
case " $* " in
*" -M "*)
    if [ -e master ] || [ -e tunnel ]; then echo "the port is taken"; exit 255; fi
    touch master tunnel ;;
*" -O exit "*)
    if [ ! -e tunnel ]; then echo "no such socket"; exit 255; fi
    rm -f master tunnel ;;
*)
    cat > /dev/null
    if [ "${BREAK:-}" = ssh ]; then exit 255; fi ;;
esac
"#,
    ),
    ("kubectl", "#!/bin/bash\n"),
];

/// On real nodes the drill does so with real programs.
#[tokio::test]
async fn each_block_may_be_run_again_also_where_it_broke_off() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let programs = folder.path().join("programs");
    std::fs::create_dir(&programs).unwrap();
    for (name, text) in STAND_INS {
        let path = programs.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    let steps = steps();
    let value = |name| match name {
        "SSH" => "ssh",
        _ => "cp-1",
    };
    let named = names(steps[0].block).into_iter();
    let named = named.map(|name| (name, value(name).to_owned())).collect();
    let desk = folder.path().join("desk");
    let runbook = Runbook::new(
        desk.clone(),
        &named,
        &[programs.as_path()],
        Path::new("none"),
        "",
    );
    for step in &steps[1..] {
        for broken in ["fetch", "open", "save", "compare", "restore", "ssh"] {
            runbook
                .bash(&format!("export BREAK={broken}\n{}", step.block))
                .await;
            assert!(!desk.join("master").exists(), "step {}", step.number);
            for _ in 0..2 {
                let output = runbook.bash(step.block).await;
                let what = format!("step {} after {broken}: {output:?}", step.number);
                assert!(output.status.success(), "{what}");
            }
        }
    }
    // The control: they do refuse.
    let again = runbook.bash("etcd_backup open f set && etcd_backup open f set");
    assert!(!again.await.status.success());
}
