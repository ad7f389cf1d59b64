//! What windows cost a plan, and that they have to hold P95.

use std::time::Duration;

use migrate_core::{ClusterModel, Policy};
use migrate_plan::{Beliefs, Planner};

use crate::NEW;
use crate::common::{least, millis};

const PATIENCE: Duration = Duration::from_secs(1);
/// One that holds everything, so that schedules are the same.
const WINDOW: &str = r#"[{"from": "2020-01-01T00:00Z", "to": "2090-01-01T00:00Z"}]"#;

/// Prints what a plan costs with windows, with predicted lengths and with P95 of them.
pub(crate) fn of_size(name: &str, model: &ClusterModel, policy: &Policy) {
    let mut policy = policy.clone();
    policy.rollout.windows = serde_json::from_str(WINDOW).unwrap();
    let planner = Planner::new(model, &policy, NEW);
    let p95 = planner.clone().with_beliefs(&Beliefs::default());
    for (of, planner) in [("windows", planner), ("windows_p95", p95)] {
        let took = least(PATIENCE, || planner.plan().unwrap());
        println!("figure planner_{name}_plan_{of} {:.1} ms", millis(took));
    }
}
