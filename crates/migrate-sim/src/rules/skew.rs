//! I4: which versions may run beside each other.
//!
//! The published version skew policy once more, in a few lines: whoever judges
//! does not ask the tables of those who are judged.

use std::fmt;

use serde_json::Value;

use super::RuleChecker;
use super::state::{controller_kind, key, version};
use crate::object::{controller_of, items_at, label, name, namespace, node_name, str_at};

/// Major and minor version.
pub(super) type Minor = (u32, u32);

/// What the skew policy speaks of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Component {
    ApiServer,
    ControllerManager,
    Kubelet,
    KubeProxy,
    Scheduler,
}

/// A component that runs on a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Running {
    component: Component,
    node: String,
    minor: Minor,
}

impl RuleChecker {
    pub(super) fn component_seen(&mut self, pod: &Value) {
        if let Some(running) = running(pod) {
            self.runs(key(pod), running, version(pod));
        }
    }

    pub(super) fn component_gone(&mut self, pod: &Value) {
        // Another pod may have the name already.
        if self.running.get(&key(pod)) == running(pod).as_ref() {
            self.running.remove(&key(pod));
        }
    }

    pub(super) fn kubelet_seen(&mut self, node: &Value) {
        if let Some(minor) = minor(kubelet(node)) {
            let running = Running {
                component: Component::Kubelet,
                node: name(node).to_owned(),
                minor,
            };
            self.runs(key(node), running, version(node));
        }
    }

    /// The newest minor version of an API server that a pod shows.
    pub(super) fn newest_api_server(&self) -> Option<Minor> {
        let api_servers = self.running.values();
        api_servers
            .filter(|running| running.component == Component::ApiServer)
            .map(|running| running.minor)
            .max()
    }

    pub(super) fn kubelet_gone(&mut self, node: &Value) {
        self.running.remove(&key(node));
    }

    fn runs(&mut self, object: String, running: Running, at: u64) {
        if self.running.get(&object) == Some(&running) {
            return;
        }
        let is_api_server = running.component == Component::ApiServer;
        self.running.insert(object.clone(), running);
        let judged: Vec<&String> = match is_api_server {
            true => self.running.keys().collect(),
            false => vec![&object],
        };
        let broken: Vec<String> = judged
            .into_iter()
            .filter_map(|object| self.skew_of(object))
            .collect();
        for what in broken {
            self.broken("I4", at, what);
        }
    }

    /// What is wrong with the version of what `object` shows.
    fn skew_of(&self, object: &str) -> Option<String> {
        let judged = self.running.get(object)?;
        let of = |component| {
            let all = self.running.values();
            all.filter(move |other: &&Running| other.component == component)
        };
        let here = |other: &&Running| other.node == judged.node;
        let is_local = matches!(
            judged.component,
            Component::ControllerManager | Component::Scheduler
        );
        let local = || of(Component::ApiServer).filter(here).map(|api| api.minor);
        let reached: Vec<Minor> = match is_local && local().next().is_some() {
            true => local().collect(),
            false => of(Component::ApiServer).map(|api| api.minor).collect(),
        };
        let (oldest, newest) = (*reached.iter().min()?, *reached.iter().max()?);
        if !may_reach(judged.component, judged.minor, oldest, newest) {
            let range = match oldest == newest {
                true => shown(oldest),
                false => format!("{} to {}", shown(oldest), shown(newest)),
            };
            return Some(format!(
                "{} of {} is {} beside API servers of {range}",
                judged.component,
                judged.node,
                shown(judged.minor)
            ));
        }
        let kubelet = of(Component::Kubelet).find(here)?.minor;
        let is_far = judged.component == Component::KubeProxy && !may_meet(judged.minor, kubelet);
        is_far.then(|| {
            format!(
                "kube-proxy of {} is {} beside a kubelet of {}",
                judged.node,
                shown(judged.minor),
                shown(kubelet)
            )
        })
    }
}

/// Whether `component` may talk to API servers from `oldest` to `newest`.
fn may_reach(component: Component, own: Minor, oldest: Minor, newest: Minor) -> bool {
    if own.0 != oldest.0 || own.0 != newest.0 {
        return false;
    }
    let behind = newest.1.saturating_sub(own.1);
    match component {
        Component::ApiServer => newest.1 - oldest.1 <= 1,
        Component::ControllerManager | Component::Scheduler => own <= oldest && behind <= 1,
        Component::Kubelet | Component::KubeProxy => own <= oldest && behind <= reach_of(own),
    }
}

