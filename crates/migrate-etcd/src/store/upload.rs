//! Puts a backup into a store.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use migrate_core::Cancellation;
use object_store::ObjectStoreExt;
use object_store::multipart::MultipartStore;
use object_store::path::Path as Location;

use super::Store;
use super::parts::Upload;
use super::unfinished::{Held, Left, hold};
use crate::blocking::off_the_runtime;
use crate::{Error, Manifest, PartFile, PublicKey};

impl Store {
    /// Puts the backup at `backup` and the signed manifest beside it; `progress` hears
    /// bytes that are there and bytes in all. The local files stay.
    ///
    /// Killed in the middle, or failed, the next one goes on where it was, if the store has
    /// parts that outlive a process ([`with_parts`](Store::with_parts)): how far it
    /// was is in `BACKUP.PLACE.upload.json`, where `PLACE` is eight digits, for each place its
    /// own; removed at the end. What is there already, as after a crash right before the end, is
    /// not put again. An upload that somebody else ends is begun again, once.
    ///
    /// Of several that put one backup in parts, from whatever process, one does at a time, and
    /// the others wait for it; then they find it there. That needs locks of the file system; over
    /// a network they may reach no other host.
    ///
    /// Parts of an upload that nobody goes on with take room in the store, and no list has
    /// them. So one that is cancelled is ended there, and so are, first of all, those of other
    /// backups in the folder of this one that no process is putting any more and that have not
    /// moved on for an hour, by the [clock](Store::with_clock). Where the file system has no locks
    /// none is ended.
    ///
    /// # Errors
    /// [`Error::Untrusted`] and [`Error::Changed`] if the backup is not what a trusted
    /// key has signed; [`Error::TooLargeForStore`]; [`Error::Exists`] if another backup of that name is listed;
    /// [`Error::Store`]; [`Error::Cancelled`]. The backup is not listed then, and the
    /// local copy is the only one.
    pub async fn put(
        &self,
        backup: &Path,
        trusted: &[PublicKey],
        cancel: &Cancellation,
        mut progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Manifest, Error> {
        let manifest = Manifest::open(backup, trusted)?;
        let signed = Manifest::path_of(backup);
        let text = fs::read(&signed).map_err(|error| Error::file(&signed, error))?;
        let location = self.at(&manifest.file);
        let beside = self.at(&Manifest::name_of(&manifest.file));
        self.refuse_too_large(manifest.bytes, &location)?;
        let in_parts = self.hold_in_parts(backup, &location, cancel).await?;
        if let Some(there) = self.signed(&beside).await?
            && there != text
        {
            let path = PathBuf::from(self.name(&beside));
            return Err(Error::Exists { path });
        }
        self.abandon_others(backup).await;
        if !self.has(&location, &manifest, cancel).await? {
            let progress = &mut progress;
            match (&self.folder, &in_parts) {
                (Some(folder), _) => {
                    self.in_file(folder, backup, &manifest, &location, cancel, progress)
                        .await?;
                }
                (None, Some((parts, left, held))) => {
                    let (manifest, location) = (&manifest, &location);
                    let upload = Upload {
                        store: self,
                        parts: &**parts,
                        backup,
                        manifest,
                        location,
                        left,
                        held,
                    };
                    upload.run(cancel, progress).await?;
                }
                (None, None) => {
                    self.at_once(backup, &manifest, &location, cancel, progress)
                        .await?;
                }
            }
            if !self.has(&location, &manifest, cancel).await? {
                let name = self.name(&location);
                return Err(Error::changed(
                    name,
                    "what was uploaded, when it is read back",
                ));
            }
        }
        progress(manifest.bytes, manifest.bytes);
        self.put_text(&beside, text).await?;
        if let Some((_, left, held)) = &in_parts
            && held.is_sure()
        {
            // Of an upload that another one was quicker than.
            self.abandon(left, &location).await;
        }
        Ok(manifest)
    }

    /// What an upload in parts needs, if this store has them: the backup is held from now on.
    async fn hold_in_parts(
        &self,
        backup: &Path,
        location: &Location,
        cancel: &Cancellation,
    ) -> Result<Option<(Arc<dyn MultipartStore>, Left, Held)>, Error> {
        let Some(parts) = &self.parts else {
            return Ok(None);
        };
        let left = Left::of(backup, self.destination(location).await?);
        let held = hold(backup, cancel).await?;
        Ok(Some((Arc::clone(parts), left, held)))
    }

    /// Whether the store has exactly these bytes there.
    pub(super) async fn has(
        &self,
        location: &Location,
        signed_for: &Manifest,
        cancel: &Cancellation,
    ) -> Result<bool, Error> {
        match self.objects.head(location).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(self.failed(location)(error)),
            Ok(there) if there.size != signed_for.bytes => return Ok(false),
            Ok(_) => {}
        }
        let there = self.read(location, signed_for.bytes, cancel, async |_| Ok(()));
        Ok(there.await? == signed_for.sha256)
    }

