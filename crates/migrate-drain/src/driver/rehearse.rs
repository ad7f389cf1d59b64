//! What an eviction of each pod would be answered now.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use futures::{StreamExt, stream};
use migrate_core::{
    Blocked, BudgetKey, BudgetKind, BudgetLedger, Cancellation, ClusterModel, Consent, Disposition,
    Hosts, NeedsConsent, Pod, PodId, Wait, WorkloadId, disposition,
};
use migrate_kube::{EvictOptions, EvictionAnswer, evict};
use serde::{Deserialize, Serialize};

use super::Drainer;
use crate::machine::Options;

/// How often a pod is asked for while the server asks for less traffic.
const ATTEMPTS: u32 = 3;

/// One pod that a drain of its node would move.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Rehearsal {
    /// Its node.
    pub node: String,
    /// The pod.
    pub pod: PodId,
    /// The workload that replaces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadId>,
    /// What a person has to agree to before a drain of the node begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<NeedsConsent>,
    /// What would become of it now.
    pub result: Rehearsed,
}

/// What would become of a pod that was asked to go now.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", tag = "result")]
pub enum Rehearsed {
    /// It could go.
    Allowed,
    /// The API would let it go; the budget that policy assumes for its workload
    /// does not.
    AssumedBudget {
        /// The assumed budget, with counts.
        blocked: Blocked,
    },
    /// A PodDisruptionBudget keeps it, or a second one does for good.
    Budget {
        /// The budget, with the counts and the reason as far as the model shows
        /// them; the API's own words may be newer.
        blocked: Blocked,
        /// The API's words.
        message: String,
    },
    /// Permission to evict in its namespace is missing.
    Forbidden {
        /// The API's words.
        message: String,
    },
    /// It left after the model was taken.
    Gone,
    /// Nobody asked: stopped, or the credentials were refused before.
    NotAsked,
    /// The credentials are not accepted.
    Unauthorized {
        /// The API's words.
        message: String,
    },
    /// Not asked, because a drain would only wait for it.
    Waits {
        /// What for.
        until: Wait,
    },
    /// An admission webhook refuses it, or cannot be asked: it is out of order,
    /// or takes no dry runs.
    Webhook {
        /// The webhook.
        webhook: String,
        /// In one line.
        message: String,
    },
    /// No answer about the pod: the server was busy, failing or out of reach,
    /// or did not understand.
    Unanswered {
        /// The answer as it is.
        answer: EvictionAnswer,
    },
}

impl Rehearsal {
    /// Whether a drain of its node could move it, or be done with it, without
    /// anything changing first.
    pub fn goes(&self) -> bool {
        self.consent.is_none()
            && matches!(
                self.result,
                Rehearsed::Allowed | Rehearsed::Gone | Rehearsed::Waits { .. }
            )
    }
}

impl fmt::Display for Rehearsal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}: ", self.pod, self.node)?;
        if let Some(consent) = &self.consent {
            write!(f, "someone has to agree: {consent}; ")?;
        }
        self.result.fmt(f)
    }
}

impl fmt::Display for Rehearsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed => f.write_str("may go"),
            Self::AssumedBudget { blocked } => blocked.fmt(f),
            Self::Budget { blocked, message } => write!(f, "{blocked} ({message})"),
            Self::Forbidden { message } => write!(f, "forbidden: {message}"),
            Self::Gone => f.write_str("gone already"),
            Self::NotAsked => f.write_str("not asked"),
            Self::Unauthorized { message } => {
                write!(f, "the credentials are not accepted: {message}")
            }
            Self::Waits { until: Wait::Job } => f.write_str("waits for its Job to end"),
            Self::Waits { until: Wait::Trial } => f.write_str("waits for its trial to end"),
            Self::Waits { .. } => f.write_str("is going already"),
            Self::Webhook { message, .. } => f.write_str(message),
            Self::Unanswered { answer } => answer.fmt(f),
        }
    }
}

