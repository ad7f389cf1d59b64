//! How far plans are from the best possible ones.
//!
//! `cargo bench -p migrate-quality --bench quality` compares plans of small
//! clusters with an exact solver (`QUALITY_SMALL`, how many, 220, and `QUALITY_ROOM`, how many
//! whose nodes say what they offer, 220; `QUALITY_SECONDS` for each, 4) and those of large ones
//! with their bounds (`QUALITY_LARGE`, how many of each size, 12). One line of CSV for each, then
//! tables and `figure NAME VALUE UNIT` lines.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "benches")]
#![allow(unreachable_pub, reason = "modules of a program")]

mod exact;
mod large;
mod small;

use small::Capacity;

fn main() {
    // `cargo test --benches` runs benches to see that they do.
    let is_trial = std::env::args().any(|argument| argument == "--test");
    let number = |name: &str, default: u64| {
        let set = std::env::var(name)
            .ok()
            .and_then(|value| value.parse().ok());
        let default = if is_trial { default.min(1) } else { default };
        set.unwrap_or(default)
    };
    let first = number("QUALITY_FIRST", 1);
    let seconds = number("QUALITY_SECONDS", 4);
    for (name, capacity) in [
        ("QUALITY_SMALL", Capacity::Unknown),
        ("QUALITY_ROOM", Capacity::Known),
    ] {
        small::compare(first..first + number(name, 220), seconds, capacity);
    }
    large::compare(number("QUALITY_LARGE", 12), is_trial);
}
