use proptest::prelude::*;
use serde_json::json;

use super::*;

/// What etcdctl 3.6 and 3.7 print, of members 1, 2, … with these positions.
pub(in crate::kubeadm) fn said(own: u64, leader: u64, applied: &[u64]) -> String {
    let ids = 1..=applied.len() as u64;
    let members: Vec<Value> = ids
        .clone()
        .map(|id| {
            json!({"ID": id, "name": format!("cp-{id}"),
                   "peerURLs": [format!("https://10.0.0.{id}:2380")]})
        })
        .collect();
    let statuses: Vec<Value> = ids
        .zip(applied)
        .map(|(id, applied)| {
            json!({"Endpoint": format!("https://10.0.0.{id}:2379"), "Status": {
                "header": {"cluster_id": 9, "member_id": id, "revision": 5, "raft_term": 2},
                "version": "3.6.8", "leader": leader, "raftIndex": applied, "raftTerm": 2,
                "raftAppliedIndex": applied}})
        })
        .collect();
    let header = json!({"cluster_id": 9, "member_id": own, "raft_term": 2});
    format!(
        "api-server here\netcd here\netcd runs\nmembers {}\nstatuses {}\nalarms {}\n",
        json!({"header": header, "members": members}),
        json!(statuses),
        json!({"header": header}),
    )
}

fn judged(text: &str) -> Verdict {
    State::read(text).judge(false)
}

fn refused(text: &str) -> Refusal {
    match judged(text) {
        Verdict::Refused(refusal) => refusal,
        other => panic!("{other:?}: {text}"),
    }
}

fn to(id: &str) -> Verdict {
    Verdict::MoveLeader { to: id.to_owned() }
}

#[test]
fn a_member_that_leads_hands_on_to_the_one_that_is_furthest() {
    assert_eq!(judged(&said(1, 2, &[50, 50, 50])), Verdict::Clear);
    assert_eq!(judged(&said(1, 1, &[50, 40, 50])), to("3"));
    assert_eq!(judged(&said(2, 2, &[50, 60, 40])), to("1"));
    // Nobody to hand on to, and no reason to wait.
    assert_eq!(judged(&said(1, 1, &[50])), Verdict::Clear);
    // Ids are given as etcdctl takes them.
    let large = said(1, 1, &[50, 40, 50]).replace("\"ID\":3", "\"ID\":9372538179322589801");
    let large = large.replace("\"member_id\":3", "\"member_id\":9372538179322589801");
    assert_eq!(judged(&large), to("8211f1d0f64f3269"));
}

/// What etcdctl 3.7.0 printed of three members, of which the asked one leads, and a
/// learner.
#[test]
fn a_learner_never_takes_the_lead_however_far_it_is() {
    let statuses = include_str!("recorded/statuses.json").trim();
    let text = format!(
        "api-server here\netcd here\netcd runs\nmembers {}\nstatuses {statuses}\nalarms {}\n",
        include_str!("recorded/members.json").trim(),
        include_str!("recorded/alarms.json").trim(),
    );
    let mut state = State::read(&text);
    let learner = state.members.iter().find(|member| member.is_learner);
    let learner = learner.map(|member| member.id).unwrap();
    if let Some(status) = state.statuses.get_mut(&learner) {
        status.applied += MAX_LAG;
    }
    let Verdict::MoveLeader { to } = state.judge(false) else {
        panic!("{:?}", state.judge(false));
    };
    assert_ne!(to, format!("{learner:x}"));
    // Nor does it count: of two voters none can be done without.
    state.members.retain(|member| member.name != "m2");
    let Verdict::Refused(refusal) = state.judge(false) else {
        panic!("{:?}", state.judge(false));
    };
    assert!(refusal.reason.contains("1 of 2"), "{refusal:?}");
}

#[test]
fn an_etcd_elsewhere_is_nobodys_business_here() {
    let state = State::read("api-server here\n");
    assert!(state.has_api_server());
    assert_eq!(state.judge(false), Verdict::Clear);
    assert!(!State::read("").has_api_server());
}

