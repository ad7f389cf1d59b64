//! The rules on a survey text; the certificates are what kubeadm v1.37.2 says
//! of a folder that has no key of etcd's authority and no kubeconfigs.

use migrate_core::{ClusterId, ClusterModel, Moment, ObjectName, Severity, StepErrorKind};

mod configured;
mod kube_proxy;
mod kubelets;

use super::*;

const CERTIFICATES: &str = include_str!("certificates.json");

/// Of the kubelet, the packages and the cluster.
const WELL: &str = "\
clock 1000000
clock 1000000
kubelet-gates featureGates:
kubelet-gates   NodeSwap: true
kubelet-flag /var/lib/kubelet/kubeadm-flags.env --node-labels
kubelet-flag /etc/default/kubelet --feature-gates=NodeSwap=true
containerd 2.1.0
kubeadm-config
kubeadm-config apiServer:
kubeadm-config   extraArgs:
kubeadm-config   - name: feature-gates
kubeadm-config     value: NodeSwap=true
kubeadm-config apiVersion: kubeadm.k8s.io/v1beta4
kubeadm-config etcd:
kubeadm-config   local:
kubeadm-config     extraArgs:
kubeadm-config     - name: heartbeat-interval
kubeadm-config       value: \"100\"
kubelet-config
kubelet-config featureGates:
kubelet-config   NodeSwap: true
kube-proxy daemonset.apps/kube-proxy
kube-proxy-flag --config
kube-proxy-flag --hostname-override
kube-proxy-config
kube-proxy-config apiVersion: kubeproxy.config.k8s.io/v1alpha1
kube-proxy-config featureGates:
kube-proxy-config   NodeSwap: true
kube-proxy-config kind: KubeProxyConfiguration
kube-proxy-config mode: iptables
coredns-config configmap/coredns
coredns
coredns coredns r.local/coredns/coredns:v1.14.6@sha256:ab 
";

/// What is found on a control-plane node at v1.36.3, one line changed from what is
/// well.
fn found_with(old: &str, new: &str) -> Vec<Finding> {
    judged("cp-1", &found_text(old, new), "v1.37.2")
}

/// What such a node says.
fn found_text(old: &str, new: &str) -> String {
    let external = "\"externallyManaged\": true";
    let here = external.replace("true", "false");
    let certificates = CERTIFICATES.replace('\n', "").replace(external, &here);
    let text = format!(
        "cgroup cgroup2fs\n\
         manifest kube-apiserver r.local/kube-apiserver:v1.36.3@sha256:12\n\
         manifest kube-controller-manager r.local/kube-controller-manager:v1.36.3\n\
         manifest kube-scheduler r.local/kube-scheduler:v1.36.3\n\
         address 10.0.0.1 fd00::1 \n\
         server controller-manager https://10.0.0.1:6443\n\
         server scheduler https://[fd00::1]:6443\n\
         server kubelet https://10.0.0.1:6443\n\
         etcd-kib 1000\nfree-kib 1000\n\
         certificates {certificates}\n{WELL}"
    );
    let changed = text.replacen(old, new, 1);
    assert!(old == new || changed != text, "{old} is not in {text}");
    changed
}

/// What a survey's text means; the way to the node took no time.
fn judged(node: &str, text: &str, target: &str) -> Vec<Finding> {
    judged_as(node, text, target, &[], &[])
}

fn judged_as(
    node: &str,
    text: &str,
    target: &str,
    skipped: &[&str],
    ignored: &[&str],
) -> Vec<Finding> {
    let owned = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    let now = Moment::from_millis(1_000_000);
    let window = Window {
        asked: now,
        answered: now,
    };
    let asked = Asked {
        target: &target.parse().unwrap(),
        skipped: &owned(skipped),
        ignored: &owned(ignored),
    };
    judge(node, &Survey::read(text), window, asked)
}

/// The code and severity of the only finding.
fn only(old: &str, new: &str) -> (String, Severity) {
    let found = found_with(old, new);
    assert_eq!(found.len(), 1, "{found:?}");
    (found[0].code.clone(), found[0].severity)
}

#[test]
fn a_node_that_is_well_has_no_findings() {
    assert_eq!(found_with("", ""), []);
}

#[test]
fn each_rule_finds_its_case_and_nothing_else() {
    use Severity::{Blocker, Warning};
    // The first one that is there.
    let left = |seconds: &str| {
        let known = CERTIFICATES
            .split("\"residualTime\": ")
            .filter_map(|rest| rest.split(',').next())
            .find(|value| value.len() > 1 && value.bytes().all(|byte| byte.is_ascii_digit()))
            .unwrap();
        (
            format!("\"residualTime\": {known}"),
            format!("\"residualTime\": {seconds}"),
        )
    };
    let (now, expired) = left("-1");
    assert_eq!(only(&now, &expired), ("KM-KUBEADM-004".to_owned(), Blocker));
    assert_eq!(
        only(&now, &left("0").1),
        ("KM-KUBEADM-004".to_owned(), Blocker)
    );
    assert_eq!(
        only(&now, &left("2591999").1),
        ("KM-KUBEADM-005".to_owned(), Warning)
    );
    assert_eq!(found_with(&now, &left("2592000").1), []);
    for (old, new, code, severity) in [
        ("free-kib 1000", "free-kib 999", "007", Blocker),
        (
            "kube-scheduler:v1.36.3",
            "kube-scheduler:v1.37.2",
            "008",
            Warning,
        ),
        ("cgroup cgroup2fs", "cgroup tmpfs", "009", Blocker),
        (
            "containerd 2.1.0\n",
            "containerd 2.1.0\nshort-of-room /usr 199\n",
            "033",
            Blocker,
        ),
        (
            "https://10.0.0.1:6443",
            "https://10.0.0.9:6443",
            "010",
            Warning,
        ),
        ("certificates {", "certificates ", "011", Warning),
    ] {
        assert_eq!(only(old, new), (format!("KM-KUBEADM-{code}"), severity));
    }
}

