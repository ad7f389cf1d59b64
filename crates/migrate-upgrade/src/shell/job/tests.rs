//! On the embedded cluster, whose kubelets run no containers: the log of a pod
//! is what its command prints here.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use http::{Request, Response};
use kube::client::Body;
use migrate_core::model::STEP_LABEL;
use migrate_core::{StepError, StepErrorKind};
use migrate_sim::api::{AccessRule, Fault, RequestInfo};
use migrate_sim::store::{ApiError, Resource};
use migrate_sim::{NodeFault, Pool, SimCluster};
use serde_json::{Value, json};
use tower::service_fn;

use super::*;
use crate::shell::tests::ODD;

const NODE: &str = "pool-1";
const LIMIT: Duration = Duration::from_secs(45);
const RIGHTS: &str = include_str!("../../../../../docs/rbac-job.yaml");

/// What the kubelet says instead of the whole log, if anything.
type Kubelet = dyn Fn(&[u8]) -> Option<Response<Body>> + Send + Sync;

struct Rig {
    cluster: SimCluster,
    shell: JobShell,
    /// Jobs are made so that their controller makes no pods.
    no_pods: Arc<AtomicBool>,
}

impl Rig {
    async fn start() -> Self {
        Self::with_kubelet(|_| None).await
    }

    async fn with_kubelet(
        kubelet: impl Fn(&[u8]) -> Option<Response<Body>> + Send + Sync + 'static,
    ) -> Self {
        let space = json!({ "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": JobShell::NAMESPACE } });
        let cluster = SimCluster::builder()
            .nodes(Pool::new("pool", 2))
            .object(space)
            .start()
            .await
            .unwrap();
        let settled = cluster.wait_until_settled(Duration::from_secs(600)).await;
        settled.unwrap();
        let no_pods = Arc::new(AtomicBool::new(false));
        let client = client(&cluster, Arc::new(kubelet), Arc::clone(&no_pods));
        Self {
            shell: JobShell::new(client, "image"),
            cluster,
            no_pods,
        }
    }

    async fn run(&self, script: &Script) -> Result<ScriptOutput, Error> {
        self.shell.run(NODE, script, LIMIT).await
    }

    fn faults(&self, fault: impl FnMut(&RequestInfo) -> Fault + Send + 'static) {
        self.cluster.api().set_faults(fault);
    }

    fn objects(&self, resource: &'static Resource) -> Vec<Value> {
        let store = self.cluster.store();
        let list = store.list(resource, Some(JobShell::NAMESPACE));
        list.map(|object| object.json.clone()).collect()
    }

    fn names(&self, resource: &'static Resource) -> Vec<String> {
        let objects = self.objects(resource);
        let names = objects.iter().map(|object| &object["metadata"]["name"]);
        names
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    }

    /// Writes the status that a kubelet would.
    fn pods_are(&self, status: &Value) {
        for name in self.names(Resource::PODS) {
            let set = |pod: &mut Value| pod["status"] = status.clone();
            let mut store = self.cluster.store();
            store
                .modify(Resource::PODS, JobShell::NAMESPACE, &name, set)
                .unwrap();
        }
    }

    async fn nothing_is_left(&self) {
        while !self.names(Resource::PODS).is_empty() {
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(self.names(Resource::JOBS), Vec::<String>::new());
    }
}

