//! Pods that only their node can host.

use super::*;

#[test]
fn pods_that_only_their_node_can_host_may_be_more_than_a_budget_lets_be_down() {
    // Four on two nodes, two of them on n0 for good.
    let tie = |cluster: &mut Cluster, pods: &[&str]| {
        for pod in pods {
            let nowhere = vec![NodeSelectorTerm(vec![])];
            cluster.pod(pod).placement.volume_affinity = vec![nowhere];
        }
    };
    let mut policy = Policy::default();
    policy.consent.downtime = true;
    let codes = |allowed: Option<i32>, tied: &[&str]| {
        let mut cluster = Cluster::new(2).deployment("db", &[true; 4]);
        if let Some(allowed) = allowed {
            cluster = cluster.budget("db", "db", |budget| {
                budget.max_unavailable = Some(IntOrPercent::Int(allowed as _));
            });
        }
        tie(&mut cluster, tied);
        let found = cluster.findings_with(&policy);
        found
            .into_iter()
            .filter(|finding| finding.code.contains("KM-PDB") || finding.code.contains("BUDGET"))
            .map(|finding| {
                format!(
                    "{} {}: {}",
                    finding.code, finding.severity, finding.evidence
                )
            })
            .collect::<Vec<_>>()
            .join("; ")
    };
    let both = ["db-0", "db-2"];
    assert_eq!(
        codes(Some(1), &both),
        "KM-PDB-005 blocker: only node n0 can host 2 pods of it (db-0, db-2), so that they stay \
         down until it is back, and no more than 1 may be down at once"
    );
    assert!(codes(None, &both).starts_with("KM-BUDGET-004 blocker: only node n0"));
    // As many as may be down, or one on each node, or none.
    assert_eq!(codes(Some(2), &both), "");
    assert_eq!(codes(Some(1), &["db-0", "db-1"]), "");
    assert_eq!(codes(None, &[]), "");
}
