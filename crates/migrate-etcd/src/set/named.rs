//! Which files of a node are worth keeping. All of it pure.

use std::collections::BTreeSet;

/// The folder of kubeadm.
pub(super) const KUBERNETES: &str = "/etc/kubernetes";

/// What a kubelet needs besides.
pub(super) const KUBELET: [&str; 2] = [
    "/var/lib/kubelet/config.yaml",
    "/var/lib/kubelet/kubeadm-flags.env",
];

/// What a kubelet needs too, where kubeadm has made it: its socket to the runtime, from 1.34 on.
pub(super) const OF_NEWER_KUBELETS: &str = "/var/lib/kubelet/instance-config.yaml";

/// Static pods, whose flags name further files.
pub(crate) const MANIFESTS: &str = "/etc/kubernetes/manifests/";

/// The flag whose file names files in turn.
const ADMISSION: &str = "admission-control-config-file";

/// Ends of flags that name a file to read: `--etcd-cafile` and its like have no dash before
/// `file`, `--kubelet-certificate-authority` names what it is. Logs are named by others
/// (`--audit-log-path`), and can be larger than the database.
const READ: [&str; 8] = [
    "-authority",
    "-cafile",
    "-certfile",
    "-certificate",
    "-config",
    "-file",
    "-key",
    "-keyfile",
];

/// The flag of a scheduler, whole.
const CONFIG: &str = "config";

/// Whether a file below [`KUBERNETES`] belongs into a set. What kubeadm has put
/// aside does not: it may be a whole database.
pub(super) fn is_wanted(path: &str) -> bool {
    let Some(below) = path
        .strip_prefix(KUBERNETES)
        .and_then(|path| path.strip_prefix('/'))
    else {
        return false;
    };
    let is_folder = |name| ["manifests", "patches", "pki"].contains(&name);
    match below.split_once('/') {
        Some((folder, _)) => is_folder(folder),
        // It may be listed itself: as a link, which is not followed.
        None => below.ends_with(".conf") || is_folder(below),
    }
}

/// The flags of a static pod's manifest that have a value, in order.
pub(crate) fn flags(manifest: &str) -> impl Iterator<Item = (&str, &str)> {
    manifest.lines().filter_map(|line| {
        let line = line.trim().trim_start_matches("- ");
        let line = line.trim_matches(['"', '\'']);
        line.strip_prefix("--")?.split_once('=')
    })
}

/// Files that the flags of a static pod's manifest name, and those of them that
/// are the admission configuration.
pub(super) fn by_flags(manifest: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut files = BTreeSet::new();
    let mut admission = BTreeSet::new();
    for (flag, value) in flags(manifest) {
        let is_read = flag == CONFIG || READ.iter().any(|end| flag.ends_with(end));
        let Some(path) = is_read.then(|| tidy(value)).flatten() else {
            continue;
        };
        if flag == ADMISSION {
            admission.insert(path.clone());
        }
        files.insert(path);
    }
    (files, admission)
}

/// Files that an admission configuration at `at` names: those of its plugins,
/// and kubeconfigs of webhooks.
pub(super) fn by_admission(at: &str, configuration: &str) -> BTreeSet<String> {
    let folder = at.rsplit_once('/').map_or("", |(folder, _)| folder);
    let lines = configuration.lines().filter_map(|line| {
        let line = line.trim().trim_start_matches("- ");
        let (key, value) = line.split_once(':')?;
        let value = value.trim().trim_matches(['"', '\'']);
        let is_file = ["path", "kubeConfigFile"].contains(&key) && !value.is_empty();
        is_file.then_some(value)
    });
    let paths = lines.filter_map(|value| match value.starts_with('/') {
        true => tidy(value),
        false => tidy(&format!("{folder}/{value}")),
    });
    paths.collect()
}

/// An absolute path without detours; `None` for one that is none, or goes up.
pub(crate) fn tidy(path: &str) -> Option<String> {
    let parts = path.strip_prefix('/')?.split('/');
    let parts: Vec<_> = parts.filter(|part| !["", "."].contains(part)).collect();
    let is_plain = !parts.is_empty() && !parts.contains(&"..") && !path.contains('\0');
    is_plain.then(|| format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubeadm_has_put_aside_is_not_taken() {
        for path in [
            "pki/ca.key",
            "pki/etcd/ca.crt",
            "manifests/etcd.yaml",
            "admin.conf",
        ] {
            assert!(is_wanted(&format!("/etc/kubernetes/{path}")), "{path}");
        }
        for path in [
            "/etc/kubernetes/tmp/kubeadm-backup-etcd-1/etcd/member/snap/db",
            "/etc/kubernetes/README",
            "/etc/kubernetesx/admin.conf",
            "/etc/passwd",
        ] {
            assert!(!is_wanted(path), "{path}");
        }
    }

    #[test]
    fn flags_and_the_admission_configuration_name_files() {
        let manifest = "\
    - command:
      - kube-apiserver
      - --audit-policy-file=/etc/kubernetes/audit//policy.yaml
      - \"--encryption-provider-config=/etc/kubernetes/enc.yaml\"
      - --audit-log-path=/var/log/audit.log
      - --admission-control-config-file=/etc/adm/./config.yaml
      - --oidc-ca-file=/etc/../etc/shadow
      - --etcd-servers=https://127.0.0.1:2379
      - --tls-private-key-file=relative
      - --etcd-cafile=/etc/etcd/ca.crt
      - --etcd-certfile=/etc/etcd/client.crt
      - --etcd-keyfile=/etc/etcd/client.key
      - --kubelet-certificate-authority=/etc/kubelet/ca.crt
      - --config=/etc/scheduler.yaml
      - --reconfig=/etc/none
      - --cert-dir=/etc/none
";
        let (files, admission) = by_flags(manifest);
        let expected = [
            "/etc/adm/config.yaml",
            "/etc/etcd/ca.crt",
            "/etc/etcd/client.crt",
            "/etc/etcd/client.key",
            "/etc/kubelet/ca.crt",
            "/etc/kubernetes/audit/policy.yaml",
            "/etc/kubernetes/enc.yaml",
            "/etc/scheduler.yaml",
        ];
        assert_eq!(files, expected.map(str::to_owned).into());
        assert_eq!(admission, ["/etc/adm/config.yaml".to_owned()].into());
        let configuration = "\
plugins:
- name: ImagePolicyWebhook
  path: image.yaml
- name: PodSecurity
  configuration:
    kubeConfigFile: \"/etc/webhook.conf\"
    path: ../up.yaml
";
        let files = by_admission("/etc/adm/config.yaml", configuration);
        let expected = ["/etc/adm/image.yaml", "/etc/webhook.conf"];
        assert_eq!(files, expected.map(str::to_owned).into());
    }
}
