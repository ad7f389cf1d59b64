//! The bytes of a database, wherever they are.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::heard::Heard;
use super::{Fault, ReadError};

/// Bytes that are read by their offset.
#[derive(Debug)]
pub(super) enum Bytes {
    File(File),
    Memory(Vec<u8>),
}

/// The bytes and what they are called.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) bytes: Bytes,
    pub(super) path: PathBuf,
    /// All of them, the trailer included.
    pub(super) len: u64,
    pub(super) heard: Option<Heard>,
}

impl Named {
    pub(super) fn of_file(file: File, path: PathBuf) -> Result<Self, ReadError> {
        let len = match file.metadata() {
            Ok(metadata) if metadata.is_file() => metadata.len(),
            Ok(_) => {
                let source = io::Error::new(io::ErrorKind::InvalidInput, "is no regular file");
                return Err(ReadError::File { path, source });
            }
            Err(source) => return Err(ReadError::File { path, source }),
        };
        let bytes = Bytes::File(file);
        Ok(Self {
            bytes,
            path,
            len,
            heard: None,
        })
    }

    pub(super) fn of_memory(bytes: Vec<u8>) -> Self {
        Self {
            len: bytes.len() as u64,
            bytes: Bytes::Memory(bytes),
            path: PathBuf::from("(memory)"),
            heard: None,
        }
    }

    /// Fills `into` from `offset`; the caller has compared with the length, so
    /// that an end before it is a file that has become shorter meanwhile.
    pub(super) fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let read = match &self.bytes {
            Bytes::File(file) => file.read_exact_at(into, offset),
            Bytes::Memory(bytes) => usize::try_from(offset)
                .ok()
                .and_then(|from| bytes.get(from..from.checked_add(into.len())?))
                .map(|bytes| into.copy_from_slice(bytes))
                .ok_or_else(|| io::ErrorKind::UnexpectedEof.into()),
        };
        read.map_err(|source| ReadError::File {
            path: self.path.clone(),
            source,
        })?;
        if let Some(heard) = &self.heard {
            heard.add(into.len() as u64);
        }
        Ok(())
    }

    pub(super) fn damaged(&self, page: u64, offset: u64, fault: Fault) -> ReadError {
        ReadError::Damaged {
            path: self.path.clone(),
            page,
            offset,
            fault,
        }
    }
}

/// The number that `bytes` have at `at`, or `None` past their end.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
