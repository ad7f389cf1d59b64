//! What the policy has happen between members and nodes, and after them: windows, a
//! canary that soaks, addons at every point, and pods that are moved back. Judged by
//! the journal, the programs of the addons and the cluster; part of `plain.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use migrate_core::{Clock, Moment, Phase, Target};
use migrate_executor::{Entry, Record, StepResult};
use migrate_kube::TokioClock;
use migrate_plan::{ActionResult, Input};
use serde_json::Value;

use crate::real::program::{Bench, Ended};
use crate::rig::{Rig, intents};
use crate::run::POLICY;
use crate::shop::{self, app, is_ready};
use crate::{cleaned, figure};

/// The points of a run, each with an addon of its name, in their order.
const POINTS: [&str; 4] = [
    "before-control-plane",
    "after-control-plane",
    "before-workers",
    "after-all",
];
/// How long after the start of the run its window opens: later than its checks end,
/// which take half a minute.
const OPENS_AFTER: Duration = Duration::from_secs(90);
/// A window that is far away, and how long each of them is.
const FAR: Duration = Duration::from_secs(3 * 3600);
const LONG: Duration = Duration::from_secs(6 * 3600);
/// How long the canary is left alone, as the policy says it too.
const SOAK: Duration = Duration::from_secs(20);
/// Windows that are too short: for anything, and for P95 of what comes up to the end of the
/// control plane, but not for what is predicted of that, which is some four and a half minutes.
const SHORT: [&str; 2] = [
    r#"{ from = "03:00", to = "03:01" }"#,
    r#"{ from = "03:00", to = "03:06" }"#,
];

/// A run under such a policy.
pub(crate) struct Gates {
    opens: Moment,
    undo: PathBuf,
    words: Vec<String>,
}

impl Gates {
    /// Plans are made for windows that are too short and for one that is far away; then
    /// the rig has a policy whose window opens soon. `words` are those of the run.
    pub(crate) async fn set(rig: &mut Rig, words: &[&str]) -> Self {
        let programs = Programs::write(&rig.bench);
        let plan = [&["plan"], words].concat();
        for short in SHORT {
            rig.set_policy(&programs.policy(short));
            let refused = rig.run(&plan).await;
            let said = refused.said();
            assert!(!refused.status.success(), "{said}");
            assert!(said.contains("KM-WINDOW-001"), "{said}");
            assert!(said.contains(" min at P95 (the control plane"), "{said}");
        }

        let clock = TokioClock::system();
        let far = clock.now() + FAR;
        rig.set_policy(&programs.policy(&window(far)));
        let planned = rig.run(&[&plan[..], &["--json"]].concat()).await;
        assert!(planned.status.success(), "{}", planned.said());
        let first = first_start(&planned);
        figure("gates.plan.closed", first.as_secs_f64(), "s");
        // It was made a little later.
        assert!(first > FAR - Duration::from_secs(300), "{first:?}");

        let opens = clock.now() + OPENS_AFTER;
        rig.set_policy(&programs.policy(&window(opens)));
        Self {
            opens,
            undo: programs.undo,
            words: words.iter().map(|word| (*word).to_owned()).collect(),
        }
    }

    /// The whole run. It stops when the last addon does not work, and the same command
    /// goes on; gives what that says.
    pub(crate) async fn run(&self, rig: &mut Rig) -> Ended {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let stopped = rig.run(&words).await;
        let said = stopped.said();
        println!("{said}");
        assert!(!stopped.status.success(), "{said}");
        let undo = format!("undo: {}", self.undo.display());
        // Once in the plan and once in the report, of all but the one that has none.
        assert_eq!(said.matches(&undo).count(), 2 * (POINTS.len() - 1));
        assert!(said.contains("POINT OF NO RETURN: no undo is named"));
        for says in [
            "addon after-all: verify failed: ",
            "its window is closed, or too short for it; the next one opens at ",
            ", is left alone until ",
        ] {
            assert!(said.contains(says), "{says:?} is not in {said}");
        }
        cleaned::is_refused_of_an_unfinished_run(rig).await;
        let ended = rig.run(&words).await;
        rig.journal.read();
        ended
    }

