//! How often a node brings its lists of packages up to date.

use super::*;

/// What `pre_pull` finds, and how often the lists were brought up to date since
/// the node was made.
async fn pulled(node: &Node) -> (Vec<String>, usize) {
    node.write("images", "r.local/kube-proxy:v1.37.2\nr.local/coredns:v9\n");
    let nodes = [CP.to_owned()];
    let target = "v1.37.2".parse().unwrap();
    let found = node.driver.pre_pull(&nodes, &target).await.findings;
    let found = found.iter().map(ToString::to_string).collect();
    (found, updates(node))
}

fn updates(node: &Node) -> usize {
    let noted = std::fs::read_to_string(node.path("updates")).unwrap_or_default();
    noted.lines().count()
}

#[tokio::test]
async fn lists_are_brought_up_to_date_once_before_a_run() {
    let worker = Node::new(false);
    let target = "v1.37.2".parse().unwrap();
    let resolved = worker.driver.resolve(&[CP.to_owned()], &target).await;
    assert!(resolved.is_ready(), "{:?}", resolved.findings);
    assert_eq!(updates(&worker), 1);
    assert_eq!(pulled(&worker).await, (Vec::new(), 1));
}

#[tokio::test]
async fn old_lists_are_brought_up_to_date_for_the_images() {
    // They do not name the version.
    let worker = Node::new(false);
    worker.write("available", "1.36.3-1.1\n");
    worker.write("newly-available", "1.36.3-1.1\n1.37.2-2.1\n");
    assert_eq!(pulled(&worker).await, (Vec::new(), 1));

    // They name a package that the repository has replaced.
    let worker = Node::new(false);
    worker.write("available", "1.37.2-1.1\n");
    worker.write("newly-available", "1.37.2-2.1\n");
    worker.write("downloadable", "1.37.2-2.1\n");
    assert_eq!(pulled(&worker).await, (Vec::new(), 1));

    // Nor does it help.
    let worker = Node::new(false);
    worker.write("downloadable", "");
    let (found, updates) = pulled(&worker).await;
    assert_eq!((found.len(), updates), (1, 1));
    assert!(found[0].contains("cannot be downloaded"), "{}", found[0]);
}
