use std::sync::Arc;

use migrate_core::{
    Addon, ClusterId, ClusterModel, ControlPlaneMember, Fence, Finding, Moment, Node, Phase, Point,
    Policy, PrepareEnvironment, Severity, StepErrorKind, StepInput, UpgradeAddons,
};

use super::*;

/// Programs in a folder that share its files as their memory of the target.
struct Scripts(tempfile::TempDir);

impl Scripts {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, body: &str) -> PathBuf {
        let path = self.0.path().join(name);
        let text = format!("#!/bin/sh\ncd '{}'\n{body}\n", self.0.path().display());
        crate::testing::executable(&path, &text);
        path
    }

    fn hook(&self, body: &str) -> CommandHook {
        let path = self.write("hook", body);
        CommandHook::new(&path, &path).unwrap()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.path().join(name)).unwrap_or_default()
    }
}

fn cx() -> StepContext {
    StepContext::new(Arc::new(|| Moment::EPOCH), Fence::new("run-1", 7))
}

fn action() -> Action {
    let target = Target::Node {
        pool: "general".into(),
        node: "worker-1".into(),
    };
    let version = |text: &str| text.parse().unwrap();
    Action::new(
        "plan",
        target,
        Phase::Upgrade,
        version("v1.36.3"),
        version("v1.37.2"),
    )
}

