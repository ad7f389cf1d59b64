//! Pods that do not simply move: consent, Jobs, single replicas.

use std::collections::BTreeMap;

use super::movers::Movers;
use super::{codes, names, plural};
use crate::{
    ClusterModel, Disposition, Finding, Hosts, NeedsConsent, ObjectName, Pod, Policy, Severity,
    disposition,
};

/// A pod to be evicted.
struct Mover<'a> {
    pod: &'a Pod,
    /// [`Disposition::Evict`] or [`Disposition::NeedsConsent`].
    disposition: Disposition,
    /// Why no other node can host it, agreed or not.
    only_host: Option<String>,
}

impl<'a> Mover<'a> {
    fn new(pod: &'a Pod, policy: &Policy, only_host: Option<String>) -> Self {
        Self {
            pod,
            disposition: disposition(pod, &policy.consent, only_host.as_deref()),
            only_host,
        }
    }
}

/// Why pods of one owner are reported together.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum Concern {
    Bare,
    DoNotDisrupt,
    EmptyDir,
    OnlyHost,
    SingleReplica,
}

/// Findings about the pods themselves, one for each owner and concern.
pub(super) fn check(model: &ClusterModel, policy: &Policy, movers: &Movers<'_>) -> Vec<Finding> {
    let replicas: BTreeMap<_, u32> = model
        .workloads
        .iter()
        .filter(|workload| workload.replaces_pods())
        .map(|workload| (&workload.id, workload.replicas))
        .collect();
    let mut hosts = Hosts::of(model);
    let concerns = movers.leaving.iter().filter_map(|&pod| {
        let mover = Mover::new(pod, policy, hosts.only_host(pod));
        let is_alone = pod
            .workload
            .as_deref()
            .is_some_and(|id| replicas.get(id) == Some(&1));
        let concern = concern(&mover, is_alone)?;
        Some((concern, mover))
    });
    let mut findings = grouped(concerns);
    findings.extend(jobs(&movers.jobs));
    findings
}

/// Those of them that nobody has agreed to and that hold whoever else can host the pod.
pub(super) fn check_consent(policy: &Policy, movers: &Movers<'_>) -> Vec<Finding> {
    let concerns = movers.leaving.iter().filter_map(|&pod| {
        let mover = Mover::new(pod, policy, None);
        let concern = concern(&mover, false).filter(|(_, is_agreed)| !is_agreed)?;
        Some((concern, mover))
    });
    grouped(concerns)
}

/// One finding for each owner and concern.
fn grouped<'a>(concerns: impl Iterator<Item = ((Concern, bool), Mover<'a>)>) -> Vec<Finding> {
    let mut groups: BTreeMap<(Concern, bool, ObjectName), Vec<Mover<'_>>> = BTreeMap::new();
    for ((concern, is_agreed), mover) in concerns {
        let key = (concern, is_agreed, owner_of(mover.pod));
        groups.entry(key).or_default().push(mover);
    }
    let groups = groups.into_iter();
    groups
        .map(|((concern, is_agreed, owner), movers)| finding(concern, is_agreed, owner, &movers))
        .collect()
}

/// What there is to say about a pod, and whether a person has agreed to it.
fn concern(mover: &Mover<'_>, is_alone: bool) -> Option<(Concern, bool)> {
    match &mover.disposition {
        Disposition::NeedsConsent(NeedsConsent::Bare) => Some((Concern::Bare, false)),
        Disposition::NeedsConsent(NeedsConsent::DoNotDisrupt(_)) => {
            Some((Concern::DoNotDisrupt, false))
        }
        Disposition::NeedsConsent(NeedsConsent::EmptyDir) => Some((Concern::EmptyDir, false)),
        Disposition::NeedsConsent(NeedsConsent::OnlyHost(_)) => Some((Concern::OnlyHost, false)),
        _ if mover.pod.controller.is_none() => Some((Concern::Bare, true)),
        _ if mover.only_host.is_some() => Some((Concern::OnlyHost, true)),
        _ if is_alone => Some((Concern::SingleReplica, true)),
        _ => None,
    }
}

