//! Kubelets: one agent per node, its version changes and its faults.

mod pod;
mod status;

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;
use serde_json::{Value, json};

use self::pod::PodRun;
pub(crate) use self::pod::PodTimer;
use super::context::Context;
use super::settings::millis;
use super::work::{Key, Timer, TimerId, Work};
use crate::annotations;
use crate::object::{
    Condition, annotation, condition, items_at, micro_timestamp, set_at, set_condition, str_at,
};
use crate::store::Resource;

/// All kubelets of the cluster.
#[derive(Debug, Default)]
pub(crate) struct Kubelets {
    agents: BTreeMap<String, Agent>,
    pods: FxHashMap<String, PodRun>,
    next_ip: u32,
}

/// A kubelet restart comes to its end.
#[derive(Debug, Clone)]
pub(crate) struct AgentTimer {
    node: String,
}

#[derive(Debug)]
struct Agent {
    state: AgentState,
    images: BTreeSet<String>,
    fault: NodeFault,
}

#[derive(Debug, PartialEq, Eq)]
enum AgentState {
    Running,
    /// Comes back when the timer fires, with this version if one was asked for.
    Restarting {
        timer: TimerId,
        version: Option<String>,
        action: Option<String>,
    },
    /// Stays away until someone brings it back.
    Stopped,
}

/// What is wrong with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum NodeFault {
    /// Nothing.
    #[default]
    None,
    /// The node is cut off: no heartbeat, no pod starts, none ends.
    Dead,
    /// The next time its kubelet restarts, it never comes back.
    NeverReady,
    /// Everything on it takes this many times as long.
    Slow(u32),
    /// Its pods reach nobody, as without kube-proxy or a network plugin. Probes
    /// come from the node itself, so pods are Ready all the same; a pod that
    /// tries the node out fails.
    NoNetwork,
    /// Its kubelet's watch of pods is not back: it sends heartbeats, and what is
    /// under way goes on, but pods that come or are to end are not seen.
    Deaf,
}

impl Kubelets {
    /// Whether the kubelet of a node is there to act.
    pub(crate) fn is_running(&self, node: &str) -> bool {
        self.agents
            .get(node)
            .is_some_and(|agent| agent.state == AgentState::Running)
    }

    /// Whether the node sends heartbeats: a restarting kubelet reports by itself that it is not ready.
    pub(crate) fn is_heard(&self, node: &str) -> bool {
        self.agents
            .get(node)
            .is_some_and(|agent| agent.state != AgentState::Stopped)
    }

    /// Looks at a node: new, gone, or asked to change its version.
    pub(crate) fn sync(&mut self, cx: &mut Context<'_>, node: &str) {
        let Some(object) = cx.get_global(Resource::NODES, node) else {
            self.agents.remove(node);
            return;
        };
        if !self.agents.contains_key(node) {
            self.join(cx, node, condition(&object.json, "Ready").is_some());
        }
        let wanted = self
            .is_running(node)
            .then(|| Request::read(&object.json))
            .flatten();
        if let Some(request) = wanted {
            let time = cx.settings.times.kubelet_restart;
            self.restart(cx, node, time, request);
        }
    }

    /// Sets or clears a fault.
    pub(crate) fn set_fault(&mut self, cx: &mut Context<'_>, node: &str, fault: NodeFault) {
        let Some(agent) = self.agents.get_mut(node) else {
            return;
        };
        let before = std::mem::replace(&mut agent.fault, fault);
        match fault {
            NodeFault::Dead => {
                agent.state = AgentState::Stopped;
                let key = Key::global(node);
                let silent_at = cx.now + millis(cx.settings.times.node_monitor_grace);
                write_lease(cx, &key.name);
                cx.again_at(silent_at, Work::Node(key.name));
            }
            _ if agent.state == AgentState::Stopped => self.recover(cx, node),
            _ if before == NodeFault::Deaf => self.look_at_pods(cx, node),
            _ => {}
        }
    }

    /// The end of a restart.
    pub(crate) fn fire(&mut self, cx: &mut Context<'_>, id: TimerId, timer: &AgentTimer) {
        let Some(agent) = self.agents.get_mut(&timer.node) else {
            return;
        };
        let AgentState::Restarting {
            timer: expected,
            version,
            action,
        } = &agent.state
        else {
            return;
        };
        if *expected != id {
            return;
        }
        if agent.fault == NodeFault::NeverReady {
            agent.state = AgentState::Stopped;
            return;
        }
        let (version, action) = (version.clone(), action.clone());
        agent.state = AgentState::Running;
        self.report_ready(cx, &timer.node, version.as_deref(), action.as_deref());
    }

    /// Renews the leases of every node that is heard.
    pub(crate) fn renew_leases(&self, cx: &mut Context<'_>) {
        for node in self.agents.keys().filter(|node| self.is_heard(node)) {
            write_lease(cx, node);
        }
    }

    /// Times on this node are this many times as long.
    fn slowness(&self, node: &str) -> u64 {
        match self.agents.get(node).map(|agent| agent.fault) {
            Some(NodeFault::Slow(factor)) => u64::from(factor.max(1)),
            _ => 1,
        }
    }