fn client(cluster: &SimCluster, kubelet: Arc<Kubelet>, no_pods: Arc<AtomicBool>) -> Client {
    let (api, shared) = (cluster.client(), Arc::clone(cluster.api().shared()));
    let service = service_fn(move |request: Request<Body>| {
        let (api, shared, kubelet) = (api.clone(), Arc::clone(&shared), Arc::clone(&kubelet));
        let no_pods = no_pods.load(Ordering::Relaxed);
        async move {
            let Some(pod) = request.uri().path().strip_suffix("/log").map(str::to_owned) else {
                let (parts, body) = request.into_parts();
                let mut body = body.collect_bytes().await?.to_vec();
                if no_pods && parts.method == "POST" {
                    let mut job: Value = serde_json::from_slice(&body)?;
                    job["spec"]["suspend"] = true.into();
                    body = job.to_string().into_bytes();
                }
                let request = Request::from_parts(parts, Body::from(body));
                return Ok::<_, tower::BoxError>(api.send(request).await?);
            };
            let pod = pod.rsplit('/').next().unwrap();
            let store = shared.lock();
            let pod = store.get(Resource::PODS, JobShell::NAMESPACE, pod).unwrap();
            let log = printed(&pod.json);
            Ok(kubelet(&log).unwrap_or_else(|| Response::new(Body::from(log))))
        }
    });
    Client::new(service, "default")
}

/// What the container of a pod prints, as nsenter leaves it to bash.
fn printed(pod: &Value) -> Vec<u8> {
    let container = &pod["spec"]["containers"][0];
    let words = container["args"].as_array().unwrap().iter();
    // As a kubelet does it.
    let words = words.map(|word| word.as_str().unwrap().replace("$$", "$"));
    assert_eq!(
        container["command"].as_array().unwrap().last().unwrap(),
        "bash"
    );
    Command::new("bash").args(words).output().unwrap().stdout
}

fn status(code: u16) -> Response<Body> {
    let body = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "message": "dial tcp: connection refused", "code": code });
    let body = Body::from(body.to_string().into_bytes());
    Response::builder().status(code).body(body).unwrap()
}

/// As an API server that does not know its rules yet.
fn forbidden() -> ApiError {
    ApiError::Forbidden {
        resource: Resource::PODS,
        name: String::new(),
        message: "no rules yet".to_owned(),
        cause: None,
    }
}

fn text(bytes: &[u8]) -> Response<Body> {
    Response::new(Body::from(bytes.to_vec()))
}

