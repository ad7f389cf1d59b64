//! Durations as whole milliseconds in JSON, as plans have them.

use std::time::Duration;

use serde::Serializer;

pub(super) fn one<S: Serializer>(value: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
}

pub(super) fn some<S: Serializer>(value: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => one(value, s),
        None => s.serialize_none(),
    }
}
