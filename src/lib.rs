//! The facade of kube-migrate.
#[doc(inline)]
pub use migrate_core as core;