impl Drainer {
    /// Asks the API what an eviction of each pod of `nodes` would be answered
    /// now, ordered by node and pod. Pods that a drain leaves alone (static,
    /// DaemonSet, finished) are not in it, nor are nodes that `model`, which is
    /// sorted, does not have.
    ///
    /// # Guarantees
    /// Nothing is changed: every request is an eviction with `dryRun=All`, no
    /// node is cordoned, and nothing is waited for but answers, of which at
    /// most as many are outstanding as a drain would have. A client of
    /// [`migrate_kube::read_only`] lets them pass. Each pod has its answer
    /// within three deadlines of a request and the pauses a busy server asks
    /// for. After `cancel`, or once the credentials were refused, nobody else
    /// is asked. Dropping it leaves nothing running.
    ///
    /// # Caveats
    /// A dry run spends no budget. So each answer is about its pod going
    /// alone: of two pods of one budget both may be told to go where only the
    /// first could. What `model` shows decides which pods there are and what
    /// the assumed budgets allow; what the API says of real budgets wins over
    /// it.
    ///
    /// The server asks admission webhooks in a dry run too, but not those that
    /// declare side effects: it refuses the request instead, which is a
    /// [`Rehearsed::Webhook`] although the real eviction may pass.
    pub async fn rehearse<N: Into<String>>(
        &self,
        model: &ClusterModel,
        nodes: impl IntoIterator<Item = N>,
        cancel: &Cancellation,
    ) -> Vec<Rehearsal> {
        self.rehearser(model).rehearse(nodes, cancel).await
    }

    /// To rehearse the drains of `model`, which is sorted, part by part: what
    /// is worked out for the whole cluster is worked out once.
    pub fn rehearser<'a>(&'a self, model: &'a ClusterModel) -> Rehearser<'a> {
        let mut by_node: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
        for pod in &model.pods {
            if let Some(node) = &pod.node {
                by_node.entry(node).or_default().push(pod);
            }
        }
        Rehearser {
            drainer: self,
            by_node,
            ledger: BudgetLedger::from_model(model, self.policy.assumed_budgets.clone()),
            hosts: Hosts::of(model),
            hopeless: Cancellation::new(),
        }
    }

