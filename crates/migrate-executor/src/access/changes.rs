//! What the rollout is told of a real cluster: nodes, budgets, and what is left
//! of assumed budgets.

use std::collections::BTreeSet;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use kube::{Api, Client, ResourceExt};
use migrate_core::{AssumedBudgetPolicy, BudgetKey, StepError, StepInput, Workload};
use migrate_kube::resources::{Deployment, Node, PodDisruptionBudget, ReplicaSet, StatefulSet};
use migrate_kube::{Error, Selection, WatchEvent, Watchable};
use migrate_plan::Input;

use crate::state::{budget_gone, budget_seen, node_seen};

/// Watches everything, for as long as the stream is polled. What one watch
/// lists arrives with what the others list, in the first item.
pub(super) fn watch(
    client: &Client,
    input: &StepInput,
) -> BoxStream<'static, Result<Vec<Input>, StepError>> {
    let mut kinds = vec![
        of_kind(client, BTreeSet::new(), node_told, node_gone),
        of_kind(client, BTreeSet::new(), budget_told, budget_gone),
    ];
    if input.policy.assumed_budgets.enabled {
        kinds.push(of_workloads(
            client,
            input,
            "Deployment",
            |d: &Deployment| Some(d.to_model()),
        ));
        kinds.push(of_workloads(
            client,
            input,
            "StatefulSet",
            |s: &StatefulSet| Some(s.to_model()),
        ));
        // Most clusters have none that stands alone, and many that do not.
        let alone = |workload: &Workload| workload.id.kind == "ReplicaSet";
        if input.model.workloads.iter().any(alone) {
            let model = |set: &ReplicaSet| set.deployment().is_none().then(|| set.to_model());
            kinds.push(of_workloads(client, input, "ReplicaSet", model));
        }
    }
    let mut unlisted = kinds.len();
    let mut early = Vec::new();
    stream::select_all(kinds)
        .filter_map(move |seen| {
            let item = match seen {
                Err(error) => Some(Err(error.into())),
                Ok(Seen { listed, inputs }) => {
                    unlisted -= usize::from(listed);
                    early.extend(inputs);
                    (unlisted == 0).then(|| Ok(std::mem::take(&mut early)))
                }
            };
            std::future::ready(item)
        })
        .boxed()
}

/// What one event of one watch comes to.
struct Seen {
    /// It is the first list of its kind.
    listed: bool,
    inputs: Vec<Input>,
}

type Watched = BoxStream<'static, Result<Seen, Error>>;

/// Watches one kind. `told` names what an object is to the rollout, if it is
/// anything, and says what the rollout is told of it; `gone`, what it is told
/// when there is no such object any more. What is `known` from before and not
/// listed is gone.
fn of_kind<K, T>(
    client: &Client,
    mut known: BTreeSet<T>,
    told: impl Fn(&K) -> Option<(T, Option<Input>)> + Send + 'static,
    gone: fn(T) -> Input,
) -> Watched
where
    K: Watchable,
    T: Ord + Send + 'static,
{
    let mut is_listed = false;
    migrate_kube::watch(Api::<K>::all(client.clone()), &Selection::all())
        .map(move |event| {
            let mut inputs = Vec::new();
            let mut listed = false;
            match event? {
                WatchEvent::Restarted(objects) => {
                    let (now, seen): (_, Vec<_>) = objects.iter().filter_map(&told).unzip();
                    let before = std::mem::replace(&mut known, now);
                    let missing = before.into_iter().filter(|key| !known.contains(key));
                    inputs.extend(missing.map(gone));
                    inputs.extend(seen.into_iter().flatten());
                    listed = !std::mem::replace(&mut is_listed, true);
                }
                WatchEvent::Applied(object) => {
                    if let Some((key, seen)) = told(&object) {
                        inputs.extend(seen);
                        known.insert(key);
                    }
                }
                WatchEvent::Deleted(object) => {
                    if let Some((key, _)) = told(&object) {
                        known.remove(&key);
                        inputs.push(gone(key));
                    }
                }
                _ => {}
            }
            Ok(Seen { listed, inputs })
        })
        .boxed()
}

/// Watches a kind of workload for what its assumed budgets have left.
fn of_workloads<K: Watchable>(
    client: &Client,
    input: &StepInput,
    kind: &str,
    model: impl Fn(&K) -> Option<Workload> + Send + 'static,
) -> Watched {
    let policy: AssumedBudgetPolicy = input.policy.assumed_budgets.clone();
    let planned = input.model.workloads.iter();
    let known = planned
        .filter(|workload| workload.id.kind == kind && policy.room(workload).is_some())
        .map(|workload| BudgetKey::assumed(&workload.id))
        .collect();
    let told = move |object: &K| {
        let workload = model(object)?;
        let key = BudgetKey::assumed(&workload.id);
        // Scaled down to one, or given up by the policy: nothing is assumed.
        let allowed = policy.room(&workload).unwrap_or(u32::MAX);
        let seen = Input::BudgetSeen {
            key: key.clone(),
            allowed,
        };
        Some((key, Some(seen)))
    };
    of_kind(client, known, told, budget_gone)
}

/// Nothing is told of a node whose kubelet has not reported yet: nothing runs on
/// it.
fn node_told(node: &Node) -> Option<(String, Option<Input>)> {
    let model = node.to_model().ok();
    Some((node.name_any(), model.as_ref().map(node_seen)))
}

fn node_gone(node: String) -> Input {
    Input::NodeGone { node }
}

fn budget_told(budget: &PodDisruptionBudget) -> Option<(BudgetKey, Option<Input>)> {
    let budget = budget.to_model();
    let seen = budget_seen(&budget);
    let key = BudgetKey::real(budget.namespace, budget.name);
    Some((key, Some(seen)))
}
