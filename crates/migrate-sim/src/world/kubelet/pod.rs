//! The life of a pod on its node: start, readiness, end.

use std::net::Ipv4Addr;

use serde_json::Value;

use super::status::{self, Address};
use super::{Kubelets, NodeFault};
use crate::annotations;
use crate::object::{
    annotation, at, controller_of, int_at, is_finished, is_ready, is_terminating, items_at, labels,
    node_name, phase, str_at,
};
use crate::store::{Object, Resource};
use crate::world::context::Context;
use crate::world::control_plane::is_mirror;
use crate::world::index::claims_of;
use crate::world::settings::millis;
use crate::world::volumes;
use crate::world::work::{Key, Timer, TimerId};

/// On the pods that an upgrade itself puts on nodes.
const STEP_LABEL: &str = "kube-migrate.dev/step";
/// How long such a pod runs that is not a Job's.
const STEP_RUN_MS: u64 = 1_000;

/// The next moment in the life of a pod.
#[derive(Debug, Clone)]
pub(crate) struct PodTimer {
    uid: String,
    pod: Key,
}

/// What the kubelet knows of a pod beyond its status.
#[derive(Debug)]
pub(super) struct PodRun {
    stage: Stage,
    /// The timer that moves it on, and when; a later decision replaces it.
    timer: TimerId,
    due: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Image pull and container start.
    Starting,
    /// Running, the readiness probe does not answer yet.
    Unready,
    /// Running and ready; a Job's pod has a timer for its end.
    Ready,
    /// Told to stop.
    Stopping,
}

impl Kubelets {
    /// Looks at one pod.
    pub(crate) fn sync_pod(&mut self, cx: &mut Context<'_>, key: &Key) {
        let Some(pod) = cx.get(Resource::PODS, key) else {
            return;
        };
        let node = node_name(&pod.json);
        if node.is_empty() || !self.is_running(node) || self.has_fault(node, NodeFault::Deaf) {
            return;
        }
        let stage = self.pods.get(pod.uid()).map(|run| run.stage);
        if is_terminating(&pod.json) {
            self.stop(cx, key, &pod);
        } else if is_finished(&pod.json) {
            self.pods.remove(pod.uid());
        } else if stage.is_none() && phase(&pod.json) == "Running" {
            self.resume(cx, key, &pod);
        } else if stage.is_none() && is_mirror(&pod.json) {
            // The API shows a static pod once it runs.
            let (address, now) = (self.address(cx, &pod.json), cx.now);
            cx.modify(Resource::PODS, key, |pod| {
                status::running(pod, &address, now)
            });
            self.become_ready(cx, key, &pod);
        } else if stage.is_none() && !is_admitted(cx, &pod.json, node) {
            let now = cx.now;
            cx.modify(Resource::PODS, key, |pod| status::refused(pod, now));
        } else if stage.is_none() && volumes_are_there(cx, &pod.json, node) {
            self.start(cx, key, &pod);
        } else if stage == Some(Stage::Ready) && !is_ready(&pod.json) {
            // The node was away long enough for its pods to be marked; they never stopped.
            self.become_ready(cx, key, &pod);
        }
    }

    /// Forgets a pod that is gone from the API.
    pub(crate) fn forget_pod(&mut self, uid: &str) {
        self.pods.remove(uid);
    }

    /// Moves a pod on to its next stage.
    pub(crate) fn fire_pod(&mut self, cx: &mut Context<'_>, id: TimerId, timer: &PodTimer) {
        let Some(run) = self.pods.get(&timer.uid).filter(|run| run.timer == id) else {
            return;
        };
        let stage = run.stage;
        let pod = cx
            .get(Resource::PODS, &timer.pod)
            .filter(|pod| pod.uid() == timer.uid);
        let Some(pod) = pod else {
            self.pods.remove(&timer.uid);
            return;
        };
        if !self.is_running(node_name(&pod.json)) {
            // Nobody is there to act; the kubelet looks again when it is back.
            self.pods.remove(&timer.uid);
            return;
        }
        match stage {
            Stage::Starting => self.become_running(cx, &timer.pod, &pod),
            Stage::Unready => self.become_ready(cx, &timer.pod, &pod),
            Stage::Ready => {
                self.pods.remove(&timer.uid);
                let fails = is_step(&pod.json) && self.is_cut_off(node_name(&pod.json));
                let now = cx.now;
                cx.modify(Resource::PODS, &timer.pod, |pod| {
                    if fails {
                        status::failed(pod, now);
                    } else {
                        status::succeeded(pod, now);
                    }
                });
            }
            Stage::Stopping => {
                self.pods.remove(&timer.uid);
                cx.remove(Resource::PODS, &timer.pod);
            }
        }
    }