    /// Whether pods on the node reach nobody.
    fn is_cut_off(&self, node: &str) -> bool {
        self.has_fault(node, NodeFault::NoNetwork)
    }

    fn has_fault(&self, node: &str, fault: NodeFault) -> bool {
        let agent = self.agents.get(node);
        agent.is_some_and(|agent| agent.fault == fault)
    }

    fn join(&mut self, cx: &mut Context<'_>, node: &str, is_registered: bool) {
        let agent = Agent {
            state: AgentState::Running,
            images: BTreeSet::new(),
            fault: NodeFault::None,
        };
        self.agents.insert(node.to_owned(), agent);
        if is_registered {
            write_lease(cx, node);
            self.look_at_pods(cx, node);
        } else {
            // A machine that has just been added: its kubelet still has to come up.
            let time = cx.settings.times.kubelet_restart;
            self.restart(
                cx,
                node,
                time,
                Request {
                    version: None,
                    action: None,
                },
            );
        }
    }

    fn restart(
        &mut self,
        cx: &mut Context<'_>,
        node: &str,
        time: std::time::Duration,
        request: Request,
    ) {
        let Request { version, action } = request;
        let what = [node, "kubelet", action.as_deref().unwrap_or_default()];
        let back_at = cx.now + cx.settings.jittered(time, &what) * self.slowness(node);
        let timer = cx.timers.set(
            back_at,
            Timer::Agent(AgentTimer {
                node: node.to_owned(),
            }),
        );
        if let Some(agent) = self.agents.get_mut(node) {
            agent.state = AgentState::Restarting {
                timer,
                version,
                action,
            };
        }
        let now = cx.now;
        let away =
            Condition::new("Ready", "False").because("KubeletNotReady", "the kubelet is starting");
        cx.modify(Resource::NODES, &Key::global(node), |object| {
            set_condition(object, away, now)
        });
    }

    fn recover(&mut self, cx: &mut Context<'_>, node: &str) {
        if let Some(agent) = self.agents.get_mut(node) {
            agent.state = AgentState::Running;
        }
        self.report_ready(cx, node, None, None);
    }

    fn report_ready(
        &mut self,
        cx: &mut Context<'_>,
        node: &str,
        version: Option<&str>,
        action: Option<&str>,
    ) {
        let now = cx.now;
        cx.modify(Resource::NODES, &Key::global(node), |object| {
            register(object);
            if let Some(version) = version {
                set_at(object, &["status", "nodeInfo", "kubeletVersion"], version);
            }
            if let Some(action) = action {
                set_at(
                    object,
                    &["metadata", "annotations", annotations::ACTION_DONE],
                    action,
                );
            }
            let ready = Condition::new("Ready", "True")
                .because("KubeletReady", "kubelet is posting ready status");
            set_condition(object, ready, now);
        });
        write_lease(cx, node);
        self.look_at_pods(cx, node);
    }

    /// Everything on the node is looked at afresh, as a starting kubelet does.
    fn look_at_pods(&mut self, cx: &mut Context<'_>, node: &str) {
        for pod in cx.store.pods_on(node) {
            cx.queue.insert(Work::Pod(Key::of(pod)));
        }
    }
}

/// What a driver asks of a kubelet by annotations.
struct Request {
    version: Option<String>,
    action: Option<String>,
}

impl Request {
    /// The request that is still to be done, if there is one.
    fn read(node: &Value) -> Option<Self> {
        let version = annotation(node, annotations::KUBELET_VERSION);
        let action = annotation(node, annotations::ACTION);
        let is_done = match action {
            Some(action) => annotation(node, annotations::ACTION_DONE) == Some(action),
            None => version.is_none_or(|wanted| {
                wanted == str_at(node, &["status", "nodeInfo", "kubeletVersion"])
            }),
        };
        (!is_done).then(|| Self {
            version: version.map(str::to_owned),
            action: action.map(str::to_owned),
        })
    }
}

/// Fills in what a kubelet registers of its machine and nobody stated.
fn register(node: &mut Value) {
    if items_at(node, &["status", "addresses"]).is_empty() {
        let name = crate::object::name(node).to_owned();
        set_at(
            node,
            &["status", "addresses"],
            json!([{"type": "Hostname", "address": name}]),
        );
    }
    if crate::object::at(node, &["status", "allocatable"]).is_none() {
        let capacity =
            json!({"cpu": "8", "memory": "32Gi", "pods": "110", "ephemeral-storage": "100Gi"});
        set_at(node, &["status", "capacity"], capacity.clone());
        set_at(node, &["status", "allocatable"], capacity);
    }
}

/// Renews the lease of a node as of now.
fn write_lease(cx: &mut Context<'_>, node: &str) {
    let key = Key::new("kube-node-lease", node);
    let renewed = micro_timestamp(cx.now);
    if cx.get(Resource::LEASES, &key).is_some() {
        cx.modify(Resource::LEASES, &key, |lease| {
            set_at(lease, &["spec", "renewTime"], renewed)
        });
        return;
    }
    let Some(owner) = cx.get_global(Resource::NODES, node) else {
        return;
    };
    cx.create(Resource::LEASES, json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": node, "namespace": key.namespace,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": node, "uid": owner.uid()}],
        },
        "spec": {"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": renewed},
    }));
}
