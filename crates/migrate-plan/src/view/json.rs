//! The JSON form of a plan.

use migrate_core::{PLAN_SCHEMA, Plan};
use serde::Deserialize;

use crate::Error;

/// What every schema has.
#[derive(Deserialize)]
struct AnySchema {
    schema: u32,
}

/// The plan as JSON, with line breaks, schema first.
///
/// # Errors
/// None for a plan that this crate made.
pub fn plan_to_json(plan: &Plan) -> Result<String, Error> {
    Ok(serde_json::to_string_pretty(plan)?)
}

/// Reads a plan back.
///
/// # Errors
/// [`Error::NewerSchema`] for one that a newer release wrote,
/// [`Error::Json`] for what is no plan.
pub fn plan_from_json(json: &str) -> Result<Plan, Error> {
    let AnySchema { schema } = serde_json::from_str(json)?;
    if schema > PLAN_SCHEMA {
        return Err(Error::NewerSchema {
            what: "plan",
            found: schema,
            known: PLAN_SCHEMA,
        });
    }
    Ok(serde_json::from_str(json)?)
}
