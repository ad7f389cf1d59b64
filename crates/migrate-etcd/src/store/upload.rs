//! Puts a backup into a store.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use migrate_core::Cancellation;
use object_store::path::Path as Location;
use object_store::{ObjectStoreExt, PutPayload, multipart::PartId};

use super::Store;
use super::unfinished::{self, Progress};
use crate::blocking::off_the_runtime;
use crate::{Error, Manifest, PartFile, PublicKey};

impl Store {
    /// Puts the backup at `backup` and the signed manifest beside it; `progress` hears
    /// bytes that are there and bytes in all. The local files stay.
    ///
    /// Killed in the middle, or failed, the next one goes on where it was, if the store has
    /// parts that outlive a process ([`with_parts`](Store::with_parts)): how far it
    /// was is in `BACKUP.upload.json`, removed at the end. What is there already,
    /// as after a crash right before the end, is not put again.
    ///
    /// Parts of an upload that nobody goes on with take room in the store, and no list has
    /// them. So one that is cancelled is ended there, and so are, first of all, those of other
    /// backups in the folder of this one that no process is putting any more.
    ///
    /// # Errors
    /// [`Error::Untrusted`] and [`Error::Changed`] if the backup is not what a trusted
    /// key has signed; [`Error::Exists`] if another backup of that name is listed;
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
        if let Some(there) = self.signed(&beside).await?
            && there != text
        {
            let path = PathBuf::from(self.name(&beside));
            return Err(Error::Exists { path });
        }
        let signed_for = (manifest.bytes, manifest.sha256.clone());
        let _held = unfinished::hold(backup);
        self.abandon_others(backup).await;
        if !self.has(&location, &signed_for, cancel).await? {
            let progress = &mut progress;
            match (&self.folder, &self.parts) {
                (Some(folder), _) => {
                    self.in_file(folder, backup, &manifest, &location, cancel, progress)
                        .await?;
                }
                (None, Some(_)) => {
                    self.in_parts(backup, &manifest, &location, cancel, progress)
                        .await?;
                }
                (None, None) => {
                    self.at_once(backup, &manifest, &location, cancel, progress)
                        .await?;
                }
            }
            if !self.has(&location, &signed_for, cancel).await? {
                let name = self.name(&location);
                return Err(Error::changed(
                    name,
                    "what was uploaded, when it is read back",
                ));
            }
        }
        progress(manifest.bytes, manifest.bytes);
        self.put_text(&beside, text).await?;
        // Of an upload that another one was quicker than.
        self.abandon(backup).await;
        Ok(manifest)
    }

    /// Whether the store has exactly these bytes there.
    async fn has(
        &self,
        location: &Location,
        signed_for: &(u64, String),
        cancel: &Cancellation,
    ) -> Result<bool, Error> {
        match self.objects.head(location).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(self.failed(location)(error)),
            Ok(there) if there.size != signed_for.0 => return Ok(false),
            Ok(_) => {}
        }
        let (bytes, sha256) = signed_for;
        let there = self
            .read(location, *bytes, cancel, async |_| Ok(()))
            .await?;
        Ok(there == *sha256)
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
        while let Some(bytes) = self.next_part(backup, done, cancel).await? {
            done += bytes.len() as u64;
            file.write(&bytes).await.map_err(failed)?;
            progress(done, manifest.bytes);
        }
        file.commit().await.map(drop).map_err(failed)
    }

    /// The bytes of the backup from `done`, a part of them; `None` at its end.
    async fn next_part(
        &self,
        backup: &Path,
        done: u64,
        cancel: &Cancellation,
    ) -> Result<Option<Vec<u8>>, Error> {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let bytes = read_part(backup, done, self.part).await?;
        Ok((!bytes.is_empty()).then_some(bytes))
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
        let mut done = 0;
        let mut put = async || {
            while let Some(bytes) = self.next_part(backup, done, cancel).await? {
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

    async fn in_parts(
        &self,
        backup: &Path,
        manifest: &Manifest,
        location: &Location,
        cancel: &Cancellation,
        progress: &mut (impl FnMut(u64, u64) + Send),
    ) -> Result<(), Error> {
        let Some(parts) = &self.parts else {
            return Ok(());
        };
        let failed = self.failed(location);
        let state = self.begun(backup, manifest, location);
        let mut may_begin_again = state.is_some();
        let mut open = match state {
            Some(state) => state,
            None => self.begin(backup, manifest, location).await?,
        };
        loop {
            if cancel.is_cancelled() {
                self.abandon(backup).await;
                return Err(Error::Cancelled);
            }
            let done = (open.parts.len() * self.part) as u64;
            progress(done.min(manifest.bytes), manifest.bytes);
            // An empty file is one empty part.
            let put = if done < manifest.bytes || open.parts.is_empty() {
                let bytes = read_part(backup, done, self.part).await?;
                let payload = PutPayload::from(bytes);
                let put = parts.put_part(location, &open.id, open.parts.len(), payload);
                put.await.map(Some)
            } else {
                let ids = open.parts.iter().map(|id| PartId {
                    content_id: id.clone(),
                });
                let complete = parts.complete_multipart(location, &open.id, ids.collect());
                complete.await.map(|_| None)
            };
            match put {
                Ok(Some(part)) => {
                    open.parts.push(part.content_id);
                    unfinished::remember(backup, &open).await?;
                }
                Ok(None) => return unfinished::forget(backup),
                // The store has thrown the old upload away, as most do after days.
                Err(object_store::Error::NotFound { .. }) if may_begin_again => {
                    open = self.begin(backup, manifest, location).await?;
                    may_begin_again = false;
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// An upload of the same bytes to the same place that was not finished.
    fn begun(&self, backup: &Path, manifest: &Manifest, location: &Location) -> Option<Progress> {
        let state = unfinished::told(backup)?;
        let is_same = state.to == self.name(location)
            && state.sha256 == manifest.sha256
            && state.part == self.part;
        is_same.then_some(state)
    }

    async fn begin(
        &self,
        backup: &Path,
        manifest: &Manifest,
        location: &Location,
    ) -> Result<Progress, Error> {
        let Some(parts) = &self.parts else {
            return Err(Error::Cancelled);
        };
        // One of other bytes under this name.
        self.abandon(backup).await;
        let id = parts.create_multipart(location).await;
        let state = Progress {
            to: self.name(location),
            sha256: manifest.sha256.clone(),
            part: self.part,
            id: id.map_err(self.failed(location))?,
            parts: Vec::new(),
        };
        unfinished::remember(backup, &state).await?;
        Ok(state)
    }
}

/// Up to `length` bytes of the file from `at`, where that does not hold up the
/// runtime.
async fn read_part(backup: &Path, at: u64, length: usize) -> Result<Vec<u8>, Error> {
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
