//! Permissions: whether the API would let us do what a run does.

use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use http::header::CONTENT_TYPE;
use kube::Client;
use migrate_core::{Finding, ObjectName, Severity};
use migrate_kube::{ApiCall, Error};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, codes};
use crate::patience::patiently;
use crate::permissions::{Permission, REQUIRED, Target, Usage};

const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
/// Reviews in flight.
const CONCURRENCY: usize = 8;

#[derive(Deserialize)]
struct Review {
    status: ReviewStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReviewStatus {
    allowed: bool,
    reason: String,
}

/// Findings about every permission of [`REQUIRED`] that is missing.
pub(crate) async fn check(client: &Client) -> Answer {
    let mut reviews = Vec::new();
    for permission in REQUIRED {
        reviews.extend(
            permission
                .verbs
                .iter()
                // Each by itself: of so many one may always fail.
                .map(|verb| patiently(move || review(client, permission, verb).boxed())),
        );
    }
    let answers: Vec<Option<Finding>> = stream::iter(reviews)
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    Ok(answers.into_iter().flatten().collect())
}

async fn review(
    client: &Client,
    permission: &Permission,
    verb: &'static str,
) -> Result<Option<Finding>, Error> {
    let call = ApiCall::dynamic(
        "create",
        "authorization.k8s.io",
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
    );
    let body = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": spec(permission, verb),
    });
    let request = http::Request::post(REVIEWS)
        .header(CONTENT_TYPE, "application/json")
        .body(body.to_string().into_bytes())
        .map_err(|error| Error::Decode {
            call: call.clone(),
            message: error.to_string(),
        })?;
    let review = client
        .request::<Review>(request)
        .await
        .map_err(|error| call.failed(error))?;
    if review.status.allowed {
        return Ok(None);
    }
    let said = match review.status.reason.as_str() {
        "" => String::new(),
        reason => format!(" ({reason})"),
    };
    let evidence = format!("not allowed{said}, and needed {}", permission.why);
    Ok(Some(missing(
        permission.usage,
        &permission.call(verb),
        &evidence,
    )))
}

fn spec(permission: &Permission, verb: &str) -> Value {
    match permission.target {
        Target::Path(path) => json!({ "nonResourceAttributes": { "path": path, "verb": verb } }),
        Target::Resource { group, resource } => {
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            json!({
                "resourceAttributes": {
                    "verb": verb,
                    "group": group,
                    "resource": resource,
                    "subresource": subresource,
                    "namespace": permission.namespace.unwrap_or_default(),
                    "name": permission.name.unwrap_or_default(),
                },
            })
        }
    }
}

/// A check was refused what it wanted to read.
pub(crate) fn refused(check: &str, call: &ApiCall, message: &str) -> Finding {
    let evidence = format!("check {check} could not be made: {message}");
    missing(Usage::Check, call, &evidence)
}

fn missing(usage: Usage, call: &ApiCall, evidence: &str) -> Finding {
    let code = match usage {
        Usage::Run => codes::RUN_FORBIDDEN,
        Usage::Check => codes::CHECK_FORBIDDEN,
    };
    Finding::new(
        code,
        Severity::Blocker,
        ObjectName::cluster("Permission", call.to_string()),
        evidence,
        format!("add the rule {}", call.rule()),
    )
}
