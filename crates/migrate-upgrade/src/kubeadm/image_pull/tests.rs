//! Over an API that knows the anchor only, and nodes that note who asks.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use http::{Request, Response};
use kube::client::Body;
use migrate_core::steps::prepare_fn;
use migrate_core::{ClusterId, ClusterModel, Fence, Moment, Node, Policy, Severity};
use serde_json::{Value, json};

use super::*;
use crate::{NodeShell, Script, ScriptOutput};

#[derive(Default)]
struct Nodes {
    asked: Mutex<Vec<String>>,
    has_packages: bool,
}

#[async_trait]
impl NodeShell for Nodes {
    async fn run(&self, node: &str, script: &Script, _: Duration) -> Result<ScriptOutput, Error> {
        let is_about_packages = script.text().ends_with("resolve_all \"$@\"\n");
        let what = if is_about_packages {
            "packages"
        } else {
            "images"
        };
        self.asked.lock().unwrap().push(format!("{node} {what}"));
        let said = match (is_about_packages, self.has_packages) {
            (true, true) => "package kubelet 1.37.2-1.1\n",
            (true, false) => "missing kubelet 1.36.3-1.1\n",
            _ => "missing r.local/etcd:3.7\n",
        };
        Ok(ScriptOutput::new(0, said, ""))
    }
}

/// An API whose anchor has these annotations at each of its readings, the last
/// one for ever.
fn api(readings: Vec<Value>) -> (Client, Arc<AtomicU32>) {
    let read = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&read);
    let service = tower::service_fn(move |_: Request<Body>| {
        let at = usize::try_from(count.fetch_add(1, Ordering::SeqCst)).unwrap();
        let annotations = readings[at.min(readings.len() - 1)].clone();
        let lease = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": anchor::NAME, "namespace": anchor::NAMESPACE,
                          "annotations": annotations } });
        let body = Body::from(lease.to_string().into_bytes());
        async move { Ok::<_, std::convert::Infallible>(Response::new(body)) }
    });
    (Client::new(service, "default"), read)
}

fn free() -> Value {
    json!({})
}

fn paused() -> Value {
    json!({ anchor::PAUSE: "true", anchor::RUN: "run-1", anchor::JOURNAL: "here" })
}