fn finding(concern: Concern, is_agreed: bool, owner: ObjectName, movers: &[Mover<'_>]) -> Finding {
    let count = movers.len();
    let pods = names(movers.iter().map(|mover| mover.pod.id.name.as_str()));
    let severity = if is_agreed {
        Severity::Warning
    } else {
        Severity::Blocker
    };
    // What is named in `consent.pods` needs no further word.
    let named = format!(
        "{}/{}",
        owner.namespace.as_deref().unwrap_or_default(),
        owner.name
    );
    let (code, evidence, cure) = match concern {
        Concern::Bare => (
            codes::BARE,
            "it has no controller: once evicted, nothing starts it again".to_owned(),
            format!(
                "give it a controller, delete it, or accept its loss: add {named:?} to consent.pods"
            ),
        ),
        Concern::DoNotDisrupt => {
            let marks = movers.iter().map(|mover| &mover.pod.do_not_disrupt);
            let mark = marks.flatten().next().map_or("", String::as_str);
            (
                codes::DO_NOT_DISRUPT,
                format!(
                    "{} ({pods}) ask not to be disrupted ({mark}) and do not end by themselves: \
                     their nodes could never be drained",
                    plural(count, "pod", "pods")
                ),
                format!(
                    "take the annotation away while the run goes on, or agree: add {named:?} to \
                     consent.pods, or set consent.do-not-disrupt = true"
                ),
            )
        }
        Concern::EmptyDir => (
            codes::EMPTY_DIR,
            format!(
                "the emptyDir data of {} ({pods}) would be lost",
                plural(count, "pod", "pods")
            ),
            format!("set consent.empty-dir = true, or add {named:?} to consent.pods"),
        ),
        Concern::OnlyHost => {
            let why = movers.iter().find_map(|mover| mover.only_host.as_deref());
            let evidence = format!(
                "{} ({pods}) will be down from eviction until the node is back: {}",
                plural(count, "pod", "pods"),
                why.unwrap_or_default()
            );
            let cure = format!(
                "let another node host it, or accept the downtime: add {named:?} to consent.pods"
            );
            (codes::ONLY_HOST, evidence, cure)
        }
        Concern::SingleReplica => (
            codes::SINGLE_REPLICA,
            format!("its only replica ({pods}) is moved: it is down until the next one is ready"),
            "run 2 replicas if it must not be down for that long".to_owned(),
        ),
    };
    let cure = if is_agreed && concern != Concern::SingleReplica {
        "nothing: policy accepts it".to_owned()
    } else {
        cure
    };
    Finding::new(code, severity, owner, evidence, cure)
}

fn jobs(pods: &[&Pod]) -> Vec<Finding> {
    let mut by_job: BTreeMap<(ObjectName, bool), Vec<&str>> = BTreeMap::new();
    for pod in pods {
        let key = (owner_of(pod), pod.do_not_disrupt.is_some());
        by_job.entry(key).or_default().push(&pod.id.name);
    }
    by_job
        .into_iter()
        .map(|((job, asks), pods)| {
            let count = plural(pods.len(), "pod", "pods");
            Finding::new(
                codes::JOB,
                Severity::Info,
                job,
                format!(
                    "the drain waits until {count} of it ({}) have ended",
                    names(pods)
                ),
                match asks {
                    false => {
                        "start when it has ended, or let it begin anew elsewhere: consent.jobs = \
                         \"evict\""
                    }
                    true => {
                        "start when it has ended; it asks not to be disrupted: to let it begin anew \
                         elsewhere, consent.jobs = \"evict\" and consent.do-not-disrupt = true"
                    }
                },
            )
        })
        .collect()
}

/// What people know the pod by, and may name in the policy: its workload, else
/// itself.
fn owner_of(pod: &Pod) -> ObjectName {
    let namespace = &pod.id.namespace;
    match &pod.workload {
        Some(workload) => ObjectName::namespaced(&workload.kind, namespace, &workload.name),
        None => ObjectName::namespaced("Pod", namespace, &pod.id.name),
    }
}
