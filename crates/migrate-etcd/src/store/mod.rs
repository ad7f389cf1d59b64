//! Where backups are kept: put, listed, found again, and pruned.

mod catalogue;
mod parts;
mod prune;
mod refusal;
#[cfg(test)]
mod tests;
mod unfinished;
mod upload;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use migrate_core::{Cancellation, Clock, Moment, hex};
use object_store::local::LocalFileSystem;
use object_store::multipart::MultipartStore;
use object_store::path::Path as Location;
use object_store::{ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};

pub use catalogue::{Catalogue, Refused};
pub use prune::Pruned;

use crate::{Error, folders};

/// Bytes of a part, where that is enough: S3 asks for 5 MiB at least.
const PART: usize = 8 << 20;

/// Parts that an object of S3 may have.
const PARTS: u64 = 10_000;

/// A place for backups, and a prefix in it that is ours.
///
/// # Guarantees
/// * A backup is listed only when it is there whole: its manifest is put last,
///   after its bytes were read back and are those that were signed.
/// * A backup that is listed is never written over.
/// * Memory does not grow with the backup up to 83 GB: one part of 8 MiB. A larger one has larger
///   parts, of its ten thousandth part each (S3 takes no more of them): 528 MiB for the largest
///   object of S3, 5 TiB.
/// * Nothing outside of the prefix is read, written or removed, and nothing that no
///   trusted key has signed is removed.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    parts: Option<Arc<dyn MultipartStore>>,
    prefix: Location,
    part: usize,
    most_parts: u64,
    /// It names a version of an object only where it keeps older ones.
    names_versions: bool,
    /// Where it is, if it is a folder.
    folder: Option<PathBuf>,
    /// Says where an object is, for a store whose name does not.
    address: Option<Arc<dyn Address>>,
    clock: Arc<dyn Clock>,
}

/// What knows where an object is: two buckets of one name may be of two servers.
#[async_trait]
trait Address: Send + Sync {
    /// The URL, without anything that is secret.
    async fn of(&self, location: &Location) -> object_store::Result<String>;
}

#[cfg(feature = "s3")]
#[async_trait]
impl Address for object_store::aws::AmazonS3 {
    async fn of(&self, location: &Location) -> object_store::Result<String> {
        use object_store::signer::{Method, Signer};
        // The client names its server nowhere else. What makes it a signed one is taken off.
        let second = std::time::Duration::from_secs(1);
        let mut url = self.signed_url(Method::GET, location, second).await?;
        url.set_query(None);
        // These fail for a URL that has no host, and so no user.
        let _ = (url.set_username(""), url.set_password(None));
        Ok(url.into())
    }
}

impl Store {
    /// The prefix `prefix` of a store, e.g. `clusters/prod`. Each cluster should
    /// have one of its own.
    ///
    /// # Errors
    /// [`Error::Store`] for a prefix that is none.
    pub fn new(objects: Arc<dyn ObjectStore>, prefix: &str) -> Result<Self, Error> {
        let prefix = Location::parse(prefix).map_err(|error| Error::store(prefix, error))?;
        Ok(Self {
            objects,
            parts: None,
            prefix,
            part: PART,
            most_parts: PARTS,
            names_versions: false,
            folder: None,
            address: None,
            clock: Arc::new(wall_clock),
        })
    }

    /// Uploads in parts that outlive this process, by the same store: an upload
    /// that was killed goes on where it was. Without it, it begins again.
    #[must_use]
    pub fn with_parts(mut self, parts: Arc<dyn MultipartStore>) -> Self {
        self.parts = Some(parts);
        self
    }

    /// By which clock the unfinished upload of another backup is old enough to be
    /// [ended](Self::put); else by the machine's.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// For a store that names a version of an object where it keeps older ones, and only
    /// there, as S3 and Azure do: pruning then says what it has not freed
    /// ([`Pruned::still_stored`]). Buckets of S3 that are opened here are known to.
    #[must_use]
    pub fn naming_versions(mut self) -> Self {
        self.names_versions = true;
        self
    }

    /// A folder, which is made for its owner only (0700) if it is missing. All is
    /// put on disk before it counts, the folder too. It had better be on another machine's disk.
    ///
    /// What is put into it is readable by its owner only (0600) from the beginning, also where
    /// the folder was there and others may enter it. What a process that was killed has left
    /// goes with the next backup, as [`PartFile`](crate::PartFile) says.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be made, [`Error::Store`] if not be used.
    pub fn folder(path: &Path) -> Result<Self, Error> {
        folders::make(path, folders::PRIVATE)?;
        Self::in_folder(path)
    }