/// Step 1 with a check that finds `codes` as blockers.
async fn prepare(
    readings: Vec<Value>,
    codes: &[&'static str],
    change: impl FnOnce(&mut StepInput, &mut Vec<Finding>),
) -> (Result<Vec<String>, StepError>, Vec<String>, u32) {
    prepare_on(true, readings, codes, change).await
}

/// The same on nodes whose apt may lack the packages.
async fn prepare_on(
    has_packages: bool,
    readings: Vec<Value>,
    codes: &[&'static str],
    change: impl FnOnce(&mut StepInput, &mut Vec<Finding>),
) -> (Result<Vec<String>, StepError>, Vec<String>, u32) {
    let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
    for (name, version) in [("cp-1", "v1.36.3"), ("w-1", "v1.36.3"), ("w-2", "v1.37.2")] {
        model.nodes.push(Node::new(name, version.parse().unwrap()));
    }
    let mut policy = Policy::default();
    policy.waive.insert("KM-WAIVED-001".to_owned());
    let target = "v1.37.2".parse().unwrap();
    let mut input = StepInput::new(Arc::new(model), Arc::new(policy), target);
    let mut known = Vec::new();
    change(&mut input, &mut known);
    let codes = codes.to_vec();
    let check: Arc<dyn PrepareEnvironment> = Arc::new(prepare_fn(move |_, _| {
        let findings = codes.iter().map(|code| blocker(code)).collect();
        Box::pin(async move { Ok(StepReport::new(findings)) })
    }));
    let nodes = Arc::new(Nodes {
        has_packages,
        ..Nodes::default()
    });
    let (client, read) = api(readings);
    let driver = Kubeadm::new(Arc::clone(&nodes) as Arc<dyn NodeShell>);
    let step = ImagePull::new(driver, client, [check]).with_findings(known);
    let cx = StepContext::new(Arc::new(|| Moment::EPOCH), Fence::new("run-1", 1));
    let report = step.run(&cx, &input).await;
    let found = report.map(|report| report.findings.into_iter().map(|f| f.code).collect());
    let asked = nodes.asked.lock().unwrap().clone();
    (found, asked, read.load(Ordering::SeqCst))
}

fn blocker(code: &str) -> Finding {
    let object = ObjectName::cluster("Node", "w-1");
    Finding::new(code, Severity::Blocker, object, "it is so", "change it")
}

#[tokio::test]
async fn images_come_after_the_checks_and_on_nodes_to_be_changed_only() {
    let (found, asked, _) = prepare(vec![free()], &["KM-WAIVED-001"], |_, _| {}).await;
    assert_eq!(
        found.unwrap(),
        ["KM-WAIVED-001", "KM-KUBEADM-002", "KM-KUBEADM-002"]
    );
    let (packages, images) = asked.split_at(2);
    assert_eq!(packages, ["cp-1 packages", "w-1 packages"]);
    assert_eq!(images, ["cp-1 images", "w-1 images"]);
    // Where packages are missing there is no kubeadm to ask for images.
    let (found, asked, _) = prepare_on(false, vec![free()], &[], |_, _| {}).await;
    assert_eq!(found.unwrap(), ["KM-KUBEADM-001", "KM-KUBEADM-001"]);
    assert_eq!(asked, ["cp-1 packages", "w-1 packages"]);
}

#[tokio::test]
async fn no_image_is_pulled_for_a_run_that_cannot_start() {
    let blocked = prepare(vec![free()], &["KM-NODE-001"], |_, _| {}).await;
    assert_eq!(blocked.0.unwrap(), ["KM-NODE-001"]);
    let planned = prepare(vec![free()], &[], |_, known| {
        known.push(blocker("KM-WINDOW-001"));
    })
    .await;
    let dry = prepare(vec![free()], &[], |input, _| input.dry_run = true).await;
    let back = prepare(vec![free()], &[], |input, _| {
        input.way_back = Some("w-1".to_owned());
    })
    .await;
    for (found, asked, _) in [planned, dry, back] {
        assert_eq!(found.unwrap(), [""; 0]);
        assert_eq!(asked, [""; 0]);
    }
    assert_eq!(blocked.1, [""; 0]);
}

#[tokio::test]
async fn no_image_is_pulled_while_another_run_is_under_way() {
    let other = json!({ anchor::RUN: "run-9", anchor::JOURNAL: "elsewhere" });
    let (found, asked, _) = prepare(vec![other], &[], |_, _| {}).await;
    let error = found.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Conflict);
    assert!(error.message.contains("run-9"), "{error}");
    assert_eq!(asked, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn no_image_is_pulled_while_the_run_is_paused() {
    let (found, asked, read) = prepare(vec![paused(), paused(), free()], &[], |_, _| {}).await;
    assert_eq!(found.unwrap().len(), 2);
    assert_eq!((asked.len(), read), (4, 3));

    let held = tokio::time::timeout(
        Duration::from_secs(3600),
        prepare(vec![paused()], &[], |_, _| {}),
    )
    .await;
    assert!(held.is_err(), "{held:?}");
}

#[tokio::test]
async fn nodes_of_a_pool_that_is_there_already_are_not_asked() {
    let held = |input: &mut StepInput, _: &mut Vec<Finding>| {
        let mut policy = Policy::clone(&input.policy);
        let own = "v1.36.3".parse().unwrap();
        policy.pools.target_of.insert("default".to_owned(), own);
        input.policy = Arc::new(policy);
    };
    let (found, asked, _) = prepare(vec![free()], &[], held).await;
    assert_eq!(found.unwrap(), [""; 0]);
    assert_eq!(asked, [""; 0]);
}
