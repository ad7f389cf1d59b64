//! Predictions from what an earlier run took.

use serde_json::{Value, json};

use crate::{demo, text};

/// What a run prints is what the next one is predicted from.
#[test]
fn durations_of_an_earlier_run_are_what_is_predicted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("earlier.json");
    let with_file = |arguments: &[&str]| {
        let durations = ["--json", "--durations", file.to_str().unwrap()];
        let output = demo(folder.path(), &[arguments, &durations].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let document = |said: &str, name: &str| -> Value {
        let lines = said.lines().map(|line| serde_json::from_str(line).unwrap());
        let mut found = lines.filter_map(|line: Value| line.get(name).cloned());
        found
            .next()
            .unwrap_or_else(|| panic!("no {name} in {said}"))
    };
    let hour = json!({
        "of": {"kind": "members"}, "phase": "upgrade", "targets": 2, "totalMillis": 7_200_000,
    });
    std::fs::write(&file, json!({"schema": 1, "phases": [hour]}).to_string()).unwrap();
    let ran = with_file(&[]);
    let report = document(&ran, "report");
    let phases = report["phases"].as_array().unwrap();
    let is_of_members = |row: &&Value| row["pool"].is_null() && row["phase"] == "upgrade";
    let members = phases.iter().find(is_of_members).unwrap();
    assert_eq!(members["predicted"]["secs"], 3 * 3_600, "{members}");
    assert!(
        members["actual"]["secs"].as_u64() < Some(3_600),
        "{members}"
    );

    std::fs::write(&file, &ran).unwrap();
    let plan = document(&with_file(&["plan"]), "plan");
    let measured = document(&ran, "measured");
    let of_members = measured["phases"].as_array().unwrap();
    let of_members = of_members.iter().find(|row| row["of"]["kind"] == "members");
    let mean = of_members.unwrap()["totalMillis"]
        .as_u64()
        .unwrap()
        .div_ceil(3);
    let first = &plan["schedule"][0];
    assert_eq!(
        (&first["start"], &first["end"]),
        (&json!(0), &json!(mean)),
        "{first}"
    );

    for (content, says) in [
        (
            r#"{"schema": 2, "phases": []}"#,
            "use the release that wrote it",
        ),
        ("{}", "this is not a record of measured durations"),
    ] {
        std::fs::write(&file, content).unwrap();
        let output = demo(
            folder.path(),
            &["plan", "--durations", file.to_str().unwrap()],
        );
        let error = text(&output.stderr);
        assert!(!output.status.success(), "{content}");
        assert!(
            error.contains("earlier.json") && error.contains(says),
            "{error}"
        );
    }
}

/// A run that is done is added to the history, once, and the next one is forecast from it.
#[test]
fn a_history_of_runs_is_kept_and_forecasts_go_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let history = folder.path().join("history.jsonl");
    let kept = ["--history", history.to_str().unwrap()];
    let run = |journal: &str| {
        let journal = folder.path().join(journal);
        let arguments = ["--journal", journal.to_str().unwrap()];
        let output = demo(folder.path(), &[&arguments[..], &kept].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        std::fs::read_to_string(&history).unwrap()
    };
    let p50 = |arguments: &[&str]| -> u64 {
        let output = demo(folder.path(), &[&["plan", "--json"], arguments].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let said = text(&output.stdout);
        let lines = said.lines().map(|line| serde_json::from_str(line).unwrap());
        let mut found = lines.filter_map(|line: Value| line.get("forecast").cloned());
        found.next().unwrap()["p50"]["secs"].as_u64().unwrap()
    };
    let by_public_figures = p50(&[]);
    assert_eq!(p50(&kept), by_public_figures, "nothing is kept yet");

    // What a write that was cut off has left.
    std::fs::write(&history, "{\"schema\": 1, \"ru").unwrap();
    let first = run("first");
    assert_eq!(
        run("again"),
        first,
        "the same plan, with the same durations"
    );
    let lines: Vec<Value> = first
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(lines.len() > 20, "{first}");
    assert!(
        lines
            .iter()
            .all(|line| line["run"] == lines[0]["run"] && line["end"] == "took")
    );
    assert_ne!(p50(&kept), by_public_figures, "one run tells of the next");

    // Everything took three times as long, in another run.
    let slow = |line: &Value| {
        let mut line = line.clone();
        line["run"] = json!("slow");
        line["millis"] = json!(3 * line["expectedMillis"].as_u64().unwrap());
        format!("{line}\n")
    };
    let slow: String = lines.iter().map(slow).collect();
    std::fs::write(&history, &slow).unwrap();
    assert!(p50(&kept) > by_public_figures, "{}", p50(&kept));

    std::fs::write(&history, "none\n").unwrap();
    let output = demo(folder.path(), &[&["plan"], &kept[..]].concat());
    let error = text(&output.stderr);
    assert!(
        !output.status.success() && error.contains("history.jsonl"),
        "{error}"
    );
    let both = [&kept[..], &["--durations", "earlier.json"]].concat();
    assert!(!demo(folder.path(), &both).status.success());
}

/// A throughput that is told is one of a link that nodes share: they wait for each other.
#[test]
fn nodes_fetch_over_the_link_that_is_told_and_over_none_else() {
    let folder = tempfile::tempdir().unwrap();
    let said = |arguments: &[&str]| {
        let output = demo(folder.path(), &[&["plan"], arguments].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let plan = |arguments: &[&str]| -> Value {
        let said = said(&[arguments, &["--json"]].concat());
        let mut lines = said.lines().map(|line| serde_json::from_str(line).unwrap());
        lines
            .find_map(|line: Value| line.get("plan").cloned())
            .unwrap()
    };
    let end = |plan: &Value| {
        let actions = plan["schedule"].as_array().unwrap();
        actions
            .iter()
            .filter_map(|it| it["end"].as_u64())
            .max()
            .unwrap()
    };
    let has_link = |plan: &Value| plan["bounds"].to_string().contains("bandwidth");
    let (without, slow) = (plan(&[]), plan(&["--throughput", "5000000"]));
    assert!(!has_link(&without) && has_link(&slow), "{slow}");
    // 1.5 GB at 5 MB/s: five minutes a node, one after the other.
    let nodes = without["slots"].as_array().unwrap().len() as u64;
    assert!(
        end(&slow) >= nodes * 300_000,
        "{} {}",
        end(&without),
        end(&slow)
    );
    let less = plan(&["--throughput", "5000000", "--bytes-per-node", "5000000"]);
    assert!(end(&less) < end(&slow));
    let both = ["--throughput", "5000000", "--bytes-per-pod", "1000000000"];
    assert!(end(&plan(&both)) > end(&slow));
    let table = said(&both);
    assert!(
        table.contains("and each displaced pod 953.6 MiB over link registry"),
        "{table}"
    );
    let line = "each node fetches 1.3 GiB over link registry: 4.7 MiB/s";
    let table = said(&["--throughput", "5000000"]);
    assert!(
        table.contains(line) && !said(&[]).contains("over link"),
        "{table}"
    );

    let output = demo(folder.path(), &["plan", "--measure-links"]);
    let error = text(&output.stderr);
    assert!(
        !output.status.success() && error.contains("real cluster"),
        "{error}"
    );
}

/// What a run that stopped has done is kept as it ended.
#[test]
fn a_run_that_stopped_is_kept_in_the_history_too_and_tells_of_what_is_stuck() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (history, journal, policy) = (path("history"), path("journal"), path("policy.toml"));
    std::fs::write(&policy, "[deadlines]\nupgrade = 5\n").unwrap();
    let files = [
        "--history",
        &history,
        "--journal",
        &journal,
        "--policy",
        &policy,
    ];
    let output = demo(folder.path(), &files);
    assert!(!output.status.success(), "{}", text(&output.stdout));
    let first = std::fs::read_to_string(&history).unwrap();
    let lines: Vec<Value> = first
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let ends: Vec<&str> = lines.iter().map(|it| it["end"].as_str().unwrap()).collect();
    assert_eq!(ends, ["cutOff"], "{first}");
    assert!(lines[0]["millis"].as_u64() >= Some(5_000), "{first}");

    let plan = |arguments: &[&str]| {
        let output = demo(folder.path(), &[&["plan"], arguments].concat());
        text(&output.stdout)
    };
    let line = "stuck until a person comes";
    assert!(!plan(&[]).contains(line));
    let kept = ["--history", &history];
    assert!(plan(&kept).contains(line), "{}", plan(&kept));
    let said = plan(&[&kept[..], &["--json"]].concat());
    let forecast = said.lines().find(|it| it.contains("\"forecast\"")).unwrap();
    let forecast: Value = serde_json::from_str(forecast).unwrap();
    let stuck = &forecast["forecast"]["stuck"];
    assert_eq!(stuck.as_array().unwrap().len(), 1, "{stuck}");
    assert_eq!(stuck[0]["of"]["kind"], "members", "{stuck}");
    assert!(!plan(&["--json"]).contains("\"stuck\""));
}
