//! Durations as whole milliseconds in JSON, as plans have them.

use std::time::Duration;

use serde::Serializer;

use crate::planner::millis;

pub(super) fn one<S: Serializer>(value: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u64(millis(*value))
}

pub(super) fn some<S: Serializer>(value: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => one(value, s),
        None => s.serialize_none(),
    }
}
