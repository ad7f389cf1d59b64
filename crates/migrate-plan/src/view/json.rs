//! The JSON form of a plan.

use migrate_core::{DocumentError, PLAN_SCHEMA, Plan};

use crate::Error;

const WHAT: &str = "plan";

/// The plan as JSON, with line breaks, schema first.
///
/// # Errors
/// None for a plan that this crate made.
pub fn plan_to_json(plan: &Plan) -> Result<String, Error> {
    let json = serde_json::to_string_pretty(plan);
    Ok(json.map_err(|source| DocumentError::Invalid { what: WHAT, source })?)
}

/// Reads a plan back.
///
/// # Errors
/// [`DocumentError::Newer`] for one that a newer release wrote,
/// [`DocumentError::Invalid`] for what is no plan.
pub fn plan_from_json(json: &str) -> Result<Plan, Error> {
    Ok(DocumentError::read(WHAT, PLAN_SCHEMA, json)?)
}

/// Refuses a plan that a newer release made.
pub(crate) fn ensure_known(plan: &Plan) -> Result<(), Error> {
    Ok(DocumentError::unless_known(WHAT, plan.schema, PLAN_SCHEMA)?)
}