#[test]
fn refusals_name_the_member_and_whether_to_wait() {
    let well = said(1, 2, &[50, 50, 50]);
    let cases = [
        // Its status is missing; it has errors; nobody leads; two do.
        (
            well.replace("\"member_id\":3", "\"member_id\":7"),
            UNWELL,
            true,
            "cp-3",
        ),
        (
            well.replacen("\"leader\":2", "\"errors\":[\"NOSPACE\"],\"leader\":2", 1),
            UNWELL,
            true,
            "NOSPACE",
        ),
        (
            well.replace("\"leader\":2", "\"leader\":0"),
            UNWELL,
            true,
            "leader",
        ),
        (
            well.replacen("\"leader\":2", "\"leader\":3", 1),
            UNWELL,
            true,
            "leader",
        ),
        (
            said(1, 2, &[5000, 5000, 3999]),
            BEHIND,
            true,
            "cp-3 is 1001",
        ),
        (
            well.replace(
                "alarms {",
                "alarms {\"alarms\":[{\"memberID\":2,\"alarm\":1}],",
            ),
            ALARM,
            false,
            "NOSPACE for cp-2",
        ),
        // Its members then have errors too, which would be waited for.
        (
            well.replace(
                "\"leader\":2",
                "\"errors\":[\"memberID:2 alarm:CORRUPT\"],\"leader\":2",
            )
            .replace(
                "alarms {",
                "alarms {\"alarms\":[{\"memberID\":2,\"alarm\":2}],",
            ),
            ALARM,
            false,
            "CORRUPT for cp-2",
        ),
        (well.replace("alarms {", "alarms "), SILENT, true, "alarm"),
        (
            well.replace("alarms {", "alarms ")
                .replace("\"member_id\":3", "\"member_id\":7"),
            UNWELL,
            true,
            "cp-3",
        ),
        (
            well.replace("members {", "members "),
            SILENT,
            true,
            "members",
        ),
        (
            well.replace("etcd runs\n", ""),
            UNWELL,
            true,
            "does not run",
        ),
        // Nobody knows which of two it is, which would leave two others.
        (
            said(1, 2, &[50, 50]).replacen("\"member_id\":1", "\"x\":1", 1),
            SILENT,
            true,
            "which of the members",
        ),
        (said(4, 2, &[50, 50]), SILENT, true, "which of the members"),
        // Two members: each alone is no quorum.
        (said(1, 2, &[50, 50]), UNWELL, false, "1 of 2"),
    ];
    for (text, code, retryable, names) in cases {
        let refusal = refused(&text);
        assert_eq!(
            (refusal.code, refusal.retryable),
            (code, retryable),
            "{refusal:?}"
        );
        assert!(refusal.reason.contains(names), "{refusal:?}");
    }
    // How far this one is behind is no matter: it is the one to go.
    assert_eq!(judged(&said(1, 2, &[1, 5000, 5000])), Verdict::Clear);
    // What an earlier attempt may have stopped is no reason to wait.
    let down = State::read(&well.replace("etcd runs\n", ""));
    assert_eq!(down.judge(true), Verdict::Clear);
}

proptest! {
    /// Whatever is said: a member is only touched when the others are a quorum
    /// of healthy voters, and never while it leads one.
    #[test]
    fn what_is_clear_leaves_a_quorum(
        voters in 1_u64..6,
        own in 1_u64..6,
        leader in 0_u64..6,
        silent in prop::collection::btree_set(1_u64..6, 0..3),
        again: bool,
    ) {
        prop_assume!(own <= voters);
        let mut state = State::read(&said(own, leader, &vec![50; voters as usize]));
        state.statuses.retain(|id, _| !silent.contains(id));
        let healthy = state.statuses.keys().filter(|id| **id != own).count() as u64;
        match state.judge(again) {
            Verdict::Clear => {
                prop_assert!(voters == 1 || healthy > voters / 2);
                prop_assert!(voters == 1 || leader != own);
            }
            Verdict::MoveLeader { to } => {
                prop_assert!(to != own.to_string() && leader == own);
                prop_assert!(healthy > voters / 2);
            }
            Verdict::Refused(_) => {}
        }
    }

    /// Nothing that a node may print makes it fall over.
    #[test]
    fn any_text_is_read(text in "(members|statuses|alarms|etcd) [\\[\\]{}\":,a-zI0-9]{0,40}\n") {
        let _ = State::read(&text).judge(false);
    }
}
