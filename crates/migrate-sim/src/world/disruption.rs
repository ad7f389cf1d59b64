//! Disruption budgets: how many healthy pods there are, and how many may go.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::context::Context;
use super::work::{Key, Work};
use crate::object::{
    array_at, at, condition, int_or_percent, is_ready, is_terminating, name, parse_timestamp,
    set_at, str_at, timestamp,
};
use crate::store::{Object, Resource};

/// An evicted pod counts as gone for this long, whatever the API shows.
const DELETION_TIMEOUT_MS: u64 = 120_000;

/// Looks at one budget.
///
/// Both percentages are rounded up; the expected number is the scale of the
/// pods' controllers, or the number of pods where `minAvailable` is a number.
pub(crate) fn sync(cx: &mut Context<'_>, key: &Key) {
    let Some(budget) = cx.get(Resource::POD_DISRUPTION_BUDGETS, key) else {
        return;
    };
    let pods: Vec<Arc<Object>> = cx
        .index
        .budgets
        .pods_of(key)
        .filter_map(|pod| cx.store.get(Resource::PODS, &key.namespace, pod))
        .cloned()
        .collect();
    let generation = budget.generation();
    let now = cx.now;
    match expectation(cx, &budget.json, &pods) {
        Ok(expectation) => {
            let (disrupted, recheck) = disrupted_pods(&budget.json, &pods, now);
            if let Some(at) = recheck {
                cx.again_at(at, Work::Budget(key.clone()));
            }
            let is_healthy = |pod: &&Arc<Object>| {
                !is_terminating(&pod.json)
                    && !disrupted.contains_key(&pod.name)
                    && is_ready(&pod.json)
            };
            let healthy = i64::try_from(pods.iter().filter(is_healthy).count()).unwrap_or(i64::MAX);
            let allowed = if expectation.pods <= 0 {
                0
            } else {
                (healthy - expectation.healthy).max(0)
            };
            cx.modify(Resource::POD_DISRUPTION_BUDGETS, key, |budget| {
                set_at(budget, &["status", "currentHealthy"], healthy);
                set_at(budget, &["status", "desiredHealthy"], expectation.healthy);
                set_at(budget, &["status", "expectedPods"], expectation.pods);
                set_at(budget, &["status", "disruptionsAllowed"], allowed);
                if disrupted.is_empty() {
                    crate::object::remove_at(budget, &["status", "disruptedPods"]);
                } else {
                    set_at(budget, &["status", "disruptedPods"], disrupted);
                }
                set_at(budget, &["status", "observedGeneration"], generation);
                let (status, reason) = if allowed > 0 {
                    ("True", "SufficientPods")
                } else {
                    ("False", "InsufficientPods")
                };
                set_allowed(budget, status, reason, "", generation, now);
            });
        }
        Err(message) => {
            cx.modify(Resource::POD_DISRUPTION_BUDGETS, key, |budget| {
                set_at(budget, &["status", "disruptionsAllowed"], 0);
                set_allowed(budget, "False", "SyncFailed", &message, generation, now);
            });
        }
    }
}

/// What a budget wants to see.
struct Expectation {
    /// How many pods there should be.
    pods: i64,
    /// How many of them must be healthy.
    healthy: i64,
}

fn expectation(
    cx: &Context<'_>,
    budget: &Value,
    pods: &[Arc<Object>],
) -> Result<Expectation, String> {
    if let Some(limit) = at(budget, &["spec", "maxUnavailable"]) {
        let expected = expected_scale(cx, pods)?;
        let unavailable = int_or_percent(limit, expected, true).ok_or_else(|| malformed(limit))?;
        return Ok(Expectation {
            pods: expected,
            healthy: (expected - unavailable).max(0),
        });
    }
    match at(budget, &["spec", "minAvailable"]) {
        Some(limit @ Value::String(_)) => {
            let expected = expected_scale(cx, pods)?;
            let healthy = int_or_percent(limit, expected, true).ok_or_else(|| malformed(limit))?;
            Ok(Expectation {
                pods: expected,
                healthy,
            })
        }
        Some(limit) => {
            let healthy = limit.as_i64().ok_or_else(|| malformed(limit))?;
            Ok(Expectation {
                pods: i64::try_from(pods.len()).unwrap_or(i64::MAX),
                healthy,
            })
        }
        None => Ok(Expectation {
            pods: 0,
            healthy: 0,
        }),
    }
}

fn malformed(limit: &Value) -> String {
    format!("invalid value for IntOrString: {limit}")
}

