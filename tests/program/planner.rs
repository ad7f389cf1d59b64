//! The planner's example: what it prints and writes, and what it refuses.

mod refused;

use std::collections::BTreeMap;
use std::path::PathBuf;

use kube_migrate::policy_from_toml;
use migrate_core::{ClusterModel, Phase, Plan, Policy, Relocation, Target};
use migrate_kube::observe;
use migrate_plan::{Planner, lint, plan_from_json};
use migrate_sim::{Pool, SimCluster};
use serde_json::{Value, json};

use super::cluster::kubeconfig;
use super::{example, text};

/// A folder with the model of the embedded cluster in it, as `--dump` wrote it.
struct Dumped {
    folder: tempfile::TempDir,
}

impl Dumped {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dumped = Self { folder };
        dumped.said(&["--dump", "model.json"]);
        dumped
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn model(&self) -> Value {
        serde_json::from_str(&self.read("model.json")).unwrap()
    }

    /// Exit code, output and errors.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = example("plan");
        command.current_dir(self.folder.path()).args(arguments);
        let output = command.output().unwrap();
        let (said, error) = (text(&output.stdout), text(&output.stderr));
        (output.status.code(), said, error)
    }

    fn said(&self, arguments: &[&str]) -> String {
        let (code, said, error) = self.run(arguments);
        assert_eq!((code, &*error), (Some(0), ""), "{arguments:?}: {said}");
        said
    }

    /// The figures of a model.
    fn figures(&self, model: &str, arguments: &[&str]) -> Value {
        let words = [&["--model", model, "--json"], arguments].concat();
        serde_json::from_str(&self.said(&words)).unwrap()
    }

    /// A model of the same pods on nodes of no zone and with no volumes, so that whatever is
    /// away others can take their place.
    fn loose(&self) -> &'static str {
        let mut model = self.model();
        for pod in model["pods"].as_array_mut().unwrap() {
            pod["claims"] = json!([]);
        }
        for node in model["nodes"].as_array_mut().unwrap() {
            let labels = node["labels"].as_object_mut().unwrap();
            labels.remove("topology.kubernetes.io/zone").unwrap();
        }
        self.write("loose.json", &model.to_string());
        "loose.json"
    }
}

/// What the library says of the model that the program has dumped.
fn planned(model: &str, policy: &Policy) -> Plan {
    let model = ClusterModel::from_json(model).unwrap();
    let target = "v1.37".parse().unwrap();
    let plan = Planner::new(&model, policy, target).plan().unwrap();
    assert_eq!(lint(&plan, &model, policy), []);
    plan
}

fn seconds(figures: &Value, name: &str) -> f64 {
    let figure = figures[name].as_f64();
    figure.unwrap_or_else(|| panic!("no {name} in {figures:#}"))
}

/// `h:mm:ss`, as tables and pages have it: a begun second counts.
fn clock(seconds: f64) -> String {
    let seconds = ((seconds * 1e3).round() as u64).div_ceil(1_000);
    let (hours, rest) = (seconds / 3_600, seconds % 3_600);
    format!("{hours}:{:02}:{:02}", rest / 60, rest % 60)
}