    async fn ask(&self, pod: &PodId) -> EvictionAnswer {
        let Options { grace, .. } = self.options(&self.policy);
        let mut options = EvictOptions::default()
            .with_dry_run()
            .with_deadline(self.policy.deadlines.request);
        options.grace = grace;
        let mut attempt = 1;
        loop {
            match evict(&self.client, pod, &options).await {
                EvictionAnswer::Throttled { retry_after } if attempt < ATTEMPTS => {
                    tokio::time::sleep(retry_after).await;
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }
}

/// Rehearses drains of one model, as many nodes at a time as the caller likes.
pub struct Rehearser<'a> {
    drainer: &'a Drainer,
    by_node: BTreeMap<&'a str, Vec<&'a Pod>>,
    ledger: BudgetLedger,
    hosts: Hosts<'a>,
    /// Refused credentials are refused for every pod.
    hopeless: Cancellation,
}

impl<'a> Rehearser<'a> {
    /// What [`Drainer::rehearse`] answers for `nodes`, with its guarantees.
    /// Once the credentials were refused, later calls ask nobody either.
    pub async fn rehearse<N: Into<String>>(
        &mut self,
        nodes: impl IntoIterator<Item = N>,
        cancel: &Cancellation,
    ) -> Vec<Rehearsal> {
        let nodes: BTreeSet<String> = nodes.into_iter().map(Into::into).collect();
        let mut cast = Vec::new();
        for node in &nodes {
            let pods = self.by_node.get(node.as_str()).cloned();
            cast.extend(pods.into_iter().flatten().filter_map(|pod| self.cast(pod)));
        }
        let (drainer, ledger, hopeless) = (self.drainer, &self.ledger, &self.hopeless);
        let asked = cast.into_iter().map(|mut entry| async move {
            if entry.result == Rehearsed::NotAsked && !hopeless.is_cancelled() {
                entry.result = tokio::select! {
                    biased;
                    () = cancel.cancelled() => Rehearsed::NotAsked,
                    answer = drainer.ask(&entry.pod) => judge(ledger, &entry.pod, answer),
                };
            }
            if matches!(entry.result, Rehearsed::Unauthorized { .. }) {
                hopeless.cancel();
            }
            entry
        });
        let width = drainer.options(&drainer.policy).max_requests;
        let asked = stream::iter(asked).buffer_unordered(width);
        let mut all: Vec<Rehearsal> = asked.collect().await;
        all.sort_by(|a, b| (&a.node, &a.pod).cmp(&(&b.node, &b.pod)));
        all
    }

    /// The part of `pod` in a drain of its node, before anybody has asked.
    fn cast(&mut self, pod: &'a Pod) -> Option<Rehearsal> {
        let consent = &self.drainer.policy.consent;
        // First without the search for other hosts: most pods do not need it.
        let mut plan = disposition(pod, consent, None);
        if plan == Disposition::Evict && !consents_to_downtime(consent, pod) {
            plan = disposition(pod, consent, self.hosts.only_host(pod).as_deref());
        }
        let (consent, result) = match plan {
            Disposition::Leave(_) => return None,
            Disposition::Wait(until) => (None, Rehearsed::Waits { until }),
            Disposition::NeedsConsent(to) => (Some(to), Rehearsed::NotAsked),
            _ => (None, Rehearsed::NotAsked),
        };
        Some(Rehearsal {
            node: pod.node.clone()?,
            pod: pod.id.clone(),
            workload: pod.workload.as_deref().cloned(),
            consent,
            result,
        })
    }
}

fn consents_to_downtime(consent: &Consent, pod: &Pod) -> bool {
    consent.downtime || consent.names(pod)
}

/// What `answer` means for `pod`, with what the ledger knows of its budgets.
fn judge(ledger: &BudgetLedger, pod: &PodId, answer: EvictionAnswer) -> Rehearsed {
    let own = ledger.blocked(&pod.uid);
    let message = answer.to_string();
    match answer {
        EvictionAnswer::Accepted => match own {
            Some(blocked) if is_of(&blocked, BudgetKind::Assumed) => {
                Rehearsed::AssumedBudget { blocked }
            }
            _ => Rehearsed::Allowed,
        },
        EvictionAnswer::Gone | EvictionAnswer::OtherPod => Rehearsed::Gone,
        // Its namespace's deletion removes it.
        EvictionAnswer::NamespaceTerminating => Rehearsed::Waits {
            until: Wait::Terminating,
        },
        EvictionAnswer::BudgetExhausted { budget, .. }
        | EvictionAnswer::BudgetNotObserved { budget, .. } => {
            let blocked = refused(ledger, pod, own, budget);
            Rehearsed::Budget { blocked, message }
        }
        EvictionAnswer::TwoBudgets => {
            let blocked = refused(ledger, pod, own, None);
            Rehearsed::Budget { blocked, message }
        }
        EvictionAnswer::Forbidden { message } => Rehearsed::Forbidden { message },
        EvictionAnswer::Unauthorized { message } => Rehearsed::Unauthorized { message },
        EvictionAnswer::DryRunUnsupported { webhook }
        | EvictionAnswer::WebhookDenied { webhook, .. }
        | EvictionAnswer::WebhookUnavailable { webhook, .. } => {
            Rehearsed::Webhook { webhook, message }
        }
        answer => Rehearsed::Unanswered { answer },
    }
}

/// The budget that said no: the ledger's own reason if it is the same one, else
/// what its account shows.
fn refused(
    ledger: &BudgetLedger,
    pod: &PodId,
    own: Option<Blocked>,
    named: Option<String>,
) -> Blocked {
    let same = |own: &Blocked| {
        let budget = own.budget.as_ref();
        is_of(own, BudgetKind::Real)
            && (named.is_none() || budget.map(|key| &key.name) == named.as_ref())
    };
    if let Some(own) = own.filter(same) {
        return own;
    }
    let mut real = ledger.budgets_of(&pod.uid).iter();
    let key = match named {
        Some(name) => Some(BudgetKey::real(&pod.namespace, name)),
        None => real.find(|key| key.kind == BudgetKind::Real).cloned(),
    };
    key.map_or_else(Blocked::unseen, |key| ledger.exhausted(key))
}

fn is_of(blocked: &Blocked, kind: BudgetKind) -> bool {
    blocked.budget.as_ref().is_some_and(|key| key.kind == kind)
}
