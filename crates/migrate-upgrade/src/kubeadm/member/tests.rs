//! A control-plane node whose etcd and load balancer are seen from outside.

use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use migrate_core::{ActionStatus, StepErrorKind, UpgradeComponents};

use super::*;
use crate::ApiServerBackend;
use crate::kubeadm::etcd::tests::said;
use crate::kubeadm::tests::{CP, DONE, Node, cx, cx_of, member, node};

/// Remembers what it was asked, in order, and who is out.
#[derive(Default)]
struct Balancer {
    calls: Mutex<Vec<String>>,
    is_out: Mutex<bool>,
    refuses: bool,
    /// What happens while it is asked, once.
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Balancer {
    fn meanwhile(&self, happens: impl FnOnce() + Send + 'static) {
        *self.meanwhile.lock().unwrap() = Some(Box::new(happens));
    }

    fn let_happen(&self) {
        let happens = self.meanwhile.lock().unwrap().take();
        if let Some(happens) = happens {
            happens();
        }
    }

    fn calls(&self) -> String {
        self.calls.lock().unwrap().join(" ")
    }
}

#[async_trait]
impl ApiServerBackend for Balancer {
    async fn quiesce(&self, member: &str, _: &Fence) -> Result<Standing, Error> {
        assert_eq!(member, CP);
        self.calls.lock().unwrap().push("quiesce".to_owned());
        if self.refuses {
            let said = "no other server is up".to_owned();
            let member = member.to_owned();
            return Err(Error::LoadBalancer { member, said });
        }
        self.let_happen();
        let was_out = std::mem::replace(&mut *self.is_out.lock().unwrap(), true);
        Ok(if was_out {
            Standing::WasOut
        } else {
            Standing::WasIn
        })
    }

    async fn restore(&self, member: &str, _: &Fence) -> Result<(), Error> {
        assert_eq!(member, CP);
        self.calls.lock().unwrap().push("restore".to_owned());
        self.let_happen();
        *self.is_out.lock().unwrap() = false;
        Ok(())
    }
}

fn with(cp: Node, balancer: &Arc<Balancer>) -> Node {
    let driver = cp.driver.clone();
    Node {
        driver: driver.with_api_server_backend(balancer.clone()),
        ..cp
    }
}

/// A node with an etcd that says this.
fn etcd(text: &str) -> Node {
    Node::new(true).with_etcd(text)
}

#[tokio::test]
async fn an_api_server_is_out_while_it_is_touched_and_in_again_before_success() {
    for action in [member(), node()] {
        let balancer = Arc::new(Balancer::default());
        let cp = with(Node::new(true), &balancer);
        // What the kubelet step asks for.
        if action == node() {
            cp.manifests("v1.37.2");
        }
        cp.write("api-is-down", "");
        cp.driver.begin(&cx(), &action).await.unwrap();
        assert_eq!(balancer.calls(), "quiesce");
        // Over, and not well yet: no success, and still out.
        let error = loop {
            match cp.driver.probe(&cx(), &action).await {
                Ok(ActionStatus::Running) => tokio::task::yield_now().await,
                Ok(other) => panic!("{other:?}: {}", cp.log()),
                Err(error) => break error,
            }
        };
        assert!(
            error.is_retryable() && error.message.contains("does not serve"),
            "{error}"
        );
        assert_eq!(balancer.calls(), "quiesce");
        std::fs::remove_file(cp.path("api-is-down")).unwrap();
        for _ in 0..2 {
            assert_eq!(cp.driver.probe(&cx(), &action).await.unwrap(), DONE);
        }
        assert_eq!(balancer.calls(), "quiesce restore");
    }
    // A worker has none.
    let balancer = Arc::new(Balancer::default());
    let worker = with(Node::new(false), &balancer);
    assert_eq!(worker.upgrade(&node()).await, DONE);
    assert_eq!(balancer.calls(), "");
}

#[tokio::test]
async fn whoever_comes_after_a_crash_puts_it_back() {
    // Between taking it out and starting: the step was never begun.
    let balancer = Arc::new(Balancer::default());
    let cp = with(Node::new(true), &balancer);
    cp.driver.take_out(CP, &cx().fence).await.unwrap();
    let successor = with(cp, &balancer);
    let status = successor.driver.probe(&cx(), &member()).await.unwrap();
    assert_eq!(status, ActionStatus::Absent);
    assert_eq!(balancer.calls(), "quiesce restore");

    // A run that nobody goes on with: the next one looks at every node.
    let nodes = [CP.to_owned()];
    successor.driver.take_out(CP, &cx().fence).await.unwrap();
    successor.write("api-is-down", "");
    let left = successor
        .driver
        .put_back_all(&nodes, &cx_of("next", 4).fence)
        .await;
    assert_eq!(left[0].code, "KM-LB-001");
    // An older holder leaves it to the one that took it out.
    std::fs::remove_file(successor.path("api-is-down")).unwrap();
    let left = successor
        .driver
        .put_back_all(&nodes, &cx_of("old", 2).fence)
        .await;
    assert_eq!(left, []);
    assert_eq!(balancer.calls(), "quiesce restore quiesce");
    let left = successor
        .driver
        .put_back_all(&nodes, &cx_of("next", 4).fence)
        .await;
    assert_eq!(left, []);
    assert_eq!(balancer.calls(), "quiesce restore quiesce restore");
}

#[tokio::test]
async fn a_failed_step_puts_it_back_too_or_says_why_not() {
    let balancer = Arc::new(Balancer::default());
    let cp = with(Node::new(true), &balancer);
    cp.write("kubeadm-fails", "something else");
    cp.failure(&member()).await;
    assert_eq!(balancer.calls(), "quiesce restore");
    cp.write("api-is-down", "");
    let (_, reason) = cp.failure(&member()).await;
    assert!(
        reason.contains("stays out of its load balancer"),
        "{reason}"
    );
    assert_eq!(balancer.calls(), "quiesce restore quiesce");
    // Trying again takes out what is out, and that is ours.
    std::fs::remove_file(cp.path("api-is-down")).unwrap();
    std::fs::remove_file(cp.path("kubeadm-fails")).unwrap();
    assert_eq!(cp.upgrade(&member()).await, DONE);
    assert_eq!(balancer.calls(), "quiesce restore quiesce quiesce restore");
}

#[tokio::test]
async fn what_somebody_else_took_out_stays_out_and_a_refusal_begins_nothing() {
    let balancer = Arc::new(Balancer::default());
    *balancer.is_out.lock().unwrap() = true;
    let cp = with(Node::new(true), &balancer);
    assert_eq!(cp.upgrade(&member()).await, DONE);
    assert_eq!(balancer.calls(), "quiesce");

    let balancer = Arc::new(Balancer {
        refuses: true,
        ..Balancer::default()
    });
    let cp = with(Node::new(true), &balancer);
    let error = cp.driver.begin(&cx(), &member()).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Unavailable, "{error}");
    assert_eq!(cp.read("kubeadm-calls"), "");

