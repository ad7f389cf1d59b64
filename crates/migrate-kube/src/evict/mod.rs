//! Asking the API to evict a pod.

mod answer;
#[cfg(test)]
mod tests;

pub use answer::EvictionAnswer;

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use migrate_core::PodId;
use serde::Serialize;

use crate::retry::named_pause;
use crate::{ApiCall, resources};

/// How to ask for an eviction.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct EvictOptions {
    /// Seconds of grace; `None` is the pod's own, 0 kills it at once.
    pub grace: Option<u32>,
    /// Only ask whether it would be allowed: nothing changes, no budget is spent.
    pub dry_run: bool,
    /// How long to wait for the answer.
    pub deadline: Duration,
}

impl Default for EvictOptions {
    /// The pod's own grace, for real, within 10 s.
    fn default() -> Self {
        Self {
            grace: None,
            dry_run: false,
            deadline: Duration::from_secs(10),
        }
    }
}

impl EvictOptions {
    /// With this grace period in seconds instead of the pod's own.
    #[must_use]
    pub fn with_grace(mut self, seconds: u32) -> Self {
        self.grace = Some(seconds);
        self
    }

    /// As a question only.
    #[must_use]
    pub fn with_dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// With this long to answer.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

/// Asks once for the eviction of exactly this incarnation of a pod.
///
/// # Guarantees
/// One request, whose uid precondition keeps a pod of the same name that came
/// later from being evicted. Every outcome is an answer; after `deadline` it is
/// [`EvictionAnswer::Unknown`] and nothing of the request is left running here.
///
/// # Assumptions
/// `client` sends each request once, as one made by [`connect`](crate::connect)
/// does. One that repeats them makes this slower, not wrong: the deadline cuts
/// the repetitions off.
///
/// # Caveats
/// Compare the uid with what a watch shows before asking: a refused
/// precondition still spends the budget, see [`EvictionAnswer::OtherPod`].
pub async fn evict(client: &Client, pod: &PodId, options: &EvictOptions) -> EvictionAnswer {
    let request = match request(pod, options) {
        Ok(request) => request,
        Err(reason) => return EvictionAnswer::NotSent { reason },
    };
    let exchange = async {
        let response = client.send(request).await?;
        read(response).await
    };
    match tokio::time::timeout(options.deadline, exchange).await {
        Ok(Ok(reply)) => answer::interpret(pod, &reply),
        Ok(Err(error)) => {
            let call = ApiCall::new::<resources::Pod>("create")
                .subresource("eviction")
                .within(&pod.namespace)
                .named(&pod.name);
            answer::without_reply(call.failed(error))
        }
        Err(_) => EvictionAnswer::Unknown {
            reason: format!("no answer within {} s", options.deadline.as_secs_f64()),
        },
    }
}

/// What came back, before it is interpreted.
struct Reply {
    code: u16,
    retry_after: Option<Duration>,
    body: Vec<u8>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Eviction<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: EvictionMeta<'a>,
    delete_options: DeleteOptions<'a>,
}

#[derive(Serialize)]
struct EvictionMeta<'a> {
    name: &'a str,
    namespace: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeleteOptions<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    dry_run: Option<[&'static str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grace_period_seconds: Option<u32>,
    preconditions: Preconditions<'a>,
}

#[derive(Serialize)]
struct Preconditions<'a> {
    uid: &'a str,
}

/// The request. A dry run is named in the query and in the body; the server
/// wants both to agree if both are there.
fn request(pod: &PodId, options: &EvictOptions) -> Result<Request<Body>, String> {
    let PodId {
        namespace,
        name,
        uid,
    } = pod;
    if [namespace, name, uid].into_iter().any(String::is_empty) {
        return Err(format!("pod {pod} has no namespace, name or uid"));
    }
    let query = if options.dry_run { "?dryRun=All" } else { "" };
    let body = serde_json::to_vec(&Eviction {
        api_version: "policy/v1",
        kind: "Eviction",
        metadata: EvictionMeta { name, namespace },
        delete_options: DeleteOptions {
            dry_run: options.dry_run.then_some(["All"]),
            grace_period_seconds: options.grace,
            preconditions: Preconditions { uid },
        },
    });
    let body = body.map_err(|error| error.to_string())?;
    Request::post(format!(
        "/api/v1/namespaces/{namespace}/pods/{name}/eviction{query}"
    ))
    .header(CONTENT_TYPE, "application/json")
    .body(Body::from(body))
    .map_err(|error| error.to_string())
}

async fn read(response: Response<Body>) -> Result<Reply, kube::Error> {
    let code = response.status().as_u16();
    let retry_after = named_pause(response.headers());
    let body = response.into_body().collect_bytes().await?.to_vec();
    Ok(Reply {
        code,
        retry_after,
        body,
    })
}
