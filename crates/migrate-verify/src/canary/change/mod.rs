//! A change that the agents of every node have to see.

mod check;
mod manifest;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{Either, ready, select};
use futures::lock::Mutex;
use futures::{StreamExt, TryStreamExt, stream};
use kube::Client;
use kube::api::{DeleteParams, ListParams};
use migrate_core::{
    CanaryChange as Policy, Finding, ObjectName, ReachFrom, SeeChange, Severity, StepContext,
    StepError, StepErrorKind,
};
use migrate_kube::resources::{CONTROL_PLANE_LABEL, Node};
use migrate_kube::{Error, Retries, Selection, list_retried};
use tokio::time::Instant;

use super::objects::{Kind, Metadata, Named, Objects, PODS};
use super::standing::Pod;
use super::{POLL, REMOVAL, and_removed};
use crate::health::unobserved;
pub(super) use manifest::CHANGE_LABEL;
use manifest::{Service, Slice};

const SERVICES: Kind = Kind {
    kind: "Service",
    group: "",
    resource: "services",
};
const SLICES: Kind = Kind {
    kind: "EndpointSlice",
    group: "discovery.k8s.io",
    resource: "endpointslices",
};

/// For how long no call may have been refused.
///
/// An API server that has just started knows no roles, and one of several behind a
/// balancer may be that one: 403 were seen for up to 1.2 s after the return.
const QUIET: Duration = Duration::from_secs(5);
/// Requests a second for each control-plane node. A balancer that chooses at random
/// leaves a server out of all 5 s once in 20,000 times (e^-10) or less.
const EACH: usize = 2;
/// How long pods are waited for before what is missing is told. A kubelet that
/// watches refuses one within a second or two.
const LOOK: Duration = Duration::from_secs(20);
/// Requests, and nodes that are asked, at once.
const AT_ONCE: usize = 16;
/// What so many nodes at once take that answer: a new Service is there within a second
/// or two where agents watch, and the way to a node may be a Job that has to start.
const ANSWER: Duration = Duration::from_secs(5);

/// Ready nodes, and how many API servers there are.
struct Nodes {
    names: BTreeSet<String>,
    servers: usize,
}

/// How long a look at so many nodes takes at most, without removing what an earlier
/// one has left and what it has made itself. Nodes that hang take it from those
/// behind them, which are told as not asked.
fn within(nodes: usize) -> Duration {
    let rounds = u32::try_from(nodes.div_ceil(AT_ONCE)).unwrap_or(u32::MAX);
    LOOK.saturating_add(ANSWER.saturating_mul(rounds))
}

/// As [`within`], all of it.
fn with_removals(nodes: usize) -> Duration {
    let removals = REMOVAL.saturating_mul(2);
    // A list of pods that is under way may end yet.
    within(nodes).saturating_add(removals).saturating_add(POLL)
}

/// Makes a change once a part of the control plane is back, and asks whether every
/// node's agents have seen it; sees before the start that it can be made.
///
/// * *kubelets*: a pod is bound to each Ready node that the node must not have, as
///   it lacks a label. Its kubelet refuses it at admission as soon as its watch of
///   pods brings it: no image is pulled, nothing runs (`KM-VERIFY-021`).
/// * *kube-proxy*, or what stands for it: a new Service leads to the API; each node
///   has to reach it by its cluster address (`KM-VERIFY-022`). Asked only
///   [with a way to ask nodes](Self::with_reach).
/// * The API must not have refused a call (401, 403) for five seconds, in which
///   every API server is asked [over fresh connections](Self::with_fresh).
///
/// # Guarantees
/// Everything is made in the policy's namespace, is new in each look, and is removed
/// after it; what a runner that died has left is found by its label and removed
/// first. One look at a time. Requests are linear in nodes, sixteen at once. A look ends
/// after 20 s and 5 s more for each sixteen nodes, also where nodes hang, and names what
/// has not been seen by then; removals before and after it take 30 s each at most.
///
/// # Needs
/// `create`, `list` and `delete` on pods, services and endpointslices of the
/// namespace, `get` of the endpointslice `default/kubernetes`
/// (`docs/rbac-canary.yaml`), `list` on nodes.
///
/// # Errors
/// See [`SeeChange`]. A refusal is `Unavailable`.
#[derive(Clone)]
pub struct CanaryChange {
    client: Client,
    objects: Objects,
    /// Where refusals are looked for beside all other calls.
    fresh: Option<Objects>,
    reach: Option<Arc<dyn ReachFrom>>,
    /// Held by the look under way: another would remove what it has made.
    turn: Arc<Mutex<()>>,
}