#[test]
fn the_figures_are_those_of_the_plan_of_the_dumped_model() {
    let dumped = Dumped::new();
    let policy = "[pools.max-unavailable-of]\nbatch = 2\n";
    dumped.write("policy.toml", policy);
    let words = ["--plan", "plan.json", "--policy", "policy.toml"];
    let policy = policy_from_toml(policy).unwrap();
    for (words, policy) in [(&words[..2], Policy::default()), (&words, policy)] {
        let figures = dumped.figures("model.json", words);
        let plan = planned(&dumped.read("model.json"), &policy);
        let written = plan_from_json(&dumped.read("plan.json")).unwrap();
        assert_eq!(written, plan);

        let (took, makespan) = (
            seconds(&figures, "planning_seconds"),
            seconds(&figures, "makespan_seconds"),
        );
        // On no machine is a plan of 15 nodes made in no time, nor in ten seconds.
        assert!(took > 0.0 && took < 10.0, "{took}");
        assert_eq!(makespan, plan.makespan().as_secs_f64());
        let bound = plan.bounds.as_ref().unwrap().best().unwrap();
        assert_eq!(
            seconds(&figures, "lower_bound_seconds"),
            bound.time.as_secs_f64()
        );
        assert!(bound.time <= plan.makespan());
        assert_eq!(figures["bottleneck"], bound.kind.to_string());
        let moves = plan.relocation.as_ref().map(Relocation::moves_per_pod);
        assert_eq!(figures["moves_per_pod"], json!(moves));
        assert!(moves >= Some(1.0), "{moves:?}");
        let quantiles = &figures["forecast_seconds"];
        let [p50, p80, p95] = ["p50", "p80", "p95"].map(|name| seconds(quantiles, name));
        assert!(makespan < p50 && p50 < p80 && p80 < p95, "{quantiles}");

        let starts = figures["starts"].as_object().unwrap();
        let drains = plan.schedule.iter().filter(|it| it.phase == Phase::Drain);
        let drains: BTreeMap<&str, f64> = drains
            .map(|it| (it.target.name(), it.start.as_secs_f64()))
            .collect();
        assert_eq!(json!(starts), json!(drains));
        assert_eq!(starts.len(), 15);
        let is_within = |start: &Value| start.as_f64().unwrap() < makespan;
        assert!(starts.values().all(is_within), "{starts:?}");
    }
}

/// A model may be dumped again, and its lists may be in any order.
#[test]
fn a_model_of_a_file_is_planned_like_the_cluster_it_was_dumped_of() {
    let dumped = Dumped::new();
    let json = dumped.said(&["--json", "--dump", "model.json"]);
    let mut first: Value = serde_json::from_str(&json).unwrap();
    let mut model = dumped.model();
    for list in ["controlPlane", "nodes", "pods", "workloads", "budgets"] {
        let list = model[list].as_array_mut().unwrap();
        assert!(list.len() > 2);
        list.reverse();
    }
    dumped.write("reversed.json", &model.to_string());
    for model in ["model.json", "reversed.json"] {
        let mut figures = dumped.figures(model, &["--dump", "again.json"]);
        first["planning_seconds"] = figures["planning_seconds"].take();
        figures["planning_seconds"] = first["planning_seconds"].clone();
        assert_eq!(figures, first, "{model}");
        assert_eq!(dumped.read("again.json"), dumped.read("model.json"));
    }
}

#[test]
fn the_table_has_every_target_and_says_what_no_order_could_beat() {
    let dumped = Dumped::new();
    let figures = dumped.figures("model.json", &["--plan", "plan.json"]);
    let table = dumped.said(&[
        "--model",
        "model.json",
        "--budgets",
        "--timeline",
        "--waves",
    ]);
    let plan = plan_from_json(&dumped.read("plan.json")).unwrap();
    let (makespan, bound) = (
        clock(seconds(&figures, "makespan_seconds")),
        clock(seconds(&figures, "lower_bound_seconds")),
    );
    let bottleneck = figures["bottleneck"].as_str().unwrap();
    for says in [
        format!("plan {} (revision 1) of cluster {}", plan.id, plan.cluster),
        "v1.36.3 -> v1.37".to_owned(),
        format!("predicted {makespan}; "),
        format!("no order is faster than {bound}, the bottleneck is: {bottleneck}; "),
        "(P50: one in two such rollouts takes longer)".to_owned(),
        "230 pods move, 1.21 times each".to_owned(),
        "KM-BUDGET-002 info ".to_owned(),
        // Of the other views.
        "PodDisruptionBudget data/broker ".to_owned(),
        "d drain  U upgrade  v verify".to_owned(),
        format!(" with gates against {makespan} without"),
    ] {
        assert!(table.contains(&says), "{says}: {table}");
    }
    let starts = figures["starts"].as_object().unwrap();
    for (target, _) in plan.targets() {
        let name = target.name();
        let cells = match &target {
            Target::Node { pool, .. } => {
                let start = clock(starts[name].as_f64().unwrap());
                vec![format!("node {name}"), pool.clone(), start]
            }
            Target::ControlPlane { .. } => vec![format!("control plane {name}")],
            _ => vec!["second backup".to_owned()],
        };
        let row = |line: &str| {
            let is_it = line.starts_with(&format!("{} ", cells[0]));
            is_it && cells.iter().all(|cell| line.contains(cell))
        };
        assert!(table.lines().any(row), "{cells:?}: {table}");
    }
}