    /// Everything that was asked for has happened, when and as often as it should.
    pub(crate) async fn were_kept(&self, rig: &Rig, ended: &Ended) {
        let entries = rig.entries();
        self.nothing_began_before_its_window(entries);
        assert_eq!(
            upgrades(rig, entries),
            [
                "before-control-plane",
                "member",
                "control-plane node",
                "after-control-plane",
                "before-workers",
                "worker",
                "worker",
                "after-all"
            ]
        );
        canary_was_left_alone(rig, entries);
        addons_were_asked(&rig.bench);
        assert!(!rig.bench.path("undone").exists(), "undo is a person's");

        let said = ended.said();
        assert!(!said.contains("KM-SPREAD-001"), "{said}");
        // The scheduler could be told; what it was told is gone from the nodes.
        assert!(!said.contains("KM-RUN-010"), "{said}");
        pods_were_moved_back(rig, entries).await;
    }

    fn nothing_began_before_its_window(&self, entries: &[Entry]) {
        let at_of = |is_meant: fn(&Record) -> bool| {
            let found = entries.iter().find(|entry| is_meant(&entry.record));
            found.expect("a record").at
        };
        let first = at_of(|record| matches!(record, Record::Intent { .. }));
        assert!(
            first >= self.opens,
            "{first}, and it opens at {}",
            self.opens
        );
        // It was ready before.
        let is_claimed = |record: &Record| {
            let result = StepResult::Claimed;
            matches!(record, Record::StepEnded { result: is } if *is == result)
        };
        assert!(at_of(is_claimed) < self.opens);
        assert!(has_waited(entries, "its window is closed"));
    }
}

/// The programs that addons name.
struct Programs {
    /// Upgrades and verifies, and keeps a book of it.
    hook: PathBuf,
    undo: PathBuf,
}

impl Programs {
    fn write(bench: &Bench) -> Self {
        let applied = bench.path("applied").display().to_string();
        let body = format!(
            "at='{applied}'-$KUBE_MIGRATE_NODE\n\
             case $KUBE_MIGRATE_PHASE in\n\
             begin) touch \"$at\" ;;\n\
             probe) [ -e \"$at\" ] || exit 20 ;;\n\
             verify)\n\
             [ ! -e \"$at.asked\" ] || exit 0\n\
             touch \"$at.asked\"\n\
             [ \"$KUBE_MIGRATE_NODE\" = after-all ] || exit 75\n\
             echo 'it does not work'\n\
             exit 1 ;;\n\
             esac"
        );
        let undone = bench.path("undone").display().to_string();
        Self {
            hook: bench.bookkeeping(&bench.script("addon", &body)),
            undo: bench.script("undo", &format!("touch '{undone}'")),
        }
    }

    /// With a window, and an addon at each point, the last one without a way back.
    fn policy(&self, window: &str) -> String {
        let mut policy = format!(
            "respread = true\n{POLICY}\n[rollout]\ncanary-soak = {}\nwindows = [{window}]\n\
             prefer-upgraded-nodes = true\n",
            SOAK.as_secs()
        );
        for point in POINTS {
            let hook = self.hook.display();
            policy += &format!(
                "[[addon]]\nname = \"{point}\"\nat = \"{point}\"\n\
                 apply = \"{hook}\"\nverify = \"{hook}\"\n"
            );
            if point != "after-all" {
                policy += &format!("undo = \"{}\"\n", self.undo.display());
            }
        }
        policy
    }
}

fn window(opens: Moment) -> String {
    format!(
        "{{ from = \"{opens}\", to = \"{closes}\" }}",
        closes = opens + LONG
    )
}

/// When the first action of a plan begins, counted from its start.
fn first_start(planned: &Ended) -> Duration {
    let plan = planned.plan();
    let actions = plan["schedule"].as_array().unwrap().iter();
    let starts = actions.map(|action| action["start"].as_u64().unwrap());
    Duration::from_millis(starts.min().unwrap())
}

fn has_waited(entries: &[Entry], on_what: &str) -> bool {
    let waited = |entry: &Entry| match &entry.record {
        Record::Waited { on, .. } => on.contains(on_what),
        _ => false,
    };
    entries.iter().any(waited)
}

/// What was upgraded, in its order.
fn upgrades<'a>(rig: &Rig, entries: &'a [Entry]) -> Vec<&'a str> {
    let begun = intents(entries).filter(|(phase, _)| *phase == Phase::Upgrade);
    let named = begun.map(|(_, target)| match target {
        Target::Addon { name } => name.as_str(),
        Target::ControlPlane { .. } => "member",
        Target::Node { node, .. } => match rig.cluster.node(node).unwrap().is_control_plane() {
            true => "control-plane node",
            false => "worker",
        },
        other => panic!("{other} is upgraded"),
    });
    named.collect()
}

