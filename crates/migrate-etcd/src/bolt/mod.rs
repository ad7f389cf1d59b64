//! Reads bbolt, the format of etcd's database file and of its snapshots; `tree` writes it.
//!
//! The file is read page by page and never mapped into memory. What is held is one
//! page for each level of a tree, and one bit for each page of the file. All
//! that is read is checked before it is used: nothing in a file leads to a panic,
//! to an endless walk or to an allocation beyond a fixed limit.

#[cfg(test)]
pub(crate) mod build;
mod fault;
mod file;
mod freelist;
mod heard;
pub(crate) mod meta;
pub(crate) mod page;
pub(crate) mod tree;
mod walk;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::Path;

use migrate_core::Cancellation;
use serde::Serialize;
use sha2::{Digest, Sha256};

pub use fault::{Fault, ReadError};
use file::{Named, u64_at};
use heard::Heard;
pub(crate) use heard::Told;
use meta::Meta;
use page::Page;
use walk::Seen;
pub(crate) use walk::Walk;

/// Length of the SHA-256 at the end of a snapshot, in bytes.
const TRAILER: u64 = crate::trailer::TRAILER as u64;

/// The length of a file with a trailer, modulo the smallest page: what all tools
/// of etcd tell one by.
const SECTOR: u64 = 512;

/// The most pages of a database, each of which takes a bit of memory: 2 TiB of those that
/// etcd has, whose databases end at some GiB. The length of a file is no work to whoever
/// makes one, for what was never written takes no room on a disk.
const MOST_PAGES: u64 = 1 << 29;

/// The most buckets of a database; etcd has some ten.
const BUCKETS: usize = 1000;

/// Bytes that are hashed at once.
const HASHED_AT_ONCE: usize = 256 << 10;

/// A bbolt database that is open for reading.
///
/// Guarantees: the file is opened read-only and never written; memory is bounded
/// at any size of file (64 MiB for the largest entry, and 64 MiB for the pages, one bit
/// each); each
/// call reads the file anew, so that no state is left by an error.
///
/// ```
/// let error = migrate_etcd::Database::from_bytes(vec![0; 8192]).unwrap_err();
/// assert!(error.to_string().contains("is no etcd database"));
/// ```
#[derive(Debug)]
pub struct Database {
    file: Named,
    meta: Meta,
    damaged_meta: Option<u64>,
}

/// An entry of a bucket, and where it lies.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Entry<'a> {
    /// Page whose table has it.
    pub page: u64,
    /// Bytes from the beginning of the file to its key.
    pub offset: u64,
    /// Its key.
    pub key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
}

/// A bucket at the root of a database.
#[derive(Clone, Debug)]
pub struct Bucket {
    name: Vec<u8>,
    sequence: u64,
    root: Root,
}

#[derive(Clone, Debug)]
enum Root {
    Page(u64),
    Inline(Inline),
}

/// A small bucket's only page, which lies in the page above.
#[derive(Clone, Debug)]
struct Inline {
    bytes: Vec<u8>,
    page: u64,
    offset: u64,
}

/// What a check of the whole structure has found.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Structure {
    /// Pages, the metas included.
    pub pages: u64,
    /// Pages that hold nothing: on the free list, or reached from nowhere in a
    /// file without one. Their bytes mean nothing.
    pub free_pages: u64,
    /// Whether the file lists its free pages; etcd's do not since 3.3.
    pub has_free_list: bool,
    /// The meta page, 0 or 1, that is damaged, if one is: the other one was used.
    pub damaged_meta: Option<u64>,
}

