//! A plan for people and for files.

mod at_once;
mod budgets;
mod closed;
mod diff;
mod json;
mod mermaid;
mod millis;
mod page;
mod rows;
mod table;
mod text;
mod timeline;
mod waves;
mod words;

pub(crate) use at_once::at_once;
pub use budgets::{BudgetTable, BudgetUse, budget_uses};
pub use diff::{
    ChangeKind, DIFF_SCHEMA, DiffTable, PlanDiff, PlanFacts, PoolChange, TargetChange, TargetSeen,
};
pub(crate) use json::ensure_known;
pub use json::{plan_from_json, plan_to_json};
pub use mermaid::PlanMermaid;
pub use page::PlanPage;
pub use table::PlanTable;
pub(crate) use text::clock;
pub use timeline::PlanTimeline;
pub use waves::{Gate, Wave, Waves};
