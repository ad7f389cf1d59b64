//! Bad input and bad luck: each ends with an error that names the object and
//! the cure, with an exit code that is not 0, and changes nothing that it
//! should not.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking"
)]

mod real;

use std::path::{Path, PathBuf};

use migrate_core::{Clock, ClusterId};
use migrate_executor::{Entry, FileJournal, Journal, Record};
use migrate_kube::{TokioClock, observe};
use migrate_plan::Planner;
use migrate_sim::{Pool, Scenario, Workload};
use migrate_testbed::{ControlPlane, Identity, skip_or_fail};
use serde_json::{Value, json};
use tokio::time::Instant;

use real::case::{Case, POLICY};
use real::cluster::{self, ORIGIN, TARGET};
use real::program::{self, Bench};
use real::small_disk::SmallDisk;
use real::{audit, figure};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_go_well_is_refused_with_object_and_cure() {
    // The control plane is at the target: only nodes are left to do.
    let builder = ControlPlane::builder().minor(37).audit(true);
    let Some(plane) = skip_or_fail(builder.start().await) else {
        return;
    };
    let mut web = Workload::deployment("shop", "web", 4);
    web.stop_seconds = Some(1);
    let scenario = Scenario::new(ORIGIN)
        .with_pool(Pool::new("general", 3))
        .with_workload(web);
    cluster::load(&plane, &scenario).await;
    let began = Instant::now();

    the_way_to_the_cluster(&plane).await;
    flags_and_files(&plane).await;
    rights(&plane).await;
    what_the_cluster_does_not_allow(&plane).await;
    a_backup_without_room(&plane).await;
    hooks_that_do_not_do_their_work(&plane).await;
    figure("refusals", began.elapsed().as_secs_f64(), "s");
}

async fn the_way_to_the_cluster(plane: &ControlPlane) {
    let mut case = Case::new(plane, "no kubeconfig");
    case.kubeconfig = "/nowhere/kubeconfig".into();
    let says = [
        "kubeconfig",
        "/nowhere/kubeconfig",
        "name a file with --kubeconfig",
    ];
    case.refused(case.command(), &says).await;

    let mut case = Case::new(plane, "refused connection");
    let config = std::fs::read_to_string(&case.kubeconfig).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["clusters"][0]["cluster"]["server"] = json!("https://127.0.0.1:1");
    case.kubeconfig = case.bench.write("deaf", &config.to_string());
    let says = [
        "the API server https://127.0.0.1:1 is out of reach",
        "Connection refused",
        "see that it runs",
        "correct the address in the kubeconfig",
    ];
    case.refused(case.command(), &says).await;

    let mut case = Case::new(plane, "expired certificate");
    case.kubeconfig = plane
        .kubeconfig_for(&Identity::new("late").expired())
        .unwrap();
    case.refused(case.command(), &["not accepted", "renew them"])
        .await;
    let answered = audit::all(plane)
        .iter()
        .any(|event| event.user.username == "late");
    assert!(!answered, "an expired certificate is nobody's");

    let case = Case::new(plane, "another cluster");
    let mut command = case.command();
    command.args(["--cluster-id", "0000"]);
    case.refused(
        command,
        &[
            "is not the one asked for",
            "check --kubeconfig and --context",
        ],
    )
    .await;
}

async fn flags_and_files(plane: &ControlPlane) {
    for (name, to, says) in [
        (
            "two minors ahead",
            "v1.39.0",
            &["1.37 -> 1.38 -> 1.39", "plan the upgrade to 1.38 first"][..],
        ),
        (
            "downgrade",
            "v1.36.3",
            &[
                "v1.37.2",
                "cannot go back to v1.36.3",
                "choose a target that is not older",
            ],
        ),
        (
            "malformed version",
            "1.thirty",
            &["--to", "1.thirty", "is not a Kubernetes", "write it like"],
        ),
    ] {
        let mut case = Case::new(plane, name);
        case.to = to;
        case.refused(case.command(), says).await;
    }

    let mut case = Case::new(plane, "malformed policy");
    case.policy = "[pools]\nmax-unavailble = 2\n";
    case.refused(
        case.command(),
        &["policy.toml", "line 2", "max-unavailble", "correct it"],
    )
    .await;

    let case = Case::new(plane, "malformed hook");
    let plain = case.bench.write("plain", "no program");
    let command = case.with_hook(&plain);
    case.refused(command, &["plain", "is not executable", "chmod +x"])
        .await;

    let case = Case::new(plane, "missing hook");
    let command = case.with_hook(Path::new("/nowhere/hook"));
    case.refused(command, &["/nowhere/hook", "name an executable file"])
        .await;

    let case = Case::new(plane, "another cluster's journal");
    journal_of_another_cluster(plane, &case.bench.path("journal")).await;
    let foreign = "use the kubeconfig of that cluster, or another journal";
    case.refused(case.command(), &["cluster 0000", foreign])
        .await;

    let case = Case::new(plane, "nobody to ask");
    let mut command = case.bench.program(&case.kubeconfig);
    case.arguments(&mut command, plane.hook_program());
    case.refused(command, &["nobody to ask", "give --yes"])
        .await;
}