impl Database {
    /// Opens a snapshot, or a database file of a data folder that no etcd has open.
    ///
    /// # Errors
    /// [`ReadError::File`], [`ReadError::NoMeta`], or [`ReadError::Damaged`] where
    /// the file's length is not that of its pages.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let file = File::open(path).map_err(|source| ReadError::File {
            path: path.to_owned(),
            source,
        })?;
        Self::of_file(file, path)
    }

    /// As [`Database::open`], of a file that is open already and called `path`.
    pub(crate) fn of_file(file: File, path: &Path) -> Result<Self, ReadError> {
        Self::of(Named::of_file(file, path.to_owned())?)
    }

    /// Reads a database that is in memory.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ReadError> {
        Self::of(Named::of_memory(bytes))
    }

    fn of(file: Named) -> Result<Self, ReadError> {
        let (meta, damaged_meta) = Meta::find(&file)?;
        let database = Self {
            file,
            meta,
            damaged_meta,
        };
        let found = database.data_len();
        let expected = meta.pages.saturating_mul(meta.page_size.into());
        // A snapshot is its pages and no more; a file that is in use grows ahead,
        // by whole pages.
        let is_sound = found.is_multiple_of(SECTOR)
            && if database.has_trailer() {
                found == expected
            } else {
                found >= expected
            };
        if !is_sound || meta.pages < 3 {
            let fault = Fault::Length { found, expected };
            return Err(database.file.damaged(
                database.damaged_meta.map_or(0, |damaged| 1 - damaged),
                0,
                fault,
            ));
        }
        if database.meta.pages > MOST_PAGES {
            let fault = Fault::TooManyPages(database.meta.pages);
            return Err(database.file.damaged(0, 0, fault));
        }
        Ok(database)
    }

    /// Reads nothing more, and fails, when `cancel` says so.
    pub(crate) fn until(mut self, cancel: &Cancellation) -> Self {
        self.file.cancel = cancel.clone();
        self
    }

    /// Tells `told` of each MiB that is read, of `of` bytes.
    pub(crate) fn telling(mut self, told: Told, of: u64) -> Self {
        self.file.heard = Some(Heard::new(told, of));
        self
    }

    /// That all is done of what [`telling`](Self::telling) has told.
    pub(crate) fn tell_end(&self) {
        if let Some(heard) = &self.file.heard {
            heard.told.end(heard.of);
        }
    }

    /// Bytes of a page.
    pub fn page_size(&self) -> u32 {
        self.meta.page_size
    }

    /// The last transaction that is in it.
    pub fn transaction(&self) -> u64 {
        self.meta.txid
    }

    /// Bytes of the file, a trailer included.
    pub fn file_len(&self) -> u64 {
        self.file.len
    }

    /// Whether the file ends with a SHA-256 of all before it, as snapshots do.
    pub fn has_trailer(&self) -> bool {
        self.file.len % SECTOR == TRAILER
    }

    pub(crate) fn data_len(&self) -> u64 {
        if self.has_trailer() {
            self.file.len - TRAILER
        } else {
            self.file.len
        }
    }

    /// Reads the whole file and compares it with the trailer. The SHA-256 of all
    /// but the trailer, or `None` for a file without one, which is not read.
    ///
    /// # Errors
    /// [`ReadError::Checksum`] or [`ReadError::File`].
    pub fn check_trailer(&self) -> Result<Option<[u8; 32]>, ReadError> {
        if !self.has_trailer() {
            return Ok(None);
        }
        let mut hash = Sha256::new();
        let mut bytes = vec![0; HASHED_AT_ONCE];
        let end = self.data_len();
        let mut at = 0;
        while at < end {
            let len = (end - at).min(HASHED_AT_ONCE as u64);
            let bytes = bytes.get_mut(..len as usize).unwrap_or_default();
            self.file.read(at, bytes)?;
            hash.update(&*bytes);
            at += len;
        }
        let mut trailer = [0; TRAILER as usize];
        self.file.read(end, &mut trailer)?;
        let found: [u8; 32] = hash.finalize().into();
        if found != trailer {
            let path = self.file.path.clone();
            return Err(ReadError::Checksum { path });
        }
        Ok(Some(found))
    }

    /// The buckets, in the order of their names.
    ///
    /// # Errors
    /// [`ReadError`] where the root is damaged.
    pub fn buckets(&self) -> Result<Vec<Bucket>, ReadError> {
        self.buckets_seen(&mut Seen::new(self.meta.pages))
    }

    fn buckets_seen(&self, seen: &mut Seen) -> Result<Vec<Bucket>, ReadError> {
        let mut buckets = Vec::new();
        let root = Root::Page(self.meta.root);
        self.walk(&root, seen, &mut |is_bucket, entry| {
            let damaged = |fault| self.damaged_at(entry, fault);
            if !is_bucket {
                let fault = Fault::Unexpected("an entry outside of all buckets");
                return Err(damaged(fault));
            }
            let bucket = Bucket::parse(entry).map_err(damaged)?;
            // bbolt lets no larger one lie in the page above. Both limits keep the
            // list small whatever the file says.
            let is_small = match &bucket.root {
                Root::Inline(inline) => inline.bytes.len() <= self.meta.page_size as usize / 4,
                Root::Page(_) => true,
            };
            if !is_small || buckets.len() == BUCKETS {
                return Err(damaged(Fault::BucketHeader));
            }
            buckets.push(bucket);
            Ok(())
        })?;
        Ok(buckets)
    }

    /// That the entries are not those of an etcd.
    pub(crate) fn no_etcd(&self, what: &'static str) -> ReadError {
        ReadError::Entries {
            path: self.file.path.clone(),
            what,
        }
    }

    pub(crate) fn damaged_at(&self, entry: &Entry<'_>, fault: Fault) -> ReadError {
        self.file.damaged(entry.page, entry.offset, fault)
    }

    /// What `see` says of the last entry of a bucket, without a visit of the others.
    pub(crate) fn last<T>(
        &self,
        bucket: &Bucket,
        see: impl FnOnce(&Entry<'_>) -> Result<T, Fault>,
    ) -> Result<Option<T>, ReadError> {
        self.last_of(&bucket.root, |entry| {
            see(entry).map_err(|fault| self.damaged_at(entry, fault))
        })
    }

    /// Visits the entries of a bucket in the order of their keys.
    ///
    /// # Errors
    /// [`ReadError`] where the bucket is damaged or holds a bucket, which etcd has
    /// not; what `visit` gives becomes a [`ReadError::Damaged`] with the entry's
    /// place.
    pub fn each(
        &self,
        bucket: &Bucket,
        visit: &mut dyn FnMut(&Entry<'_>) -> Result<(), Fault>,
    ) -> Result<(), ReadError> {
        self.each_seen(bucket, &mut Seen::new(self.meta.pages), &mut |entry| {
            visit(entry).map_err(|fault| self.damaged_at(entry, fault))
        })
    }

    fn each_seen<E: From<ReadError>>(
        &self,
        bucket: &Bucket,
        seen: &mut Seen,
        visit: &mut dyn FnMut(&Entry<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.walk(&bucket.root, seen, &mut |is_bucket, entry| {
            if is_bucket {
                let fault = Fault::Unexpected("a bucket within a bucket");
                return Err(self.damaged_at(entry, fault).into());
            }
            visit(entry)
        })
    }

    /// Checks the whole structure and visits every entry of every bucket on the
    /// way, so that the file is read once.
    ///
    /// Every page is reached exactly once: from the root, or from the free list if
    /// there is one.
    ///
    /// # Errors
    /// [`ReadError`] at the first damage, and as [`Database::each`].
    pub fn check(
        &self,
        visit: &mut dyn FnMut(&Bucket, &Entry<'_>) -> Result<(), Fault>,
    ) -> Result<Structure, ReadError> {
        let (mut walk, buckets) = Walk::begin(self)?;
        for bucket in buckets {
            walk.each(&bucket, &mut |entry| {
                visit(&bucket, entry).map_err(|fault| self.damaged_at(entry, fault))
            })?;
        }
        Ok(Structure {
            pages: self.meta.pages,
            free_pages: walk.end()?,
            has_free_list: self.meta.freelist.is_some(),
            damaged_meta: self.damaged_meta,
        })
    }
}

impl Bucket {
    /// A bucket's value: its root page, its sequence, and its only page itself if
    /// it has no root.
    fn parse(entry: &Entry<'_>) -> Result<Self, Fault> {
        const HEADER: usize = 16;
        let parse = || {
            let root = u64_at(entry.value, 0)?;
            let sequence = u64_at(entry.value, 8)?;
            let rest = entry.value.get(HEADER..)?;
            let root = match root {
                0 => Root::Inline(Inline {
                    bytes: rest.to_vec(),
                    page: entry.page,
                    offset: entry.offset + (entry.key.len() + HEADER) as u64,
                }),
                page => Some(Root::Page(page)).filter(|_| rest.is_empty())?,
            };
            Some(Self {
                name: entry.key.to_vec(),
                sequence,
                root,
            })
        };
        parse().ok_or(Fault::BucketHeader)
    }

    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Its sequence number, which etcd does not use.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl Inline {
    fn page(&self, file: &Named) -> Result<Page, ReadError> {
        let damaged = |fault| file.damaged(self.page, self.offset, fault);
        let header = page::Header::parse(&self.bytes);
        if header.is_none_or(|header| header.flags != page::LEAF || header.overflow != 0) {
            return Err(damaged(Fault::BucketHeader));
        }
        // Such a page has the number 0; its entries lie in the page above.
        let page = Page::parse(self.bytes.clone(), 0, self.offset).map_err(damaged)?;
        if page.end != page.bytes.len() {
            return Err(damaged(Fault::BucketHeader));
        }
        Ok(Page {
            id: self.page,
            ..page
        })
    }
}