    // An older holder than the node has seen takes nothing out.
    let balancer = Arc::new(Balancer::default());
    let cp = with(Node::new(true), &balancer);
    cp.write("state/fence", "9 newer\n");
    let error = cp.driver.begin(&cx(), &member()).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Conflict, "{error}");
    assert_eq!(balancer.calls(), "");

    // Nor does one that comes while another one starts something.
    std::fs::remove_file(cp.path("state/fence")).unwrap();
    let lock = std::fs::File::create(cp.path("state/lock")).unwrap();
    lock.lock().unwrap();
    let error = cp.driver.take_out(CP, &cx().fence).await.unwrap_err();
    assert!(matches!(error, Error::NodeBusy { .. }), "{error}");
    assert_eq!(balancer.calls(), "");
}

const SUCCESSOR: &str = "4 next\n";

/// What a successor's taking out leaves on the node of `state`.
fn taken_out_by_a_successor(state: &std::path::Path) {
    std::fs::write(state.join("fence"), SUCCESSOR).unwrap();
    std::fs::write(state.join("out-of-balancer"), SUCCESSOR).unwrap();
}

#[tokio::test]
async fn the_mark_of_a_successor_is_never_touched() {
    // It comes first: the superseded one leaves everything to it, also where
    // nothing but the mark tells.
    let balancer = Arc::new(Balancer::default());
    let cp = with(Node::new(true), &balancer);
    cp.driver.take_out(CP, &cx().fence).await.unwrap();
    taken_out_by_a_successor(&cp.path("state"));
    for _ in 0..2 {
        let _ = cp.driver.probe(&cx(), &member()).await;
        let forgotten = cp.driver.forget_out(CP, &cx().fence).await.unwrap();
        assert!(matches!(forgotten, Mark::Newer(by) if by == SUCCESSOR.trim()));
        assert_eq!(cp.read("state/out-of-balancer"), SUCCESSOR);
        std::fs::write(cp.path("state/fence"), "3 run\n").unwrap();
    }
    assert_eq!(balancer.calls(), "quiesce");

    // It comes while the superseded one asks the API server.
    let balancer = Arc::new(Balancer::default());
    let cp = with(Node::new(true), &balancer);
    cp.driver.take_out(CP, &cx().fence).await.unwrap();
    let state = cp.path("state").display().to_string();
    cp.write(
        "meanwhile",
        &format!("echo 4 next | tee '{state}/fence' > '{state}/out-of-balancer'"),
    );
    let error = cp.driver.probe(&cx(), &member()).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Conflict, "{error}");
    assert_eq!(cp.read("state/out-of-balancer"), SUCCESSOR);
    assert_eq!(balancer.calls(), "quiesce");

    // It comes while the superseded one puts back.
    let balancer = Arc::new(Balancer::default());
    let cp = with(Node::new(true), &balancer);
    cp.driver.take_out(CP, &cx().fence).await.unwrap();
    let state = cp.path("state");
    balancer.meanwhile(move || taken_out_by_a_successor(&state));
    let error = cp.driver.probe(&cx(), &member()).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Conflict, "{error}");
    assert_eq!(cp.read("state/out-of-balancer"), SUCCESSOR);
    // Its word was the last of the two, and is taken back.
    assert_eq!(balancer.calls(), "quiesce restore quiesce");
    assert!(*balancer.is_out.lock().unwrap());
}

