//! The archive of a set: written and unpacked in one pass.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use migrate_core::Cancellation;
use migrate_core::steps::BackupArtifact;
use tar::{Archive, Builder, EntryType, Header};

use super::collect::{LARGEST, MOST};
use super::{FileRecord, NodeRecord, SCHEMA, SetRecord, is_name, named};
use crate::bolt::Told;
use crate::seal::{Hashed, KeyRing, Opened, SAVED, Sealing, pass, unreadable};
use crate::{Error, Seal, folders, leftover};

/// The record, first in the archive.
const RECORD: &str = "set.json";

/// Largest record: that of some thousand nodes.
const LARGEST_RECORD: u64 = 8 << 20;

/// Longest name of a file in bytes: no system opens one, and a node has a name too.
const LONGEST_NAME: u64 = 8 << 10;

/// What may come behind the end of the archive: writers fill their last block.
const LONGEST_END: u64 = 1 << 20;

/// The snapshot in the archive.
pub(super) const SNAPSHOT: &str = "snapshot.db";

/// A set that is being written.
pub(super) struct Writing {
    pub(super) seal: Seal,
    pub(super) snapshot: BackupArtifact,
    pub(super) record: SetRecord,
    pub(super) files: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    pub(super) told: Told,
    pub(super) cancel: Cancellation,
}

impl Writing {
    /// Length and SHA-256 of what was written to `out`.
    pub(super) fn run(&self, out: &mut File, part: &Path) -> Result<(u64, String), Error> {
        let failed = |error| Error::file(part, error);
        let path = &self.snapshot.path;
        let snapshot = File::open(path).map_err(|error| Error::file(path, error))?;
        let told = self.told.clone();
        let mut snapshot = Hashed::new(Watched {
            inner: told.reading(snapshot.take(self.snapshot.bytes), self.snapshot.bytes),
            cancel: &self.cancel,
        });
        let mut archive = Builder::new(Sealing::begin(&self.seal, out, part)?);
        let record =
            serde_json::to_vec_pretty(&self.record).map_err(|error| failed(error.into()))?;
        append(&mut archive, RECORD, record.len() as u64, &*record).map_err(failed)?;
        let appended = append(&mut archive, SNAPSHOT, self.snapshot.bytes, &mut snapshot);
        if self.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        appended.map_err(failed)?;
        if snapshot.finish() != (self.snapshot.bytes, self.snapshot.sha256.clone()) {
            return Err(Error::changed(path, SAVED));
        }
        for (node, files) in &self.files {
            for (path, bytes) in files {
                let name = inner(node, path);
                append(&mut archive, &name, bytes.len() as u64, &**bytes).map_err(failed)?;
            }
        }
        let sealing = archive.into_inner().map_err(failed)?;
        sealing.finish().map_err(failed)
    }
}

/// Nothing of the machine that writes it is in a header.
fn append<W: Write>(
    archive: &mut Builder<W>,
    name: &str,
    bytes: u64,
    from: impl Read,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o600);
    header.set_mtime(0);
    header.set_size(bytes);
    archive.append_data(&mut header, name, from)
}

/// Where the file of a node is in the archive.
fn inner(node: &str, path: &str) -> String {
    format!("nodes/{node}{path}")
}

/// Ends early when it is cancelled.
struct Watched<'a, R> {
    inner: R,
    cancel: &'a Cancellation,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        self.inner.read(buffer)
    }
}

/// A set that is being unpacked.
pub(super) struct Unpacking {
    pub(super) path: PathBuf,
    pub(super) keys: Arc<KeyRing>,
    pub(super) folder: PathBuf,
    pub(super) cancel: Cancellation,
}

impl Unpacking {
    pub(super) fn run(&self) -> Result<SetRecord, Error> {
        let part = Part::begin(&self.folder)?;
        let file = File::open(&self.path).map_err(|error| Error::file(&self.path, error))?;
        let opened = Opened::begin(&self.keys, file, &self.path)?;
        let mut archive = Archive::new(opened);
        let mut record = None;
        let mut wanted: BTreeMap<String, FileRecord> = BTreeMap::new();
        let entries = archive.entries().map_err(|error| self.unreadable(error))?;
        let mut long = None;
        // As they are: the crate keeps a long name of whatever length in memory.
        for entry in entries.raw(true) {
            let mut entry = entry.map_err(|error| self.unreadable(error))?;
            if entry.header().entry_type() == EntryType::GNULongName {
                if long.is_some() || entry.size() > LONGEST_NAME {
                    return Err(self.malformed("it has a name that is longer than any"));
                }
                let mut name = Vec::new();
                let read = entry.read_to_end(&mut name);
                read.map_err(|error| self.unreadable(error))?;
                let end = name.iter().position(|byte| *byte == 0);
                name.truncate(end.unwrap_or(name.len()));
                long = Some(name);
                continue;
            }
            let name = long
                .take()
                .unwrap_or_else(|| entry.path_bytes().into_owned());
            let name = String::from_utf8_lossy(&name).into_owned();
            if entry.header().entry_type() != EntryType::Regular {
                return Err(self.malformed("it holds something that is no file"));
            }
            if record.is_none() {
                if name != RECORD {
                    return Err(self.malformed("it does not begin with a record"));
                }
                if entry.size() > LARGEST_RECORD {
                    return Err(Error::TooLarge {
                        path: self.path.clone(),
                        bytes: entry.size(),
                        most: LARGEST_RECORD,
                    });
                }
                let mut text = Vec::new();
                let read = entry.read_to_end(&mut text);
                read.map_err(|error| self.unreadable(error))?;
                let read = self.record(&text)?;
                self.refuse_too_large(&read)?;
                wanted = files(&read);
                part.write(RECORD, &mut text.as_slice(), self)?;
                record = Some(read);
                continue;
            }
            let Some(file) = wanted.remove(&name) else {
                return Err(self.malformed("it holds a file that its record does not name"));
            };
            let changed = || Error::changed(&self.path, "what its record says");
            // Before any of it is on the disk.
            if entry.size() != file.bytes {
                return Err(changed());
            }
            let mut hashed = Hashed::new(entry);
            part.write(&name, &mut hashed, self)?;
            if hashed.finish() != (file.bytes, file.sha256) {
                return Err(changed());
            }
        }
        // To the end, where it shows whether anything was cut off.
        let mut rest = archive.into_inner().take(LONGEST_END);
        let read = |error| self.unreadable(error);
        pass(&mut rest, &mut io::sink(), &self.cancel, (&read, &read))?;
        if rest.limit() == 0 {
            return Err(self.malformed("it goes on behind its end"));
        }
        let record = record.filter(|_| wanted.is_empty());
        let record =
            record.ok_or_else(|| self.malformed("it lacks files that its record names"))?;
        part.commit()?;
        Ok(record)
    }

