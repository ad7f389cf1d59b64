//! The journal: what a run did and was told, in order, durable.
//!
//! Everything a run knows is a fold over its entries, so that a new process
//! that reads them knows what the old one knew. An [`Intent`](Record::Intent)
//! is durable before the effect it announces begins.

mod file;
mod memory;
mod record;

pub use file::FileJournal;
pub use memory::MemoryJournal;
pub use record::{Entry, Origin, Record, RunEnd, RunOpened, RunStep, StepResult};

use async_trait::async_trait;

use crate::Error;

/// Version of the entries. A reader refuses a newer one.
pub const JOURNAL_SCHEMA: u32 = 1;

/// Where a run's entries are kept.
///
/// # Guarantees
/// * When [`append`](Self::append) returns `Ok`, the entry survives a crash of
///   this process and of its machine. When it returns an error, the entry may
///   be there or not, and nothing after it is.
/// * An entry is there completely or not at all.
/// * The entries come back from [`load`](Self::load) unchanged and in order; a
///   damaged one is an error, never left out.
/// * One holder at a time: a second one is refused as long as the backend can
///   know about the first. The file backend knows it on one machine only.
///
/// # For implementors
/// A call of `append` may be dropped before it returns. Appending the same
/// entry (same `seq`) once more must then succeed and leave one of it.
#[async_trait]
pub trait Journal: Send {
    /// Where it is, for people and for the anchor in the cluster, e.g.
    /// `bastion:/var/lib/kube-migrate/prod.journal`.
    fn place(&self) -> String;

    /// All entries from the first. Called once, before the first `append`.
    ///
    /// # Errors
    /// The journal cannot be read, is damaged, or is newer than this program.
    async fn load(&mut self) -> Result<Vec<Entry>, Error>;

    /// Makes `entry` durable. Its `seq` is the number of entries before it.
    ///
    /// # Errors
    /// The entry could not be made durable, e.g. because the disk is full.
    async fn append(&mut self, entry: &Entry) -> Result<(), Error>;
}