/// The first worker was verified once more after its soak time, and the other one not
/// begun before that had ended well.
fn canary_was_left_alone(rig: &Rig, entries: &[Entry]) {
    let is_worker = |target: &Target| match target {
        Target::Node { node, .. } => !rig.cluster.node(node).unwrap().is_control_plane(),
        _ => false,
    };
    let begun = |wanted: Phase, index: usize| {
        let mut found = entries.iter().filter_map(|entry| match &entry.record {
            Record::Intent { action } if action.phase == wanted && is_worker(&action.target) => {
                Some((entry.at, &action.id))
            }
            _ => None,
        });
        found.nth(index).expect("it was begun")
    };
    let ended = |id| {
        let mut found = entries.iter().filter_map(|entry| match &entry.record {
            Record::Input {
                input:
                    Input::ActionEnded {
                        id: of,
                        result: ActionResult::Succeeded(_),
                    },
            } if of == id => Some(entry.at),
            _ => None,
        });
        found.next().expect("it ended well")
    };
    let (_, verification) = begun(Phase::Verify, 0);
    let (confirmed_at, confirmation) = begun(Phase::Confirm, 0);
    let soaked = confirmed_at.since(ended(verification));
    figure("gates.soak", soaked.as_secs_f64(), "s");
    assert!(soaked >= SOAK, "{soaked:?}");
    let (next_at, _) = begun(Phase::Drain, 1);
    assert!(next_at >= ended(confirmation));
    assert!(has_waited(entries, ", is left alone until "));
}

/// Each was begun once, and asked until it worked; the last one had failed once.
fn addons_were_asked(bench: &Bench) {
    let calls = bench.hook_calls();
    println!("{calls:#?}");
    let codes = |addon: &str, phase: &str| {
        let of = calls.iter().filter(|call| {
            assert_eq!(call.target, "addon");
            call.node == addon && call.phase == phase
        });
        of.map(|call| call.code.as_str()).collect::<Vec<_>>()
    };
    for point in POINTS {
        assert_eq!(codes(point, "begin"), ["0"], "{point}");
        // Before anything else every program is asked whether it answers.
        assert_eq!(codes(point, "probe").first(), Some(&"20"), "{point}");
        let first = if point == "after-all" { "1" } else { "75" };
        assert_eq!(codes(point, "verify"), [first, "0"], "{point}");
    }
}

/// One pod of each Service that stood on one node has gone, and no other one; each has
/// its replicas on two nodes again.
async fn pods_were_moved_back(rig: &Rig, entries: &[Entry]) {
    let (mut moved, mut evictions) = (BTreeMap::new(), Vec::new());
    for entry in entries {
        match &entry.record {
            Record::StepEnded {
                result: StepResult::Spread { moves, .. },
            } => {
                for one in moves {
                    let before = moved.insert(one.workload.name.clone(), one.pod.uid.clone());
                    assert_eq!(before, None, "a second pod of {}", one.workload.name);
                }
            }
            Record::StepEnded {
                result:
                    StepResult::Respread {
                        evictions: of,
                        left,
                    },
            } => {
                assert_eq!(*left, BTreeMap::new());
                evictions.push(*of);
            }
            _ => {}
        }
    }
    println!("moved back: {moved:#?}");
    let replicated: BTreeSet<&str> = rig.shop.replicated().map(|one| one.name).collect();
    let names: BTreeSet<&str> = moved.keys().map(String::as_str).collect();
    assert_eq!(names, replicated, "the last node was empty");
    assert_eq!(evictions, [moved.len() as u32]);

    let pods = shop::items(&rig.cluster.client(), "/api/v1/namespaces/default/pods").await;
    for name in replicated {
        let of: Vec<&Value> = pods
            .iter()
            .filter(|pod| app(pod) == name && is_ready(pod))
            .collect();
        let is_there = |pod: &&Value| pod["metadata"]["uid"] == moved[name].as_str();
        assert!(!of.iter().any(is_there), "{name}: it has moved");
        let nodes = of.iter().map(|pod| pod["spec"]["nodeName"].as_str());
        assert_eq!(nodes.collect::<BTreeSet<_>>().len(), 2, "{name}: {of:#?}");
    }
}
