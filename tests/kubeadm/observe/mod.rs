//! What is seen of a cluster from outside while something is done to it.

pub(crate) mod api;
pub(crate) mod cordons;
pub(crate) mod moves;
pub(crate) mod objects;
pub(crate) mod runner;
pub(crate) mod settled;
