//! Which backups there are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use futures::StreamExt;
use migrate_core::Cancellation;
use object_store::ObjectStoreExt;
use object_store::path::Path as Location;

use super::Store;
use crate::manifest::changed;
use crate::{Error, Manifest, PartFile, PublicKey};

/// What is in a store.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Catalogue {
    /// Backups that are whole and signed by a trusted key, oldest first.
    pub backups: Vec<Manifest>,
    /// Manifests that do not count, by their names.
    pub refused: Vec<Refused>,
    /// Objects without a manifest: of uploads that were not finished, or of others.
    pub unfinished: Vec<String>,
}

/// A manifest that does not count.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Refused {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
    /// It is signed by a trusted key, but its backup is gone.
    pub(super) is_left: bool,
}

impl Store {
    /// Lists the backups that one of the `trusted` keys has signed and that are
    /// there, in their signed length. Their bytes are not read: that they are
    /// those that were signed was checked when they were put, and is again when
    /// they are fetched. A manifest that cannot be read is among the refused.
    ///
    /// # Errors
    /// [`Error::Store`] if the store cannot be listed, or there are manifests and none
    /// can be read.
    pub async fn list(&self, trusted: &[PublicKey]) -> Result<Catalogue, Error> {
        self.list_with(trusted, |_, _| {}).await
    }

    /// As [`list`](Self::list); `progress` hears how many of the manifests were read, and how
    /// many there are.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub async fn list_with(
        &self,
        trusted: &[PublicKey],
        mut progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Catalogue, Error> {
        let failed = self.failed(&self.prefix);
        let mut listed = self.objects.list(Some(&self.prefix));
        let mut objects = BTreeMap::new();
        while let Some(object) = listed.next().await {
            let object = object.map_err(&failed)?;
            // Folders below are somebody else's.
            let below = object.location.prefix_match(&self.prefix);
            let mut names = below.into_iter().flatten();
            if let (Some(name), None) = (names.next(), names.next()) {
                objects.insert(name.as_ref().to_owned(), object.size);
            }
        }
        let mut catalogue = Catalogue::default();
        let (mut was_read, mut unreadable) = (false, None);
        let manifests = objects
            .keys()
            .filter(|name| Manifest::file_of(name).is_some());
        let (mut done, of) = (0, manifests.count() as u64);
        for name in objects.keys() {
            let Some(file) = Manifest::file_of(name) else {
                if !objects.contains_key(&Manifest::name_of(name)) {
                    catalogue.unfinished.push(name.clone());
                }
                continue;
            };
            let mut is_left = false;
            let read = self.manifest(name, trusted).await;
            was_read |= !matches!(read, Err(Error::Store { .. }));
            let opened = match read {
                Ok(manifest) if manifest.file != file => {
                    Err("it was signed for a file of another name".to_owned())
                }
                Ok(manifest) => match objects.get(file) {
                    Some(bytes) if *bytes == manifest.bytes => Ok(manifest),
                    Some(bytes) => Err(format!(
                        "its backup has {bytes} bytes, and had more or fewer"
                    )),
                    None => {
                        is_left = true;
                        Err("its backup is not there".to_owned())
                    }
                },
                Err(error) => {
                    let reason = error.to_string();
                    unreadable.get_or_insert(error);
                    Err(reason)
                }
            };
            done += 1;
            progress(done, of);
            match opened {
                Ok(manifest) => catalogue.backups.push(manifest),
                Err(reason) => catalogue.refused.push(Refused {
                    name: name.clone(),
                    reason,
                    is_left,
                }),
            }
        }
        if let (false, Some(error)) = (was_read, unreadable) {
            return Err(error);
        }
        let key = |backup: &Manifest| (backup.taken, backup.file.clone());
        catalogue.backups.sort_by_key(key);
        Ok(catalogue)
    }

    async fn manifest(&self, name: &str, trusted: &[PublicKey]) -> Result<Manifest, Error> {
        let location = self.at(name);
        let text = self.signed(&location).await?;
        let text = text.ok_or_else(|| self.missing(&location))?;
        Manifest::verify(&PathBuf::from(self.name(&location)), &text, trusted)
    }