/// The sum of the scales of the pods' controllers; pods without one do not count.
fn expected_scale(cx: &Context<'_>, pods: &[Arc<Object>]) -> Result<i64, String> {
    let mut scales: BTreeMap<String, i64> = BTreeMap::new();
    for pod in pods {
        let Some(owner) = pod.controller() else {
            continue;
        };
        if scales.contains_key(str_at(owner, &["uid"])) {
            continue;
        }
        let scale = scale_of(cx, &pod.namespace, owner)?
            .ok_or_else(|| format!("found no controllers for pod {:?}", pod.name))?;
        scales.insert(str_at(owner, &["uid"]).to_owned(), scale);
    }
    // Several ReplicaSets of one Deployment stand for that Deployment once.
    let mut deployments: BTreeMap<String, i64> = BTreeMap::new();
    let mut total = 0;
    for (uid, scale) in scales {
        match deployment_of(cx, pods, &uid) {
            Some((deployment, replicas)) => {
                deployments.insert(deployment, replicas);
            }
            None => total += scale,
        }
    }
    Ok(total + deployments.values().sum::<i64>())
}

/// The scale of one controller; `None` when it is not there.
fn scale_of(cx: &Context<'_>, namespace: &str, owner: &Value) -> Result<Option<i64>, String> {
    let Some(resource) =
        Resource::by_kind(str_at(owner, &["apiVersion"]), str_at(owner, &["kind"]))
    else {
        return Ok(None);
    };
    if !resource.has_scale {
        return Err(format!(
            "{} does not implement the scale subresource",
            resource.qualified()
        ));
    }
    let controller = cx.get(resource, &Key::new(namespace, name_of(owner)));
    Ok(controller
        .filter(|controller| controller.uid() == str_at(owner, &["uid"]))
        .map(|controller| super::workload::replicas_of(&controller.json)))
}

/// The Deployment behind a ReplicaSet, with its scale.
fn deployment_of(cx: &Context<'_>, pods: &[Arc<Object>], set_uid: &str) -> Option<(String, i64)> {
    let pod = pods.iter().find(|pod| {
        pod.controller()
            .is_some_and(|owner| str_at(owner, &["uid"]) == set_uid)
    })?;
    let owner = pod
        .controller()
        .filter(|owner| str_at(owner, &["kind"]) == "ReplicaSet")?;
    let set = cx.get(
        Resource::REPLICA_SETS,
        &Key::new(pod.namespace.as_str(), name_of(owner)),
    )?;
    let owner = set
        .controller()
        .filter(|owner| str_at(owner, &["kind"]) == "Deployment")?;
    let deployment = cx.get(
        Resource::DEPLOYMENTS,
        &Key::new(pod.namespace.as_str(), name_of(owner)),
    )?;
    Some((
        deployment.uid().to_owned(),
        super::workload::replicas_of(&deployment.json),
    ))
}

fn name_of(owner: &Value) -> &str {
    str_at(owner, &["name"])
}

/// Evicted pods whose deletion the API does not show yet, and when to look again.
fn disrupted_pods(
    budget: &Value,
    pods: &[Arc<Object>],
    now: u64,
) -> (Map<String, Value>, Option<u64>) {
    let mut still = Map::new();
    let mut recheck: Option<u64> = None;
    let Some(noted) = at(budget, &["status", "disruptedPods"]).and_then(Value::as_object) else {
        return (still, recheck);
    };
    for pod in pods.iter().filter(|pod| !is_terminating(&pod.json)) {
        let Some(evicted) = noted.get(name(&pod.json)) else {
            continue;
        };
        let until = evicted
            .as_str()
            .and_then(parse_timestamp)
            .unwrap_or_default()
            + DELETION_TIMEOUT_MS;
        if until > now {
            still.insert(pod.name.clone(), evicted.clone());
            recheck = Some(recheck.unwrap_or(until).min(until));
        }
    }
    (still, recheck)
}

fn set_allowed(
    budget: &mut Value,
    status: &str,
    reason: &str,
    message: &str,
    generation: u64,
    now: u64,
) {
    let before = condition(budget, "DisruptionAllowed");
    let since = before
        .filter(|before| str_at(before, &["status"]) == status)
        .map_or_else(
            || timestamp(now),
            |before| str_at(before, &["lastTransitionTime"]).to_owned(),
        );
    let entry = json!({
        "type": "DisruptionAllowed", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": since, "observedGeneration": generation,
    });
    let conditions = array_at(budget, &["status", "conditions"]);
    conditions.retain(|condition| str_at(condition, &["type"]) != "DisruptionAllowed");
    conditions.push(entry);
}
