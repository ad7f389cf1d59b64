//! Who runs an upgrade: a ServiceAccount with the rights that the project ships, and
//! what the API has answered to it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, StatusCode};
use kube::Client;
use kube::client::Body;
use kube::config::AuthInfo;
use kube::core::Request as Resource;
use migrate_core::{Clock, Moment};
use migrate_executor::Report;
use migrate_kube::{TokioClock, connect, connect_anew};
use migrate_testbed::{KubeadmCluster, eventually};
use serde_json::{Value, json};
use tower::service_fn;

use crate::figure;
use crate::job::await_namespace;
use crate::real::cluster::list;
use crate::run::config;

/// What people apply: the run, its Jobs, its canaries.
const SHIPPED: [&str; 3] = [
    include_str!("../../docs/rbac.yaml"),
    include_str!("../../docs/rbac-job.yaml"),
    include_str!("../../docs/rbac-canary.yaml"),
];
/// The namespaces that they make.
const NAMESPACES: [&str; 2] = ["kube-migrate", "kube-migrate-canary"];
/// Where tokens of the account are asked for.
const TOKEN: &str = "/api/v1/namespaces/kube-system/serviceaccounts/kube-migrate/token";
/// How long a token is good, in seconds: longer than a run.
const GOOD_FOR: u32 = 3600;
const PATIENCE: Duration = Duration::from_secs(30);

/// One with exactly those rights.
pub(crate) struct Account {
    pub(crate) client: Client,
    /// The same, over a connection of its own for each request.
    pub(crate) fresh: Client,
    answers: Arc<Mutex<Vec<Answer>>>,
}

/// What the API said to a request.
#[derive(Clone, Debug, PartialEq)]
struct Answer {
    at: Moment,
    request: String,
    status: StatusCode,
}

impl Account {
    /// Applies the files as they are, and takes a token of the account that is in them.
    pub(crate) async fn open(cluster: &KubeadmCluster) -> Self {
        let admin = cluster.client();
        apply_rights(cluster).await;
        let mut config = config(cluster).await;
        config.auth_info = AuthInfo {
            token: Some(token(&admin).await.into()),
            ..AuthInfo::default()
        };
        let answers = Arc::default();
        let account = Self {
            client: recorded(connect(config.clone()).unwrap(), &answers),
            fresh: recorded(connect_anew(config).unwrap(), &answers),
            answers,
        };
        account.has_its_rights().await;
        account
    }

    /// New roles take a moment to count, and they are not those of an administrator.
    async fn has_its_rights(&self) {
        eventually("the rights of the account", PATIENCE, || async {
            for path in [
                "/api/v1/nodes",
                "/apis/batch/v1/namespaces/kube-migrate/jobs",
                "/api/v1/namespaces/kube-migrate-canary/pods",
            ] {
                list(&self.client, path).await?;
            }
            Ok::<_, String>(true)
        })
        .await
        .unwrap();
        self.answers.lock().unwrap().clear();
        let secrets = "/api/v1/namespaces/kube-system/secrets";
        assert!(list(&self.client, secrets).await.is_err());
        let answers = std::mem::take(&mut *self.answers.lock().unwrap());
        assert_eq!(answers.len(), 1, "answers are kept: {answers:?}");
        assert_eq!(answers[0].status, StatusCode::FORBIDDEN);
    }

    /// No right was missing: nothing was refused but what an API server that had just
    /// begun to serve, and did not know the roles yet, refused and then allowed.
    ///
    /// An administrator's requests do not meet that, for his group needs no role.
    pub(crate) fn missed_no_right(&self, report: &Report) {
        let answers = self.answers.lock().unwrap();
        let is_refused = |answer: &Answer| answer.status == StatusCode::FORBIDDEN;
        let refused = answers.iter().filter(|answer| is_refused(answer)).count();
        figure("kubeadm.account.answers", answers.len() as f64, "1");
        figure("kubeadm.account.refused", refused as f64, "1");
        assert!(!answers.is_empty());
        for (index, answer) in answers.iter().enumerate() {
            if !is_refused(answer) {
                continue;
            }
            println!("refused: {answer:?}");
            let mut outages = report.api_outages.iter();
            let is_of_a_new_server = outages.any(|outage| outage.since <= answer.at);
            assert!(is_of_a_new_server, "{answer:?}");
            let later = &answers[index..];
            let allowed = later
                .iter()
                .any(|later| later.request == answer.request && !is_refused(later));
            assert!(allowed, "never allowed: {answer:?}");
        }
    }
}

/// Applies what people apply, as it is.
pub(crate) async fn apply_rights(cluster: &KubeadmCluster) {
    for file in SHIPPED {
        apply(cluster, file).await;
    }
    for name in NAMESPACES {
        await_namespace(&cluster.client(), name).await;
    }
}

/// `kubectl apply` of a text, by an administrator.
pub(crate) async fn apply(cluster: &KubeadmCluster, text: &str) {
    let apply = "kubectl --kubeconfig /etc/kubernetes/admin.conf apply -f - <<< \"$1\"";
    let words = ["bash", "-euo", "pipefail", "-c", apply, "apply", text];
    cluster.nodes()[0].run(&words).await.unwrap();
}

/// `kubectl`, by an administrator.
pub(crate) async fn kubectl(cluster: &KubeadmCluster, words: &[&str]) {
    let admin = ["kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf"];
    let words = [&admin[..], words].concat();
    cluster.nodes()[0].run(&words).await.unwrap();
}

/// A token of the account, by an administrator.
async fn token(admin: &Client) -> String {
    let wanted = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"expirationSeconds": GOOD_FOR},
    });
    let request = Resource::new(TOKEN).create(&Default::default(), wanted.to_string().into_bytes());
    let given: Value = admin.request(request.unwrap()).await.unwrap();
    given["status"]["token"].as_str().unwrap().to_owned()
}

/// `client`, whose answers are kept.
fn recorded(client: Client, answers: &Arc<Mutex<Vec<Answer>>>) -> Client {
    let namespace = client.default_namespace().to_owned();
    let answers = Arc::clone(answers);
    let send = service_fn(move |request: Request<Body>| {
        let (client, answers) = (client.clone(), Arc::clone(&answers));
        async move {
            let asked = format!("{} {}", request.method(), request.uri().path());
            let answer = client.send(request).await?;
            answers.lock().unwrap().push(Answer {
                at: TokioClock::system().now(),
                request: asked,
                status: answer.status(),
            });
            Ok::<_, kube::Error>(answer)
        }
    });
    Client::new(send, namespace)
}