    /// The text of a manifest, if it is there; never more of it than a manifest has.
    pub(super) async fn signed(&self, location: &Location) -> Result<Option<Vec<u8>>, Error> {
        let got = match self.objects.get(location).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            got => got.map_err(self.failed(location))?,
        };
        Manifest::refuse_too_large(&PathBuf::from(self.name(location)), got.meta.size)?;
        let text = got.bytes().await.map_err(self.failed(location))?;
        Ok(Some(text.to_vec()))
    }

    fn missing(&self, location: &Location) -> Error {
        Error::store(&self.name(location), "is gone")
    }

    /// Fetches a backup and its manifest into `folder`; `progress` hears bytes that
    /// have come and bytes in all.
    ///
    /// # Errors
    /// [`Error::Changed`] if its bytes are not those that were signed, [`Error::Store`],
    /// [`Error::Cancelled`], and as [`PartFile`]. Nothing of the backup is left.
    pub async fn fetch(
        &self,
        manifest: &Manifest,
        folder: &Path,
        cancel: &Cancellation,
        mut progress: impl FnMut(u64, u64) + Send,
    ) -> Result<PathBuf, Error> {
        // A name that was signed, but by whoever; it may not lead elsewhere.
        if manifest.file.contains(['/', '\\']) || manifest.file.starts_with('.') {
            return Err(Error::Malformed {
                path: PathBuf::from(&manifest.file),
                reason: "it is no name of a file".to_owned(),
            });
        }
        let location = self.at(&manifest.file);
        let beside = self.at(&Manifest::name_of(&manifest.file));
        let signed = self.signed(&beside).await?;
        let signed = signed.ok_or_else(|| self.missing(&beside))?;
        let there = self.objects.head(&location).await;
        if there.map_err(self.failed(&location))?.size != manifest.bytes {
            return Err(changed(self.name(&location)));
        }
        let mut file = PartFile::create(folder, &manifest.file).await?;
        let mut done = 0;
        let read = self.read(&location, manifest.bytes, cancel, async |bytes: &[u8]| {
            done += bytes.len() as u64;
            progress(done, manifest.bytes);
            file.write(bytes).await
        });
        if read.await? != manifest.sha256 {
            return Err(changed(self.name(&location)));
        }
        let path = file.commit().await?;
        let mut file = PartFile::replace(folder, &Manifest::name_of(&manifest.file)).await?;
        file.write(&signed).await?;
        file.commit().await?;
        Ok(path)
    }

    /// Fetches the newest backup that is `wanted` and whose bytes are those that
    /// were signed: one that is damaged, or that the store does not give, as where it was
    /// moved to an archive or a disk is broken, is passed over, and told.
    ///
    /// # Errors
    /// [`Error::NoBackup`] where none is left, with what became of each; as
    /// [`list`](Self::list); and what of [`fetch`](Self::fetch) is no fault of the store.
    pub async fn fetch_newest(
        &self,
        trusted: &[PublicKey],
        wanted: impl Fn(&Manifest) -> bool,
        folder: &Path,
        cancel: &Cancellation,
        mut progress: impl FnMut(u64, u64) + Send,
    ) -> Result<(PathBuf, Manifest, Vec<Error>), Error> {
        let catalogue = self.list(trusted).await?;
        let mut passed_over = Vec::new();
        for manifest in catalogue.backups.into_iter().rev() {
            if !wanted(&manifest) {
                continue;
            }
            match self.fetch(&manifest, folder, cancel, &mut progress).await {
                Ok(path) => return Ok((path, manifest, passed_over)),
                Err(
                    error @ (Error::Changed { .. } | Error::Malformed { .. } | Error::Store { .. }),
                ) => passed_over.push(error),
                Err(error) => return Err(error),
            }
        }
        let mut reasons: Vec<_> = passed_over.iter().map(ToString::to_string).collect();
        let refused = catalogue.refused.into_iter();
        reasons.extend(refused.map(|refused| format!("{}: {}", refused.name, refused.reason)));
        Err(Error::NoBackup {
            place: self.name(&self.prefix),
            reasons,
        })
    }
}
