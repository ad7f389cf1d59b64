//! Annotations that the simulated kubelets understand.
//!
//! A driver changes the version of a node by patching these on the Node, and
//! waits for the matching `-done`: it needs nothing but the API. Those on pods
//! shape how the pod behaves.

/// On a Node: the version that its kubelet changes to, such as `v1.37.2`.
pub const KUBELET_VERSION: &str = "sim.kube-migrate.dev/kubelet-version";
/// On a Node: identity of the kubelet action, written together with [`KUBELET_VERSION`].
///
/// A new value starts an action: the kubelet reports NotReady, restarts and
/// comes back Ready with the version. One action runs at a time.
pub const ACTION: &str = "sim.kube-migrate.dev/action";
/// On a Node: the last finished kubelet action, written by the kubelet.
pub const ACTION_DONE: &str = "sim.kube-migrate.dev/action-done";
/// On the Node of a control-plane member: the version that the member changes to.
pub const CONTROL_PLANE_VERSION: &str = "sim.kube-migrate.dev/control-plane-version";
/// On the Node of a control-plane member: identity of the control-plane action.
pub const CONTROL_PLANE_ACTION: &str = "sim.kube-migrate.dev/control-plane-action";
/// On the Node of a control-plane member: the last finished control-plane action.
pub const CONTROL_PLANE_ACTION_DONE: &str = "sim.kube-migrate.dev/control-plane-action-done";
/// On a Pod: seconds from the termination signal to its end (at most its grace period).
pub const STOP_SECONDS: &str = "sim.kube-migrate.dev/stop-seconds";
/// On a Pod: seconds from running to Ready.
pub const READY_SECONDS: &str = "sim.kube-migrate.dev/ready-seconds";
/// On a Pod: seconds from Ready to success; pods of a Job have a default.
pub const RUN_SECONDS: &str = "sim.kube-migrate.dev/run-seconds";
/// On a Pod: `true` for a pod that runs and never becomes Ready.
pub const NEVER_READY: &str = "sim.kube-migrate.dev/never-ready";
