//! I1: pods leave by eviction, within every budget.

use std::collections::BTreeMap;

use serde_json::Value;

use super::RuleChecker;
use super::owned::has_foreign_owner;
use super::state::{controller_kind, is_evictable, is_healthy, key, version};
use crate::object::{
    at, controller_of, int_at, int_or_percent, is_finished, is_terminating, labels, namespace,
    node_name, str_at, uid,
};
use crate::selector::Selector;

impl RuleChecker {
    pub(super) fn pod_applied(&mut self, pod: &Value) {
        let before = self.state.put("Pod", pod);
        self.component_seen(pod);
        if !node_name(pod).is_empty() {
            self.arrived
                .entry(uid(pod).to_owned())
                .or_insert_with(|| version(pod));
        }
        let replaced = before.as_ref().filter(|old| uid(old) != uid(pod)).cloned();
        if let Some(old) = replaced {
            // Deletion and new creation under the same name, seen as one.
            self.pod_left(&old);
        }
        self.owned.seen(pod);
        let starts_to_go = is_terminating(pod)
            && before.is_some_and(|old| uid(&old) == uid(pod) && is_healthy(&old));
        if starts_to_go && is_evictable(pod) {
            self.check_budgets(pod);
        }
    }

    pub(super) fn pod_left(&mut self, pod: &Value) {
        self.arrived.remove(uid(pod));
        self.owned.left(pod);
        self.component_gone(pod);
        if is_evictable(pod) && !node_name(pod).is_empty() {
            let end = (key(pod), version(pod));
            self.gone.entry(uid(pod).to_owned()).or_insert(end);
        }
        // Gone at once, without ever having been seen terminating.
        let known = self
            .state
            .get("Pod", namespace(pod), crate::object::name(pod));
        if known.is_some_and(|known| uid(known) == uid(pod) && is_healthy(known))
            && is_evictable(pod)
        {
            self.state.remove("Pod", pod);
            self.check_budgets(pod);
        }
    }

    /// After a healthy `pod` began to go: does every budget that counted it
    /// still have what it needs?
    fn check_budgets(&mut self, pod: &Value) {
        let space = namespace(pod).to_owned();
        let mut broken = Vec::new();
        let mut guarded = false;
        for budget in self.state.of_namespace("PodDisruptionBudget", &space) {
            let selector = Selector::parse(at(budget, &["spec", "selector"]));
            if !selector.matches(labels(pod)) {
                continue;
            }
            guarded = true;
            let members: Vec<&Value> = self
                .state
                .of_namespace("Pod", &space)
                .filter(|other| selector.matches(labels(other)) && !is_finished(other))
                .collect();
            let healthy = members.iter().filter(|other| is_healthy(other)).count();
            let needed = self.needed(budget, &members);
            if healthy < needed {
                broken.push(format!(
                    "pod {} was evicted: budget {} needs {needed} healthy pods and has {healthy}",
                    key(pod),
                    key(budget)
                ));
            }
        }
        if !guarded {
            broken.extend(self.check_assumed(pod));
        }
        for what in broken {
            self.broken("I1", version(pod), what);
        }
    }

    fn check_assumed(&self, pod: &Value) -> Option<String> {
        let controller = controller_of(pod)?;
        let wanted = self.wanted_of(pod, controller)?;
        let settings = &self.settings;
        if wanted < 2 || settings.nothing_assumed_in.contains(namespace(pod)) {
            return None;
        }
        let owner = str_at(controller, &["uid"]);
        let healthy = self
            .state
            .of_namespace("Pod", namespace(pod))
            .filter(|other| controller_of(other).is_some_and(|c| str_at(c, &["uid"]) == owner))
            .filter(|other| is_healthy(other))
            .count();
        let total = i64::try_from(wanted).unwrap_or(i64::MAX);
        let may_go = int_or_percent(&settings.assumed_max_unavailable, total, true).unwrap_or(0);
        let needed = usize::try_from(total.saturating_sub(may_go)).unwrap_or(0);
        (healthy < needed).then(|| {
            format!(
                "pod {} was evicted: its {} without a budget is assumed to need {needed} healthy pods and has {healthy}",
                key(pod),
                controller_kind(pod)
            )
        })
    }

    /// Healthy pods a PodDisruptionBudget needs, as the disruption controller
    /// computes it: percentages round up, of the replicas its pods' controllers want.
    fn needed(&self, budget: &Value, members: &[&Value]) -> usize {
        let mut controllers: BTreeMap<&str, usize> = BTreeMap::new();
        for member in members {
            if let Some(controller) = controller_of(member) {
                let wanted = self.wanted_of(member, controller).unwrap_or(0);
                controllers.insert(str_at(controller, &["uid"]), wanted);
            }
        }
        let expected = i64::try_from(controllers.values().sum::<usize>()).unwrap_or(i64::MAX);
        let resolved = |field: &str| int_or_percent(at(budget, &["spec", field])?, expected, true);
        let needed = match resolved("maxUnavailable") {
            Some(max) => expected - max,
            None => resolved("minAvailable").unwrap_or(0),
        };
        usize::try_from(needed).unwrap_or(0)
    }

    /// How many pods the controller of `pod` wants.
    fn wanted_of(&self, pod: &Value, controller: &Value) -> Option<usize> {
        if has_foreign_owner(pod) {
            return Some(self.owned.most(str_at(controller, &["uid"])));
        }
        let kind = str_at(controller, &["kind"]);
        let name = str_at(controller, &["name"]);
        let object = self.state.get(kind, namespace(pod), name)?;
        usize::try_from(int_at(object, &["spec", "replicas"]).unwrap_or(1)).ok()
    }
}
