//! Plans that somebody has edited by hand, and hands over.

use std::path::Path;
use std::process::Output;

use migrate_core::Phase;
use migrate_executor::{FileJournal, RecordedRun};
use serde_json::{Value, json};

use super::{demo, example, program, text};

/// The document of this name among what the program has printed.
fn document(output: &Output, name: &str) -> Option<Value> {
    let said = text(&output.stdout);
    let documents = said.lines().map(serde_json::from_str::<Value>);
    let mut named = documents.filter_map(|document| Some(document.ok()?.get_mut(name)?.take()));
    named.next()
}

/// The plan of the demo.
fn planned(folder: &Path) -> Value {
    let output = demo(folder, &["plan", "--json"]);
    document(&output, "plan").unwrap_or_else(|| panic!("{}", text(&output.stderr)))
}

/// Runs the demo with `words` and `plan`, and tells the codes that the linter finds.
fn handed(folder: &Path, plan: &Value, words: &[&str]) -> (Output, Vec<String>) {
    let file = folder.join("edited.json");
    std::fs::write(&file, plan.to_string()).unwrap();
    let file = ["--json", "--plan", file.to_str().unwrap()];
    let output = demo(folder, &[words, &file].concat());
    let found = document(&output, "lint").unwrap_or_default();
    let found = found.as_array().into_iter().flatten();
    let codes = found.map(|finding| finding["code"].as_str().unwrap().to_owned());
    let codes = codes.collect();
    (output, codes)
}

/// The slot of a node.
fn slot(plan: &Value, node: &str) -> usize {
    let mut slots = plan["slots"].as_array().unwrap().iter();
    slots.position(|slot| slot["node"] == node).unwrap()
}

/// `plan` with two nodes in each other's places, the second of them pinned to its new one.
fn swapped(plan: &Value, one: &str, other: &str) -> Value {
    let (one, other) = (slot(plan, one), slot(plan, other));
    let mut edited = plan.clone();
    edited["slots"][other]["pinned"] = true.into();
    edited["slots"].as_array_mut().unwrap().swap(one, other);
    edited
}

/// The nodes of pool `general` in the order in which the schedule drains them.
fn drained(plan: &Value) -> Vec<&str> {
    let actions = plan["schedule"].as_array().unwrap().iter();
    let drains = actions.filter(|it| it["phase"] == "drain" && it["target"]["pool"] == "general");
    drains
        .map(|it| it["target"]["node"].as_str().unwrap())
        .collect()
}

/// The nodes in the order in which a run began their drains.
fn begun(journal: &Path) -> Vec<String> {
    let runs = RecordedRun::all(FileJournal::read(journal).unwrap());
    let drains = runs[0].begun.iter().filter(|it| it.phase == Phase::Drain);
    drains.map(|it| it.target.name().to_owned()).collect()
}

fn place(nodes: &[String], node: &str) -> usize {
    nodes.iter().position(|it| it == node).unwrap()
}

#[test]
fn a_plan_is_run_as_it_was_edited() {
    let folder = tempfile::tempdir().unwrap();
    let first = planned(folder.path());
    let edited = swapped(&first, "general-2", "general-8");
    let journal = folder.path().join("journal");
    let words = ["--journal", journal.to_str().unwrap()];
    let (output, codes) = handed(folder.path(), &edited, &words);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(codes, ["KM-LINT-002"]);
    let run = document(&output, "plan").unwrap();
    assert_eq!(run["slots"], edited["slots"]);
    assert_eq!(run["parent"], first["id"]);
    let before: Vec<&str> = drained(&first);
    let after: Vec<&str> = drained(&run);
    assert_eq!((before[1], before[7]), ("general-2", "general-8"));
    assert_eq!((after[1], after[7]), ("general-8", "general-2"));
    // The limits are those of any order, and the gap is that of this one.
    let millis = |value: &Value| value.as_u64().unwrap();
    let ends = run["schedule"].as_array().unwrap().iter();
    let end = ends.map(|it| millis(&it["end"])).max().unwrap();
    let best = millis(&run["bounds"]["limits"][0]["time"]);
    let gap = (1_000 * (end - best)).div_ceil(best);
    assert_eq!(run["bounds"]["limits"], first["bounds"]["limits"]);
    assert_eq!(run["bounds"]["gapPermille"], gap);
    assert_ne!(run["relocation"], Value::Null);

    let report = document(&output, "report").unwrap();
    assert_eq!(report["plan"], run["id"]);
    let outcome = &report["outcome"];
    assert_eq!(outcome["outcome"], "done", "{outcome}");
    // What others take of the budgets may let a third one go before; of these two the one begins
    // first that comes first in the plan.
    let ran = begun(&journal);
    assert!(
        place(&ran, "general-8") < place(&ran, "general-2"),
        "{ran:?}"
    );
    std::fs::remove_file(&journal).unwrap();
    let (output, _) = handed(folder.path(), &first, &words);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let ran = begun(&journal);
    assert!(
        place(&ran, "general-2") < place(&ran, "general-8"),
        "{ran:?}"
    );
}