    /// Before anything of it is on the disk.
    fn refuse_too_large(&self, record: &SetRecord) -> Result<(), Error> {
        let bytes = record.bytes(&self.path)?;
        #[cfg(feature = "client")]
        crate::room::refuse_less(bytes, &self.folder)?;
        let _ = bytes;
        Ok(())
    }

    fn record(&self, text: &[u8]) -> Result<SetRecord, Error> {
        let record: SetRecord = serde_json::from_slice(text)
            .map_err(|error| self.malformed(&format!("its record: {error}")))?;
        if record.schema != SCHEMA {
            return Err(self.malformed(&format!("it is of schema {}", record.schema)));
        }
        // Everybody can encrypt for a public key: names are somebody's words.
        let is_plain = |file: &FileRecord| named::tidy(&file.path).as_ref() == Some(&file.path);
        let is_taken = |node: &NodeRecord| {
            let mut files = node.files.iter();
            node.files.len() <= MOST && files.all(|file| file.bytes <= LARGEST && is_plain(file))
        };
        let mut nodes = record.nodes.iter();
        let is_sound = nodes.all(|node| is_name(&node.name) && is_taken(node));
        match is_sound {
            true => Ok(record),
            false => Err(self.malformed("its record names what is no file of a node")),
        }
    }

    fn malformed(&self, reason: &str) -> Error {
        Error::Malformed {
            path: self.path.clone(),
            reason: reason.to_owned(),
        }
    }

    fn unreadable(&self, error: io::Error) -> Error {
        unreadable(&self.path, error)
    }
}

/// The files of a set but the record, by their names in the archive.
fn files(record: &SetRecord) -> BTreeMap<String, FileRecord> {
    let nodes = record.nodes.iter().flat_map(|node| {
        let file = |file: &FileRecord| (inner(&node.name, &file.path), file.clone());
        node.files.iter().map(file)
    });
    let snapshot = (SNAPSHOT.to_owned(), record.snapshot.clone());
    nodes.chain([snapshot]).collect()
}

/// The folder while it is filled; removed unless it gets its name.
struct Part {
    part: PathBuf,
    folder: PathBuf,
}

impl Part {
    fn begin(folder: &Path) -> Result<Self, Error> {
        let failed = |error| Error::file(folder, error);
        match fs::read_dir(folder) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    let path = folder.to_owned();
                    return Err(Error::NotEmpty { path });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let mut part = folder.as_os_str().to_owned();
        part.push(leftover::SUFFIX);
        let part = PathBuf::from(part);
        if let Some(parent) = folder.parent() {
            folders::make(parent, None)?;
        }
        // What a killed one has left; one that runs is in the way of this one.
        match fs::remove_dir_all(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::file(&part, error));
            }
            _ => {}
        }
        folders::make(&part, folders::PRIVATE)?;
        Ok(Self {
            part,
            folder: folder.to_owned(),
        })
    }

    fn write(&self, name: &str, from: &mut impl Read, of: &Unpacking) -> Result<(), Error> {
        let path = self.part.join(name);
        let written = |error| Error::file(&path, error);
        if let Some(folder) = path.parent() {
            folders::make(folder, folders::PRIVATE)?;
        }
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path).map_err(written)?;
        let read = |error| of.unreadable(error);
        pass(from, &mut file, &of.cancel, (&read, &written))?;
        file.sync_all().map_err(written)
    }

    fn commit(self) -> Result<(), Error> {
        folders::sync_tree(&self.part)?;
        fs::rename(&self.part, &self.folder).map_err(|error| Error::file(&self.folder, error))?;
        folders::sync_above(&self.folder)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // After a rename there is nothing under this name any more.
        let _ = fs::remove_dir_all(&self.part);
    }
}