    /// Puts a manifest.
    async fn put_text(&self, location: &Location, text: Vec<u8>) -> Result<(), Error> {
        let Some(folder) = &self.folder else {
            let put = self.objects.put(location, text.into()).await;
            return put.map(drop).map_err(self.failed(location));
        };
        let failed = |error| Error::store(&self.name(location), error);
        let file = PartFile::replace(folder, location.as_ref()).await;
        let mut file = file.map_err(failed)?;
        file.write(&text).await.map_err(failed)?;
        file.commit().await.map(drop).map_err(failed)
    }

    /// Into a folder, as a file that none but its owner may read at any time: clients of
    /// object stores leave that to the process, and the copy of one that was killed to whoever
    /// finds it.
    async fn in_file(
        &self,
        folder: &Path,
        backup: &Path,
        manifest: &Manifest,
        location: &Location,
        cancel: &Cancellation,
        progress: &mut (impl FnMut(u64, u64) + Send),
    ) -> Result<(), Error> {
        let failed = |error| Error::store(&self.name(location), error);
        let file = PartFile::replace(folder, location.as_ref()).await;
        let mut file = file.map_err(failed)?;
        let mut done = 0;
        while let Some(bytes) = next_part(backup, done, self.part, cancel).await? {
            done += bytes.len() as u64;
            file.write(&bytes).await.map_err(failed)?;
            progress(done, manifest.bytes);
        }
        file.commit().await.map(drop).map_err(failed)
    }

    async fn at_once(
        &self,
        backup: &Path,
        manifest: &Manifest,
        location: &Location,
        cancel: &Cancellation,
        progress: &mut (impl FnMut(u64, u64) + Send),
    ) -> Result<(), Error> {
        let failed = self.failed(location);
        let mut upload = self
            .objects
            .put_multipart(location)
            .await
            .map_err(&failed)?;
        let (mut done, part) = (0, self.part_of(manifest.bytes));
        let mut put = async || {
            while let Some(bytes) = next_part(backup, done, part, cancel).await? {
                done += bytes.len() as u64;
                upload.put_part(bytes.into()).await.map_err(&failed)?;
                progress(done, manifest.bytes);
            }
            upload.complete().await.map_err(&failed)
        };
        let result = put().await;
        if result.is_err() {
            // What is left of it nobody lists.
            let _ = upload.abort().await;
        }
        result.map(drop)
    }
}

/// The bytes of the backup from `done`, a part of them; `None` at its end.
async fn next_part(
    backup: &Path,
    done: u64,
    part: usize,
    cancel: &Cancellation,
) -> Result<Option<Vec<u8>>, Error> {
    if cancel.is_cancelled() {
        return Err(Error::Cancelled);
    }
    let bytes = read_part(backup, done, part).await?;
    Ok((!bytes.is_empty()).then_some(bytes))
}

/// Up to `length` bytes of the file from `at`, where that does not hold up the
/// runtime.
pub(super) async fn read_part(backup: &Path, at: u64, length: usize) -> Result<Vec<u8>, Error> {
    let path = backup.to_owned();
    let read = move || -> std::io::Result<Vec<u8>> {
        let mut file = fs::File::open(&path)?;
        file.seek(SeekFrom::Start(at))?;
        let mut bytes = Vec::new();
        file.take(length as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let backup = backup.to_owned();
    off_the_runtime(move || read().map_err(|error| Error::file(backup, error))).await
}
