//! What releases took away and what their kubeadm brings, as data. Pure.

use migrate_core::version::MinorVersion;

/// See there for where each row comes from.
const TABLE: &str = include_str!("releases.txt");

/// Why a feature gate cannot stay as it is set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct GateProblem {
    /// The minor since which that is so, as far as the table goes back.
    pub(super) since: MinorVersion,
    /// The only value it takes; none if the gate is gone.
    pub(super) only: Option<bool>,
}

/// What is wrong with a gate that is set to `value`, for programs of `target`:
/// they end at once.
pub(super) fn gate(name: &str, value: bool, target: MinorVersion) -> Option<GateProblem> {
    let problem = |what, only| {
        let since = first(target, |row| row.what == what && row.has(name))?.since;
        Some(GateProblem { since, only })
    };
    let locked = if value { "gates-off" } else { "gates-on" };
    problem("gates", None).or_else(|| problem(locked, Some(!value)))
}

/// The minor since which `component` ends at once when it is given a flag.
pub(super) fn flag(component: &str, name: &str, target: MinorVersion) -> Option<MinorVersion> {
    let is_gone = |row: &Row| {
        let mut names = row.names.split(' ');
        row.what == "flags" && names.next() == Some(component) && names.any(|other| other == name)
    };
    Some(first(target, is_gone)?.since)
}

/// The minor since which kubeadm does not read its configuration in `api`.
pub(super) fn configuration(api: &str, target: MinorVersion) -> Option<MinorVersion> {
    Some(first(target, |row| row.what == "kubeadm-api" && row.has(api))?.since)
}

/// The minor since which kubeadm has not a feature gate of its own.
pub(super) fn kubeadm_gate(name: &str, target: MinorVersion) -> Option<MinorVersion> {
    Some(first(target, |row| row.what == "kubeadm-gates" && row.has(name))?.since)
}

/// The `CoreDNS` that kubeadm of `target` brings, if that is known.
pub(super) fn coredns(target: MinorVersion) -> Option<&'static str> {
    let mut rows = rows().filter(|row| row.what == "coredns");
    Some(rows.find(|row| row.since == target)?.names)
}

/// The oldest external etcd that kubeadm of `target` takes; that of the newest
/// minor known, if it is newer.
pub(super) fn oldest_external_etcd(target: MinorVersion) -> Option<&'static str> {
    let rows = rows().filter(|row| row.what == "external-etcd" && row.since <= target);
    Some(rows.last()?.names)
}

struct Row {
    since: MinorVersion,
    what: &'static str,
    names: &'static str,
}

impl Row {
    fn has(&self, name: &str) -> bool {
        self.names.split(' ').any(|other| other == name)
    }
}

/// The first row that says so to `target`.
fn first(target: MinorVersion, says: impl Fn(&Row) -> bool) -> Option<Row> {
    rows().find(|row| row.since <= target && says(row))
}

/// A line that is no row is left out: a test says that there is none.
fn rows() -> impl Iterator<Item = Row> {
    TABLE.lines().filter_map(row)
}

fn row(line: &'static str) -> Option<Row> {
    let (since, rest) = line.split_once(' ')?;
    let (what, names) = rest.split_once(' ')?;
    let since = since.parse().ok()?;
    Some(Row { since, what, names })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn minor(text: &str) -> MinorVersion {
        text.parse().unwrap()
    }

    #[test]
    fn every_line_of_the_table_is_a_row_and_names_nothing_twice() {
        let mut seen = BTreeSet::new();
        let mut last = std::collections::BTreeMap::new();
        for line in TABLE.lines() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let row = row(line).unwrap_or_else(|| panic!("{line}"));
            let kinds = ["gates", "gates-on", "gates-off", "flags", "coredns"];
            let others = ["external-etcd", "kubeadm-api", "kubeadm-gates"];
            assert!(kinds.iter().chain(&others).any(|kind| *kind == row.what));
            let before = last.insert(row.what, row.since);
            assert!(before.is_none_or(|before| before <= row.since), "{line}");
            let scope = match row.what {
                "flags" => row.names.split(' ').next().unwrap(),
                _ => "",
            };
            let names = row.names.split(' ').filter(|name| *name != scope);
            for name in names {
                assert!(seen.insert((row.what, scope, name)), "{name} again: {line}");
            }
        }
        assert!(seen.len() > 200);
    }

    #[test]
    fn what_was_taken_away_stays_away() {
        let gone = |since| Some(GateProblem { since, only: None });
        for (target, expected) in [
            ("1.36", None),
            ("1.37", gone(minor("1.37"))),
            ("1.39", gone(minor("1.37"))),
        ] {
            assert_eq!(gate("SidecarContainers", true, minor(target)), expected);
        }
        let locked = gate("SidecarContainers", false, minor("1.36")).unwrap();
        assert_eq!((locked.since, locked.only), (minor("1.33"), Some(true)));
        let off = gate("GitRepoVolumeDriver", true, minor("1.36")).unwrap();
        assert_eq!(off.only, Some(false));
        assert_eq!(gate("GitRepoVolumeDriver", false, minor("1.37")), None);
        assert_eq!(gate("NoSuchGate", true, minor("1.37")), None);

        let since = flag("kubelet", "storage-driver-user", minor("1.37"));
        assert_eq!(since, Some(minor("1.37")));
        assert_eq!(flag("kubelet", "storage-driver-user", minor("1.36")), None);
        assert_eq!(flag("kubelet", "cloud-provider", minor("1.37")), None);
        // The component is no flag of its own.
        assert_eq!(flag("kubelet", "kubelet", minor("1.37")), None);
    }

    #[test]
    fn what_kubeadm_brings_and_asks_for_is_that_of_the_target() {
        assert_eq!(coredns(minor("1.36")), Some("1.14.2"));
        assert_eq!(coredns(minor("1.38")), None);
        assert_eq!(oldest_external_etcd(minor("1.34")), Some("3.5.21"));
        assert_eq!(oldest_external_etcd(minor("1.37")), Some("3.5.24"));
        assert_eq!(oldest_external_etcd(minor("1.32")), None);
        let local_mode = "ControlPlaneKubeletLocalMode";
        assert_eq!(kubeadm_gate(local_mode, minor("1.35")), None);
        let since = kubeadm_gate(local_mode, minor("1.37"));
        assert_eq!(since, Some(minor("1.36")));
        let rootless = kubeadm_gate("RootlessControlPlane", minor("1.37"));
        assert_eq!(rootless, None);
        let api = "kubeadm.k8s.io/v1beta3";
        assert_eq!(configuration(api, minor("1.37")), Some(minor("1.37")));
        assert_eq!(configuration(api, minor("1.36")), None);
        assert_eq!(configuration("kubeadm.k8s.io/v1beta4", minor("1.37")), None);
    }
}
