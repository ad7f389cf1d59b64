//! Pod selection: what a drain does with each pod of a node.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Consent, JobPolicy, Pod};

/// What a drain does with a pod.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", tag = "do", content = "because")]
pub enum Disposition {
    /// Evict it.
    Evict,
    /// Leave it on the node.
    Leave(Leave),
    /// A person has to agree before it is evicted.
    NeedsConsent(NeedsConsent),
    /// Wait until it is gone by itself.
    Wait(Wait),
}

/// Why a pod stays.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub enum Leave {
    /// A DaemonSet keeps one here whatever happens.
    DaemonSet,
    /// It has ended; nothing runs.
    Finished,
    /// The kubelet runs it from a file.
    Static,
    /// It does a step of an upgrade there, and ends by itself.
    Step,
}

/// What a person has to agree to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub enum NeedsConsent {
    /// Nothing starts it again.
    Bare,
    /// It asks, by this annotation, not to be disrupted, and does not end by itself.
    DoNotDisrupt(String),
    /// Its emptyDir data would be lost.
    EmptyDir,
    /// Only this node can host it: it is down until the node is back.
    OnlyHost(String),
}

/// What a drain waits for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub enum Wait {
    /// Its Job to finish.
    Job,
    /// The trial of its node to end, which has a limit of its own.
    Trial,
    /// Its grace to end.
    Terminating,
}

impl fmt::Display for NeedsConsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bare => f.write_str("it has no controller: nothing starts it again"),
            Self::DoNotDisrupt(annotation) => {
                write!(f, "it asks not to be disrupted, by {annotation}")
            }
            Self::EmptyDir => f.write_str("its emptyDir data would be lost"),
            Self::OnlyHost(why) => write!(f, "it is down until its node is back: {why}"),
        }
    }
}

/// What a drain does with `pod`; `only_host` is the answer of
/// [`only_host`](crate::only_host) for it.
///
/// Rules in order: static pods and DaemonSet pods stay, finished pods and steps
/// of an upgrade stay, terminating pods are waited for, Job pods follow policy and are
/// waited for where they ask not to be disrupted, pods that try a node out are waited
/// for, then the kinds of consent, then eviction.
pub fn disposition(pod: &Pod, consent: &Consent, only_host: Option<&str>) -> Disposition {
    if pod.mirror {
        return Disposition::Leave(Leave::Static);
    }
    if pod.is_daemon() {
        return Disposition::Leave(Leave::DaemonSet);
    }
    if pod.is_finished() {
        return Disposition::Leave(Leave::Finished);
    }
    if pod.is_step() {
        return Disposition::Leave(Leave::Step);
    }
    if pod.deletion.is_some() {
        return Disposition::Wait(Wait::Terminating);
    }
    let agreed = consent.names(pod);
    let is_job = pod.controller.as_ref().is_some_and(|c| c.kind == "Job");
    let asks = pod.do_not_disrupt.as_ref();
    let asks = asks.filter(|_| !consent.do_not_disrupt && !agreed);
    let is_waited_for = consent.jobs == JobPolicy::Wait && !agreed;
    if is_job && (is_waited_for || asks.is_some()) {
        return Disposition::Wait(Wait::Job);
    }
    // Nobody gets out of a drain by that label: the drain waits for it.
    if pod.is_trial() && !agreed {
        return Disposition::Wait(Wait::Trial);
    }
    if pod.controller.is_none() && !consent.bare_pods && !agreed {
        return Disposition::NeedsConsent(NeedsConsent::Bare);
    }
    if let Some(annotation) = asks {
        return Disposition::NeedsConsent(NeedsConsent::DoNotDisrupt(annotation.clone()));
    }
    if pod.empty_dir && !consent.empty_dir && !agreed {
        return Disposition::NeedsConsent(NeedsConsent::EmptyDir);
    }
    match only_host {
        Some(why) if !consent.downtime && !agreed => {
            Disposition::NeedsConsent(NeedsConsent::OnlyHost(why.to_owned()))
        }
        _ => Disposition::Evict,
    }
}