/// Probes until the action is no longer running.
async fn settle(hook: &CommandHook) -> ActionStatus {
    loop {
        let status = hook.probe(&cx(), &action()).await.unwrap();
        if status != ActionStatus::Running {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_environment_is_the_documented_one_and_begin_runs_once() {
    let scripts = Scripts::new();
    let hook = scripts.hook(
        r#"if [ $KUBE_MIGRATE_PHASE = probe ]; then [ -e done ] && exit 0; exit 20; fi
           env | grep ^KUBE_MIGRATE_ | sort >> begun; touch done"#,
    );
    assert_eq!(
        hook.probe(&cx(), &action()).await.unwrap(),
        ActionStatus::Absent
    );
    hook.begin(&cx(), &action()).await.unwrap();
    hook.begin(&cx(), &action()).await.unwrap();
    assert_eq!(
        settle(&hook).await,
        ActionStatus::Succeeded(Outcome::SameNode)
    );
    assert_eq!(
        scripts.read("begun"),
        "KUBE_MIGRATE_ACTION_ID=plan.node.worker-1.upgrade\nKUBE_MIGRATE_EPOCH=7\n\
         KUBE_MIGRATE_FROM=v1.36.3\nKUBE_MIGRATE_NODE=worker-1\nKUBE_MIGRATE_PHASE=begin\n\
         KUBE_MIGRATE_POOL=general\nKUBE_MIGRATE_RUN=run-1\nKUBE_MIGRATE_TARGET=node\n\
         KUBE_MIGRATE_TO=v1.37.2\n"
    );
}

#[tokio::test]
async fn failures_say_what_was_printed() {
    let scripts = Scripts::new();
    let hook = scripts.hook("echo no kernel for you >&2; exit 3");
    hook.begin(&cx(), &action()).await.unwrap();
    match settle(&hook).await {
        ActionStatus::Failed { retryable, reason } => {
            assert!(
                !retryable && reason.contains("no kernel for you"),
                "{reason}"
            );
        }
        other => panic!("{other:?}"),
    }
}

/// Begins and probes as a runner does, until there is an end.
async fn run(hook: &CommandHook) -> Result<ActionStatus, StepError> {
    loop {
        match hook.probe(&cx(), &action()).await {
            Ok(ActionStatus::Absent) => hook.begin(&cx(), &action()).await?,
            Ok(ActionStatus::Running) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) if error.is_retryable() => {
                assert!(error.message.contains("try again later: busy"), "{error}");
            }
            end => return end,
        }
    }
}

#[tokio::test]
async fn a_hook_that_is_not_ready_to_begin_is_asked_again() {
    let scripts = Scripts::new();
    let hook = scripts.hook(
        r#"if [ $KUBE_MIGRATE_PHASE = probe ]; then [ -e done ] && exit 0; exit 20; fi
           echo x >> tries
           if [ $(wc -l < tries) -lt 6 ]; then echo busy; exit 75; fi
           touch done"#,
    );
    let end = run(&hook).await.unwrap();
    assert_eq!(end, ActionStatus::Succeeded(Outcome::SameNode));
    assert_eq!(scripts.read("tries").lines().count(), 6);
}

/// What has been put off for long has the less time to do its work: a runner
/// gives the action up, and nobody would end it then.
#[tokio::test]
async fn putting_off_and_doing_have_one_timeout() {
    let scripts = Scripts::new();
    let limit = Duration::from_secs(2);
    let busy = "[ $KUBE_MIGRATE_PHASE = probe ] && exit 20; echo busy; exit 75";
    let hook = scripts.hook(busy).with_timeout(limit);
    // The last of them may have too little time left even to say so.
    let told = match run(&hook).await {
        Err(error) if error.kind == StepErrorKind::Permanent => error.message,
        Ok(ActionStatus::Failed { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert!(told.contains("try again later: busy"), "{told}");
    // Whoever asks afterwards begins anew.
    hook.begin(&cx(), &action()).await.unwrap();

    let hook = scripts.hook(busy);
    let since = || match hook.attempts().get(&action().id) {
        Some(Attempt::Running { since, .. } | Attempt::PutOff { since, .. }) => *since,
        None => panic!("no attempt"),
    };
    hook.begin(&cx(), &action()).await.unwrap();
    let first = since();
    while hook.probe(&cx(), &action()).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    hook.begin(&cx(), &action()).await.unwrap();
    assert_eq!(since(), first);
}

#[tokio::test]
async fn one_that_hangs_when_its_time_is_nearly_over_is_told_with_what_it_had_said() {
    let scripts = Scripts::new();
    let hook = scripts
        .hook(
            r#"[ $KUBE_MIGRATE_PHASE = probe ] && exit 20
               [ -e asked ] && exec sleep 1000
               touch asked; echo busy; exit 75"#,
        )
        .with_timeout(Duration::from_secs(2));
    match run(&hook).await.unwrap() {
        ActionStatus::Failed { reason, .. } => {
            assert!(reason.contains("did not end within 2s"), "{reason}");
            assert!(reason.contains("try again later: busy"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_hook_that_hangs_is_ended_with_its_children() {
    let scripts = Scripts::new();
    let hook = scripts
        .hook("echo $$ > pid; sleep 1000 & echo $! > child; wait")
        .with_timeout(Duration::from_millis(200))
        .with_probe_timeout(Duration::from_millis(200));
    hook.begin(&cx(), &action()).await.unwrap();
    match settle(&hook).await {
        ActionStatus::Failed { reason, .. } => assert!(reason.contains("did not end"), "{reason}"),
        other => panic!("{other:?}"),
    }
    has_ended(scripts.read("child").trim()).await;
    let error = hook.probe(&cx(), &action()).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Deadline);
}

/// The kernel may need a moment to reap what was killed.
async fn has_ended(pid: &str) {
    let state = format!("/proc/{pid}/stat");
    while std::fs::read_to_string(&state).is_ok_and(|stat| !stat.contains(") Z ")) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Its children would go on with what a second run begins anew.
#[tokio::test]
async fn a_program_that_nobody_waits_for_any_more_is_ended_with_its_children() {
    let scripts = Scripts::new();
    let path = scripts.write("hangs", "sleep 1000 & echo $! > child; wait");
    let child = Child::start(&path, [("KUBE_MIGRATE_PHASE", "quiesce".into())], false).unwrap();
    while !scripts.read("child").ends_with('\n') {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(child);
    has_ended(scripts.read("child").trim()).await;
}

#[tokio::test]
async fn another_process_learns_from_the_target() {
    let scripts = Scripts::new();
    let body = r#"if [ $KUBE_MIGRATE_PHASE = probe ]; then exit 10; fi"#;
    scripts.hook(body).begin(&cx(), &action()).await.unwrap();
    let successor = scripts.hook(body);
    assert_eq!(
        successor.probe(&cx(), &action()).await.unwrap(),
        ActionStatus::Running
    );
}

#[test]
fn what_cannot_be_run_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    std::fs::write(&plain, "").unwrap();
    for path in [
        folder.path().join("missing"),
        folder.path().to_owned(),
        plain,
    ] {
        let error = CommandHook::new(&path, &path).unwrap_err();
        assert!(matches!(error, Error::BadHook { .. }), "{error}");
    }
}

/// Runs the hook of docs/program.md where `ssh` ends with a code of its own.
#[test]
fn the_documented_hook_asks_again_where_ssh_has_no_connection() {
    let page = include_str!("../../../../docs/program.md");
    let (_, example) = page.split_once("```bash\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let scripts = Scripts::new();
    let hook = scripts.0.path().join("documented");
    crate::testing::executable(&hook, example);
    scripts.write("ssh", "exit $(cat code)");
    let ends_with = |phase: &str, ssh: i32| {
        std::fs::write(scripts.0.path().join("code"), ssh.to_string()).unwrap();
        let path = std::env::var("PATH").unwrap();
        let status = std::process::Command::new(&hook)
            .env("PATH", format!("{}:{path}", scripts.0.path().display()))
            .env("KUBE_MIGRATE_PHASE", phase)
            .env("KUBE_MIGRATE_NODE", "worker-1")
            .env("KUBE_MIGRATE_ACTION_ID", "a")
            .env("KUBE_MIGRATE_TO", "v1.37.2")
            .status();
        status.unwrap().code().unwrap()
    };
    assert_eq!((ends_with("begin", 255), ends_with("probe", 255)), (75, 10));
    for (phase, code) in [("begin", 0), ("begin", 3), ("probe", 20), ("probe", 75)] {
        assert_eq!(ends_with(phase, code), code, "{phase}");
    }
}

fn addon(scripts: &Scripts, apply: &str, verify: &str) -> AddonHook {
    let mut addon = Addon::new("cni", Point::AfterControlPlane);
    addon.apply = Some(scripts.write("apply", apply));
    addon.verify = Some(scripts.write("verify", verify));
    AddonHook::new(&[addon]).unwrap()
}

fn addon_action() -> Action {
    let target = Target::Addon { name: "cni".into() };
    let Action { from, to, .. } = action();
    Action::new("plan", target, Phase::Upgrade, from, to)
}

#[tokio::test]
async fn an_addon_is_applied_by_one_program_and_verified_by_another() {
    let scripts = Scripts::new();
    let hook = addon(
        &scripts,
        "if [ $KUBE_MIGRATE_PHASE = probe ]; then [ -e done ] && exit 0; exit 20; fi
         echo $KUBE_MIGRATE_TARGET $KUBE_MIGRATE_NODE $KUBE_MIGRATE_ACTION_ID >> applied
         touch done",
        "echo $KUBE_MIGRATE_PHASE >> verified; cat says; exit $(cat says)",
    );
    let (cx, action) = (cx(), addon_action());
    assert_eq!(
        hook.probe(&cx, &action).await.unwrap(),
        ActionStatus::Absent
    );
    hook.begin(&cx, &action).await.unwrap();
    while hook.probe(&cx, &action).await.unwrap() == ActionStatus::Running {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let applied = "addon cni plan.addon.cni.upgrade\n";
    assert_eq!(scripts.read("applied"), applied);
    for (code, kind) in [
        ("75", Some(StepErrorKind::Unavailable)),
        ("3", Some(StepErrorKind::Permanent)),
        ("0", None),
    ] {
        std::fs::write(scripts.0.path().join("says"), code).unwrap();
        let result = hook.verify(&cx, &action).await;
        assert_eq!(result.as_ref().err().map(|error| error.kind), kind);
        if let Err(error) = result {
            assert!(error.to_string().contains(&format!(": {code}")), "{error}");
        }
    }
    assert_eq!(scripts.read("verified"), "verify\nverify\nverify\n");
}

#[test]
fn an_addon_without_its_programs_is_refused_by_name() {
    let scripts = Scripts::new();
    let mut addon = Addon::new("cni", Point::AfterAll);
    let refused = |addon: &Addon| {
        AddonHook::new(std::slice::from_ref(addon))
            .unwrap_err()
            .to_string()
    };
    addon.apply = Some(scripts.write("apply", ""));
    let error = refused(&addon);
    assert!(error.contains("cni") && error.contains("verify"), "{error}");
    addon.verify = Some(scripts.write("verify", ""));
    assert!(AddonHook::new(std::slice::from_ref(&addon)).is_ok());
    addon.undo = Some(scripts.0.path().join("none"));
    assert!(refused(&addon).contains("none"));
}

/// Two members and `workers` nodes, one of each at the target already.
fn input(workers: usize) -> StepInput {
    let version = |text: &str| text.parse::<migrate_core::KubeVersion>().unwrap();
    let (from, to) = (version("v1.36.3"), version("v1.37.2"));
    let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
    let member =
        |name, version: &migrate_core::KubeVersion| ControlPlaneMember::new(name, version.clone());
    model.control_plane = vec![member("cp-1", &from), member("cp-2", &to)];
    let nodes = (1..=workers).map(|number| Node::new(format!("w-{number:02}"), from.clone()));
    model.nodes = nodes.chain([Node::new("w-at", to.clone())]).collect();
    StepInput::new(Arc::new(model), Arc::new(Policy::default()), to)
}

async fn examined(hook: &dyn PrepareEnvironment, input: &StepInput) -> Vec<Finding> {
    hook.run(&cx(), input).await.unwrap().findings
}

#[tokio::test]
async fn every_target_to_be_changed_is_probed_before_the_start() {
    let scripts = Scripts::new();
    let hook = scripts.hook(
        "echo $KUBE_MIGRATE_PHASE $KUBE_MIGRATE_TARGET $KUBE_MIGRATE_NODE >> asked
         case $KUBE_MIGRATE_NODE in w-01) exit 0 ;; esac
         exit 20",
    );
    assert_eq!(examined(&hook, &input(2)).await, []);
    let asked = scripts.read("asked");
    let mut asked: Vec<&str> = asked.lines().collect();
    asked.sort_unstable();
    let expected = [
        "probe control-plane cp-1",
        "probe node w-01",
        "probe node w-02",
    ];
    assert_eq!(asked, expected);

    // One node goes back: it alone, although it has reached the target.
    let back = input(2).with_way_back(Some("w-at"));
    assert_eq!(examined(&hook, &back).await, []);
    assert_eq!(
        scripts.read("asked").lines().last(),
        Some("probe node w-at")
    );
    let asked = scripts.read("asked");
    assert_eq!(asked.lines().count(), expected.len() + 1);

    assert_eq!(examined(&hook, &input(2).with_dry_run(true)).await, []);
    assert_eq!(scripts.read("asked"), asked, "a dry run calls no hook");
}

#[tokio::test]
async fn a_hook_that_does_not_answer_keeps_a_run_from_starting() {
    let scripts = Scripts::new();
    let body = "case $KUBE_MIGRATE_NODE in
             cp-1) exit 20 ;;
             w-01) echo no route; exit 255 ;;
             w-02) exit 10 ;;
             w-03) exit 75 ;;
             w-04) sleep 1000 ;;
         esac
         exit 20";
    let hook = scripts.hook(body);
    let hook = hook.with_probe_timeout(Duration::from_millis(500));
    let found = examined(&hook, &input(5)).await;
    let told: Vec<_> = found
        .iter()
        .map(|finding| (finding.code.as_str(), finding.severity))
        .collect();
    let expected = [
        ("KM-HOOK-005", Severity::Blocker),
        ("KM-HOOK-006", Severity::Warning),
    ];
    assert_eq!(told, expected, "{found:?}");
    let broken = &found[0].evidence;
    for part in ["node w-01, node w-04 (of 5)", "exited with 255: no route"] {
        assert!(broken.contains(part), "{broken}");
    }
    let odd = &found[1].evidence;
    assert!(odd.contains("node w-02, node w-03 (of 5)"), "{odd}");
    assert!(found[0].object.name.ends_with("/hook"), "{}", found[0]);

    // Taken away since it was named.
    std::fs::remove_file(scripts.0.path().join("hook")).unwrap();
    let found = examined(&hook, &input(1)).await;
    assert_eq!(found.len(), 2, "one for each of the two programs");
    assert!(
        found[0].to_string().contains("cannot be started"),
        "{}",
        found[0]
    );
}

/// Each of a thousand could take thirty seconds.
#[tokio::test]
async fn a_hook_that_is_broken_is_not_asked_about_every_node() {
    let scripts = Scripts::new();
    let hook = scripts.hook("echo x >> asked; [ $KUBE_MIGRATE_TARGET = node ] || exit 20; exit 1");
    let found = examined(&hook, &input(60)).await;
    assert_eq!(found.len(), 1, "{found:?}");
    let evidence = &found[0].evidence;
    assert!(evidence.contains("of 8 asked, of 60 in all"), "{evidence}");
    let asked = scripts.read("asked").lines().count();
    assert!((9..=17).contains(&asked), "{asked} with those under way");
}

#[tokio::test]
async fn an_addon_is_probed_too_and_a_cancelled_run_asks_no_more() {
    let scripts = Scripts::new();
    let hook = addon(&scripts, "exit $(cat says)", "touch verified");
    for (says, expected) in [("20", None), ("0", None), ("3", Some("KM-HOOK-005"))] {
        std::fs::write(scripts.0.path().join("says"), says).unwrap();
        let found = examined(&hook, &input(0)).await;
        let code = found.first().map(|finding| finding.code.as_str());
        assert_eq!(code, expected, "{found:?}");
    }
    assert!(!scripts.0.path().join("verified").exists());

    let hangs = scripts.hook("exec sleep 1000");
    let cancel = migrate_core::Cancellation::new();
    cancel.cancel();
    let error = PrepareEnvironment::run(&hangs, &cx().with_cancel(cancel), &input(1)).await;
    assert_eq!(error.unwrap_err().kind, StepErrorKind::Cancelled);
}

#[tokio::test]
async fn a_hook_is_asked_about_the_target_of_each_nodes_pool() {
    let scripts = Scripts::new();
    let hook = scripts.hook("echo $KUBE_MIGRATE_NODE $KUBE_MIGRATE_TO >> asked; exit 20");
    let mut input = input(1);
    let mut policy = Policy::default();
    let own = "v1.36.5".parse().unwrap();
    policy.pools.target_of.insert("default".to_owned(), own);
    input.policy = Arc::new(policy);
    assert_eq!(examined(&hook, &input).await, []);
    let asked = scripts.read("asked");
    assert!(asked.contains("w-01 v1.36.5"), "{asked}");
    assert!(asked.contains("cp-1 v1.37.2"), "{asked}");
}