#[tokio::test(start_paused = true)]
async fn a_script_runs_by_a_job_that_is_removed() {
    let rig = Rig::start().await;
    let print = r#"printf '%s\0' "$@"; echo no >&2; exit 3"#;
    let output = rig.run(&Script::new(print).args(ODD)).await.unwrap();
    let words: Vec<&str> = output.stdout.trim_end_matches('\0').split('\0').collect();
    assert_eq!((output.code, words), (3, ODD.to_vec()));
    assert_eq!(output.stderr, "no\n");
    rig.nothing_is_left().await;
    let audit = rig.cluster.audit();
    let created = audit.iter().filter(|entry| entry.request.verb == "create");
    assert_eq!(
        created
            .filter(|entry| entry.request.resource == "jobs")
            .count(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_kubelet_that_is_away_is_waited_for() {
    let asked = AtomicU32::new(0);
    let rig = Rig::with_kubelet(move |log| match asked.fetch_add(1, Ordering::Relaxed) {
        0..5 => Some(status(500)),
        // It knows nobody until it has reached the API.
        5..8 => Some(status(403)),
        // Not begun, and cut off.
        8 => Some(text(b"")),
        9 => Some(text(log.get(..log.len() / 2).unwrap())),
        _ => None,
    });
    let rig = rig.await;
    assert_eq!(rig.run(&Script::new("exit 3")).await.unwrap().code, 3);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_is_waited_for() {
    let rig = Rig::start().await;
    let mut asked = 0;
    rig.faults(move |request| {
        asked += u32::from(request.resource == "pods" && request.verb == "list");
        match asked {
            2..8 => Fault::Refuse,
            8..12 => Fault::Answer(forbidden()),
            _ => Fault::Pass,
        }
    });
    assert_eq!(rig.run(&Script::new("exit 3")).await.unwrap().code, 3);
    // Before the Job is made, that is no connection.
    rig.faults(|_| Fault::Refuse);
    let error = rig.run(&Script::new("true")).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

/// The end of the container is known, that of its output never comes.
#[tokio::test(start_paused = true)]
async fn a_log_that_is_not_whole_is_no_output() {
    let half = |log: &[u8]| Some(text(log.get(..log.len() - 2).unwrap()));
    let rig = Rig::with_kubelet(half).await;
    let limit = Duration::from_secs(300);
    let error = rig.shell.run(NODE, &Script::new("true"), limit).await;
    let error = error.unwrap_err();
    assert!(
        error.to_string().contains("not whole: exit code 0"),
        "{error}"
    );
    assert!(StepError::from(error).is_retryable());
    rig.nothing_is_left().await;
    let no_bash = |_: &[u8]| Some(text(b"nsenter: failed to execute bash\n"));
    let rig = Rig::with_kubelet(no_bash).await;
    let error = rig.shell.run(NODE, &Script::new("true"), limit).await;
    let error = error.unwrap_err();
    assert!(matches!(&error, Error::BadAnswer { said, .. } if said.contains("failed to execute")));
}

#[tokio::test(start_paused = true)]
async fn a_script_that_takes_too_long_is_ended_with_its_job() {
    let rig = Rig::with_kubelet(|log| Some(text(log.get(..30).unwrap()))).await;
    let began = Instant::now();
    let error = rig.run(&Script::new("true")).await.unwrap_err();
    assert!(matches!(error, Error::NodeTimeout { .. }), "{error}");
    assert!(began.elapsed() < LIMIT + REMOVAL);
    rig.nothing_is_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_does_not_start_is_told_in_time() {
    let rig = Rig::start().await;
    rig.cluster.set_node_fault(NODE, NodeFault::Dead);
    let began = Instant::now();
    let hour = Duration::from_secs(3600);
    let error = rig
        .shell
        .run(NODE, &Script::new("true"), hour)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("kubelet"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(90));
    assert_eq!(StepError::from(error).kind, StepErrorKind::Unavailable);
    assert_eq!(rig.names(Resource::JOBS), Vec::<String>::new());

    let rig = Rig::start().await;
    rig.cluster.set_node_fault(NODE, NodeFault::Dead);
    let script = Script::new("true");
    let run = rig.run(&script);
    let play = async {
        while rig.names(Resource::PODS).is_empty() {
            sleep(POLL).await;
        }
        let waiting = json!({ "reason": "ImagePullBackOff", "message": "not found" });
        let statuses = json!([{ "name": "script", "state": { "waiting": waiting } }]);
        rig.pods_are(&json!({ "phase": "Pending", "containerStatuses": statuses }));
    };
    let (error, ()) = tokio::join!(run, play);
    let error = error.unwrap_err();
    assert!(matches!(&error, Error::JobNotStarted { said, .. } if said.contains("image image")));
    assert!(error.to_string().contains("import it"), "{error}");
}

/// A pod that admission refuses exists only in an event of its Job.
#[tokio::test(start_paused = true)]
async fn a_refused_pod_is_told_with_its_cure() {
    let refused = async |said: &str| {
        let rig = Rig::start().await;
        rig.no_pods.store(true, Ordering::Relaxed);
        let script = Script::new("true");
        let event = async {
            while rig.names(Resource::JOBS).is_empty() {
                sleep(POLL).await;
            }
            let job = rig.objects(Resource::JOBS).remove(0);
            let event = json!({
                "apiVersion": "v1", "kind": "Event", "reason": "FailedCreate", "message": said,
                "metadata": { "name": "refused", "namespace": JobShell::NAMESPACE },
                "involvedObject": { "kind": "Job", "uid": job["metadata"]["uid"] },
            });
            rig.cluster.store().create(Resource::EVENTS, event).unwrap();
        };
        let limit = Duration::from_secs(300);
        let (error, ()) = tokio::join!(rig.shell.run(NODE, &script, limit), event);
        StepError::from(error.unwrap_err())
    };
    let final_ones = [
        (
            "violates PodSecurity \"baseline:latest\"",
            "enforce: privileged",
        ),
        ("exceeded quota: q", "ResourceQuota"),
    ];
    for (said, cure) in final_ones {
        let error = refused(said).await;
        assert_eq!(error.kind, StepErrorKind::Forbidden, "{error}");
        assert!(error.message.contains(cure), "{error}");
    }
    let error = refused("serviceaccount \"default\" not found").await;
    assert!(error.message.contains("serviceaccount"), "{error}");
    assert!(error.is_retryable(), "{error}");
}

/// A Job that has ended may be about to be read by the runner that made it: one that
/// was killed leaves it to the API.
#[tokio::test(start_paused = true)]
async fn a_job_of_another_stays() {
    let rig = Rig::start().await;
    let job = manifest::job(NODE, "image", &Script::new("true"), LIMIT).unwrap();
    assert!(job["spec"]["ttlSecondsAfterFinished"].is_u64());
    let job = rig.shell.api.create(&job).await.unwrap();
    let conditions = json!([{ "type": "Complete", "status": "True" }]);
    let end = |job: &mut Value| job["status"]["conditions"] = conditions;
    rig.cluster
        .store()
        .modify(Resource::JOBS, JobShell::NAMESPACE, &job.metadata.name, end)
        .unwrap();
    rig.run(&Script::new("true")).await.unwrap();
    assert_eq!(rig.names(Resource::JOBS), [job.metadata.name]);
}

/// The manifest in docs grants what is asked for, and nothing else.
#[tokio::test(start_paused = true)]
async fn the_shipped_rights_are_those_that_are_used() {
    let mut granted = BTreeSet::new();
    for (_, rule) in RIGHTS
        .match_indices("resources: [")
        .map(|(at, _)| RIGHTS.split_at(at))
    {
        let words: Vec<&str> = rule.split('"').skip(1).step_by(2).collect();
        let verbs = rule
            .split("verbs: [")
            .nth(1)
            .unwrap()
            .split(']')
            .next()
            .unwrap();
        for verb in verbs.split('"').skip(1).step_by(2) {
            granted.insert((words[0].to_owned(), verb.to_owned()));
        }
    }
    let rig = Rig::start().await;
    let rules = granted.iter().map(|(resource, verb)| {
        let group = if resource == "jobs" { "batch" } else { "" };
        AccessRule::new([verb.as_str()], [group], [resource.as_str()])
    });
    rig.cluster.api().set_access(rules);
    rig.run(&Script::new("true")).await.unwrap();
    rig.no_pods.store(true, Ordering::Relaxed);
    rig.run(&Script::new("true")).await.unwrap_err();
    let mut used = BTreeSet::from([("pods/log".to_owned(), "get".to_owned())]);
    for entry in rig.cluster.audit() {
        if entry.request.namespace == JobShell::NAMESPACE {
            used.insert((
                entry.request.resource.clone(),
                entry.request.verb.to_owned(),
            ));
        }
    }
    assert_eq!(used, granted);

    rig.cluster.api().set_access([]);
    let error = rig.run(&Script::new("true")).await.unwrap_err();
    assert!(matches!(error, Error::JobApi { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains(r#"resources: ["jobs"], verbs: ["create"]"#),
        "{error}"
    );
    assert_eq!(StepError::from(error).kind, StepErrorKind::Forbidden);
}

#[tokio::test(start_paused = true)]
async fn the_pod_is_bound_and_labelled_as_a_step() {
    let rig = Rig::start().await;
    let script = Script::new("true");
    let pod = async {
        loop {
            if let Some(pod) = rig.objects(Resource::PODS).pop() {
                break pod;
            }
            sleep(POLL / 10).await;
        }
    };
    let (output, pod) = tokio::join!(rig.run(&script), pod);
    output.unwrap();
    assert_eq!(pod["spec"]["nodeName"], NODE);
    let slim: migrate_kube::resources::Pod = serde_json::from_value(pod).unwrap();
    let model = slim.to_model(&migrate_kube::resources::Resolver::default());
    assert!(model.labels.contains_key(STEP_LABEL) && model.is_step());
}
