//! Where pods go while a schedule drains their nodes.
//!
//! A prediction: the scheduler decides for real, and knows things that this does
//! not (scores, images, what is created meanwhile). It shows what a schedule
//! costs in moves, and whether what it takes away leaves room for the rest.

mod amounts;
mod cells;
mod classes;
mod home;
mod names;
mod pods;
#[cfg(test)]
mod properties;
mod room;
mod rules;
mod run;
mod slack;
mod stands;
mod stuck;
#[cfg(test)]
mod tests;

pub(crate) use pods::{Landscape, PodTable};
pub(crate) use run::{Homeless, Moves, Stop};
pub(crate) use slack::{PoolsAway, Slack, sum};
pub(crate) use stuck::Stuck;

/// No id.
const NONE: u32 = u32::MAX;
