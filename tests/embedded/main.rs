//! Whole upgrades on the embedded cluster, under virtual time, with every rule
//! checked after every write.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod abort;
mod capacity;
mod change;
mod cluster;
mod controls;
mod crash;
mod faulty;
mod fence;
mod gates;
mod looks;
mod lost_nodes;
mod own_targets;
mod preference;
mod replay;
mod room;
mod runner;
mod spread;
mod storm;
mod trial;
mod upgrade;
mod way_back;