#[tokio::test]
async fn a_superseded_holder_leaves_nobody_out_and_its_mark_goes_to_the_successor() {
    // A successor takes the API server out, upgrades and puts it back while the
    // superseded one waits for the balancer: nobody would remember that one.
    let balancer = Arc::new(Balancer::default());
    let cp = with(Node::new(true), &balancer);
    let state = cp.path("state");
    balancer.meanwhile(move || {
        std::fs::write(state.join("fence"), SUCCESSOR).unwrap();
        std::fs::remove_file(state.join("out-of-balancer")).unwrap();
    });
    let error = cp.driver.begin(&cx(), &member()).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Conflict, "{error}");
    assert_eq!(balancer.calls(), "quiesce restore");
    assert_eq!(cp.read("kubeadm-calls"), "");

    // The mark of an older holder is the successor's to remove, never again ours.
    let balancer = Arc::new(Balancer::default());
    let cp = with(Node::new(true), &balancer);
    cp.driver.take_out(CP, &cx().fence).await.unwrap();
    let next = cx_of("next", 4);
    cp.driver.probe(&next, &member()).await.unwrap();
    assert_eq!(cp.read("state/out-of-balancer"), "");
    assert_eq!(balancer.calls(), "quiesce restore");
    let error = cp.driver.begin(&cx(), &member()).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Conflict, "{error}");
    assert_eq!(balancer.calls(), "quiesce restore");
}

#[tokio::test]
async fn taking_out_and_starting_are_of_one_holder_whatever_its_name() {
    let cp = with(Node::new(true), &Arc::new(Balancer::default()));
    let fence = cx_of("a run\nof two lines", 3).fence;
    cp.driver.take_out(CP, &fence).await.unwrap();
    let holder = cp.read("state/fence");
    assert_eq!(cp.read("state/out-of-balancer"), holder);
    // The start stamps, then finds the node busy.
    let lock = std::fs::File::create(cp.path("state/step.lock")).unwrap();
    lock.lock().unwrap();
    let step = cp.driver.step(&member()).unwrap();
    let started = cp.driver.steps.start(CP, &fence, &step, 1).await;
    assert!(
        matches!(started, Err(Error::NodeBusy { .. })),
        "{started:?}"
    );
    assert_eq!(cp.read("state/fence"), holder);
    assert_eq!(holder.lines().count(), 1, "{holder}");
}

#[tokio::test]
async fn etcd_leads_elsewhere_before_a_member_is_touched() {
    let balancer = Arc::new(Balancer::default());
    let cp = with(etcd(&said(1, 1, &[50, 50, 60])), &balancer);
    cp.says("etcd-says-then", &said(1, 3, &[50, 50, 60]));
    assert_eq!(cp.upgrade(&member()).await, DONE, "{}", cp.log());
    let asked = cp.read("etcd-moves");
    assert!(asked.contains("move-leader 3"), "{asked}");
    assert!(
        asked.contains("--endpoints=https://10.0.0.1:2379"),
        "{asked}"
    );
    assert!(
        asked.contains("--cert=/etc/kubernetes/pki/etcd/healthcheck-client.crt"),
        "{asked}"
    );

    // Nobody who was superseded hands it on.
    let cp = etcd(&said(1, 1, &[50, 50, 60]));
    cp.write("state/fence", "9 newer\n");
    let error = cp.driver.begin(&cx(), &member()).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Conflict, "{error}");
    assert_eq!(cp.read("etcd-moves"), "");

    // It will not go.
    let cp = etcd(&said(1, 1, &[50, 50, 60]));
    let error = cp.driver.begin(&cx(), &member()).await.unwrap_err();
    assert!(
        error.is_retryable() && error.message.contains("KM-ETCD-204"),
        "{error}"
    );
    assert_eq!(cp.read("etcd-moves").lines().count(), MOVES as usize);
}

#[tokio::test]
async fn an_etcd_that_is_not_well_is_not_touched_and_keeps_its_api_server() {
    let balancer = Arc::new(Balancer::default());
    let two = said(1, 2, &[50, 50, 50]).replace("\"member_id\":3", "\"member_id\":7");
    let cp = with(etcd(&two), &balancer);
    let error = cp.driver.begin(&cx(), &member()).await.unwrap_err();
    assert!(
        error.message.contains("KM-ETCD-201") && error.message.contains("cp-3"),
        "{error}"
    );
    assert_eq!(
        (cp.read("kubeadm-calls"), balancer.calls()),
        (String::new(), String::new())
    );
    // With containerd alone.
    let cp = etcd(&two);
    std::fs::rename(cp.path("bin/crictl"), cp.path("bin/ctr")).unwrap();
    let error = cp.driver.begin(&cx(), &member()).await.unwrap_err();
    assert!(error.message.contains("KM-ETCD-201"), "{error}");
}
