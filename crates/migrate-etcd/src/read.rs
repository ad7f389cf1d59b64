//! Reads a whole file, piece by piece.

use std::fs::File;
use std::io::{self, Read};

use migrate_core::Cancellation;

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// Hands every byte of `file`, from where it stands, to `each`.
pub(crate) fn in_chunks(file: &mut File, each: impl FnMut(&[u8])) -> io::Result<()> {
    in_chunks_until(&Cancellation::new(), file, each)
}

/// As [`in_chunks`], and fails as soon as `cancel` says so.
pub(crate) fn in_chunks_until(
    cancel: &Cancellation,
    file: &mut File,
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        refuse_cancelled(cancel)?;
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => each(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Fails once `cancel` says so. Who gave it tells that from a failure by asking it.
pub(crate) fn refuse_cancelled(cancel: &Cancellation) -> io::Result<()> {
    match cancel.is_cancelled() {
        true => Err(io::Error::other("reading was cancelled")),
        false => Ok(()),
    }
}
