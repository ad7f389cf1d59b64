//! Reads a whole file, piece by piece.

use std::fs::File;
use std::io::{self, Read};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// Hands every byte of `file`, from where it stands, to `each`.
pub(crate) fn in_chunks(file: &mut File, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => each(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
