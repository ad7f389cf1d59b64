//! What the tests on a real control plane share.
//!
//! Each test binary starts few control planes and does much on each: one takes
//! five seconds and some 600 MB.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod audit;
pub(crate) mod case;
pub(crate) mod cluster;
pub(crate) mod kinds;
pub(crate) mod observer;
pub(crate) mod program;
pub(crate) mod run;
pub(crate) mod small_disk;

/// Prints a measured figure where `--nocapture` shows it.
pub(crate) fn figure(name: &str, value: impl std::fmt::Display, unit: &str) {
    println!("figure {name} {value} {unit}");
}
