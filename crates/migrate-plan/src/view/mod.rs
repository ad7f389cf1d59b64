//! A plan for people and for files.

mod budgets;
mod closed;
mod diff;
mod json;
mod mermaid;
mod millis;
mod moves;
mod page;
mod rows;
mod table;
mod text;
mod timeline;
mod waves;
mod words;

pub use budgets::{BudgetTable, BudgetUse, budget_uses};
pub use diff::{
    ChangeKind, DIFF_SCHEMA, DiffTable, PlanDiff, PlanFacts, PoolChange, TargetChange, TargetSeen,
};
pub(crate) use json::ensure_known;
pub use json::{plan_from_json, plan_to_json};
pub use mermaid::PlanMermaid;
pub(crate) use moves::at_once;
pub use moves::estimated_moves_per_pod;
pub use page::PlanPage;
pub use table::PlanTable;
pub(crate) use text::clock;
pub use timeline::PlanTimeline;
pub use waves::{Gate, Wave, Waves};
