//! Kubernetes pre-upgrade checks: what would go wrong, found before anything
//! is changed.
//!
//! [`Preflight`] looks at a cluster through the client it is given and answers
//! with [`Finding`](migrate_core::Finding)s: stable code, severity, object, evidence, cure. It
//! guarantees:
//!
//! * it only reads (`GET`, `LIST` and self access reviews), so it may run
//!   behind [`migrate_kube::read_only`] and on any day;
//! * all checks run at the same time, each for `deadlines.request` at the most,
//!   in which one that fails for a passing reason is made again;
//! * a check that is not allowed to look says so, with verb, resource and the
//!   rule to add, and never passes for one that found nothing.
//!
//! | area | what is looked at |
//! |---|---|
//! | `KM-SKEW` | the way to the target, versions that may not meet |
//! | `KM-NODE` | nodes that are not Ready, cordons of others, pools that could never start |
//! | `KM-PDB`, `KM-BUDGET`, `KM-POD` | [`migrate_core::impossible`] for the nodes to be drained |
//! | `KM-SERVICE` | pods behind Services that end at once, or count before they serve |
//! | `KM-HOOK` | webhooks that fail closed and would lose their backend to a drain |
//! | `KM-API` | unavailable APIServices, use of deprecated APIs |
//! | `KM-RBAC` | permissions, exactly those of [`REQUIRED`] |
//! | `KM-ACTOR` | others that move pods or delete nodes |
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use migrate_core::{Clock, Fence, Policy, PrepareEnvironment, StepContext, StepInput};
//! use migrate_kube::{TokioClock, observe};
//!
//! let client = kube::Client::try_default().await?;
//! let clock = Arc::new(TokioClock::system());
//! let model = observe(&client, clock.now()).await?;
//! let input = StepInput::new(Arc::new(model), Arc::new(Policy::default()), "1.37".parse()?);
//! let cx = StepContext::new(clock, Fence::without_lease("look"));
//! let report = migrate_preflight::Preflight::new(client).run(&cx, &input).await?;
//! for finding in &report.findings {
//!     println!("{finding}");
//! }
//! # Ok(())
//! # }
//! ```

mod checks;
mod error;
mod metrics;
mod objects;
mod patience;
mod permissions;
mod preflight;

pub use checks::codes;
pub use error::Error;
pub use permissions::{Permission, REQUIRED, Target, Usage, rbac_manifest};
pub use preflight::Preflight;