#[test]
fn an_authority_whose_key_is_elsewhere_is_a_warning() {
    let text = format!(
        "manifest kube-apiserver x:v1\ncertificates {}",
        CERTIFICATES.replace('\n', "")
    );
    let mut found = judged("cp-1", &text, "v1.37.2");
    found.retain(|finding| finding.code != "KM-KUBEADM-015");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].code, "KM-KUBEADM-006");
    assert!(found[0].evidence.contains("etcd-server"), "{found:?}");
    assert!(!found[0].evidence.contains("apiserver-kubelet-client"));
}

#[test]
fn cgroup_v1_is_accepted_where_the_kubelet_is_told_so_and_before_1_35() {
    let count = |text: &str, target: &str| judged("worker", text, target).len();
    assert_eq!(count("cgroup tmpfs\n", "v1.35.0"), 1);
    assert_eq!(count("cgroup tmpfs\n", "v1.34.9"), 0);
    assert_eq!(count("cgroup tmpfs\nfail-cgroup-v1 false\n", "v1.35.0"), 0);
}

#[tokio::test]
async fn a_survey_that_was_cancelled_says_so_even_if_it_had_nothing_to_do() {
    let driver = Kubeadm::new(std::sync::Arc::new(crate::Local::new("cp-1")));
    let model = ClusterModel::new(ClusterId::new("uid"), Moment::EPOCH);
    let policy = std::sync::Arc::default();
    let input = StepInput::new(model.into(), policy, "v1.37.2".parse().unwrap());
    let cx = crate::kubeadm::tests::cx();
    let found = driver.run(&cx, &input).await.unwrap();
    assert_eq!(found, StepReport::default());
    cx.cancel.cancel();
    let error = driver.run(&cx, &input).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Cancelled);
    assert_eq!(error.object, ObjectName::cluster("Kubeadm", "survey"));
    let says = "cancelled while nodes were looked at; at most images";
    assert!(error.message.starts_with(says), "{error}");
}

#[tokio::test]
async fn api_servers_that_nothing_takes_out_of_a_balancer_are_told_while_they_change() {
    let version = |text: &str| text.parse::<KubeVersion>().unwrap();
    let found = async |members: usize, is: &str| {
        let driver = Kubeadm::new(std::sync::Arc::new(crate::Local::new("cp-1")));
        let mut model = ClusterModel::new(ClusterId::new("uid"), Moment::EPOCH);
        for number in 1..=members {
            let name = format!("cp-{number}");
            let mut node = Node::new(&name, version(is));
            node.role = Role::ControlPlane;
            model.nodes.push(node);
            let member = migrate_core::ControlPlaneMember::new(name, version(is));
            model.control_plane.push(member);
        }
        let input = StepInput::new(model.into(), std::sync::Arc::default(), version("v1.37.2"));
        let found = driver.examine_balancer(&input).await;
        found.into_iter().map(|it| it.code).collect::<Vec<_>>()
    };
    assert_eq!(found(3, "v1.36.3").await, ["KM-LB-008"]);
    assert_eq!(found(3, "v1.37.2").await, [""; 0]);
    assert_eq!(found(1, "v1.36.3").await, [""; 0]);
}

#[test]
fn an_own_target_of_another_minor_is_refused_unless_its_pool_is_there() {
    let version = |text: &str| text.parse::<KubeVersion>().unwrap();
    let found = |own: &str, back: Option<&str>| {
        let mut model = ClusterModel::new(ClusterId::new("uid"), Moment::EPOCH);
        model.nodes = vec![Node::new("w-1", version("v1.36.3"))];
        let mut policy = migrate_core::Policy::default();
        let pool = migrate_core::policy::DEFAULT_POOL.to_owned();
        policy.pools.target_of.insert(pool, version(own));
        let input = StepInput::new(model.into(), policy.into(), version("v1.37.2"));
        Kubeadm::examine_targets(&input.with_way_back(back))
    };
    let refused = found("v1.36.5", None);
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].code, OTHER_MINOR);
    assert!(refused[0].evidence.contains("w-1"), "{}", refused[0]);
    assert_eq!(found("v1.36.3", None), []);
    assert_eq!(found("v1.37.1", None), []);
    assert_eq!(found("v1.36.5", Some("w-1")), []);
}
