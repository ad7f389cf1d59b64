//! Child processes that never outlive the test process.
//!
//! Each program runs under a small shell guard in a process group of its own.
//! The guard reads a pipe whose other end only the test process holds: signals
//! go through it as lines, and when it closes — the component was dropped, or
//! the process returned, panicked or was killed — the guard kills its group.
//! This needs no unsafe code, no signal handler and no cooperation of the
//! program.

mod component;
mod ports;
mod run_dir;

pub(crate) use component::{Component, Signal};
pub(crate) use ports::Port;
pub(crate) use run_dir::RunDir;
