//! Tests of the machine: properties on a model cluster, then single stories.

mod cluster;
mod harness;
mod properties;
mod stories;

use super::state::backoff;

#[test]
fn backoff_doubles_up_to_fifteen_seconds() {
    let delays: Vec<u64> = (1..8).map(|n| backoff(n).as_secs()).collect();
    assert_eq!(delays, [1, 2, 4, 8, 15, 15, 15]);
}