/// A journal with an unfinished run of the cluster `0000`.
async fn journal_of_another_cluster(plane: &ControlPlane, path: &Path) {
    let now = TokioClock::system().now();
    let mut model = observe(&plane.client(), now).await.unwrap();
    model.cluster = ClusterId::new("0000");
    let policy = real::run::policy(POLICY);
    let plan = Planner::new(&model, &policy, TARGET.parse().unwrap())
        .plan()
        .unwrap();
    let opened = json!({
        "run": "run-0", "cluster": "0000", "origin": "fresh",
        "plan": plan, "policy": policy, "model": model,
    });
    let opened = Box::new(serde_json::from_value(opened).unwrap());
    let mut journal = FileJournal::open(path).unwrap();
    journal.load().await.unwrap();
    journal
        .append(&Entry::new(0, now, Record::RunOpened(opened)))
        .await
        .unwrap();
}

async fn rights(plane: &ControlPlane) {
    let mut case = Case::new(plane, "403 on one verb of a list");
    let user = cluster::shipped_rights(plane, "no-budgets", |rules| {
        let of_budgets = |rule: &&mut Value| rule["resources"][0] == "poddisruptionbudgets";
        if let Some(rule) = rules.iter_mut().find(of_budgets) {
            rule["verbs"] = json!(["watch"]);
        }
    });
    case.kubeconfig = plane.kubeconfig_for(&user.await).unwrap();
    let rule = r#"apiGroups: ["policy"], resources: ["poddisruptionbudgets"], verbs: ["list"]"#;
    case.refused(
        case.command(),
        &["list poddisruptionbudgets", "add the rule", rule],
    )
    .await;

    let mut case = Case::new(plane, "no right to evict");
    let user = cluster::shipped_rights(plane, "no-evictions", |rules| {
        rules.retain(|rule| rule["resources"][0] != "pods/eviction");
    });
    case.kubeconfig = plane.kubeconfig_for(&user.await).unwrap();
    let rule = r#"resources: ["pods/eviction"], verbs: ["create"]"#;
    case.refused(
        case.command(),
        &["KM-RBAC-001", "create pods/eviction", rule],
    )
    .await;
    for user in ["no-budgets", "no-evictions"] {
        let events = audit::all(plane);
        let changes = audit::mutations(&events, user);
        assert_eq!(audit::lines(changes), Vec::<String>::new(), "{user}");
    }
}

async fn what_the_cluster_does_not_allow(plane: &ControlPlane) {
    let case = Case::new(plane, "a budget that blocks for ever");
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"namespace": "shop", "name": "never"},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "web"}}},
    });
    plane.apply(vec![budget]).await.unwrap();
    let says = [
        "KM-PDB-",
        "shop/never",
        "set maxUnavailable to 1",
        "nothing was changed",
    ];
    case.refused(case.command(), &says).await;
    cluster::kubectl(plane, &["delete", "pdb", "never", "-n", "shop"]).await;
}

/// Needs a kernel that lets us mount something where nobody else sees it.
async fn a_backup_without_room(plane: &ControlPlane) {
    let case = Case::new(plane, "disk full for the backup");
    let Some(disk) = skip_or_fail(SmallDisk::new(case.bench.path("disk"))) else {
        return;
    };
    let mut command = case.command();
    command
        .args(["--etcd", &plane.etcd_endpoint()])
        .arg("--backup-dir")
        .arg(&disk.path);
    let folder = disk.path.display().to_string();
    let says = [
        &*folder,
        "has room for",
        "choose a folder on another disk",
        "left: 0",
    ];
    let ended = case.failed(&mut disk.around(&command), &says).await;
    let error = ended.out.lines().find(|line| line.contains("has room for"));
    let error = error.expect("the report says why");
    assert_eq!(error.matches(&folder).count(), 1, "named once: {error}");
    case.changed_nothing().await;
}