    fn start(&mut self, cx: &mut Context<'_>, key: &Key, pod: &Object) {
        let node = node_name(&pod.json).to_owned();
        let times = &cx.settings.times;
        let mut delay = cx
            .settings
            .jittered(times.container_start, &[pod.uid(), "start"]);
        if let Some(agent) = self.agents.get_mut(&node) {
            for container in items_at(&pod.json, &["spec", "containers"]) {
                let image = str_at(container, &["image"]);
                if agent.images.insert(image.to_owned()) {
                    delay += cx.settings.jittered(times.image_pull, &[&node, image]);
                }
            }
        }
        let delay = delay * self.slowness(&node);
        self.schedule(cx, key, pod.uid(), Stage::Starting, delay);
    }

    fn become_running(&mut self, cx: &mut Context<'_>, key: &Key, pod: &Object) {
        let delay = match seconds(&pod.json, annotations::READY_SECONDS) {
            Some(ms) => ms,
            None => cx
                .settings
                .jittered(cx.settings.times.readiness, &[pod.uid(), "ready"]),
        };
        let delay = delay * self.slowness(node_name(&pod.json));
        let address = self.address(cx, &pod.json);
        let now = cx.now;
        if delay == 0 && !never_ready(&pod.json) {
            cx.modify(Resource::PODS, key, |pod| {
                status::running(pod, &address, now)
            });
            self.become_ready(cx, key, pod);
            return;
        }
        self.schedule(cx, key, pod.uid(), Stage::Unready, delay);
        cx.modify(Resource::PODS, key, |pod| {
            status::running(pod, &address, now)
        });
    }

    fn become_ready(&mut self, cx: &mut Context<'_>, key: &Key, pod: &Object) {
        if never_ready(&pod.json) {
            return;
        }
        match job_run_time(cx, &pod.json) {
            Some(time) => self.schedule(cx, key, pod.uid(), Stage::Ready, time),
            None => self.hold(pod.uid(), Stage::Ready),
        }
        let now = cx.now;
        cx.modify(Resource::PODS, key, |pod| status::ready(pod, now));
    }

    /// Takes over a pod that already runs: the kubelet was restarted, or the
    /// cluster was built with running pods.
    fn resume(&mut self, cx: &mut Context<'_>, key: &Key, pod: &Object) {
        self.keep_address(&pod.json);
        if is_ready(&pod.json) && job_run_time(cx, &pod.json).is_none() {
            self.hold(pod.uid(), Stage::Ready);
        } else {
            self.become_ready(cx, key, pod);
        }
    }

