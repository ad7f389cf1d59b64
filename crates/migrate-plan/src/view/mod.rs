//! A plan for people and for files.

mod json;
mod table;

pub(crate) use json::ensure_known;
pub use json::{plan_from_json, plan_to_json};
pub use table::PlanTable;
