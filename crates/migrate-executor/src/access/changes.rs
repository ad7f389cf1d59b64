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

use crate::state::budget_gone;

/// Watches everything, for as long as the stream is polled. What one watch
/// lists arrives with what the others list, in the first item.
pub(super) fn watch(
    client: &Client,
    input: &StepInput,
) -> BoxStream<'static, Result<Vec<Input>, StepError>> {
    let mut kinds = vec![
        of_kind(
            client,
            BTreeSet::new(),
            |node: &Node| Some(node.name_any()),
            node_seen,
            node_gone,
        ),
        of_kind(
            client,
            BTreeSet::new(),
            budget_key,
            budget_seen,
            budget_gone,
        ),
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

/// Watches one kind. `key` names what an object is to the rollout, if it is
/// anything; `seen` and `gone` say what the rollout is told of it. What is
/// `known` from before and not listed is gone.
fn of_kind<K, T>(
    client: &Client,
    mut known: BTreeSet<T>,
    key: impl Fn(&K) -> Option<T> + Send + 'static,
    seen: impl Fn(&K) -> Option<Input> + Send + 'static,
    gone: fn(T) -> Input,
) -> Watched
where
    K: Watchable,
    T: Clone + Ord + Send + 'static,
{
    let mut is_listed = false;
    migrate_kube::watch(Api::<K>::all(client.clone()), &Selection::all())
        .map(move |event| {
            let mut inputs = Vec::new();
            let listed = !is_listed;
            match event? {
                WatchEvent::Restarted(objects) => {
                    let now: BTreeSet<T> = objects.iter().filter_map(&key).collect();
                    inputs.extend(known.difference(&now).cloned().map(gone));
                    inputs.extend(objects.iter().filter_map(&seen));
                    known = now;
                    is_listed = true;
                }
                WatchEvent::Applied(object) => {
                    inputs.extend(seen(&object));
                    known.extend(key(&object));
                }
                WatchEvent::Deleted(object) => {
                    let key = key(&object);
                    if let Some(key) = &key {
                        known.remove(key);
                    }
                    inputs.extend(key.map(gone));
                }
                _ => {}
            }
            let listed = listed && is_listed;
            Ok(Seen { listed, inputs })
        })
        .boxed()
}

/// Watches a kind of workload for what its assumed budgets have left.
fn of_workloads<K: Watchable>(
    client: &Client,
    input: &StepInput,
    kind: &str,
    model: impl Fn(&K) -> Option<Workload> + Clone + Send + 'static,
) -> Watched {
    let policy: AssumedBudgetPolicy = input.policy.assumed_budgets.clone();
    let planned = input.model.workloads.iter();
    let known = planned
        .filter(|workload| workload.id.kind == kind && policy.room(workload).is_some())
        .map(|workload| BudgetKey::assumed(&workload.id))
        .collect();
    let to_model = model.clone();
    let key = move |object: &K| Some(BudgetKey::assumed(&to_model(object)?.id));
    let seen = move |object: &K| {
        let workload = model(object)?;
        let key = BudgetKey::assumed(&workload.id);
        // Scaled down to one, or given up by the policy: nothing is assumed.
        let allowed = policy.room(&workload).unwrap_or(u32::MAX);
        Some(Input::BudgetSeen { key, allowed })
    };
    of_kind(client, known, key, seen, budget_gone)
}

/// `None` for a node whose kubelet has not reported yet: nothing runs on it.
fn node_seen(node: &Node) -> Option<Input> {
    let node = node.to_model().ok()?;
    Some(Input::NodeSeen {
        node: node.name,
        ready: node.ready,
        unschedulable: node.unschedulable,
        kubelet_version: node.kubelet_version,
    })
}

fn node_gone(node: String) -> Input {
    Input::NodeGone { node }
}

fn budget_key(budget: &PodDisruptionBudget) -> Option<BudgetKey> {
    let budget = budget.to_model();
    Some(BudgetKey::real(budget.namespace, budget.name))
}

fn budget_seen(budget: &PodDisruptionBudget) -> Option<Input> {
    let budget = budget.to_model();
    Some(Input::BudgetSeen {
        key: BudgetKey::real(budget.namespace, budget.name),
        allowed: u32::try_from(budget.status.disruptions_allowed).unwrap_or(0),
    })
}
