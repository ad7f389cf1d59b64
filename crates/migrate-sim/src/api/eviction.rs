//! `POST pods/{name}/eviction`: a deletion that disruption budgets can refuse.
//!
//! The order of the checks is that of the real handler. Everything happens
//! under one lock of the store, so that nobody writes in between by chance; that
//! somebody does until the handler's tries are spent is a fault
//! ([`Fault::Contend`](super::Fault::Contend)).

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Contended;
use super::request::delete_options;
use crate::object::{
    Condition, condition, int_at, is_finished, is_ready, set_at, set_condition, str_at,
};
use crate::selector::Selector;
use crate::store::{ApiError, DeleteOptions, Object, Resource, Store};

/// More names than this in `disruptedPods` mean that the budget's controller is not there.
const MAX_DISRUPTED_PODS: usize = 2_000;

/// Seconds a client is told to wait while a budget is not yet observed.
const RETRY_AFTER_SECONDS: u32 = 10;

/// How long the handler goes on trying: 20 times, half a second apart.
pub(super) const TRIES: Duration = Duration::from_millis(9_500);

/// Evicts a pod; `query_dry_run` is the `dryRun` of the query, `contended` what
/// others write all the while.
///
/// A failed uid or resourceVersion precondition still costs the budget one
/// disruption, as it does on the real server: the budget is debited first.
///
/// # Errors
/// Each refusal with the code, reason, causes and `Retry-After` of the real server.
pub(super) fn evict(
    store: &mut Store,
    namespace: &str,
    name: &str,
    body: &[u8],
    query_dry_run: bool,
    contended: Option<Contended>,
) -> Result<(), ApiError> {
    let options = read(name, body, query_dry_run)?;
    store.check_namespace(Resource::PODS, namespace, name)?;
    let pod = store
        .get(Resource::PODS, namespace, name)
        .cloned()
        .ok_or_else(|| ApiError::not_found(Resource::PODS, name))?;
    // Only then does the handler name a version of its own, and can miss it.
    let pod_is_contended = contended == Some(Contended::Pod) && options.resource_version.is_none();
    if pod.is_terminating() || is_finished(&pod.json) {
        return delete(store, &pod, &options);
    }
    if pod.phase() == "Pending" {
        if pod_is_contended {
            return Err(outrun(Resource::PODS, name));
        }
        return delete(store, &pod, &options);
    }
    match budgets_of(store, &pod).as_slice() {
        [] => {}
        [budget] if unready_pod_may_go(&pod, budget) => {
            if pod_is_contended {
                return Err(not_observed(&budget.name));
            }
        }
        [budget] => debit(store, &pod, budget, options.dry_run, contended)?,
        [..] => {
            return Err(ApiError::Other {
                code: 500,
                reason: String::new(),
                message: "This pod has more than one PodDisruptionBudget, which the eviction subresource \
                          does not support."
                    .to_owned(),
                retry_after_seconds: None,
            });
        }
    }
    delete(store, &pod, &options)
}

