//! What a member's step tells of certificates.

use std::sync::Mutex;

use migrate_core::{Event, EventKind, Finding, Severity};

use super::*;

/// As kubeadm prints it, of an authority and of certificates: name, year of their end,
/// and whether their authority's key is elsewhere.
fn certificates(ends: &[(&str, u32, bool)]) -> String {
    let of = |(name, year, external): &(&str, u32, bool)| {
        serde_json::json!({"name": name, "expirationDate": format!("{year}-01-01T00:00:00Z"),
            "residualTime": 9, "externallyManaged": external, "missing": false})
    };
    let list: Vec<_> = ends.iter().map(of).collect();
    let info = serde_json::json!({"kind": "CertificateExpirationInfo", "certificates": list,
        "certificateAuthorities": [of(&("ca", 2036, false))]});
    // Over several lines, as kubeadm may.
    serde_json::to_string_pretty(&info).unwrap()
}

/// Upgrades, and what was found meanwhile.
async fn found(it: &Node, action: &Action) -> (ActionStatus, Vec<Finding>) {
    let found = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&found);
    let cx = cx().with_events(Arc::new(move |event: &Event| {
        if let EventKind::Found { finding } = &event.kind {
            sink.lock().unwrap().push(finding.clone());
        }
    }));
    let status = it.upgrade_in(&cx, action).await;
    let found = found.lock().unwrap().clone();
    (status, found)
}

fn code(finding: &Finding) -> &str {
    assert_eq!(finding.severity, Severity::Info, "{finding:?}");
    assert_eq!(finding.object.name, CP);
    &finding.code
}

#[tokio::test]
async fn what_was_renewed_is_told_with_both_ends_and_what_was_not_with_why() {
    let cp = Node::new(true);
    let old = [
        ("apiserver", 2027, false),
        ("etcd-peer", 2027, true),
        ("front-proxy-client", 2027, false),
    ];
    cp.write("certificates", &certificates(&old));
    // The first attempt renews one of them and then fails.
    let mut new = old;
    new[0].1 = 2028;
    cp.write("certificates-renewed", &certificates(&new));
    cp.write("kubeadm-fails", "the disk broke");
    let (status, told) = found(&cp, &member()).await;
    assert!(matches!(status, ActionStatus::Failed { .. }), "{status:?}");
    assert_eq!(told, []);
    std::fs::remove_file(cp.path("kubeadm-fails")).unwrap();
    let (status, told) = found(&cp, &member()).await;
    assert_eq!(status, DONE, "{}", cp.log());
    let [renewed, left] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!(code(renewed), "KM-KUBEADM-034");
    assert_eq!(
        renewed.evidence,
        "kubeadm renewed apiserver (2027-01-01T00:00:00Z to 2028-01-01T00:00:00Z)"
    );
    assert_eq!(code(left), "KM-KUBEADM-035");
    assert_eq!(
        left.evidence,
        "the upgrade did not renew etcd-peer (ends 2027-01-01T00:00:00Z; its authority's key is \
         not here), front-proxy-client (ends 2027-01-01T00:00:00Z; left as it was)"
    );
    // Who comes later, after it has ended, is told the same.
    assert_eq!(found(&cp, &member()).await.1, told);
    // The kubelet's step renews none: its own rotates by itself.
    let (status, told) = found(&cp, &node()).await;
    assert_eq!((status, told), (DONE, Vec::new()), "{}", cp.log());
}

#[tokio::test]
async fn what_kubeadm_does_not_tell_is_not_known() {
    let cp = Node::new(true);
    let new = [("apiserver", 2028, false)];
    cp.write("certificates-renewed", &certificates(&new));
    let (status, told) = found(&cp, &member()).await;
    assert_eq!(status, DONE, "{}", cp.log());
    let [unknown] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!(code(unknown), "KM-KUBEADM-035");
    assert!(unknown.evidence.contains("is not known"), "{unknown}");
}
