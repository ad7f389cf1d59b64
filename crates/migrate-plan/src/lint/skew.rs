//! Versions that meet while the plan is carried out.

use std::collections::BTreeMap;

use migrate_core::{ClusterModel, KubeVersion, ObjectName, Plan, Severity};

use super::targets::{may_meet, most_behind};
use super::{Report, codes};

/// No member goes further than one minor, nor back, and no kubelet meets an API server that
/// it may not meet: those that stay behind the plan's, and those that change the ones there are.
///
/// What breaks the rules as it stands already, and gets no worse, is told and is no fault of
/// the plan.
pub(super) fn check(plan: &Plan, model: &ClusterModel, report: &mut Report) {
    members(plan, model, report);
    let servers = Servers::of(plan, model);
    let slots = plan.slots.iter();
    let slots = slots.map(|slot| (slot.node.as_str(), plan.to_of_pool(&slot.pool)));
    let changed: BTreeMap<&str, &KubeVersion> = slots.collect();
    for node in &model.nodes {
        let now = &node.kubelet_version;
        let to = changed.get(node.name.as_str()).copied();
        let [before, meanwhile] =
            [&servers.before, &servers.meanwhile].map(|at| Apart::of(now, at));
        // Nodes come after all members.
        let after = Apart::of(to.unwrap_or(now), &servers.after);
        let object = || ObjectName::cluster("Node", &node.name);
        if meanwhile.is_worse_than(before) {
            let to = &plan.to;
            let evidence = format!("its kubelet is at {now} when the first API server is at {to}");
            report.broken(codes::SKEW, object(), evidence);
        } else if after.is_worse_than(before) {
            let to = to.unwrap_or(now);
            let mut met = servers.after.iter();
            let met = met.find(|server| !may_meet(to, server)).unwrap_or(&to);
            let evidence = format!("its kubelet goes to {to} next to an API server of {met}");
            report.broken(codes::SKEW, object(), evidence);
        } else if before.is_broken() {
            let mut met = servers.before.iter();
            let met = met.find(|server| !may_meet(now, server)).unwrap_or(&now);
            let end = match after.is_broken() {
                true => "still is at the end of the plan",
                false => "is no more at the end of the plan",
            };
            let evidence = format!(
                "its kubelet is at {now} next to an API server of {met}, which is so before the \
                 plan begins and {end}"
            );
            report.add(codes::SKEW, Severity::Warning, object(), evidence);
        }
    }
}

fn members(plan: &Plan, model: &ClusterModel, report: &mut Report) {
    if plan.control_plane.is_empty() {
        return;
    }
    let to = &plan.to;
    for member in &model.control_plane {
        let ahead = member.version.minor_distance(to);
        if !ahead.is_some_and(|ahead| (0..=1).contains(&ahead)) {
            let object = ObjectName::cluster("ControlPlaneMember", &member.name);
            let evidence = format!(
                "it is at {}, and the plan brings API servers of {to}, which is not the same \
                 minor nor the next one",
                member.version
            );
            report.broken(codes::SKEW, object, evidence);
        }
    }
}

/// What API servers run, one of each minor: a kubelet may reach any of them.
struct Servers<'a> {
    before: Vec<&'a KubeVersion>,
    /// While members go to the plan's version.
    meanwhile: Vec<&'a KubeVersion>,
    /// When all of them are there.
    after: Vec<&'a KubeVersion>,
}

impl<'a> Servers<'a> {
    fn of(plan: &'a Plan, model: &'a ClusterModel) -> Self {
        let is_planned = |name: &str| plan.control_plane.iter().any(|member| member.name == name);
        let members = || model.control_plane.iter();
        let before = members().map(|member| &member.version);
        let to = (!plan.control_plane.is_empty()).then_some(&plan.to);
        let after = members().map(|member| match is_planned(&member.name) {
            true => &plan.to,
            false => &member.version,
        });
        Self {
            before: one_of_each(before.clone()),
            meanwhile: one_of_each(before.chain(to)),
            after: one_of_each(after),
        }
    }
}

fn one_of_each<'a>(versions: impl Iterator<Item = &'a KubeVersion>) -> Vec<&'a KubeVersion> {
    let by_minor = versions.map(|version| (version.minor_version(), version));
    let by_minor: BTreeMap<_, _> = by_minor.collect();
    by_minor.into_values().collect()
}

/// By how many minors a kubelet is outside of what it may be.
#[derive(Clone, Copy, Debug, Default)]
struct Apart {
    /// Newer than the oldest API server.
    ahead: i64,
    /// Further behind the newest than it may be.
    behind: i64,
}

impl Apart {
    fn of(kubelet: &KubeVersion, servers: &[&KubeVersion]) -> Self {
        let each = servers.iter().map(|server| {
            let behind = kubelet.minor_distance(server);
            behind.map_or(Self::MOST, |behind| Self {
                ahead: (-behind).max(0),
                behind: (behind - most_behind(kubelet)).max(0),
            })
        });
        each.fold(Self::default(), Self::or_worse)
    }

    fn or_worse(self, other: Self) -> Self {
        Self {
            ahead: self.ahead.max(other.ahead),
            behind: self.behind.max(other.behind),
        }
    }

    /// Of another major.
    const MOST: Self = Self {
        ahead: i64::MAX,
        behind: i64::MAX,
    };

    fn is_broken(self) -> bool {
        self.is_worse_than(Self::default())
    }

    fn is_worse_than(self, other: Self) -> bool {
        self.ahead > other.ahead || self.behind > other.behind
    }
}