#[test]
fn the_page_is_one_file_with_schedule_budgets_and_what_ifs() {
    let dumped = Dumped::new();
    let figures = dumped.figures(dumped.loose(), &["--html", "page.html"]);
    let page = dumped.read("page.html");
    assert!(page.starts_with("<!DOCTYPE html>"), "{page}");
    for foreign in [
        "<script", "<link", "<img", "<iframe", "src=", "url(", "@import", "//",
    ] {
        assert!(!page.contains(foreign), "{foreign}: {page}");
    }
    for says in [
        "Content-Security-Policy\" content=\"default-src 'none'",
        "<title>Upgrade plan v1.36.3 → v1.37</title>",
        "<h2>Schedule</h2>",
        "<h2>Disruption budgets</h2>",
        "<h2>Waves</h2>",
        "<h2>What if</h2>",
        "2 nodes of pool general were away at once",
        "KM-CAPACITY-001",
        &clock(seconds(&figures, "makespan_seconds")),
    ] {
        assert!(page.contains(says), "{says}: {page}");
    }
    for (node, start) in figures["starts"].as_object().unwrap() {
        let bar = format!("{node}: drain {} – ", clock(start.as_f64().unwrap()));
        let of_a_canary = bar.replacen(": ", " (canary): ", 1);
        assert!(page.contains(&bar) || page.contains(&of_a_canary), "{bar}");
    }
}

