//! Nodes and members that are not fit to start from: who has cordoned which.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use kube::Client;
use migrate_core::preconditions::{CordonOwner, check_nodes};
use migrate_core::{ClusterModel, KubeVersion, Policy};
use migrate_kube::{CordonMark, get, resources};

use super::Answer;

/// Requests in flight.
const CONCURRENCY: usize = 8;

/// Findings about nodes; `run` is the run that is about to start, whose own
/// cordons are no concern.
pub(crate) async fn check(
    client: &Client,
    model: &ClusterModel,
    policy: &Policy,
    target: &KubeVersion,
    run: &str,
) -> Answer {
    let cordoned = model.nodes.iter().filter(|node| node.unschedulable);
    let reads: Vec<_> = cordoned.map(|node| mark_of(client, &node.name)).collect();
    let marks: BTreeMap<&str, Option<CordonMark>> = stream::iter(reads)
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    Ok(check_nodes(model, policy, target, |node| {
        owner(marks.get(node).and_then(Option::as_ref), run)
    }))
}

/// Who has cordoned the node; no longer known if the node is gone.
async fn mark_of<'a>(
    client: &Client,
    node: &'a str,
) -> Result<(&'a str, Option<CordonMark>), migrate_kube::Error> {
    let read = get::<resources::Node>(client, node).await?;
    Ok((node, read.as_ref().and_then(CordonMark::of)))
}

/// Whose a cordon with `mark` is, as `run` sees it.
fn owner(mark: Option<&CordonMark>, run: &str) -> CordonOwner {
    match mark {
        Some(mark) if mark.was_unschedulable => CordonOwner::Somebody,
        Some(mark) if mark.run == run => CordonOwner::ThisRun,
        Some(mark) => CordonOwner::OtherRun(mark.run.clone()),
        None => CordonOwner::Somebody,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cordon_belongs_to_whoever_set_it_first() {
        let owner_of = |run: &str, before: bool| {
            let json = serde_json::json!({ "run": run, "wasUnschedulable": before });
            let mark: CordonMark = serde_json::from_value(json).unwrap();
            owner(Some(&mark), "r2")
        };
        assert_eq!(owner_of("r2", false), CordonOwner::ThisRun);
        assert_eq!(
            owner_of("r1", false),
            CordonOwner::OtherRun("r1".to_owned())
        );
        assert_eq!(owner_of("r2", true), CordonOwner::Somebody);
        assert_eq!(owner_of("r1", true), CordonOwner::Somebody);
        assert_eq!(owner(None, "r2"), CordonOwner::Somebody);
    }
}
