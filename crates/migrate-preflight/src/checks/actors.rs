//! Others that move pods, or reboot or delete nodes, at the same time.

use futures::TryFutureExt;
use kube::Client;
use kube::api::ObjectMeta;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use migrate_core::{Finding, ObjectName, Severity};
use migrate_kube::{ApiCall, Error, Selection, list, list_of};

use super::{Answer, codes, names};
use crate::objects::{CronJob, DaemonSet, Deployment, PodTemplate};

/// A program known by the name of its workload, its labels or its image.
struct Program {
    code: &'static str,
    /// Its name, and that of its image.
    name: &'static str,
    does: &'static str,
    cure: &'static str,
}

const PROGRAMS: &[Program] = &[
    Program {
        code: codes::CLUSTER_AUTOSCALER,
        name: "cluster-autoscaler",
        does: "removes nodes that a drain has emptied",
        cure: "scale it to 0 for the upgrade, or annotate the nodes with \
               cluster-autoscaler.kubernetes.io/scale-down-disabled=true",
    },
    Program {
        code: codes::KARPENTER,
        name: "karpenter",
        does: "replaces and removes nodes on its own",
        cure: KARPENTER_CURE,
    },
    Program {
        code: codes::KURED,
        name: "kured",
        does: "cordons, drains and reboots nodes on its own",
        cure: "hold its lock, or delete the DaemonSet, for the upgrade",
    },
    Program {
        code: codes::DESCHEDULER,
        name: "descheduler",
        does: "evicts pods on its own, out of the same budgets",
        cure: "scale it to 0, or suspend its CronJob, for the upgrade",
    },
];

const KARPENTER_CURE: &str = "set a disruption budget of nodes: \"0\" on its NodePools for the \
                              upgrade, or scale it to 0";

/// A kind of object that makes somebody act.
struct Order {
    code: &'static str,
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    severity: Severity,
    does: &'static str,
    cure: &'static str,
}

const HEALTH_CHECK_DOES: &str = "replaces nodes that are not Ready for a while, as a node is \
                                 during its upgrade";
const HEALTH_CHECK_CURE: &str = "pause it for the upgrade: annotate it with \
                                 cluster.x-k8s.io/paused=\"\"";
/// Annotation of an object that nobody acts on for now.
const PAUSED: &str = "cluster.x-k8s.io/paused";

const ORDERS: &[Order] = &[
    Order {
        code: codes::MACHINE_HEALTH_CHECK,
        group: "cluster.x-k8s.io",
        kind: "MachineHealthCheck",
        plural: "machinehealthchecks",
        severity: Severity::Blocker,
        does: HEALTH_CHECK_DOES,
        cure: HEALTH_CHECK_CURE,
    },
    Order {
        code: codes::MACHINE_HEALTH_CHECK,
        group: "machine.openshift.io",
        kind: "MachineHealthCheck",
        plural: "machinehealthchecks",
        severity: Severity::Blocker,
        does: HEALTH_CHECK_DOES,
        cure: HEALTH_CHECK_CURE,
    },
    // Where the provider runs the controller, only its objects show.
    Order {
        code: codes::KARPENTER,
        group: "karpenter.sh",
        kind: "NodePool",
        plural: "nodepools",
        severity: Severity::Warning,
        does: "lets nodes be replaced and removed",
        cure: KARPENTER_CURE,
    },
];

/// Findings about programs that run in the cluster, `deployments` among them.
pub(crate) async fn programs(client: &Client, deployments: &[Deployment]) -> Answer {
    let all = Selection::all();
    let (daemon_sets, cron_jobs) = futures::try_join!(
        list::<DaemonSet>(client, &all),
        list::<CronJob>(client, &all),
    )?;
    let deployments = deployments
        .iter()
        .filter(|deployment| deployment.spec.replicas != Some(0))
        .filter_map(|d| recognise("Deployment", &d.metadata, &d.spec.template));
    let daemon_sets = daemon_sets
        .iter()
        .filter_map(|d| recognise("DaemonSet", &d.metadata, &d.spec.template));
    let cron_jobs = cron_jobs
        .iter()
        .filter(|job| job.spec.suspend != Some(true))
        .filter_map(|job| {
            recognise(
                "CronJob",
                &job.metadata,
                &job.spec.job_template.spec.template,
            )
        });
    Ok(deployments.chain(daemon_sets).chain(cron_jobs).collect())
}