/// Each says what a plan under that change takes.
#[test]
fn what_ifs_come_true() {
    let dumped = Dumped::new();
    let loose = dumped.loose();
    let asked = |arguments: &[&str]| {
        let table = dumped.said(&[&["--model"], arguments].concat());
        let lines = table
            .lines()
            .filter_map(|line| line.strip_prefix("what if "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let minutes = |model: &str, arguments: &[&str]| {
        let figures = dumped.figures(model, arguments);
        format!("{:.1} min", seconds(&figures, "makespan_seconds") / 60.0)
    };
    // Slots: as wide as the policy would then say.
    dumped.write("two.toml", "[pools.max-unavailable-of]\ngeneral = 2\n");
    let (before, after) = (
        minutes(loose, &[]),
        minutes(loose, &["--policy", "two.toml"]),
    );
    assert_ne!(before, after);
    let line = format!("2 nodes of pool general were away at once: {after} instead of {before}");
    let lines = asked(&[loose]);
    assert!(lines.contains(&line), "{line}: {lines:?}");

    // Where zones and volumes tie pods down there is not always room for that.
    let before = minutes("model.json", &[]);
    let after = minutes("model.json", &["--policy", "two.toml"]);
    assert_ne!(before, after);
    let line = format!(
        "2 nodes of pool general were away at once: {after} instead of {before} (room: cpu, \
         memory, pods)"
    );
    assert_eq!(asked(&["model.json"]), [line]);

    // A budget: one more replica than it had.
    dumped.write("wide.toml", "[pools]\nmax-unavailable = 8\n");
    let words = ["--policy", "wide.toml"];
    let figures = dumped.figures(loose, &words);
    let budget = "PodDisruptionBudget media/transcoder";
    assert_eq!(figures["bottleneck"], budget);
    let mut model: Value = serde_json::from_str(&dumped.read(loose)).unwrap();
    let budgets = model["budgets"].as_array_mut().unwrap();
    let mut budgets = budgets.iter_mut();
    let status = budgets.find(|it| it["namespace"] == "media" && it["name"] == "transcoder");
    let status = &mut status.unwrap()["status"];
    for count in ["expectedPods", "currentHealthy", "disruptionsAllowed"] {
        status[count] = (status[count].as_u64().unwrap() + 1).into();
    }
    dumped.write("more.json", &model.to_string());
    let (before, after) = (minutes(loose, &words), minutes("more.json", &words));
    let line = format!("{budget} had one more replica: {after} instead of {before}");
    let lines = asked(&[&[loose], &words[..]].concat());
    assert!(
        lines.iter().any(|it| it.starts_with(&line)),
        "{line}: {lines:?}"
    );

    // A link: twice the throughput.
    let slow = ["--throughput", "1000000"];
    let fast = ["--throughput", "2000000"];
    let (before, after) = (minutes(loose, &slow), minutes(loose, &fast));
    assert_ne!(before, after);
    let line = format!("link registry carried twice as much: {after} instead of {before}");
    let lines = asked(&[&[loose], &slow[..]].concat());
    assert_eq!(lines, [line]);
    let faster = seconds(&dumped.figures(loose, &fast), "makespan_seconds");
    let link = &dumped.figures(loose, &slow)["link"];
    assert_eq!(seconds(link, "twice_as_fast_seconds"), faster);
}

#[test]
fn an_earlier_plan_is_compared_and_a_chart_written() {
    let dumped = Dumped::new();
    let model = ["--model", "model.json"];
    let with = |more: &[&str]| dumped.said(&[&model, more].concat());
    with(&["--json", "--plan", "plan.json", "--mermaid", "chart.mmd"]);
    let chart = dumped.read("chart.mmd");
    assert!(
        chart.starts_with("gantt") && chart.contains("general-8"),
        "{chart}"
    );
    dumped.write("two.toml", "[pools.max-unavailable-of]\nbatch = 2\n");
    let differs = |more: &[&str]| {
        let said = with(&[&["--diff", "plan.json", "--json"], more].concat());
        serde_json::from_str::<Value>(&said).unwrap()
    };
    let (same, other) = (differs(&[]), differs(&["--policy", "two.toml"]));
    assert_eq!(same["targets"], json!([]), "{same:#}");
    assert_eq!(same["before"], same["after"], "{same:#}");
    let of_policy = |which: &str| other[which]["policyHash"].as_str();
    assert_ne!(of_policy("before"), of_policy("after"), "{other:#}");
    assert_eq!(of_policy("before"), same["after"]["policyHash"].as_str());
}

/// A real API server is only read.
#[tokio::test(start_paused = true)]
async fn a_cluster_that_a_kubeconfig_names_is_observed_and_not_changed() {
    let cluster = SimCluster::builder()
        .nodes(Pool::control_plane(3))
        .nodes(Pool::new("general", 4));
    let cluster = cluster.start().await.unwrap();
    let dumped = Dumped::new();
    let server = cluster.api().listen().await.unwrap();
    kubeconfig(dumped.folder.path(), &server.address());
    let before = cluster.store().resource_version();
    let mut command = tokio::process::Command::from(example("plan"));
    command.args([
        "--kubeconfig",
        "kubeconfig",
        "--json",
        "--dump",
        "real.json",
    ]);
    command.current_dir(dumped.folder.path());
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(cluster.store().resource_version(), before);

    let model = ClusterModel::from_json(&dumped.read("real.json")).unwrap();
    let seen = observe(&cluster.client(), model.taken_at).await.unwrap();
    assert_eq!(model, seen);
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    let starts = figures["starts"].as_object().unwrap();
    let nodes: Vec<&str> = starts.keys().map(String::as_str).collect();
    let workers = ["general-1", "general-2", "general-3", "general-4"];
    assert_eq!(nodes[3..], workers);
    let again = dumped.figures("real.json", &[]);
    assert_eq!(again["starts"], figures["starts"]);
}