impl CanaryChange {
    /// Shows changes to the kubelets of the cluster behind `client`.
    pub fn new(client: Client, policy: &Policy) -> Self {
        Self {
            objects: Objects::new(client.clone(), &policy.namespace),
            client,
            fresh: None,
            reach: None,
            turn: Arc::default(),
        }
    }

    /// Asks nodes through `reach` whether a new Service leads where it should.
    #[must_use]
    pub fn with_reach(mut self, reach: Arc<dyn ReachFrom>) -> Self {
        self.reach = Some(reach);
        self
    }

    /// Looks for refusals through `fresh` too, a client whose every request goes over a
    /// connection of its own ([`migrate_kube::connect_anew`]): each second twice as
    /// many as there are control-plane nodes.
    ///
    /// A balancer that takes turns, or chooses the server with the fewest connections
    /// or any of them, so leads some to each API server. Without it, and behind one
    /// that leads a machine to the same server each time, mostly one server is asked.
    #[must_use]
    pub fn with_fresh(mut self, fresh: Client) -> Self {
        self.fresh = Some(Objects::new(fresh, self.objects.namespace()));
        self
    }

    /// What is made, in the order in which it is removed.
    fn kinds(&self) -> &'static [Kind] {
        match self.reach {
            Some(_) => &[PODS, SLICES, SERVICES],
            None => &[PODS],
        }
    }

    async fn look(&self, cx: &StepContext) -> Result<Vec<Finding>, StepError> {
        let retries = Retries::until(&cx.cancel);
        let before = async {
            self.clear(&retries).await?;
            self.ready_nodes(&retries).await
        };
        let before = tokio::time::timeout(REMOVAL, before).await;
        let nodes = before.map_err(|_| late("what was left of an earlier one is not gone"))?;
        let nodes = nodes.map_err(passing)?;
        let now = Instant::now();
        let (quiet, until) = (now + QUIET, now + within(nodes.names.len()));
        let (deaf, cut_off, refused) = futures::join!(
            self.kubelets(&nodes.names, quiet, until, &retries),
            self.proxies(cx, &nodes.names, until),
            self.refusals_anew(EACH * nodes.servers, quiet, until, &retries),
        );
        refused?;
        let mut findings = deaf?;
        findings.extend(cut_off?);
        Ok(findings)
    }

    async fn ready_nodes(&self, retries: &Retries) -> Result<Nodes, Error> {
        let nodes = list_retried::<Node>(&self.client, &Selection::all(), retries).await?;
        let is_server = |node: &&Node| {
            let labels = node.metadata.labels.as_ref();
            labels.is_some_and(|labels| labels.contains_key(CONTROL_PLANE_LABEL))
        };
        let servers = nodes.iter().filter(is_server).count();
        let ready = nodes.into_iter().filter(Node::is_ready);
        Ok(Nodes {
            names: ready.filter_map(|node| node.metadata.name).collect(),
            // A control plane that has no nodes has a server.
            servers: servers.max(1),
        })
    }

    /// Asks `times` a second over fresh connections until `quiet`; whether one is
    /// refused is all that counts.
    async fn refusals_anew(
        &self,
        times: usize,
        quiet: Instant,
        until: Instant,
        retries: &Retries,
    ) -> Result<(), StepError> {
        let Some(fresh) = &self.fresh else {
            return Ok(());
        };
        let one = ListParams::default().labels(CHANGE_LABEL).limit(1);
        let asked = async {
            loop {
                let round = stream::iter(0..times).map(|_| {
                    let list = || fresh.list::<Named>(PODS, &one);
                    retries.run(list)
                });
                let round = round.buffer_unordered(AT_ONCE);
                round.try_for_each(|_| ready(Ok(()))).await?;
                if Instant::now() >= quiet {
                    return Ok(());
                }
                tokio::time::sleep(POLL).await;
            }
        };
        match tokio::time::timeout_at(until, asked).await {
            Ok(asked) => asked.map_err(passing),
            Err(_) => Err(late("the API does not answer over fresh connections")),
        }
    }

    /// The nodes whose kubelets have not seen their pod, once the API was quiet.
    async fn kubelets(
        &self,
        nodes: &BTreeSet<String>,
        quiet: Instant,
        until: Instant,
        retries: &Retries,
    ) -> Result<Vec<Finding>, StepError> {
        // One that is made twice is removed with the other.
        let made = stream::iter(nodes.clone()).map(|node| async move {
            let pod = manifest::pod(&node);
            let make = || self.objects.make::<Named>(PODS, &pod, false);
            retries.run(make).await
        });
        let made = made.buffer_unordered(AT_ONCE);
        let made = made.try_for_each(|_| ready(Ok(())));
        match tokio::time::timeout_at(until, made).await {
            Ok(made) => made.map_err(passing)?,
            Err(_) => return Err(late("not every node's pod could be made")),
        }
        let until = until.min(Instant::now() + LOOK);
        let mut pause = POLL;
        let mut deaf: Vec<&String> = nodes.iter().collect();
        loop {
            tokio::time::sleep_until(until.min(Instant::now() + pause)).await;
            let asked = Instant::now();
            // One list more when time is up.
            let last = until + POLL;
            let Ok(pods) = tokio::time::timeout_at(last, self.made(PODS, retries)).await else {
                return Ok(deaf.into_iter().map(|node| unseen(node)).collect());
            };
            let pods: Vec<Pod> = pods.map_err(passing)?;
            let refused = pods.iter().filter(|pod| pod.is_refused());
            let seen: BTreeSet<&str> = refused.map(Pod::node).collect();
            deaf.retain(|node| !seen.contains(node.as_str()));
            let now = Instant::now();
            if now >= quiet && (now >= until || deaf.is_empty()) {
                return Ok(deaf.into_iter().map(|node| unseen(node)).collect());
            }
            // A list that takes long is no light one.
            pause = POLL.max((now - asked) * 2);
        }
    }

    /// The nodes that do not reach a new Service, each asked once; what was not asked
    /// by the end is told too.
    async fn proxies(
        &self,
        cx: &StepContext,
        nodes: &BTreeSet<String>,
        until: Instant,
    ) -> Result<Vec<Finding>, StepError> {
        let Some(reach) = &self.reach else {
            return Ok(Vec::new());
        };
        let address = match tokio::time::timeout_at(until, self.new_service()).await {
            Ok(address) => address?,
            Err(_) => return Err(late("no Service could be made")),
        };
        let asked = stream::iter(nodes.clone()).map(|node| async move {
            let began = Instant::now();
            let end = until.min(began + LOOK);
            if end <= began {
                let why = "it was not asked: too many others did not answer";
                return Some((node, why.to_owned()));
            }
            // Whoever hangs may not keep the others from being asked.
            let reached = tokio::time::timeout_at(end, reach.reach(cx, &node, address)).await;
            let why = match reached {
                Ok(Ok(true)) => return None,
                Ok(Ok(false)) => format!("it does not reach a new Service at {address}"),
                Ok(Err(error)) => format!("it could not be asked: {}", error.message),
                Err(_) => format!("it did not answer within {} s", (end - began).as_secs()),
            };
            Some((node, why))
        });
        let asked = asked.buffer_unordered(AT_ONCE).filter_map(ready);
        let told: BTreeMap<String, String> = asked.collect().await;
        let told = told.into_iter();
        Ok(told.map(|(node, why)| cut_off(&node, why)).collect())
    }

    /// Makes a Service that leads to the API.
    async fn new_service(&self) -> Result<SocketAddr, StepError> {
        let slice = self.api_slice().await.map_err(passing)?;
        let nowhere = |namespace: &str, name: &str, message: &str| {
            let object = ObjectName::namespaced("Service", namespace, name);
            StepError::new(StepErrorKind::Unavailable, object, message)
        };
        if !slice.leads() {
            let message = "its EndpointSlice leads nowhere: no API server is Ready";
            return Err(nowhere("default", "kubernetes", message));
        }
        let service = slice.service();
        let made = self.objects.make(SERVICES, &service, false).await;
        let service: Service = made.map_err(passing)?;
        let behind = slice.behind(&service.metadata);
        let led = self.objects.make::<Named>(SLICES, &behind, false).await;
        led.map_err(passing)?;
        slice.address(&service).ok_or_else(|| {
            let (namespace, name) = (self.objects.namespace(), &service.metadata.name);
            nowhere(namespace, name, "it was given no cluster address")
        })
    }

    /// Where the API itself is.
    async fn api_slice(&self) -> Result<Slice, Error> {
        let default = Objects::new(self.client.clone(), "default");
        default.get(SLICES, "kubernetes").await
    }

    /// What of `kind` changes are made of.
    async fn made<T>(&self, kind: Kind, retries: &Retries) -> Result<Vec<T>, Error>
    where
        T: Clone + serde::de::DeserializeOwned,
    {
        let selection = ListParams::default().labels(CHANGE_LABEL);
        let list = || self.objects.list(kind, &selection);
        retries.run(list).await
    }

    /// Removes what this change or an earlier one has made.
    async fn clear(&self, retries: &Retries) -> Result<(), Error> {
        for kind in self.kinds() {
            let left: Vec<Named> = self.made(*kind, retries).await?;
            // What was removed, and was not heard to be, is as good as gone.
            let removed = stream::iter(left).map(|object| async move {
                let remove = || self.remove(*kind, &object.metadata, false);
                retries.run(remove).await
            });
            let removed = removed.buffer_unordered(AT_ONCE);
            removed.try_for_each(|()| ready(Ok(()))).await?;
        }
        Ok(())
    }

    /// Without grace, as no container of it was ever begun: a kubelet that has not
    /// seen the pod could not confirm its end either.
    async fn remove(&self, kind: Kind, object: &Metadata, dry_run: bool) -> Result<(), Error> {
        let mut params = DeleteParams {
            dry_run,
            ..DeleteParams::default()
        };
        if kind.resource == PODS.resource {
            params.grace_period_seconds = Some(0);
        }
        self.objects.remove(kind, object, params).await
    }
}

