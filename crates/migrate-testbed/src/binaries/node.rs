//! The programs that make up a real node.

use std::path::PathBuf;

use super::source::Source;
use super::{Binaries, Progress, Search};
use crate::Error;
use crate::releases::{CNI_PLUGINS, Release};

/// Where the programs of one release's nodes are: those that run on the host,
/// and those that kubeadm runs as pods.
#[derive(Clone, Debug)]
pub(crate) struct NodeBinaries {
    /// kube-apiserver and its like, and kubectl.
    pub(crate) control_plane: Binaries,
    pub(crate) kubeadm: PathBuf,
    pub(crate) kubelet: PathBuf,
    pub(crate) kube_proxy: PathBuf,
    pub(crate) coredns: PathBuf,
    /// Of the version that kubeadm deploys, not the control plane's above.
    pub(crate) etcd: PathBuf,
    /// In the same image, as in the released one.
    pub(crate) etcdctl: PathBuf,
    pub(crate) cni_plugins: [PathBuf; 4],
}

impl NodeBinaries {
    /// As [`Binaries::find_or_build`].
    pub(crate) fn find_or_build(minor: u32, progress: &dyn Fn(&Progress)) -> Result<Self, Error> {
        let release = Release::of_minor(minor)?;
        let search = Search::from_env()?;
        let control_plane = Binaries::find_or_build(minor, progress)?;
        let node = Source::kubernetes_node(release.kubernetes);
        let [kubeadm, kubelet, kube_proxy] = search.all(&node, progress)?;
        let kubeadm_parts = release.kubeadm.ok_or(Error::UnknownMinor { minor })?;
        let coredns = Source::coredns(kubeadm_parts.coredns);
        let [coredns] = search.all(&coredns, progress)?;
        let etcd = Source::etcd(kubeadm_parts.etcd);
        let [etcd, etcdctl] = search.all(&etcd, progress)?;
        let cni_plugins = search.all(&Source::cni_plugins(CNI_PLUGINS), progress)?;
        Ok(Self {
            control_plane,
            kubeadm,
            kubelet,
            kube_proxy,
            coredns,
            etcd,
            etcdctl,
            cni_plugins,
        })
    }
}