/// What the program has printed, and the plan alone, are handed over as they are.
#[test]
fn a_plan_that_nobody_has_edited_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let printed = folder.path().join("printed");
    let output = demo(folder.path(), &["plan", "--json"]);
    std::fs::write(&printed, &output.stdout).unwrap();
    let first = document(&output, "plan").unwrap();
    let words = ["plan", "--json", "--plan", printed.to_str().unwrap()];
    let output = demo(folder.path(), &words);
    assert_eq!(document(&output, "plan").unwrap(), first);
    assert_eq!(document(&output, "lint").unwrap(), json!([]));
    // No word of the file's: whoever deletes a blocker there has it still.
    let mut silent = first.clone();
    assert_ne!(silent["findings"], json!([]));
    silent["findings"] = json!([]);
    let (output, _) = handed(folder.path(), &silent, &["plan"]);
    assert_eq!(document(&output, "plan").unwrap(), first);
}

/// The times of another canary are those of a plan in which it goes first.
#[test]
fn another_canary_of_a_pool_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let first = planned(folder.path());
    let mut edited = swapped(&first, "general-1", "general-5");
    let (from, to) = (slot(&edited, "general-1"), slot(&edited, "general-5"));
    edited["slots"][from]["canary"] = false.into();
    edited["slots"][to]["canary"] = true.into();
    let (output, codes) = handed(folder.path(), &edited, &["plan"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(codes, ["KM-LINT-002"]);
    let plan = document(&output, "plan").unwrap();
    assert_eq!(drained(&plan)[0], "general-5");
}

/// What differs in more than the order of nodes has no limits and moves, which would be of another.
#[test]
fn a_plan_that_would_not_be_made_has_its_times_alone() {
    let folder = tempfile::tempdir().unwrap();
    let first = planned(folder.path());
    let mut edited = first.clone();
    edited["controlPlane"].as_array_mut().unwrap().reverse();
    let (output, codes) = handed(folder.path(), &edited, &["plan"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(codes, ["KM-LINT-002"]);
    let plan = document(&output, "plan").unwrap();
    assert_eq!(plan["controlPlane"], edited["controlPlane"]);
    let name = |plan: &Value| plan["schedule"][0]["target"]["member"].clone();
    assert_eq!(name(&plan), edited["controlPlane"][0]["name"]);
    assert_ne!(name(&plan), name(&first));
    assert_eq!(
        (&plan["bounds"], &plan["relocation"]),
        (&Value::Null, &Value::Null)
    );
}

/// A plan that breaks a rule is refused with its code and its cure, and nothing begins.
#[test]
fn what_the_linter_objects_to_is_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let plan = planned(folder.path());
    let refused = |plan: &Value, why: &str, words: &[&str]| {
        let (output, codes) = handed(folder.path(), plan, words);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("edited.json: "), "{error}");
        assert!(error.contains(why), "{why}: {error}");
        assert!(document(&output, "plan").is_none());
        assert!(document(&output, "report").is_none());
        codes
    };
    let cure = "the linter finds blockers in it: undo the edit, or plan again (--plan)";
    let mut wider = plan.clone();
    wider["pools"][0]["width"] = 99.into();
    for words in [&[][..], &["plan"], &["check"], &["--dry-run"]] {
        let codes = refused(&wider, cure, words);
        assert_eq!(codes[0], "KM-LINT-003", "{words:?} {codes:?}");
    }
    // In words, too.
    let file = folder.path().join("edited.json");
    let output = demo(folder.path(), &["--plan", file.to_str().unwrap()]);
    let said = text(&output.stdout);
    let line = "KM-LINT-003 blocker Pool batch: 4 nodes of which 99 may be away: there are 4, and \
                policy allows 1; undo the edit, or plan again";
    assert!(said.lines().any(|it| it == line), "{said}");

    let mut elsewhere = plan.clone();
    elsewhere["to"] = "v1.37.9".into();
    let why = "it goes to v1.37.9, and not to v1.37.2: give --to v1.37.9, or plan again (--plan)";
    refused(&elsewhere, why, &[]);
    let mut newer = plan;
    newer["schema"] = 99.into();
    refused(&newer, "use the release that wrote it", &[]);
    let cure = "give one as it was written, whole and unchanged (--plan)";
    refused(&json!({"schema": 1}), cure, &[]);
    refused(&Value::Null, cure, &[]);
    let output = demo(folder.path(), &["--plan", "none.json"]);
    let error = text(&output.stderr);
    let cure = "name a text file that this user may read";
    assert!(
        !output.status.success() && error.contains("none.json: ") && error.contains(cure),
        "{error}"
    );
}

#[test]
fn a_plan_of_another_cluster_or_policy_is_refused_and_one_of_other_nodes_told() {
    let folder = tempfile::tempdir().unwrap();
    let plan = planned(folder.path());
    let says = |plan: &Value, words: &[&str]| {
        let (output, codes) = handed(folder.path(), plan, &[&["plan"], words].concat());
        let found = document(&output, "lint").unwrap();
        (output.status.code(), codes[0].clone(), found.to_string())
    };
    let mut command = program();
    let output = command.args(["--seed", "4", "plan", "--json"]).output();
    let other = document(&output.unwrap(), "plan").unwrap();
    assert_ne!(other["cluster"], plan["cluster"]);
    let (code, first, found) = says(&other, &[]);
    assert_eq!((code, &*first), (Some(1), "KM-LINT-001"), "{found}");
    assert!(found.contains("it is for cluster "), "{found}");

    let policy = folder.path().join("policy.toml");
    std::fs::write(&policy, "[pools]\nmax-unavailable = 2\n").unwrap();
    let (code, first, found) = says(&plan, &["--policy", policy.to_str().unwrap()]);
    assert_eq!((code, &*first), (Some(1), "KM-LINT-001"), "{found}");
    assert!(found.contains("it was made under policy "), "{found}");
    // Waivers are part of what it was made under.
    let (code, first, _) = says(&plan, &["--waive", "KM-PDB-001"]);
    assert_eq!((code, &*first), (Some(1), "KM-LINT-001"));

    let mut gone = plan.clone();
    let last = gone["slots"].as_array().unwrap().len() - 1;
    gone["slots"][last]["node"] = "gone".into();
    let (code, first, found) = says(&gone, &[]);
    assert_eq!((code, &*first), (Some(1), "KM-LINT-003"), "{found}");
    assert!(found.contains("the cluster has no such node"), "{found}");

    // A node that came since.
    let mut less = plan;
    less["slots"].as_array_mut().unwrap().remove(last);
    let (code, first, found) = says(&less, &[]);
    assert_eq!((code, &*first), (Some(0), "KM-LINT-004"), "{found}");
    assert!(found.contains("are not in it: 1 (general-8)"), "{found}");
}

/// Only what makes a plan takes one, and what is adopted is done in part.
#[test]
fn a_plan_is_handed_to_what_would_make_one() {
    let output = program().args(["--plan", "a", "--adopt"]).output().unwrap();
    let error = text(&output.stderr);
    assert!(!output.status.success(), "{error}");
    assert!(
        error.contains("--plan cannot be used with --adopt"),
        "{error}"
    );
}

/// The planner's example lints a file for the cluster of a file.
#[test]
fn the_example_lints_an_edited_plan() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (model, file, policy) = (path("model.json"), path("plan.json"), path("policy.toml"));
    let bare = "[consent]\nbare-pods = true\n";
    std::fs::write(&policy, bare).unwrap();
    let ask = |words: &[&str]| {
        let mut command = example("plan");
        command.args(["--policy", &policy]).args(words);
        let output = command.output().unwrap();
        (output.status.code(), text(&output.stdout))
    };
    let made = ask(&["--json", "--dump", &model, "--plan", &file]);
    assert_eq!(made.0, Some(0), "{}", made.1);
    let lint = |more: &[&str]| ask(&[&["--model", &model, "--lint", &file], more].concat());
    let (code, said) = lint(&[]);
    assert!(
        code == Some(0) && said.starts_with("nothing found in plan "),
        "{said}"
    );
    let json = std::fs::read_to_string(&file).unwrap();
    let plan: Value = serde_json::from_str(&json).unwrap();
    let before = path("before.json");
    let (one, other) = ("general-2", "general-8");
    let mut pinned = plan.clone();
    pinned["slots"][slot(&plan, other)]["pinned"] = true.into();
    std::fs::write(&before, pinned.to_string()).unwrap();
    let mut edited = swapped(&plan, one, other);
    std::fs::write(&file, edited.to_string()).unwrap();
    let (code, said) = lint(&[]);
    assert!(code == Some(0) && said.contains("KM-LINT-002"), "{said}");
    assert!(!said.contains("KM-LINT-023"), "{said}");
    let (code, said) = lint(&["--parent", &before]);
    assert!(code == Some(0) && said.contains("KM-LINT-023"), "{said}");
    edited["pools"][0]["width"] = 99.into();
    std::fs::write(&file, edited.to_string()).unwrap();
    let (code, said) = lint(&["--json"]);
    let found: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(found[0]["code"], "KM-LINT-003", "{said}");
}
