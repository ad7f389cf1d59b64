//! Why a database file cannot be read.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

/// Why a snapshot or a database file is not sound.
///
/// No text holds a key or a value of the database: a place is told by its page
/// and by its offset in the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Reading the file failed.
    #[error("{}: {source}; see that it is a file that may be read", path.display())]
    File {
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Neither of the two meta pages is valid.
    #[error(
        "{}: is no etcd database, or both of its meta pages are damaged; take another backup",
        path.display()
    )]
    NoMeta {
        /// File.
        path: PathBuf,
    },
    /// The SHA-256 at the end of a snapshot does not match its bytes.
    #[error(
        "{}: its bytes do not match the SHA-256 at its end; take another backup",
        path.display()
    )]
    Checksum {
        /// File.
        path: PathBuf,
    },
    /// The entries are not those of an etcd.
    #[error("{}: {what}; take another backup", path.display())]
    Entries {
        /// File.
        path: PathBuf,
        /// What is wrong: a bucket that is missing, or else an entry of which
        /// [`inspect`](crate::inspect) says where it is.
        what: &'static str,
    },
    /// A page or an entry is damaged.
    #[error(
        "{}: damaged at page {page}, offset {offset}: {fault}; take another backup",
        path.display()
    )]
    Damaged {
        /// File.
        path: PathBuf,
        /// Page of the database, counted from zero.
        page: u64,
        /// Bytes from the beginning of the file to what is damaged: a page, or
        /// an entry's key within it.
        offset: u64,
        /// What is wrong.
        fault: Fault,
    },
}

impl ReadError {
    /// The file.
    pub fn path(&self) -> &Path {
        match self {
            Self::File { path, .. }
            | Self::NoMeta { path }
            | Self::Checksum { path }
            | Self::Entries { path, .. }
            | Self::Damaged { path, .. } => path,
        }
    }
}

/// As a program reads it: `kind` and `file`, for damage `page`, `offset` and `fault`, and the
/// text of it all as `message`.
impl Serialize for ReadError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (kind, place) = match self {
            Self::File { .. } => ("file", None),
            Self::NoMeta { .. } => ("noMeta", None),
            Self::Checksum { .. } => ("checksum", None),
            Self::Entries { .. } => ("entries", None),
            Self::Damaged {
                page,
                offset,
                fault,
                ..
            } => ("damaged", Some((page, offset, fault))),
        };
        let told = Told {
            kind,
            file: self.path().display().to_string(),
            page: place.map(|(page, ..)| *page),
            offset: place.map(|(_, offset, _)| *offset),
            fault: place.map(|(.., fault)| fault.to_string()),
            message: self.to_string(),
        };
        told.serialize(serializer)
    }
}

#[derive(Serialize)]
struct Told {
    kind: &'static str,
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
    message: String,
}

/// What is wrong with a page or an entry.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The file is shorter or longer than the meta page says.
    #[error("the file has {found} bytes of database, its meta page says {expected}")]
    Length {
        /// Bytes without the trailer.
        found: u64,
        /// Bytes of all pages.
        expected: u64,
    },
    /// The page lies outside of the file, or is a meta page.
    #[error("there is no such page")]
    OutOfBounds,
    /// The page says that it is another one.
    #[error("the page says that it is page {found}")]
    WrongId {
        /// What it says.
        found: u64,
    },
    /// The page is not of the kind that its place asks for.
    #[error("the page has the flags {found:#06x}, which are wrong here")]
    WrongKind {
        /// Its flags.
        found: u16,
    },
    /// The page goes on over more pages, or fewer, than its contents need.
    #[error("the page goes on for {found} more pages, its contents need {needed}")]
    Overflow {
        /// What it says.
        found: u64,
        /// What it should be.
        needed: u64,
    },
    /// The page and those that belong to it are larger than is read at once.
    #[error("the page goes on for {0} more pages, which is more than any entry of etcd needs")]
    TooLarge(u64),
    /// A page is referred to more than once.
    #[error("the page is in use twice")]
    ReachedTwice,
    /// A page is neither in use nor free.
    #[error("the page is neither in use nor on the list of free pages")]
    Lost,
    /// A page is in use and free, or free twice.
    #[error("the page is on the list of free pages, and in use or on it twice")]
    FreeTwice,
    /// The list of free pages is not in order or too long.
    #[error("the list of free pages is damaged")]
    FreeList,
    /// The database has more pages than are kept track of.
    #[error("the database has {0} pages, which is more than any of etcd has")]
    TooManyPages(u64),
    /// A key is longer than bbolt takes any.
    #[error("entry {0} of the page has a longer key than any can be")]
    KeyTooLong(usize),
    /// An entry's place is not where the page's table of entries has it.
    #[error("entry {0} of the page does not follow the one before it")]
    Layout(usize),
    /// Keys are not in ascending order, or not within what the branch above says.
    #[error("entry {0} of the page is out of order")]
    KeyOrder(usize),
    /// A branch, or a leaf below one, has no entries.
    #[error("the page has no entries")]
    Empty,
    /// The tree is deeper than any that fits into a file.
    #[error("the tree is too deep")]
    TooDeep,
    /// The flags of an entry are unknown.
    #[error("entry {0} of the page has unknown flags")]
    EntryFlags(usize),
    /// The description of a bucket is malformed.
    #[error("the bucket's header is malformed")]
    BucketHeader,
    /// An entry that is no bucket where only buckets are, or the other way round.
    #[error("there is {0} where etcd has none")]
    Unexpected(&'static str),
    /// An entry of a bucket of etcd is not what it should be.
    #[error("in bucket {bucket}: {what}")]
    Entry {
        /// Bucket.
        bucket: String,
        /// What is wrong.
        what: &'static str,
    },
}