#[async_trait]
impl SeeChange for CanaryChange {
    async fn see_change(&self, cx: &StepContext) -> Result<Vec<Finding>, StepError> {
        let _turn = self.turn.lock().await;
        let looked = {
            let look = std::pin::pin!(self.look(cx));
            let cancelled = std::pin::pin!(cx.cancel.cancelled());
            match select(cancelled, look).await {
                Either::Right((looked, _)) => looked,
                Either::Left(_) => {
                    let message = "asked to stop in the middle of a look at it; the next runner \
                                   looks again";
                    Err(StepError::new(StepErrorKind::Cancelled, change(), message))
                }
            }
        };
        let removed = async {
            while self.clear(&Retries::none()).await.is_err() {
                tokio::time::sleep(POLL).await;
            }
        };
        let removed = tokio::time::timeout(REMOVAL, removed).await;
        let stays = removed.err().map(|_| {
            let namespace = self.objects.namespace();
            format!("what it was made of in {namespace} could not be removed; the next look does")
        });
        and_removed(looked, stays, change())
    }
}

/// What the API refuses may pass: one that has just started knows no roles, and no
/// tokens either.
fn passing(error: Error) -> StepError {
    let is_refused = matches!(error, Error::Unauthorized { .. });
    let mut error = unobserved(error);
    if is_refused {
        error.kind = StepErrorKind::Unavailable;
    }
    error
}

fn late(what: &str) -> StepError {
    let message = format!("{what} in the time that a look has");
    StepError::new(StepErrorKind::Deadline, change(), message)
}

fn change() -> ObjectName {
    ObjectName::cluster("Policy", "canary-change")
}

fn unseen(node: &str) -> Finding {
    Finding::new(
        "KM-VERIFY-021",
        Severity::Blocker,
        ObjectName::cluster("Node", node),
        "its kubelet has not seen a pod that was made after the control plane came back",
        "look at the kubelet's log on the node and at its way to the API",
    )
}

fn cut_off(node: &str, why: String) -> Finding {
    Finding::new(
        "KM-VERIFY-022",
        Severity::Blocker,
        ObjectName::cluster("Node", node),
        why,
        "look at kube-proxy on the node, or what stands for it, and at its way to the API",
    )
}