async fn hooks_that_do_not_do_their_work(plane: &ControlPlane) {
    let case = Case::new(plane, "a hook that lies");
    let hook = case.bench.script("hook", "exit 0");
    let says = [
        "node general-",
        "its kubelet is v1.36",
        ORIGIN,
        "look at the kubelet's unit on the node",
    ];
    case.stopped(case.with_hook(&hook), &says).await;

    a_run_whose_journal_is_lost(plane).await;

    cluster::reset_nodes(plane).await;
    let case = Case::new(plane, "a hook that hangs");
    let hook = case.bench.script(
        "hook",
        "[ $KUBE_MIGRATE_PHASE = probe ] && exit 20; echo $$ > \"$0.pid\"; exec sleep 60",
    );
    let path = hook.display().to_string();
    let says = [
        "node general-",
        &path,
        "did not end within",
        "make it end sooner",
    ];
    case.stopped(case.with_hook(&hook), &says).await;
    let pid = std::fs::read_to_string(format!("{}.pid", hook.display())).unwrap();
    let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    assert!(
        state.is_err() || state.is_ok_and(|stat| stat.contains(") Z ")),
        "the hook goes on after its action has failed"
    );

    cluster::reset_nodes(plane).await;
    let case = Case::new(plane, "a node that is never Ready again");
    let hook = broken_machine(plane, &case.bench).await;
    let says = [
        "node general-",
        "not Ready",
        "look at its conditions and kubelet log",
    ];
    case.stopped(case.with_hook(&hook), &says).await;

    cluster::reset_nodes(plane).await;
    let case = Case::new(plane, "a hook that fails");
    let fails = "[ $KUBE_MIGRATE_PHASE = probe ] && exit 20; echo 'no kernel for you'; exit 3";
    let hook = case.bench.script("hook", fails);
    let path = hook.display().to_string();
    let says = [
        "node general-",
        &path,
        "exited with 3: no kernel for you",
        "cure this and open it again",
    ];
    case.stopped(case.with_hook(&hook), &says).await;
    assert_eq!(
        cluster::cordoned(&plane.client()).await.len(),
        1,
        "the canary stays cordoned"
    );

    // Cured, the same command goes on and leaves nothing behind.
    let ended = program::finish(&mut case.command()).await;
    assert!(ended.status.success(), "after the cure: {}", ended.said());
    cluster::assert_upgraded(plane, &[]).await;
}

/// The run before stopped with a cordon and the anchor set, and its journal is
/// not the one given: refused, unless it is adopted.
async fn a_run_whose_journal_is_lost(plane: &ControlPlane) {
    let case = Case::new(plane, "a lost journal");
    let cordoned = cluster::cordoned(&plane.client()).await;
    assert_eq!(cordoned.len(), 1, "left by the run before");
    let refused = [
        "the cluster is in the middle of run",
        "give that journal",
        "adopt the run if it is lost (--adopt)",
    ];
    case.failed(&mut case.command(), &refused).await;
    case.wrote_nothing();

    let ended = program::finish(case.command().arg("--adopt")).await;
    assert!(ended.status.success(), "adopted: {}", ended.said());
    cluster::assert_upgraded(plane, &[]).await;
}

/// A hook after which the kubelet has the new version and is not Ready.
async fn broken_machine(plane: &ControlPlane, bench: &Bench) -> PathBuf {
    let ready = json!({"type": "Ready", "status": "False", "reason": "KubeletNotReady"});
    let status = json!({"status": {
        "conditions": [ready], "nodeInfo": {"kubeletVersion": TARGET},
    }});
    let body = format!(
        "[ $KUBE_MIGRATE_PHASE = probe ] && exit 0\n\
         '{}' --kubeconfig '{}' patch node $KUBE_MIGRATE_NODE --subresource=status -p '{status}'",
        plane.binaries().await.kubectl.display(),
        plane.kubeconfig_path().display(),
    );
    bench.script("hook", &body)
}
