//! Puts a backup into a store part by part, as an upload that outlives this process.

use std::path::Path;

use migrate_core::Cancellation;
use object_store::PutPayload;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Location;

use super::Store;
use super::refusal::is_gone;
use super::unfinished::{Held, Left, Progress, refuse_long, refuse_odd};
use super::upload::read_part;
use crate::{Error, Manifest};

/// The largest object of S3: 5 TiB.
const LARGEST: u64 = 5 << 40;

/// An upload of one backup to one place.
pub(super) struct Upload<'a> {
    pub(super) store: &'a Store,
    pub(super) parts: &'a dyn MultipartStore,
    pub(super) backup: &'a Path,
    pub(super) manifest: &'a Manifest,
    pub(super) location: &'a Location,
    pub(super) left: &'a Left,
    pub(super) held: &'a Held,
}

impl Upload<'_> {
    /// Goes on with what was begun, or begins; to the end.
    pub(super) async fn run(
        &self,
        cancel: &Cancellation,
        progress: &mut (impl FnMut(u64, u64) + Send),
    ) -> Result<(), Error> {
        let (parts, location) = (self.parts, self.location);
        let failed = self.store.failed(location);
        let mut may_begin_again = true;
        let mut open = match self.begun() {
            Some(state) => {
                // It is heard of from now on.
                self.left.remember(&state).await?;
                state
            }
            None => self.begin().await?,
        };
        loop {
            if cancel.is_cancelled() {
                self.abandon().await;
                return Err(Error::Cancelled);
            }
            let done = open.parts.len() as u64 * open.part as u64;
            progress(done.min(self.manifest.bytes), self.manifest.bytes);
            // An empty file is one empty part.
            let put = if done < self.manifest.bytes || open.parts.is_empty() {
                let bytes = read_part(self.backup, done, open.part).await?;
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
                    refuse_long("a part", &part.content_id).map_err(|reason| self.odd(reason))?;
                    open.parts.push(part.content_id);
                    self.left.remember(&open).await?;
                }
                Ok(None) => return self.left.forget(&open.id),
                // Somebody has ended it: the store, as most do after days, or another host. Or it
                // is finished, and the answer was lost.
                Err(error) if may_begin_again && is_gone(&error, location) => {
                    if self.store.has(location, self.manifest, cancel).await? {
                        return self.left.forget(&open.id);
                    }
                    open = self.begin().await?;
                    may_begin_again = false;
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// An upload of the same bytes that was not finished.
    fn begun(&self) -> Option<Progress> {
        let part = self.store.part_of(self.manifest.bytes);
        let state = self.left.told()?;
        (state.sha256 == self.manifest.sha256 && state.part == part).then_some(state)
    }

    async fn begin(&self) -> Result<Progress, Error> {
        // One of other bytes under this name.
        self.abandon().await;
        let id = self.parts.create_multipart(self.location).await;
        let id = id.map_err(self.store.failed(self.location))?;
        refuse_odd(&id).map_err(|reason| self.odd(reason))?;
        let state = Progress {
            to: self.left.to().to_owned(),
            sha256: self.manifest.sha256.clone(),
            part: self.store.part_of(self.manifest.bytes),
            id,
            parts: Vec::new(),
        };
        if let Err(error) = self.left.remember(&state).await {
            // Nobody would know of it.
            let _ = self.parts.abort_multipart(self.location, &state.id).await;
            let _ = self.left.forget(&state.id);
            return Err(error);
        }
        Ok(state)
    }

    async fn abandon(&self) {
        // Else another one may be at it.
        if self.held.is_sure() {
            self.store.abandon(self.left, self.location).await;
        }
    }

    fn odd(&self, reason: String) -> Error {
        Error::store(&self.store.name(self.location), reason)
    }
}

impl Store {
    /// Bytes of each part of a backup of so many: as few as a part may have, or more of that
    /// where it would have too many parts.
    pub(super) fn part_of(&self, bytes: u64) -> usize {
        let least = self.part as u64;
        let times = bytes.div_ceil(self.most_parts).div_ceil(least).max(1);
        usize::try_from(least.saturating_mul(times)).unwrap_or(usize::MAX)
    }

    /// Refuses what no object of a store with parts can hold.
    pub(super) fn refuse_too_large(&self, bytes: u64, location: &Location) -> Result<(), Error> {
        if self.parts.is_none() || bytes <= LARGEST {
            return Ok(());
        }
        Err(Error::TooLargeForStore {
            location: self.name(location),
            bytes,
            most: LARGEST,
        })
    }
}
