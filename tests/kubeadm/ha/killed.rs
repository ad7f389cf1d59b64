//! The program is killed (SIGKILL) while an API server is out of its load balancer
//! because of it, wherever that can be, and the same command goes on each time.

use std::time::Duration;

use migrate_testbed::{Node, eventually};
use tokio::time::Instant;

use super::leaders::LeaderWatch;
use super::load::Load;
use super::open;
use crate::kills::{API_SERVER_SWAPPED, ETCD_SWAPPED, KUBELET_CHANGED, it_was_one_upgrade};
use crate::load::CALM_RATE;
use crate::real::cluster::kubelets;
use crate::rig::{Place, Rig, Sign};
use crate::{BEFORE, TARGET, figure};

const NAME: &str = "ha-killed";

/// How a node remembers that its API server is out.
const MARK: &str = "/var/lib/kube-migrate/out-of-balancer";

/// How long the load balancer takes to see that a server it checks is well.
const CHECKS: Duration = Duration::from_secs(30);

/// kubeadm has changed every static pod; its last phases take some seconds.
const NEARLY_DONE: &str =
    r#"grep -qF 'control plane instance for this node was successfully upgraded' "$log""#;
const ENDED: &str = r#"[ -s "$folder/exit" ]"#;

/// Where the program is killed, in the order in which a run comes there.
const POINTS: [(&str, Place, Kill); 7] = [
    (
        "the first member is taken out",
        Place::Member(0),
        Kill::WhenTakenOut,
    ),
    (
        "swap of its API server",
        Place::Member(0),
        Kill::InItsStep(API_SERVER_SWAPPED),
    ),
    (
        "swap of the second member's etcd",
        Place::Member(1),
        Kill::InItsStep(ETCD_SWAPPED),
    ),
    (
        "between the third member's step and its return",
        Place::Member(2),
        Kill::AfterItsStep,
    ),
    (
        "right after its return",
        Place::Member(2),
        Kill::WhenPutBack,
    ),
    (
        "kubelet of a control-plane node",
        Place::MemberNode(0),
        Kill::InItsStep(KUBELET_CHANGED),
    ),
    (
        "the next one is taken out for its kubelet",
        Place::MemberNode(1),
        Kill::WhenTakenOut,
    ),
];

/// When the program is killed at a place.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Kill {
    /// Its API server is drained, for a second, and its step begins after that.
    WhenTakenOut,
    /// Its API server is out, and this script of a [`Sign::Step`] ends well.
    InItsStep(&'static str),
    /// The program stands still from shortly before the end of the step until after it,
    /// and puts nothing back.
    AfterItsStep,
    /// Its API server is in again, and its node may not know yet.
    WhenPutBack,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "twenty-five minutes; part of cargo xtask extended"]
async fn killed_with_an_api_server_out_it_goes_on_and_puts_it_back() {
    let Some((cluster, shop)) = open(NAME).await else {
        return;
    };
    let mut rig = Rig::before(cluster, shop).await;
    let load = Load::start(&rig.cluster, &rig.shop, CALM_RATE).await;
    let leaders = LeaderWatch::start(&rig.cluster);
    let began = Instant::now();
    for (name, place, kill) in POINTS {
        let again = Instant::now();
        rig.begin();
        rig.comes_to(name, kill.sign(place)).await;
        if kill == Kill::AfterItsStep {
            rig.freeze().await;
            rig.comes_to(name, Sign::Step(place, ENDED)).await;
        }
        rig.kill().await;
        let (at, after) = (began.elapsed().as_secs(), again.elapsed().as_secs_f64());
        println!("killed at {name:?}, {at} s in, {after:.1} s after its start");
        if kill == Kill::WhenPutBack {
            assert_eq!(rig.out().await, Vec::<String>::new());
        } else {
            is_left_out(&rig, place).await;
        }
        if kill == Kill::WhenTakenOut {
            is_of_before(&rig, place).await;
        }
    }
    let ended = rig.run(&["--to", TARGET]).await;
    println!("{}", ended.said());
    assert!(ended.status.success(), "{}\n{}", ended.said(), rig.log());
    figure(
        &format!("{NAME}.upgrade"),
        began.elapsed().as_secs_f64(),
        "s",
    );
    let swapped_while_leading = leaders.swapped_while_leading();
    let asked = load.finish(NAME);

    nobody_is_left_out(&rig).await;
    it_was_one_upgrade(&mut rig).await;
    for member in rig.members() {
        assert_eq!(api_server(&rig, member).await, TARGET, "{}", member.name());
    }
    assert_eq!(swapped_while_leading, Vec::<String>::new());
    asked.assert_services_unfailing();
    asked.assert_few_of_the_api_failed();
}

impl Kill {
    fn sign(self, place: Place) -> Sign {
        match self {
            Self::WhenTakenOut => Sign::TakenOut(place),
            Self::InItsStep(script) => Sign::Step(place, script),
            Self::AfterItsStep => Sign::Step(place, NEARLY_DONE),
            Self::WhenPutBack => Sign::PutBack(place),
        }
    }
}

/// The API server of a place is out, no other is, and its node says who took it out.
async fn is_left_out(rig: &Rig, place: Place) {
    let node = rig.node(place).unwrap();
    assert_eq!(rig.out().await, [node.name()]);
    let said = node.run(&["cat", MARK]).await.unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    println!("{} is out: {}", node.name(), said.trim());
}

/// What the step of a place is to change has not changed.
async fn is_of_before(rig: &Rig, place: Place) {
    let node = rig.node(place).unwrap();
    let version = match place {
        Place::Member(_) => api_server(rig, node).await,
        _ => kubelets(&rig.cluster.client()).await[node.name()].clone(),
    };
    assert_eq!(version, BEFORE, "{}", node.name());
}

/// The version of the API server of one node.
async fn api_server(rig: &Rig, node: &Node) -> String {
    let client = rig.cluster.client_of(node.name()).unwrap();
    client.apiserver_version().await.unwrap().git_version
}

/// Every server of the load balancer is up, and no node remembers one that is out.
async fn nobody_is_left_out(rig: &Rig) {
    assert_eq!(rig.out().await, Vec::<String>::new());
    let balancer = rig.cluster.balancer().unwrap();
    eventually("every API server to be up", CHECKS, || async {
        let servers = balancer.servers().await?;
        let up = servers.values().filter(|status| *status == "UP");
        Ok::<_, migrate_testbed::Error>(up.count() == rig.members().count())
    })
    .await
    .unwrap();
    for member in rig.members() {
        member.run(&["test", "!", "-e", MARK]).await.unwrap();
    }
}