    fn stop(&mut self, cx: &mut Context<'_>, key: &Key, pod: &Object) {
        let grace = int_at(&pod.json, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or(30);
        let grace = u64::try_from(grace)
            .unwrap_or_default()
            .saturating_mul(1000);
        let wanted = match seconds(&pod.json, annotations::STOP_SECONDS) {
            Some(ms) => ms,
            None => cx
                .settings
                .jittered(cx.settings.times.stop, &[pod.uid(), "stop"]),
        };
        let is_running = !is_finished(&pod.json) && phase(&pod.json) == "Running";
        let delay = if is_running {
            (wanted * self.slowness(node_name(&pod.json))).min(grace)
        } else {
            0
        };
        let stopping = self
            .pods
            .get(pod.uid())
            .filter(|run| run.stage == Stage::Stopping);
        if stopping.is_none_or(|run| run.due > cx.now + delay) {
            self.schedule(cx, key, pod.uid(), Stage::Stopping, delay);
        }
    }

    fn schedule(&mut self, cx: &mut Context<'_>, key: &Key, uid: &str, stage: Stage, delay: u64) {
        let due = cx.now + delay;
        let timer = cx.timers.set(
            due,
            Timer::Pod(PodTimer {
                uid: uid.to_owned(),
                pod: key.clone(),
            }),
        );
        self.pods
            .insert(uid.to_owned(), PodRun { stage, timer, due });
    }

    fn hold(&mut self, uid: &str, stage: Stage) {
        self.pods.insert(
            uid.to_owned(),
            PodRun {
                stage,
                timer: 0,
                due: u64::MAX,
            },
        );
    }

    fn address(&mut self, cx: &Context<'_>, pod: &Value) -> Address {
        let node = cx.get_global(Resource::NODES, node_name(pod));
        let host = node
            .as_ref()
            .and_then(|node| status::internal_ip(&node.json))
            .unwrap_or_default();
        let is_on_host = at(pod, &["spec", "hostNetwork"]).and_then(Value::as_bool) == Some(true);
        let pod_ip = if is_on_host && !host.is_empty() {
            host.clone()
        } else {
            self.next_ip += 1;
            let [_, b, c, d] = self.next_ip.to_be_bytes();
            format!("10.{}.{c}.{d}", 64_u8.wrapping_add(b))
        };
        Address { host, pod: pod_ip }
    }

    /// An address is given to one pod, also where the pod had it before this began.
    fn keep_address(&mut self, pod: &Value) {
        let address: Option<Ipv4Addr> = str_at(pod, &["status", "podIP"]).parse().ok();
        let Some([10, b, c, d]) = address.map(|address| address.octets()) else {
            return;
        };
        if let Some(b) = b.checked_sub(64) {
            self.next_ip = self.next_ip.max(u32::from_be_bytes([0, b, c, d]));
        }
    }
}

/// Whether a node is slow or broken is no property of the pod; this one is.
fn never_ready(pod: &Value) -> bool {
    annotation(pod, annotations::NEVER_READY) == Some("true")
}

/// A whole or fractional number of seconds in an annotation, in milliseconds.
fn seconds(pod: &Value, key: &str) -> Option<u64> {
    let milli = crate::object::quantity_milli(&Value::from(annotation(pod, key)?))?;
    u64::try_from(milli).ok()
}

/// How long the containers run before they exit by themselves.
fn job_run_time(cx: &Context<'_>, pod: &Value) -> Option<u64> {
    if let Some(ms) = seconds(pod, annotations::RUN_SECONDS) {
        return Some(ms);
    }
    let is_job = controller_of(pod).is_some_and(|owner| str_at(owner, &["kind"]) == "Job");
    if is_job {
        return Some(millis(cx.settings.times.job_run));
    }
    is_step(pod).then_some(STEP_RUN_MS)
}

/// Whether it is a pod of the upgrade itself, which ends by itself.
fn is_step(pod: &Value) -> bool {
    at(pod, &["metadata", "labels", STEP_LABEL]).is_some()
}

/// Whether the node has the labels that the pod asks for: a kubelet looks once more,
/// as pods may come past the scheduler.
fn is_admitted(cx: &Context<'_>, pod: &Value, node: &str) -> bool {
    let wanted = at(pod, &["spec", "nodeSelector"]).and_then(Value::as_object);
    let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) else {
        return true;
    };
    let node = cx.get_global(Resource::NODES, node);
    node.is_some_and(|node| {
        let has = labels(&node.json);
        wanted
            .iter()
            .all(|(key, value)| has.and_then(|has| has.get(key)) == Some(value))
    })
}

/// Whether every claim of the pod is bound, and attached where it has to be.
fn volumes_are_there(cx: &Context<'_>, pod: &Value, node: &str) -> bool {
    claims_of(pod).all(|claim| {
        let bound = cx.get(Resource::PERSISTENT_VOLUME_CLAIMS, &claim);
        let is_bound =
            bound.is_some_and(|claim| str_at(&claim.json, &["status", "phase"]) == "Bound");
        let volume = cx
            .index
            .volume_of(&claim)
            .and_then(|name| cx.get_global(Resource::PERSISTENT_VOLUMES, name));
        is_bound
            && volume.is_some_and(|volume| {
                at(&volume.json, &["spec", "csi"]).is_none() || is_attached(cx, &volume.name, node)
            })
    })
}

fn is_attached(cx: &Context<'_>, volume: &str, node: &str) -> bool {
    cx.index
        .attachments_of(volume)
        .filter(|(_, on)| *on == node)
        .filter_map(|(name, _)| cx.get_global(Resource::VOLUME_ATTACHMENTS, name))
        .any(|attachment| volumes::is_attached(&attachment.json))
}
