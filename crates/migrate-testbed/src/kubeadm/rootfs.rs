//! The file system that all nodes share: a small Debian with systemd and a
//! container runtime, made once and kept.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::command::run;
use crate::{Binaries, Error, Progress};

const SUITE: &str = "bookworm";

/// What a node has beside the base system.
const PACKAGES: [&str; 15] = [
    "busybox-static",
    "conntrack",
    "containerd",
    "dbus",
    "haproxy",
    "iproute2",
    "iptables",
    "kmod",
    "netcat-openbsd",
    "openssh-server",
    "procps",
    "runc",
    "sudo",
    "systemd",
    "systemd-sysv",
];

/// Changes when what is done to the base system below changes.
const REVISION: u32 = 2;

/// Services that a node in namespaces must not or need not run: they touch the
/// machine's hardware, clock, modules or network.
const MASKED: [&str; 17] = [
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "getty@tty1.service",
    "haproxy.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-logind.service",
    "systemd-modules-load.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "systemd-sysctl.service",
    "systemd-timesyncd.service",
    "systemd-user-sessions.service",
];

/// The user by whom a person, or a tool over SSH, comes in.
pub(super) const OPERATOR: &str = "upgrader";

/// Finds the file system in the cache or makes it: two minutes, once. Needs
/// debootstrap and the machine's own Debian mirror.
pub(super) fn find_or_build(progress: &dyn Fn(&Progress)) -> Result<PathBuf, Error> {
    let cache = Binaries::cache()?;
    let name = format!("rootfs-{SUITE}-{}", fingerprint());
    let folder = cache.join(&name);
    let preparing = || format!("preparing {}", folder.display());
    fs::create_dir_all(&cache).map_err(Error::io(preparing()))?;
    let lock = File::create(cache.join(format!(".{name}.lock"))).map_err(Error::io(preparing()))?;
    lock.lock().map_err(Error::io(preparing()))?;
    if folder.is_dir() {
        return Ok(folder);
    }
    let what = format!("the nodes' file system ({SUITE})");
    progress(&Progress::Building { what: what.clone() });
    let begun = tokio::time::Instant::now();
    let partial = cache.join(format!(".{name}.part"));
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(Error::io(preparing()))?;
    }
    let include = format!("--include={}", PACKAGES.join(","));
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", &include, SUITE]);
    debootstrap.arg(&partial).arg(mirror()?);
    run("debootstrap", &mut debootstrap).map_err(|error| match error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Error::NoNamespaces {
                reason: "debootstrap is missing (apt-get install debootstrap)".to_owned(),
            }
        }
        other => other,
    })?;
    configure(&partial).map_err(Error::io("configuring the nodes' file system"))?;
    let mut add_user = Command::new("chroot");
    add_user
        .arg(&partial)
        .args(["useradd", "--create-home", "--shell", "/bin/bash", OPERATOR]);
    run("useradd", &mut add_user)?;
    fs::rename(&partial, &folder).map_err(Error::io(preparing()))?;
    progress(&Progress::Built {
        what,
        took: begun.elapsed(),
    });
    Ok(folder)
}

/// The mirror from which this machine's own Debian packages come.
fn mirror() -> Result<String, Error> {
    let mut apt = Command::new("apt-get");
    let format = ["--format", "$(REPO_URI)"];
    let of_suite = format!("Release: {SUITE}");
    apt.arg("indextargets")
        .args(format)
        .args(["Created-By: Packages", &of_suite]);
    let output = run("apt-get indextargets", &mut apt)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .next()
        .map(str::to_owned)
        .ok_or_else(|| Error::NoNamespaces {
            reason: format!("its apt knows no mirror of Debian {SUITE}"),
        })
}

fn configure(root: &Path) -> std::io::Result<()> {
    let system = root.join("etc/systemd/system");
    for unit in MASKED {
        let link = system.join(unit);
        fs::remove_file(&link).ok();
        std::os::unix::fs::symlink("/dev/null", link)?;
    }
    for unit in [
        "systemd-udevd.service",
        "systemd-udevd-kernel.socket",
        "systemd-udevd-control.socket",
    ] {
        std::os::unix::fs::symlink("/dev/null", system.join(unit))?;
    }
    // Users may log in from the start: what would lift that ban late in the
    // boot has failed now and then, and left the node closed to everybody.
    let ban = root.join("etc/tmpfiles.d/systemd-nologin.conf");
    std::os::unix::fs::symlink("/dev/null", ban)?;
    // Debian's unit raises limits, for which nodes lack CAP_SYS_RESOURCE.
    let drop_in = system.join("containerd.service.d");
    fs::create_dir_all(&drop_in)?;
    let lines =
        "[Service]\nOOMScoreAdjust=0\nLimitNPROC=\nLimitCORE=\nLimitNOFILE=\nExecStartPre=\n";
    fs::write(drop_in.join("testbed.conf"), lines)?;
    for folder in [
        "etc/cni/net.d",
        "etc/containerd",
        "etc/kubernetes/manifests",
        "opt/cni/bin",
    ] {
        fs::create_dir_all(root.join(folder))?;
    }
    // The only packages a node can install are those of the testbed.
    fs::remove_file(root.join("etc/apt/sources.list")).ok();
    fs::write(
        root.join("etc/apt/sources.list.d/testbed.list"),
        "deb [trusted=yes] file:/srv/testbed/packages ./\n",
    )?;
    fs::write(
        root.join("etc/sudoers.d/testbed"),
        format!("{OPERATOR} ALL=(ALL) NOPASSWD: ALL\n"),
    )
}

/// Of everything that decides what the file system holds.
fn fingerprint() -> String {
    let text = format!("{REVISION} {} {}", PACKAGES.join(" "), MASKED.join(" "));
    super::fingerprint(&text)
}
