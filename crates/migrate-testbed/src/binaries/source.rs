//! What Go module a program is built from, and how.

/// A set of `N` programs built from modules of one version.
pub(super) struct Source<const N: usize> {
    kind: Kind,
    version: &'static str,
    programs: [&'static str; N],
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    CniPlugins,
    CoreDns,
    Etcd,
    Kubernetes,
    Kwok,
}

/// etcd has no package that both is a program and builds outside its own
/// repository, so this is ours: the library's entry point, called.
pub(super) const ETCD_MAIN: &str = "package main

import (
\t\"os\"

\t\"go.etcd.io/etcd/server/v3/etcdmain\"
)

func main() { etcdmain.Main(os.Args) }
";

impl Source<4> {
    pub(super) fn kubernetes(version: &'static str) -> Self {
        Self {
            kind: Kind::Kubernetes,
            version,
            programs: [
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kubectl",
            ],
        }
    }

    /// Of the plugins, those that a routed network of nodes needs.
    pub(super) fn cni_plugins(version: &'static str) -> Self {
        Self {
            kind: Kind::CniPlugins,
            version,
            programs: ["host-local", "loopback", "portmap", "ptp"],
        }
    }
}

impl Source<2> {
    pub(super) fn etcd(version: &'static str) -> Self {
        Self {
            kind: Kind::Etcd,
            version,
            programs: ["etcd", "etcdctl"],
        }
    }

    /// What an admin of etcd uses.
    pub(super) fn etcd_tools(version: &'static str) -> Self {
        Self {
            kind: Kind::Etcd,
            version,
            programs: ["etcdctl", "etcdutl"],
        }
    }
}

impl Source<3> {
    /// What a node of Kubernetes needs beside the control plane.
    pub(super) fn kubernetes_node(version: &'static str) -> Self {
        Self {
            kind: Kind::Kubernetes,
            version,
            programs: ["kubeadm", "kubelet", "kube-proxy"],
        }
    }
}

impl Source<1> {
    pub(super) fn coredns(version: &'static str) -> Self {
        Self {
            kind: Kind::CoreDns,
            version,
            programs: ["coredns"],
        }
    }

    pub(super) fn kwok(version: &'static str) -> Self {
        Self {
            kind: Kind::Kwok,
            version,
            programs: ["kwok"],
        }
    }

    #[cfg(test)]
    pub(super) fn with_program(self, program: &'static str) -> Self {
        Self {
            programs: [program],
            ..self
        }
    }
}

impl<const N: usize> Source<N> {
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn version(&self) -> &'static str {
        self.version
    }

    pub(super) fn programs(&self) -> [&'static str; N] {
        self.programs
    }

    /// Folder in the cache.
    pub(super) fn folder(&self) -> String {
        let name = match self.kind {
            Kind::CniPlugins => "cni-plugins",
            Kind::CoreDns => "coredns",
            Kind::Etcd => "etcd",
            Kind::Kubernetes => "k8s",
            Kind::Kwok => "kwok",
        };
        format!("{name}-v{}", self.version)
    }

    pub(super) fn describe(&self, program: &str) -> String {
        format!("{program} {}", self.version)
    }

