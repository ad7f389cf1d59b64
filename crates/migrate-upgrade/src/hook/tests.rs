use std::sync::Arc;

use migrate_core::{Addon, Fence, Moment, Phase, Point, StepErrorKind, UpgradeAddons};

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
    let error = run(&hook).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Permanent);
    assert!(error.message.contains("try again later: busy"), "{error}");
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
    let child = scripts.read("child");
    let state = format!("/proc/{}/stat", child.trim());
    // The kernel may need a moment to reap what was killed.
    while std::fs::read_to_string(&state).is_ok_and(|stat| !stat.contains(") Z ")) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let error = hook.probe(&cx(), &action()).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Deadline);
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
