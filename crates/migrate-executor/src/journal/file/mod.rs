//! A journal in a file.

mod line;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use self::line::Chain;
use super::{Entry, JOURNAL_SCHEMA, Journal};
use crate::Error;

/// A journal in a local file, one entry per line.
///
/// # Guarantees
/// * `append` writes one line and then waits until file and, for a new file,
///   folder are on disk. It blocks its thread for that time, a few milliseconds
///   on a local disk, on purpose: the run does nothing until the entry is
///   durable, and an append that a dropped future left to another thread could
///   still write when the entry is appended once more. Give a runtime that has
///   other work a second thread, or the run a runtime of its own.
/// * The file is readable by its owner only (0600 on Unix): it holds the
///   model of the cluster.
/// * A last line that a crash left incomplete is cut off, for the effect it
///   announced never began. A damaged line anywhere else is refused, with its
///   number and offset.
/// * While it is open nobody else on this machine can open it: the file is
///   locked, and the system lifts the lock when the process dies. Runners on
///   *other* machines are not kept out, not even through a shared folder.
#[derive(Debug)]
pub struct FileJournal {
    path: PathBuf,
    file: File,
    chain: Chain,
    /// Bytes known to be whole; what lies beyond is cut off.
    end: u64,
    next_seq: u64,
    /// Read by `open`, handed out by the first `load`.
    entries: Vec<Entry>,
    /// Set when the file's content is no longer known.
    broken: bool,
}

/// The first line of a file.
#[derive(Deserialize, Serialize)]
struct Header {
    journal: String,
    schema: u32,
}

const HEADER_NAME: &str = "kube-migrate";

/// What a file holds.
struct Content {
    entries: Vec<Entry>,
    chain: Chain,
    /// Offset after the last whole line; 0 when not even the header is whole.
    end: u64,
}

impl FileJournal {
    /// Opens the journal at `path`, or creates it.
    ///
    /// # Errors
    /// * [`Error::JournalLocked`]: another process holds it.
    /// * [`Error::JournalDamaged`], [`Error::JournalNewer`],
    ///   [`Error::JournalForeign`]: see [`Error`].
    /// * [`Error::JournalIo`]: no such folder, no permission, ...
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = std::path::absolute(path.as_ref())
            .map_err(|source| io_error(path.as_ref(), "find", source))?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        owner_only(&mut options);
        let mut file = options
            .open(&path)
            .map_err(|source| io_error(&path, "open", source))?;
        let metadata = file
            .metadata()
            .map_err(|source| io_error(&path, "read", source))?;
        if !metadata.is_file() {
            // A device may be read for ever.
            return Err(Error::JournalForeign {
                place: path.display().to_string(),
            });
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::JournalLocked {
                    place: path.display().to_string(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(io_error(&path, "lock", source)),
        }
        let content = read(&mut file, &path)?;
        // Only now is it known to be ours.
        tighten(&file).map_err(|source| io_error(&path, "restrict", source))?;
        let mut journal = Self {
            next_seq: content.entries.len() as u64,
            path,
            file,
            chain: content.chain,
            end: content.end,
            entries: content.entries,
            broken: false,
        };
        journal.cut()?;
        if journal.end == 0 {
            journal.begin()?;
        }
        // Also for a file that was there: the process that made it may have
        // died before it came this far.
        sync_folder(&journal.path).map_err(|source| io_error(&journal.path, "sync", source))?;
        Ok(journal)
    }

    /// Reads the entries of the journal at `path` and changes nothing, even
    /// while a runner holds it: for looking at a run from outside.
    ///
    /// # Errors
    /// As [`open`](Self::open), except that a lock is no obstacle and a
    /// missing file is an error.
    pub fn read(path: impl AsRef<Path>) -> Result<Vec<Entry>, Error> {
        let path = path.as_ref();
        let mut file = File::open(path).map_err(|source| io_error(path, "open", source))?;
        Ok(read(&mut file, path)?.entries)
    }

    /// Writes the header of a new file.
    fn begin(&mut self) -> Result<(), Error> {
        let header = Header {
            journal: HEADER_NAME.to_owned(),
            schema: JOURNAL_SCHEMA,
        };
        let json = encode(&self.path, &header)?;
        self.write_line(&json)
    }

    /// Appends one line and waits until it is on disk.
    fn write_line(&mut self, json: &[u8]) -> Result<(), Error> {
        if self.broken {
            return Err(io_error(
                &self.path,
                "append to",
                io::Error::other("an earlier write failed"),
            ));
        }
        let (line, chain) = self.chain.encode(json);
        if let Err(source) = self.file.write_all(&line) {
            // E.g. the disk is full: take back what was written of the line,
            // so that it can be written again once there is room.
            self.broken = self.cut().is_err();
            return Err(io_error(&self.path, "append to", source));
        }
        if let Err(source) = self.file.sync_all() {
            // The system may have dropped the pages it could not write, so
            // that asking again would answer yes: only reading can tell.
            self.broken = true;
            return Err(io_error(&self.path, "sync", source));
        }
        self.chain = chain;
        self.end += line.len() as u64;
        Ok(())
    }

    /// Cuts off what lies behind the last whole line.
    fn cut(&mut self) -> Result<(), Error> {
        let cut = || -> io::Result<()> {
            if self.file.metadata()?.len() > self.end {
                self.file.set_len(self.end)?;
                self.file.sync_all()?;
            }
            (&self.file).seek(SeekFrom::Start(self.end))?;
            Ok(())
        };
        cut().map_err(|source| io_error(&self.path, "cut", source))
    }
}

#[async_trait]
impl Journal for FileJournal {
    fn place(&self) -> String {
        format!("{}:{}", host(), self.path.display())
    }