    /// What makes a program print its version; `None` for network plugins,
    /// which have no such flag.
    pub(super) fn version_arguments(&self, program: &str) -> Option<&'static [&'static str]> {
        match (self.kind, program) {
            (Kind::CniPlugins, _) => None,
            (Kind::CoreDns, _) => Some(&["-version"]),
            (Kind::Etcd, "etcdctl" | "etcdutl") => Some(&["version"]),
            (Kind::Kubernetes, "kubeadm") => Some(&["version", "-o", "short"]),
            (Kind::Kubernetes, "kubectl") => Some(&["version", "--client"]),
            (Kind::Etcd | Kind::Kubernetes | Kind::Kwok, _) => Some(&["--version"]),
        }
    }

    /// Whether what is built here says the version it is built from: others'
    /// release scripts set it, or their source names it later than the tag.
    pub(super) fn says_version_when_built(&self) -> bool {
        matches!(self.kind, Kind::Etcd | Kind::Kubernetes)
    }

    /// Import path of a program's package.
    pub(super) fn package(&self, program: &str) -> String {
        match (self.kind, program) {
            (Kind::CniPlugins, "host-local") => {
                "github.com/containernetworking/plugins/plugins/ipam/host-local".to_owned()
            }
            (Kind::CniPlugins, "portmap") => {
                "github.com/containernetworking/plugins/plugins/meta/portmap".to_owned()
            }
            (Kind::CniPlugins, _) => {
                format!("github.com/containernetworking/plugins/plugins/main/{program}")
            }
            (Kind::CoreDns, _) => "github.com/coredns/coredns".to_owned(),
            (Kind::Etcd, "etcd") => "./etcd".to_owned(),
            (Kind::Etcd, _) => format!("go.etcd.io/etcd/{program}/v3"),
            (Kind::Kubernetes, _) => format!("k8s.io/kubernetes/cmd/{program}"),
            (Kind::Kwok, _) => format!("sigs.k8s.io/kwok/cmd/{program}"),
        }
    }

    /// The module whose own `.mod` file says what else must be pinned.
    pub(super) fn module(&self) -> &'static str {
        match self.kind {
            Kind::CniPlugins => "github.com/containernetworking/plugins",
            Kind::CoreDns => "github.com/coredns/coredns",
            Kind::Etcd => "go.etcd.io/etcd/server/v3",
            Kind::Kubernetes => "k8s.io/kubernetes",
            Kind::Kwok => "sigs.k8s.io/kwok",
        }
    }

    /// Our `go.mod`, given the module's own.
    ///
    /// Kubernetes replaces its staging modules by folders of its repository,
    /// and `replace` lines count only in the main module: so they are written
    /// again here, with the published versions of the same release.
    pub(super) fn go_mod(&self, theirs: &str) -> String {
        let go = theirs
            .lines()
            .find(|line| line.starts_with("go "))
            .unwrap_or("go 1.26");
        let mut ours = format!("module testbed\n\n{go}\n\n");
        let version = self.version;
        match self.kind {
            Kind::Etcd => {
                for part in [
                    "server",
                    "etcdctl",
                    "etcdutl",
                    "api",
                    "client",
                    "client/pkg",
                    "pkg",
                ] {
                    ours += &format!("require go.etcd.io/etcd/{part}/v3 v{version}\n");
                }
            }
            Kind::Kubernetes => {
                ours += &format!("require k8s.io/kubernetes v{version}\n");
                let patch = version.trim_start_matches("1.");
                for module in staging_modules(theirs) {
                    ours += &format!("replace {module} => {module} v0.{patch}\n");
                }
            }
            Kind::CniPlugins | Kind::CoreDns | Kind::Kwok => {
                ours += &format!("require {} v{version}\n", self.module());
            }
        }
        ours
    }

    /// A file whose imports keep the wanted packages in `go.mod`.
    pub(super) fn tools_go(&self) -> String {
        let mut text = "//go:build tools\n\npackage tools\n\nimport (\n".to_owned();
        for program in self.programs {
            let package = self.package(program);
            if !package.starts_with("./") {
                text += &format!("\t_ \"{package}\"\n");
            }
        }
        text + ")\n"
    }

    /// Linker flags: no symbols, and the version that the program reports.
    pub(super) fn linker_flags(&self) -> String {
        let mut flags = "-s -w".to_owned();
        if self.kind == Kind::Kubernetes {
            let version = self.version;
            let minor = version.split('.').nth(1).unwrap_or_default();
            for variable in [
                format!("k8s.io/component-base/version.gitVersion=v{version}"),
                "k8s.io/component-base/version.gitMajor=1".to_owned(),
                format!("k8s.io/component-base/version.gitMinor={minor}"),
                format!("k8s.io/client-go/pkg/version.gitVersion=v{version}"),
            ] {
                flags += " -X ";
                flags += &variable;
            }
        }
        flags
    }
}

/// The modules that Kubernetes keeps in its `staging` folder.
fn staging_modules(go_mod: &str) -> Vec<&str> {
    let mut modules: Vec<_> = go_mod
        .lines()
        .filter_map(|line| {
            line.trim()
                .trim_start_matches("replace ")
                .split_once(" => ")
        })
        .filter(|(_, target)| target.starts_with("./staging/"))
        .map(|(module, _)| module.trim())
        .collect();
    modules.sort_unstable();
    modules.dedup();
    modules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staging_modules_come_from_the_modules_own_file() {
        let theirs = "module k8s.io/kubernetes\n\ngo 1.26.0\n\nreplace (\n\
            \tk8s.io/api => ./staging/src/k8s.io/api\n\
            \tk8s.io/client-go => ./staging/src/k8s.io/client-go\n\
            \texample.org/other => ../other\n)\n";
        let ours = Source::kubernetes("1.36.3").go_mod(theirs);
        assert_eq!(
            ours,
            "module testbed\n\ngo 1.26.0\n\nrequire k8s.io/kubernetes v1.36.3\n\
             replace k8s.io/api => k8s.io/api v0.36.3\n\
             replace k8s.io/client-go => k8s.io/client-go v0.36.3\n"
        );
    }

    #[test]
    fn etcd_itself_is_a_local_package() {
        let source = Source::etcd("3.6.16");
        assert_eq!(source.package("etcd"), "./etcd");
        assert!(!source.tools_go().contains("./etcd"));
        assert!(source.tools_go().contains("go.etcd.io/etcd/etcdctl/v3"));
    }
}