    /// What an operator calls a store: a folder, or `s3://BUCKET/PREFIX`. Address, region
    /// and credentials of a bucket are those of the environment (`AWS_ENDPOINT`,
    /// `AWS_REGION`, `AWS_ACCESS_KEY_ID`, …). Nothing is made: who looks for backups where
    /// there is no store has named the wrong place, or its disk is not mounted.
    ///
    /// # Errors
    /// [`Error::NoStore`] where there is no such folder; [`Error::NotBuilt`];
    /// [`Error::Store`] for a bucket that is none, or where the process has no provider of
    /// TLS (`CryptoProvider` of rustls, which is the program's to install); [`Error::File`].
    pub fn open(place: &str) -> Result<Self, Error> {
        Self::at_place(place, |path| {
            let none = |reason| Error::NoStore {
                place: place.to_owned(),
                reason,
            };
            match std::fs::metadata(path) {
                Ok(there) if there.is_dir() => Self::in_folder(path),
                Ok(_) => Err(none("is no folder")),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    Err(none("there is no such folder"))
                }
                Err(error) => Err(Error::file(path, error)),
            }
        })
    }

    /// As [`open`](Self::open), for who puts backups there: a folder that is missing is
    /// made, as [`folder`](Self::folder) does.
    ///
    /// # Errors
    /// As both.
    pub fn open_or_create(place: &str) -> Result<Self, Error> {
        Self::at_place(place, Self::folder)
    }

    fn at_place(
        place: &str,
        folder: impl FnOnce(&Path) -> Result<Self, Error>,
    ) -> Result<Self, Error> {
        if let Some(rest) = place.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            return Self::bucket(place, bucket, prefix);
        }
        // Else backups would go into a folder of this name, below the working one.
        if place.contains("://") {
            return Err(Error::NoStore {
                place: place.to_owned(),
                reason: "is neither a folder nor a bucket of S3",
            });
        }
        folder(Path::new(place))
    }

    fn in_folder(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        let folder = LocalFileSystem::new_with_prefix(path);
        let folder = folder.map_err(|error| Error::store(&name, error))?;
        let store = Self::new(Arc::new(folder.with_fsync(true)), "")?;
        Ok(Self {
            folder: Some(path.to_owned()),
            ..store
        })
    }

    /// The folder that it is, if it is one.
    #[cfg(feature = "client")]
    pub(crate) fn local(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    #[cfg(feature = "s3")]
    fn bucket(place: &str, bucket: &str, prefix: &str) -> Result<Self, Error> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(Error::store(place, "this process has no provider of TLS"));
        }
        let builder = object_store::aws::AmazonS3Builder::from_env().with_bucket_name(bucket);
        let bucket = builder
            .build()
            .map_err(|error| Error::store(place, error))?;
        Self::s3(bucket, prefix.trim_end_matches('/'))
    }

    #[cfg(not(feature = "s3"))]
    fn bucket(place: &str, _: &str, _: &str) -> Result<Self, Error> {
        Err(Error::NotBuilt {
            what: place.to_owned(),
            feature: "s3",
        })
    }

    /// A bucket of S3 or of what speaks like it.
    ///
    /// # Errors
    /// [`Error::Store`] for a prefix that is none.
    #[cfg(feature = "s3")]
    pub fn s3(bucket: object_store::aws::AmazonS3, prefix: &str) -> Result<Self, Error> {
        let bucket = Arc::new(bucket);
        let store = Self::new(bucket.clone(), prefix)?.with_parts(bucket.clone());
        Ok(Self {
            address: Some(bucket),
            ..store.naming_versions()
        })
    }

    fn at(&self, name: &str) -> Location {
        self.prefix.clone().join(name)
    }

    /// Where the file of that name is, in words.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.name(&self.at(file)).into()
    }

    /// The name in words.
    fn name(&self, location: &Location) -> String {
        format!("{}: {location}", self.objects)
    }

    /// Where an object is, apart from all others: the URL, for a bucket of S3.
    async fn destination(&self, location: &Location) -> Result<String, Error> {
        match &self.address {
            None => Ok(self.name(location)),
            Some(address) => address.of(location).await.map_err(self.failed(location)),
        }
    }

    fn failed(&self, location: &Location) -> impl Fn(object_store::Error) -> Error {
        let name = self.name(location);
        move |error| Error::store(&name, error)
    }

    /// The SHA-256 of the first `bytes` bytes of an object; `each` sees them.
    ///
    /// Each part is a request of its own: clients of a bucket give a request half a
    /// minute, its body included, and their tries of one object three in all.
    async fn read(
        &self,
        location: &Location,
        bytes: u64,
        cancel: &Cancellation,
        mut each: impl AsyncFnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<String, Error> {
        let failed = self.failed(location);
        let (mut done, mut hash) = (0, Sha256::new());
        while done < bytes {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let range = done..bytes.min(done + self.part as u64);
            let part = self.objects.get_range(location, range.clone()).await;
            let part = part.map_err(&failed)?;
            if part.len() as u64 != range.end - range.start {
                return Err(Error::store(
                    &self.name(location),
                    "it answers with fewer bytes than it has",
                ));
            }
            done = range.end;
            hash.update(&part);
            each(&part).await?;
        }
        Ok(hex(hash.finalize()))
    }
}

fn wall_clock() -> Moment {
    #[expect(
        clippy::disallowed_methods,
        reason = "for who injects none: nothing but the age of an unfinished upload rests on it"
    )]
    let now = jiff::Timestamp::now();
    now.into()
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store")
            .field(&self.name(&self.prefix))
            .finish()
    }
}
