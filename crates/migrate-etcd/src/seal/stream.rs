//! One pass: compressed, encrypted, counted and hashed.

use std::io::{self, Read, Write};
use std::path::Path;

use age::stream::{StreamReader, StreamWriter};
use migrate_core::{Cancellation, hex};
use sha2::{Digest, Sha256};

use super::{KeyRing, Seal};
use crate::Error;

/// Bytes that are passed on at once.
const CHUNK: usize = 64 << 10;

/// What every zstd frame begins with (RFC 8878, 3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Takes what is to be encrypted.
pub(crate) struct Sealing<W: Write>(Body<W>);

enum Body<W: Write> {
    Plain(StreamWriter<Hashed<W>>),
    #[cfg(feature = "zstd")]
    Compressed(Box<zstd::Encoder<'static, StreamWriter<Hashed<W>>>>),
}

impl<W: Write> Sealing<W> {
    pub(crate) fn begin(seal: &Seal, out: W, path: &Path) -> Result<Self, Error> {
        let failed = |error| Error::file(path, error);
        let hashed = Hashed {
            inner: out,
            hash: Sha256::new(),
            bytes: 0,
        };
        let writer = seal.lock.encryptor()?.wrap_output(hashed);
        let writer = writer.map_err(failed)?;
        Ok(Self(match seal.level {
            #[cfg(feature = "zstd")]
            Some(level) => {
                let encoder = zstd::Encoder::new(writer, level).map_err(failed)?;
                Body::Compressed(Box::new(encoder))
            }
            _ => Body::Plain(writer),
        }))
    }

    /// Length and SHA-256 of what was written. Without it the file cannot be
    /// opened.
    pub(crate) fn finish(self) -> io::Result<(u64, String)> {
        let hashed = match self.0 {
            Body::Plain(writer) => writer.finish()?,
            #[cfg(feature = "zstd")]
            Body::Compressed(encoder) => encoder.finish()?.finish()?,
        };
        Ok((hashed.bytes, hex(hashed.hash.finalize())))
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Body::Plain(writer) => writer.write(bytes),
            #[cfg(feature = "zstd")]
            Body::Compressed(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // Whole blocks only: what is flushed early is compressed worse.
        Ok(())
    }
}

/// Counts and hashes what goes through it.
pub(crate) struct Hashed<T> {
    inner: T,
    hash: Sha256,
    bytes: u64,
}

impl<T> Hashed<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    /// Length and SHA-256.
    pub(crate) fn finish(self) -> (u64, String) {
        (self.bytes, hex(self.hash.finalize()))
    }

    fn saw(&mut self, bytes: &[u8], count: usize) {
        self.hash.update(bytes.get(..count).unwrap_or_default());
        self.bytes += count as u64;
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.saw(bytes, count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.saw(buffer, count);
        Ok(count)
    }
}

/// The beginning, which was looked at, and the rest.
type Whole<R> = io::Chain<io::Cursor<Vec<u8>>, StreamReader<R>>;

/// Gives what was encrypted. What it has given counts only once its end was
/// reached without an error: only then nothing was cut off.
pub(crate) enum Opened<R: Read> {
    Plain(Whole<R>),
    #[cfg(feature = "zstd")]
    Compressed(Box<zstd::Decoder<'static, io::BufReader<Whole<R>>>>),
}

impl<R: Read> Opened<R> {
    pub(crate) fn begin(keys: &KeyRing, input: R, path: &Path) -> Result<Self, Error> {
        let mut reader = keys.open(input, path)?;
        let mut head = Vec::new();
        let taken = reader.by_ref().take(ZSTD.len() as u64);
        { taken }
            .read_to_end(&mut head)
            .map_err(|error| unreadable(path, error))?;
        let is_compressed = head == ZSTD;
        let whole = io::Cursor::new(head).chain(reader);
        if !is_compressed {
            return Ok(Self::Plain(whole));
        }
        #[cfg(feature = "zstd")]
        {
            let decoder = zstd::Decoder::new(whole).map_err(|error| Error::file(path, error))?;
            Ok(Self::Compressed(Box::new(decoder)))
        }
        #[cfg(not(feature = "zstd"))]
        Err(Error::Locked {
            path: path.to_owned(),
            reason: "it is compressed, and this build lacks the feature `zstd`".to_owned(),
        })
    }
}

impl<R: Read> Read for Opened<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(buffer),
            #[cfg(feature = "zstd")]
            Self::Compressed(reader) => reader.read(buffer),
        }
    }
}

/// What reading an encrypted file said: of the disk, or of what was done to it.
pub(crate) fn unreadable(path: &Path, error: io::Error) -> Error {
    if error.raw_os_error().is_some() {
        return Error::file(path, error);
    }
    Error::Locked {
        path: path.to_owned(),
        reason: "it was cut off or changed after it was encrypted".to_owned(),
    }
}

/// Passes all of `from` on to `to`, until `cancel`; each side's errors become
/// the caller's.
pub(crate) fn pass(
    from: &mut impl Read,
    to: &mut impl Write,
    cancel: &Cancellation,
    (read, written): (&dyn Fn(io::Error) -> Error, &dyn Fn(io::Error) -> Error),
) -> Result<(), Error> {
    let mut buffer = vec![0; CHUNK];
    loop {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to
                .write_all(buffer.get(..count).unwrap_or_default())
                .map_err(written)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(read(error)),
        }
    }
}
