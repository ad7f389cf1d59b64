//! What benches share: what a piece of work costs, and numbers from a seed.

mod busy;
mod random;

pub(crate) use busy::{least, millis};
pub(crate) use random::Random;