    async fn load(&mut self) -> Result<Vec<Entry>, Error> {
        Ok(std::mem::take(&mut self.entries))
    }

    async fn append(&mut self, entry: &Entry) -> Result<(), Error> {
        if entry.seq != self.next_seq {
            return Err(Error::JournalOrder {
                place: self.path.display().to_string(),
                expected: self.next_seq,
                found: entry.seq,
            });
        }
        let json = encode(&self.path, entry)?;
        self.write_line(&json)?;
        self.next_seq += 1;
        Ok(())
    }
}

/// Reads all whole lines of `file` from its start.
fn read(file: &mut File, path: &Path) -> Result<Content, Error> {
    let place = || path.display().to_string();
    let failed = |source| io_error(path, "read", source);
    let damaged = |line, offset| Error::JournalDamaged {
        place: place(),
        line,
        offset,
    };
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut reader = BufReader::new(file);
    let mut content = Content {
        entries: Vec::new(),
        chain: Chain::default(),
        end: 0,
    };
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let length = reader.read_until(b'\n', &mut line).map_err(failed)?;
        let Some(text) = line.strip_suffix(b"\n") else {
            if number == 1 && !own_header_begins(&line) {
                return Err(Error::JournalForeign { place: place() });
            }
            if content.chain.begins_with_a_line(&line) {
                return Err(damaged(number, content.end));
            }
            // Nothing, or the beginning of a line: what a crash leaves.
            break;
        };
        let Some((json, chain)) = content.chain.decode(text) else {
            if number == 1 {
                return Err(Error::JournalForeign { place: place() });
            }
            let is_last = reader.fill_buf().map_err(failed)?.is_empty();
            if is_last && !content.chain.begins_with_a_line(text) {
                // The length of the last line reached the disk before its bytes.
                break;
            }
            return Err(damaged(number, content.end));
        };
        if number == 1 {
            check_header(json, path)?;
        } else {
            content
                .entries
                .push(
                    serde_json::from_slice(json).map_err(|source| Error::JournalUnreadable {
                        place: place(),
                        line: number,
                        source,
                    })?,
                );
        }
        content.chain = chain;
        content.end += length as u64;
    }
    Ok(content)
}

fn check_header(json: &[u8], path: &Path) -> Result<(), Error> {
    let place = path.display().to_string();
    match serde_json::from_slice::<Header>(json) {
        Ok(header) if header.journal == HEADER_NAME => {
            if header.schema > JOURNAL_SCHEMA {
                return Err(Error::JournalNewer {
                    place,
                    found: header.schema,
                    known: JOURNAL_SCHEMA,
                });
            }
            Ok(())
        }
        _ => Err(Error::JournalForeign { place }),
    }
}

/// Whether `bytes` is how a header of ours begins: then a crash cut it off, and
/// nothing of anybody's is lost by writing it again.
fn own_header_begins(bytes: &[u8]) -> bool {
    let header = Header {
        journal: HEADER_NAME.to_owned(),
        schema: JOURNAL_SCHEMA,
    };
    serde_json::to_vec(&header)
        .is_ok_and(|json| Chain::default().encode(&json).0.starts_with(bytes))
}

fn encode(path: &Path, value: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|source| io_error(path, "append to", source.into()))
}

fn io_error(path: &Path, doing: &'static str, source: io::Error) -> Error {
    Error::JournalIo {
        place: path.display().to_string(),
        doing,
        source,
    }
}

/// This machine's name; it only has to tell people where to look.
fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

#[cfg(unix)]
fn owner_only(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600);
}

#[cfg(not(unix))]
fn owner_only(_: &mut OpenOptions) {}

/// A file that was there before may have been readable by others.
#[cfg(unix)]
fn tighten(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
}

#[cfg(not(unix))]
fn tighten(_: &File) -> io::Result<()> {
    Ok(())
}

/// Makes the name of a new file durable.
#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}
