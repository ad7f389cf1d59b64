//! How good plans are.
//!
//! For benches and tests alone: [`instance`] makes clusters, [`problem`] is what a
//! plan decides as a scheduling problem of tasks and resources, for which other
//! ways to an answer can be compared with the planner's. What is compared and
//! what came out of it is in `docs/quality.md`.
//!
//! ```
//! use migrate_quality::instance::{Instance, Setting};
//! use migrate_quality::problem::Problem;
//!
//! let instance = Instance::new(&Setting::small(1), 1);
//! let plan = instance.plan()?;
//! let problem = Problem::new(&instance.model, &instance.policy, &plan)?;
//! assert_eq!(problem.check(&problem.starts(&plan)), Ok(()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod cluster;
pub mod instance;
pub mod peers;
pub mod problem;
pub mod random;
pub mod statistics;
