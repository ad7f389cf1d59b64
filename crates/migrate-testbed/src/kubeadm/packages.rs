//! The Debian packages that nodes install Kubernetes from: made by hand of the
//! built programs, in a repository that lies in every node's file system.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::command::run;
use super::sha256;
use crate::Error;
use crate::binaries::NodeBinaries;

const KUBELET_SERVICE: &str = include_str!("files/kubelet.service");
const KUBEADM_DROP_IN: &str = include_str!("files/10-kubeadm.conf");

/// Writes the packages of several releases and their index into a folder.
///
/// As upstream cuts them: `kubelet` has the service and a configuration file of
/// the administrator's, `kubeadm` the drop-in that connects both, and `kubelet`
/// depends on the `kubernetes-cni` of its release or a newer one, which owns
/// /opt/cni/bin: what upgrades the kubelet writes over the network plugins.
pub(super) fn write(releases: &[NodeBinaries], folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(Error::io("making the folder of packages"))?;
    let mut index = String::new();
    for release in releases {
        let version = package_version(release.control_plane.release.kubernetes);
        let cni = Package::new("kubernetes-cni", &cni_version(&version));
        let cni = release.cni_plugins.iter().fold(cni, |package, path| {
            let name = path.file_name().unwrap_or_default();
            package.file(&format!("opt/cni/bin/{}", name.display()), path)
        });
        let kubelet = Package::new("kubelet", &version)
            .depends(&kubelet_depends(&version))
            .file("usr/bin/kubelet", &release.kubelet)
            .text("usr/lib/systemd/system/kubelet.service", KUBELET_SERVICE)
            .text("etc/default/kubelet", &defaults(&version))
            .conffile("/etc/default/kubelet");
        let kubeadm = Package::new("kubeadm", &version)
            .depends("kubelet, kubectl")
            .file("usr/bin/kubeadm", &release.kubeadm)
            .text(
                "usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf",
                KUBEADM_DROP_IN,
            );
        let kubectl = Package::new("kubectl", &version)
            .file("usr/bin/kubectl", &release.control_plane.kubectl);
        for package in [cni, kubelet, kubeadm, kubectl] {
            index += &package.build(folder)?;
        }
    }
    fs::write(folder.join("Packages"), index).map_err(Error::io("writing the index of packages"))
}

/// Version of a release's packages, `1.36.3-1.1`.
pub(super) fn package_version(kubernetes: &str) -> String {
    format!("{kubernetes}-1.1")
}

/// A version of its own for each release, so that upgrading kubelet replaces
/// the plugins too, as upstream's packages do. `version` is that of the kubelet's
/// package.
pub(super) fn cni_version(version: &str) -> String {
    format!("{}+{version}", crate::releases::CNI_PLUGINS)
}

/// An older kubelet takes the newer plugins: the way back needs no others.
fn kubelet_depends(version: &str) -> String {
    format!(
        "kubernetes-cni (>= {}), iptables, conntrack, iproute2",
        cni_version(version)
    )
}

/// The configuration file of the kubelet's package. It differs from release to
/// release: dpkg asks about one that both sides have changed.
fn defaults(version: &str) -> String {
    format!("# As kubelet {version} came with it.\nKUBELET_EXTRA_ARGS=\n")
}

struct Package {
    name: &'static str,
    version: String,
    depends: String,
    files: Vec<(String, PathBuf)>,
    texts: Vec<(String, String)>,
    conffiles: String,
}

impl Package {
    fn new(name: &'static str, version: &str) -> Self {
        Self {
            name,
            version: version.to_owned(),
            depends: String::new(),
            files: Vec::new(),
            texts: Vec::new(),
            conffiles: String::new(),
        }
    }

    fn depends(self, depends: &str) -> Self {
        let depends = depends.to_owned();
        Self { depends, ..self }
    }

    fn file(mut self, path: &str, from: &Path) -> Self {
        self.files.push((path.to_owned(), from.to_owned()));
        self
    }

    fn text(mut self, path: &str, text: &str) -> Self {
        self.texts.push((path.to_owned(), text.to_owned()));
        self
    }

    fn conffile(mut self, path: &str) -> Self {
        self.conffiles += &format!("{path}\n");
        self
    }

    /// Builds the package into a folder and returns its lines for the index.
    fn build(&self, folder: &Path) -> Result<String, Error> {
        let file = format!("{}_{}_amd64.deb", self.name, self.version);
        let building = || format!("building the package {file}");
        let tree = tempfile::Builder::new()
            .prefix(".package-")
            .tempdir_in(folder)
            .map_err(Error::io(building()))?;
        let control = self
            .unpack_into(tree.path())
            .map_err(Error::io(building()))?;
        let target = folder.join(&file);
        // Stored, not compressed: they are read once and never sent anywhere.
        let mut dpkg = Command::new("dpkg-deb");
        dpkg.args(["-Znone", "--root-owner-group", "--build"]);
        dpkg.arg(tree.path()).arg(&target);
        run(&building(), &mut dpkg)?;
        let bytes = fs::read(&target).map_err(Error::io(building()))?;
        Ok(format!(
            "{control}Filename: ./{file}\nSize: {}\nSHA256: {}\n\n",
            bytes.len(),
            sha256(&bytes)
        ))
    }

    fn unpack_into(&self, tree: &Path) -> std::io::Result<String> {
        fs::set_permissions(tree, fs::Permissions::from_mode(0o755))?;
        let place = |path: &str| -> std::io::Result<PathBuf> {
            let at = tree.join(path);
            if let Some(parent) = at.parent() {
                fs::create_dir_all(parent)?;
            }
            Ok(at)
        };
        for (path, from) in &self.files {
            // A copy, not a second name: tar fails on a file that gets one for another
            // cluster just then.
            fs::copy(from, place(path)?)?;
        }
        for (path, text) in &self.texts {
            fs::write(place(path)?, text)?;
        }
        let mut control = format!(
            "Package: {}\nVersion: {}\nArchitecture: amd64\nMaintainer: testbed\n\
             Description: of the testbed\n",
            self.name, self.version
        );
        if !self.depends.is_empty() {
            control += &format!("Depends: {}\n", self.depends);
        }
        fs::write(place("DEBIAN/control")?, &control)?;
        if !self.conffiles.is_empty() {
            fs::write(place("DEBIAN/conffiles")?, &self.conffiles)?;
        }
        Ok(control)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// dpkg itself says so.
    #[test]
    fn a_newer_kubelet_asks_for_newer_plugins_and_an_older_one_takes_them() {
        let [old, new] = ["1.36.3", "1.37.2"].map(package_version);
        let is_met = |installed: &str, by: &str| {
            let depends = kubelet_depends(by);
            let wanted = depends.split(['(', ')']).nth(1).unwrap_or_default();
            let wanted = wanted.trim_start_matches(">= ");
            let mut dpkg = Command::new("dpkg");
            let compared = dpkg.args(["--compare-versions", &cni_version(installed), "ge", wanted]);
            compared.status().is_ok_and(|status| status.success())
        };
        assert!(is_met(&old, &old) && is_met(&new, &old) && is_met(&new, &new));
        assert!(!is_met(&old, &new));
    }
}
