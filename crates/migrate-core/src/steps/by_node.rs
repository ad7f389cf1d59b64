//! A model's pods by their node.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{ClusterModel, Pod};

/// Positions of the pods of `model`.
#[derive(Debug)]
pub(super) struct PodsByNode {
    model: Arc<ClusterModel>,
    positions: BTreeMap<String, Vec<usize>>,
}

impl PodsByNode {
    pub(super) fn of(model: &Arc<ClusterModel>) -> Self {
        let mut positions: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, pod) in model.pods.iter().enumerate() {
            if let Some(node) = &pod.node {
                positions.entry(node.clone()).or_default().push(at);
            }
        }
        Self {
            model: Arc::clone(model),
            positions,
        }
    }

    /// The pods of `model` on `node`: found at once if it is the model this was
    /// made of.
    pub(super) fn on<'m>(&self, node: &str, model: &'m Arc<ClusterModel>) -> Vec<&'m Pod> {
        if !Arc::ptr_eq(&self.model, model) {
            let all = model.pods.iter();
            return all
                .filter(|pod| pod.node.as_deref() == Some(node))
                .collect();
        }
        let positions = self.positions.get(node).into_iter().flatten();
        positions.filter_map(|at| model.pods.get(*at)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClusterId, KubeVersion, Moment, PodId, Policy, StepInput};

    #[test]
    fn pods_are_found_by_node_also_after_the_model_was_exchanged() {
        let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
        for (name, node) in [("a", "n1"), ("b", "n2"), ("c", "n1")] {
            let id = PodId::new("ns", name, name);
            model.pods.push(Pod::new(id, node));
        }
        let policy = Arc::new(Policy::default());
        let target = KubeVersion::new(1, 37, 0);
        let mut input = StepInput::new(Arc::new(model.clone()), policy, target);
        let names = |input: &StepInput, node: &str| {
            let pods = input.pods_on(node);
            pods.iter()
                .map(|pod| pod.id.name.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&input, "n1"), ["a", "c"]);
        assert_eq!(names(&input, "n3"), [""; 0]);
        model.pods.remove(0);
        input.model = Arc::new(model);
        assert_eq!(names(&input, "n1"), ["c"]);
    }
}