/// Whether a kube-proxy may serve the node of a kubelet.
fn may_meet(proxy: Minor, kubelet: Minor) -> bool {
    proxy.0 == kubelet.0 && proxy.1.abs_diff(kubelet.1) <= reach_of(proxy)
}

/// Minors that an agent of a node may be behind.
fn reach_of(agent: Minor) -> u32 {
    if agent < (1, 25) { 2 } else { 3 }
}

/// The component that `pod` is, if it shows its version.
fn running(pod: &Value) -> Option<Running> {
    let by_label = match label(pod, "component") {
        Some("kube-apiserver") => Some(Component::ApiServer),
        Some("kube-controller-manager") => Some(Component::ControllerManager),
        Some("kube-scheduler") => Some(Component::Scheduler),
        _ => None,
    };
    let component = by_label.or_else(|| {
        let owner = controller_of(pod).map_or("", |owner| str_at(owner, &["name"]));
        let is_proxy = controller_kind(pod) == "DaemonSet" && owner == "kube-proxy";
        is_proxy.then_some(Component::KubeProxy)
    })?;
    if namespace(pod) != "kube-system" {
        return None;
    }
    let containers = items_at(pod, &["spec", "containers"]);
    let (_, tag) = str_at(containers.first()?, &["image"]).rsplit_once(':')?;
    Some(Running {
        component,
        node: node_name(pod).to_owned(),
        // The tags of releases are versions with a `v`; others, as of a stand-in
        // for the program, say nothing.
        minor: minor(tag.strip_prefix('v')?)?,
    })
}

pub(super) fn kubelet(node: &Value) -> &str {
    str_at(node, &["status", "nodeInfo", "kubeletVersion"])
}

/// Major and minor of `v1.37.2`.
pub(super) fn minor(version: &str) -> Option<Minor> {
    let mut parts = version.trim_start_matches('v').split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn shown((major, minor): Minor) -> String {
    format!("{major}.{minor}")
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube-proxy",
            Self::Scheduler => "kube-scheduler",
        })
    }
}

#[cfg(test)]
mod tests {
    use migrate_core::skew::{ComponentInstance, Reachable, check};
    use migrate_core::version::MinorVersion;

    use super::*;

    /// Two hands wrote the policy down, for the judged and for the judge.
    #[test]
    fn agrees_with_the_skew_rules_of_migrate_core() {
        let of = |minor| MinorVersion::new(1, minor);
        let theirs = |component, own, reaches: Reachable| {
            ComponentInstance::new(component, "x", of(own).into(), reaches)
        };
        for own in 20..42 {
            for (oldest, newest) in
                (20..40).flat_map(|old| (old..old + 4).map(move |new| (old, new)))
            {
                use migrate_core::skew::Component as Theirs;
                for (ours, component) in [
                    (Component::ControllerManager, Theirs::ControllerManager),
                    (Component::Kubelet, Theirs::Kubelet),
                    (Component::KubeProxy, Theirs::KubeProxy),
                    (Component::Scheduler, Theirs::Scheduler),
                ] {
                    let legal = check(&theirs(
                        component,
                        own,
                        [of(oldest), of(newest)].into_iter().collect(),
                    ));
                    let ours = may_reach(ours, (1, own), (1, oldest), (1, newest));
                    assert_eq!(
                        ours,
                        legal.is_empty(),
                        "{component} {own} at {oldest} to {newest}"
                    );
                }
            }
            for other in 20..42 {
                let all = [of(own), of(other)].into_iter().collect();
                let legal = check(&theirs(migrate_core::skew::Component::ApiServer, own, all));
                let (oldest, newest) = (own.min(other), own.max(other));
                let ours = may_reach(Component::ApiServer, (1, own), (1, oldest), (1, newest));
                assert_eq!(ours, legal.is_empty(), "API servers {own} and {other}");
                let local = theirs(
                    migrate_core::skew::Component::KubeProxy,
                    own,
                    Reachable::Local(of(own)),
                );
                let legal = check(&local.with_local_kubelet(of(other)));
                assert_eq!(
                    may_meet((1, own), (1, other)),
                    legal.is_empty(),
                    "{own} on {other}"
                );
            }
        }
    }
}