impl Consent {
    /// Whether the policy names `pod`, or its workload, in `pods`.
    pub fn names(&self, pod: &Pod) -> bool {
        let named = |name: &str| self.pods.contains(&format!("{}/{name}", pod.id.namespace));
        !self.pods.is_empty()
            && (named(&pod.id.name) || pod.workload.as_ref().is_some_and(|w| named(&w.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{STEP_LABEL, TRIAL};
    use crate::{ControllerRef, PodId, PodPhase};

    fn pod(kind: Option<&str>) -> Pod {
        let mut pod = Pod::new(PodId::new("shop", "web-1", "u"), "node-1");
        pod.controller = kind.map(|kind| ControllerRef {
            group: if kind == "Job" { "batch" } else { "apps" }.into(),
            kind: kind.into(),
            name: "web".into(),
            uid: "o".into(),
        });
        pod
    }

    #[test]
    fn each_kind_of_pod_has_its_answer() {
        let consent = Consent::default();
        let ask = |pod: &Pod| disposition(pod, &consent, None);
        assert_eq!(ask(&pod(Some("ReplicaSet"))), Disposition::Evict);
        assert_eq!(
            ask(&pod(Some("DaemonSet"))),
            Disposition::Leave(Leave::DaemonSet)
        );
        assert_eq!(ask(&pod(Some("Job"))), Disposition::Wait(Wait::Job));
        assert_eq!(
            ask(&pod(None)),
            Disposition::NeedsConsent(NeedsConsent::Bare)
        );
        let mut mirror = pod(None);
        mirror.mirror = true;
        assert_eq!(ask(&mirror), Disposition::Leave(Leave::Static));
        let mut done = pod(Some("Job"));
        done.phase = PodPhase::Succeeded;
        assert_eq!(ask(&done), Disposition::Leave(Leave::Finished));
    }

    #[test]
    fn only_a_job_can_be_a_step_of_an_upgrade() {
        let consent = Consent::default();
        let labelled = |kind| {
            let mut pod = pod(kind);
            pod.labels.insert(STEP_LABEL.into(), "shell".into());
            pod
        };
        let mut step = labelled(Some("Job"));
        let stays = Disposition::Leave(Leave::Step);
        assert_eq!(disposition(&step, &consent, None), stays);
        step.deletion = Some(crate::Moment::from_millis(1));
        assert_eq!(disposition(&step, &consent, None), stays);
        // A pod that tries the node out is waited for, whoever else has its label, too.
        let mut trial = labelled(None);
        trial.labels.insert(STEP_LABEL.into(), TRIAL.into());
        let waits = Disposition::Wait(Wait::Trial);
        assert_eq!(disposition(&trial, &consent, None), waits);
        trial.phase = PodPhase::Succeeded;
        let ended = Disposition::Leave(Leave::Finished);
        assert_eq!(disposition(&trial, &consent, None), ended);
        // Nobody gets out of a drain by a label.
        let of_shop = disposition(&labelled(Some("ReplicaSet")), &consent, None);
        assert_eq!(of_shop, Disposition::Evict);
        let bare = disposition(&labelled(None), &consent, None);
        assert_eq!(bare, Disposition::NeedsConsent(NeedsConsent::Bare));
    }

    #[test]
    fn a_pod_that_asks_not_to_be_disrupted_is_waited_for_or_asked_about() {
        let marked = |kind| {
            let mut pod = pod(kind);
            pod.do_not_disrupt = Some("karpenter.sh/do-not-disrupt".into());
            pod
        };
        let mut consent = Consent {
            jobs: JobPolicy::Evict,
            ..Consent::default()
        };
        let ask = |kind, consent: &Consent| disposition(&marked(kind), consent, None);
        let needed = NeedsConsent::DoNotDisrupt("karpenter.sh/do-not-disrupt".into());
        let needed = Disposition::NeedsConsent(needed);
        assert_eq!(ask(Some("ReplicaSet"), &consent), needed);
        // It ends by itself.
        assert_eq!(ask(Some("Job"), &consent), Disposition::Wait(Wait::Job));
        assert_eq!(
            ask(Some("DaemonSet"), &consent),
            Disposition::Leave(Leave::DaemonSet)
        );
        consent.pods.insert("shop/web-1".into());
        assert_eq!(ask(Some("Job"), &consent), Disposition::Evict);
        consent.pods.clear();
        consent.do_not_disrupt = true;
        assert_eq!(ask(Some("ReplicaSet"), &consent), Disposition::Evict);
        assert_eq!(ask(Some("Job"), &consent), Disposition::Evict);
    }

    #[test]
    fn a_named_pod_needs_no_further_consent() {
        let mut consent = Consent::default();
        consent.pods.insert("shop/web-1".into());
        assert_eq!(disposition(&pod(None), &consent, None), Disposition::Evict);
        let bound = pod(Some("StatefulSet"));
        assert_eq!(
            disposition(&bound, &consent, Some("local")),
            Disposition::Evict
        );
        consent.pods.clear();
        assert!(matches!(
            disposition(&bound, &consent, Some("local")),
            Disposition::NeedsConsent(NeedsConsent::OnlyHost(_))
        ));
    }
}