/// Reads the `Eviction` object.
fn read(name: &str, body: &[u8], query_dry_run: bool) -> Result<DeleteOptions, ApiError> {
    let eviction: Value = serde_json::from_slice(body).map_err(|error| {
        ApiError::bad_request(format!(
            "couldn't get version/kind; json parse error: {error}"
        ))
    })?;
    let (version, kind) = (
        str_at(&eviction, &["apiVersion"]),
        str_at(&eviction, &["kind"]),
    );
    if !matches!(version, "" | "policy/v1" | "policy/v1beta1") || !matches!(kind, "" | "Eviction") {
        let message = format!(
            "no kind {kind:?} is registered for version {version:?} in the eviction subresource"
        );
        return Err(ApiError::bad_request(message));
    }
    if str_at(&eviction, &["metadata", "name"]) != name {
        return Err(ApiError::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let options = &eviction["deleteOptions"];
    if options["ignoreStoreReadErrorWithClusterBreakingPotential"] == true {
        let message = "Invalid value: true: cannot be set together with an eviction";
        return Err(ApiError::invalid(
            Resource::PODS,
            name,
            "ignoreStoreReadErrorWithClusterBreakingPotential",
            "FieldValueInvalid",
            message,
        ));
    }
    let mut read = delete_options(options)?;
    read.dry_run |= query_dry_run;
    Ok(read)
}

/// The budgets of the pod's namespace that select it; a missing or invalid
/// selector selects nothing, an empty one everything.
fn budgets_of(store: &Store, pod: &Object) -> Vec<Arc<Object>> {
    store
        .list(Resource::POD_DISRUPTION_BUDGETS, Some(&pod.namespace))
        .filter(|budget| Selector::parse(budget.json["spec"].get("selector")).matches(pod.labels()))
        .cloned()
        .collect()
}

/// Whether the pod is not Ready and its budget lets such pods go without a debit.
fn unready_pod_may_go(pod: &Object, budget: &Object) -> bool {
    if is_ready(&pod.json) {
        return false;
    }
    let count = |field: &str| int_at(&budget.json, &["status", field]).unwrap_or_default();
    let enough_healthy =
        count("currentHealthy") >= count("desiredHealthy") && count("desiredHealthy") > 0;
    str_at(&budget.json, &["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow" || enough_healthy
}

/// The tries are spent: each found a version newer than the one it had read.
fn outrun(resource: &'static Resource, name: &str) -> ApiError {
    let message = "the object has been modified; please apply your changes to the latest version and try again";
    ApiError::conflict(resource, name, message)
}

fn not_observed(budget: &str) -> ApiError {
    ApiError::DisruptionBudget {
        cause: format!("The disruption budget {budget} is still being processed by the server."),
        retry_after_seconds: Some(RETRY_AFTER_SECONDS),
    }
}

/// Checks the budget and takes one disruption from it.
fn debit(
    store: &mut Store,
    pod: &Object,
    budget: &Object,
    dry_run: bool,
    contended: Option<Contended>,
) -> Result<(), ApiError> {
    let status = &budget.json["status"];
    let name = budget.name.as_str();
    let allowed = int_at(status, &["disruptionsAllowed"]).unwrap_or_default();
    let observed = status["observedGeneration"].as_u64().unwrap_or_default();
    if observed < budget.generation() {
        return Err(not_observed(name));
    }
    let forbidden = |message: &str| ApiError::Forbidden {
        resource: Resource::POD_DISRUPTION_BUDGETS,
        name: name.to_owned(),
        message: message.to_owned(),
        cause: None,
    };
    if allowed < 0 {
        return Err(forbidden("pdb disruptions allowed is negative"));
    }
    if status["disruptedPods"]
        .as_object()
        .map_or(0, serde_json::Map::len)
        > MAX_DISRUPTED_PODS
    {
        return Err(forbidden(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if allowed == 0 {
        return Err(ApiError::DisruptionBudget {
            cause: exhausted(budget),
            retry_after_seconds: None,
        });
    }
    if dry_run {
        return Ok(());
    }
    if contended == Some(Contended::Budget) {
        return Err(outrun(Resource::POD_DISRUPTION_BUDGETS, name));
    }
    let now = store.now_ms();
    let timestamp = store.timestamp();
    store.modify(
        Resource::POD_DISRUPTION_BUDGETS,
        &budget.namespace,
        name,
        |budget| {
            set_at(budget, &["status", "disruptionsAllowed"], allowed - 1);
            set_at(budget, &["status", "disruptedPods", &pod.name], timestamp);
            if allowed == 1 {
                set_condition(
                    budget,
                    Condition::new("DisruptionAllowed", "False").because("InsufficientPods", ""),
                    now,
                );
            }
        },
    )?;
    Ok(())
}

/// Why a budget allows no disruption, as the cause says it.
fn exhausted(budget: &Object) -> String {
    let name = &budget.name;
    let allowed = condition(&budget.json, "DisruptionAllowed");
    let reason = allowed.map_or("", |c| str_at(c, &["reason"]));
    let message = allowed.map_or("", |c| str_at(c, &["message"]));
    let is_true = allowed.is_some_and(|c| str_at(c, &["status"]) == "True");
    if allowed.is_none() || is_true || reason == "InsufficientPods" {
        let count = |field: &str| int_at(&budget.json, &["status", field]).unwrap_or_default();
        format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            count("desiredHealthy"),
            count("currentHealthy"),
        )
    } else if reason == "SyncFailed" {
        format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {message}"
        )
    } else {
        format!(
            "The disruption budget {name} does not allow evicting pods currently ({reason}): {message}"
        )
    }
}

/// Marks the pod as disrupted and deletes it.
fn delete(store: &mut Store, pod: &Object, options: &DeleteOptions) -> Result<(), ApiError> {
    // The precondition holds for the pod as the client saw it, so it is tested
    // before the condition makes a new version.
    store.delete(
        Resource::PODS,
        &pod.namespace,
        &pod.name,
        &DeleteOptions {
            dry_run: true,
            ..options.clone()
        },
    )?;
    if options.dry_run {
        return Ok(());
    }
    let now = store.now_ms();
    store.modify(Resource::PODS, &pod.namespace, &pod.name, |json| {
        let disrupted = Condition::new("DisruptionTarget", "True");
        set_condition(
            json,
            disrupted.because("EvictionByEvictionAPI", "Eviction API: evicting"),
            now,
        );
    })?;
    let options = DeleteOptions {
        resource_version: None,
        ..options.clone()
    };
    store
        .delete(Resource::PODS, &pod.namespace, &pod.name, &options)
        .map(drop)
}

/// The body of an accepted eviction.
pub(super) fn accepted() -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 })
}
