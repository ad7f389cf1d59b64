//! Scenarios of a rollout, told input by input.

#![allow(clippy::unwrap_used, reason = "tests")]

mod abort;
mod documents;
mod failures;
mod gates;
mod lost;
mod nodes;
mod order;
mod pools;
mod room;
mod run;
mod runner;
#[path = "../support/mod.rs"]
mod support;
mod surge;
mod tasks;
mod windows;