fn recognise(kind: &str, metadata: &ObjectMeta, template: &PodTemplate) -> Option<Finding> {
    let program = PROGRAMS
        .iter()
        .find(|program| is_program(program.name, metadata, template))?;
    let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
    let object = ObjectName::namespaced(
        kind,
        namespace.unwrap_or_default(),
        name.unwrap_or_default(),
    );
    Some(Finding::new(
        program.code,
        Severity::Warning,
        object,
        format!("{} {}", program.name, program.does),
        program.cure,
    ))
}

fn is_program(program: &str, metadata: &ObjectMeta, template: &PodTemplate) -> bool {
    let name = metadata.name.as_deref().unwrap_or_default();
    let labels = metadata.labels.iter().flatten();
    let is_labelled = labels
        .filter(|(key, _)| matches!(key.as_str(), "app.kubernetes.io/name" | "k8s-app" | "app"))
        .any(|(_, value)| has_name(value, program));
    let images = template
        .spec
        .containers
        .iter()
        .filter_map(|c| c.image.as_deref());
    has_name(name, program)
        || is_labelled
        || images.into_iter().any(|image| is_image(image, program))
}

/// `program`, or it with something before or after a hyphen, as releases of
/// charts and clouds' builds are named.
fn has_name(text: &str, program: &str) -> bool {
    text.match_indices(program).any(|(at, found)| {
        let before = text
            .get(..at)
            .is_some_and(|t| t.is_empty() || t.ends_with('-'));
        let after = text.get(at + found.len()..);
        before && after.is_some_and(|t| t.is_empty() || t.starts_with('-'))
    })
}

/// Whether the path of an image, without registry, tag and digest, names it.
fn is_image(image: &str, program: &str) -> bool {
    let path = image.split('@').next().unwrap_or_default();
    path.split('/')
        .map(|part| part.split(':').next().unwrap_or_default())
        .any(|part| has_name(part, program))
}

/// Findings about objects that make somebody act.
pub(crate) async fn orders(client: &Client) -> Answer {
    let groups = client
        .list_api_groups()
        .map_err(|error| ApiCall::path("/apis").failed(error))
        .await?;
    let mut findings = Vec::new();
    for order in ORDERS {
        let group = groups.groups.iter().find(|group| group.name == order.group);
        let Some(group) = group else { continue };
        let preferred = group
            .preferred_version
            .as_ref()
            .or_else(|| group.versions.first());
        let Some(version) = preferred else { continue };
        findings.extend(active(client, order, &version.version).await?);
    }
    Ok(findings)
}

async fn active(client: &Client, order: &Order, version: &str) -> Result<Option<Finding>, Error> {
    let kind = GroupVersionKind::gvk(order.group, version, order.kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, order.plural);
    let all = Selection::all();
    let objects = match list_of::<DynamicObject>(client, &resource, &all).await {
        Err(Error::NotFound { .. }) => return Ok(None),
        objects => objects?,
    };
    let active: Vec<&ObjectMeta> = objects
        .iter()
        .map(|object| &object.metadata)
        .filter(|metadata| {
            !metadata
                .annotations
                .iter()
                .flatten()
                .any(|(key, _)| key == PAUSED)
        })
        .collect();
    let Some(first) = active.first() else {
        return Ok(None);
    };
    let name = first.name.clone().unwrap_or_default();
    let object = match &first.namespace {
        Some(namespace) => ObjectName::namespaced(order.kind, namespace, name),
        None => ObjectName::cluster(order.kind, name),
    };
    let all = names(
        active
            .iter()
            .map(|metadata| metadata.name.as_deref().unwrap_or_default()),
    );
    let evidence = format!("it {} ({} in all: {all})", order.does, active.len());
    Ok(Some(Finding::new(
        order.code,
        order.severity,
        object,
        evidence,
        order.cure,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_known_by_whole_words() {
        for (text, program, known) in [
            ("cluster-autoscaler", "cluster-autoscaler", true),
            ("aws-cluster-autoscaler-eu", "cluster-autoscaler", true),
            (
                "cluster-proportional-autoscaler",
                "cluster-autoscaler",
                false,
            ),
            ("kured", "kured", true),
            ("kuredirect", "kured", false),
            ("sekured", "kured", false),
        ] {
            assert_eq!(has_name(text, program), known, "{text}");
        }
        assert!(is_image(
            "public.ecr.aws/karpenter/controller:1.6@sha256:ab",
            "karpenter"
        ));
        assert!(is_image(
            "registry.k8s.io/autoscaling/cluster-autoscaler:v1.36.0",
            "cluster-autoscaler"
        ));
        assert!(is_image(
            "registry.k8s.io:443/descheduler/descheduler:v0.34",
            "descheduler"
        ));
        assert!(!is_image("app:kured", "kured"), "a tag is no name");
    }
}
