//! A file that appears under its name only when it is whole and durable.

use std::fs;
use std::path::{Path, PathBuf};
#[cfg(feature = "client")]
use std::time::Duration;

use tokio::fs::File;
use tokio::io::{AsyncWriteExt, BufWriter};

use crate::Error;
use crate::blocking::off_the_runtime;
use crate::{folders, leftover};

/// Bytes that go to the thread that writes at once: to go there takes as long as
/// writing some KiB.
const CHUNK: usize = 1 << 20;

/// A file that is written under another name and renamed when it is whole.
///
/// # Guarantees
/// * Under its own name the file is there completely or not at all, also after
///   a crash of the machine: [`commit`](Self::commit) puts the file on disk,
///   renames it, and puts the folder on disk. So is every folder that is made for it.
/// * It is readable by its owner only (0600 on Unix) from the beginning.
/// * Dropped before `commit`, or when `commit` fails, nothing is left behind; so
///   too if a future of this type is dropped before it is ready, except that a
///   `commit` goes on to its end.
/// * What a process that was killed has left is removed by the next one that
///   begins a file in the same folder: files whose names end in
///   `.kube-migrate.part` and that nobody has locked. A file is locked while it is
///   written, and the lock goes with the process. On a network folder whose
///   locks do not reach other hosts, give each host a folder of its own. (Unix
///   only, and only where the file system has locks; elsewhere they stay.)
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let mut file = migrate_etcd::PartFile::create(folder.path(), "objects.json").await?;
/// file.write(b"{}").await?;
/// let path = file.commit().await?;
/// assert_eq!(std::fs::read(path)?, b"{}");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PartFile {
    // Dropped in this order: the part is taken away while it is still locked.
    names: Names,
    file: BufWriter<File>,
    replaces: bool,
}

/// Takes the part away when it is dropped.
#[derive(Debug)]
struct Names {
    part: PathBuf,
    path: PathBuf,
}

impl PartFile {
    /// Begins the file `name` in `folder`, which is created if it is missing, and what is
    /// missing above it.
    ///
    /// A file of that name is never replaced: it is looked for now and right
    /// before the rename.
    ///
    /// # Errors
    /// [`Error::Exists`] if there is a file of that name, whole or in parts;
    /// [`Error::DiskFull`] or [`Error::File`] if the folder does not take it.
    pub async fn create(folder: &Path, name: &str) -> Result<Self, Error> {
        // One name for all writers: the second one sees the first.
        let part = folder.join(format!("{name}{}", leftover::SUFFIX));
        Self::begin(folder, part, name, false).await
    }

    /// As [`create`](Self::create), for a file that takes the place of an
    /// older one: the old one is there until the new one is whole. Of several
    /// writers the last to commit wins.
    ///
    /// # Errors
    /// [`Error::DiskFull`] or [`Error::File`] if the folder does not take it;
    /// [`Error::Exists`] if this process is writing the same file already.
    pub async fn replace(folder: &Path, name: &str) -> Result<Self, Error> {
        // Each writer has its own, so that none is in the way of another.
        let writer = std::process::id();
        let part = folder.join(format!("{name}.{writer}{}", leftover::SUFFIX));
        Self::begin(folder, part, name, true).await
    }

    async fn begin(
        folder: &Path,
        part: PathBuf,
        name: &str,
        replaces: bool,
    ) -> Result<Self, Error> {
        let path = folder.join(name);
        // In one piece, because a file that is opened while nobody waits for it
        // any more has to go again.
        off_the_runtime(move || {
            if let Some(folder) = part.parent() {
                folders::make(folder, None)?;
                leftover::remove_all(folder);
            }
            let file = leftover::create(&part).map_err(|error| Error::file(&part, error))?;
            let names = Names { part, path };
            // Only now: another writer may have been renaming its part.
            names.refuse_taken(replaces)?;
            Ok(Self {
                names,
                file: buffered(file),
                replaces,
            })
        })
        .await
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`Error::DiskFull`] or [`Error::File`]; nothing is worth keeping then.
    /// The disk may refuse bytes only after more were written or at the end.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let result = self.file.write_all(bytes).await;
        result.map_err(|error| Error::file(&self.names.part, error))
    }

    /// As [`write`](Self::write), for who cannot wait for a disk any longer than `limit`.
    ///
    /// # Errors
    /// Those of `write`, and [`Error::DiskStalled`].
    #[cfg(feature = "client")]
    pub(crate) async fn write_within(
        &mut self,
        bytes: &[u8],
        limit: Duration,
    ) -> Result<(), Error> {
        match tokio::time::timeout(limit, self.write(bytes)).await {
            Ok(result) => result,
            Err(_) => Err(Error::DiskStalled {
                path: self.names.part.clone(),
                stall: limit,
            }),
        }
    }

    /// Has `work` write the file where that does not hold up the runtime; it is
    /// handed the name to tell in errors. It goes on to its end even if nobody
    /// waits for it any more: give it something to notice that by.
    pub(crate) async fn fill<T: Send + 'static>(
        self,
        work: impl FnOnce(&mut fs::File, &Path) -> Result<T, Error> + Send + 'static,
    ) -> Result<(Self, T), Error> {
        let Self {
            names,
            file,
            replaces,
        } = self;
        let file = file.into_inner().into_std().await;
        off_the_runtime(move || {
            // In this order, see above.
            let mut open = (names, file);
            let done = work(&mut open.1, &open.0.part)?;
            let (names, file) = open;
            let file = Self {
                names,
                file: buffered(file),
                replaces,
            };
            Ok((file, done))
        })
        .await
    }

    /// Where it is now, whole or not.
    #[cfg(feature = "client")]
    pub(crate) fn part(&self) -> &Path {
        &self.names.part
    }

    /// Where it is to be.
    #[cfg(feature = "client")]
    pub(crate) fn path(&self) -> &Path {
        &self.names.path
    }

    /// Takes it away, as a drop does, and says so if that fails.
    #[cfg(all(feature = "client", feature = "seal"))]
    pub(crate) fn discard(self) -> Result<(), Error> {
        let part = &self.names.part;
        fs::remove_file(part).map_err(|error| Error::file(part, error))
    }

    /// Puts on disk what has been written; what takes long in a `commit`.
    pub(crate) async fn settle(&mut self) -> Result<(), Error> {
        let settled = async {
            self.file.flush().await?;
            self.file.get_ref().sync_all().await
        };
        let result = settled.await;
        result.map_err(|error| Error::file(&self.names.part, error))
    }

    /// Makes the file durable under its name, and says where it is.
    ///
    /// # Errors
    /// [`Error::Exists`] if someone else has made a file of that name;
    /// [`Error::DiskFull`] or [`Error::File`]. If only the folder could not be
    /// put on disk, the file has its name all the same.
    pub async fn commit(mut self) -> Result<PathBuf, Error> {
        self.settle().await?;
        let path = self.names.path.clone();
        off_the_runtime(move || {
            // All of it goes along: the part stays locked until it has its name.
            let Self {
                names,
                file: _locked,
                replaces,
            } = self;
            names.refuse_taken(replaces)?;
            fs::rename(&names.part, &path).map_err(|error| Error::file(&names.part, error))?;
            folders::sync_above(&path)?;
            Ok(path)
        })
        .await
    }
}

fn buffered(file: fs::File) -> BufWriter<File> {
    BufWriter::with_capacity(CHUNK, File::from_std(file))
}

impl Names {
    fn refuse_taken(&self, replaces: bool) -> Result<(), Error> {
        let path = &self.path;
        let is_taken = || fs::exists(path).map_err(|error| Error::file(path, error));
        if !replaces && is_taken()? {
            return Err(Error::Exists { path: path.clone() });
        }
        Ok(())
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        // After a rename there is nothing under this name any more.
        let _ = fs::remove_file(&self.part);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::folder::names;

    #[tokio::test]
    async fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let names = || names(folder.path());
        let mut dropped = PartFile::create(folder.path(), "a.db").await.unwrap();
        dropped.write(b"half").await.unwrap();
        assert_eq!(names(), ["a.db.kube-migrate.part"]);
        drop(dropped);
        assert!(names().is_empty());

        let mut kept = PartFile::create(folder.path(), "a.db").await.unwrap();
        assert!(matches!(
            PartFile::create(folder.path(), "a.db").await,
            Err(Error::Exists { .. })
        ));
        kept.write(b"whole").await.unwrap();
        let path = kept.commit().await.unwrap();
        assert_eq!(names(), ["a.db"]);
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert!(matches!(
            PartFile::create(folder.path(), "a.db").await,
            Err(Error::Exists { .. })
        ));
    }

    #[tokio::test]
    async fn a_replaced_file_is_the_old_one_until_the_new_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        fs::write(&path, "old").unwrap();
        let mut file = PartFile::replace(folder.path(), "a.json").await.unwrap();
        file.write(b"new").await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        file.commit().await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[tokio::test]
    async fn what_another_tool_wrote_meanwhile_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let mut file = PartFile::create(folder.path(), "a.db").await.unwrap();
        file.write(b"ours").await.unwrap();
        fs::write(&path, "theirs").unwrap();
        let refused = file.commit().await;
        assert!(matches!(refused, Err(Error::Exists { .. })), "{refused:?}");
        assert_eq!(names(folder.path()), ["a.db"]);
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
    }

    /// Every write to /dev/full answers as a full disk does.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_full_disk_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for pieces in [1, 1000] {
            let mut file = PartFile::create(folder.path(), "a.db").await.unwrap();
            let full = fs::OpenOptions::new().write(true).open("/dev/full");
            file.file = buffered(full.unwrap());
            let mut result = Ok(());
            for _ in 0..pieces {
                result = file.write(&[0; 4096]).await;
                if result.is_err() {
                    break;
                }
            }
            // One small write is refused only when it is put on disk.
            assert_eq!(result.is_err(), pieces > 1);
            let error = match result {
                Ok(()) => file.commit().await.unwrap_err(),
                Err(error) => {
                    drop(file);
                    error
                }
            };
            assert!(matches!(error, Error::DiskFull { .. }), "{error:?}");
            assert!(names(folder.path()).is_empty());
        }
    }

    /// A pipe that nobody reads is a disk that takes nothing.
    #[cfg(all(unix, feature = "client"))]
    #[tokio::test]
    async fn a_disk_that_takes_nothing_is_given_up_at_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let limit = Duration::from_millis(50);
        let mut file = PartFile::create(folder.path(), "a.db").await.unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        file.file = buffered(fs::File::from(std::os::fd::OwnedFd::from(writer)));
        let piece = vec![0; CHUNK];
        let mut result = Ok(());
        // What is buffered here, by tokio and by the pipe.
        for _ in 0..8 {
            result = file.write_within(&piece, limit).await;
            if result.is_err() {
                break;
            }
        }
        // It ends the write that is under way, which nobody waits for any more.
        drop(reader);
        let is_stalled =
            matches!(&result, Err(Error::DiskStalled { stall, .. }) if *stall == limit);
        assert!(is_stalled, "{result:?}");
        drop(file);
        assert!(names(folder.path()).is_empty());
    }

    /// Drops `future` after it was polled `polls` times, with what it asked for
    /// last still under way, and waits until that is done.
    async fn drop_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
        // With a single thread for files, this comes after all that was asked.
        let files_are_done = || tokio::task::spawn_blocking(|| ());
        let mut result = None;
        {
            let mut future = std::pin::pin!(future);
            for poll in 1..=polls {
                result = future.as_mut().now_or_never();
                if result.is_some() {
                    break;
                }
                if poll < polls {
                    files_are_done().await.unwrap();
                }
            }
        }
        files_are_done().await.unwrap();
        result
    }

    #[test]
    fn futures_dropped_half_way_leave_the_whole_file_or_nothing() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut whole = 0;
            for polls in 1..10 {
                let folder = tempfile::tempdir().unwrap();
                let begun = drop_after(polls, PartFile::create(folder.path(), "a.db")).await;
                let is_begun = begun.is_some();
                drop(begun);
                assert!(names(folder.path()).is_empty(), "{polls}");
                assert_eq!(is_begun, polls > 1);

                let mut file = PartFile::create(folder.path(), "a.db").await.unwrap();
                file.write(b"whole").await.unwrap();
                let _ = drop_after(polls, file.commit()).await;
                match names(folder.path()).as_slice() {
                    [] => assert_eq!(whole, 0, "{polls}"),
                    [name] => {
                        assert_eq!(name, "a.db", "{polls}");
                        assert_eq!(fs::read(folder.path().join(name)).unwrap(), b"whole");
                        whole += 1;
                    }
                    more => panic!("{polls}: {more:?}"),
                }
            }
            assert!((1..9).contains(&whole), "{whole}");
        });
    }

    /// Names the folder that the process of its own writes into.
    const FOLDER: &str = "KUBE_MIGRATE_TEST_FOLDER";

    /// On disk, and killed before it got its name: whole, and no backup for all that.
    #[cfg(unix)]
    #[tokio::test]
    async fn a_file_whose_writer_is_killed_before_the_rename_goes_with_the_next_one() {
        use std::io::{BufRead, BufReader};
        use std::process::{Command, Stdio};
        let folder = tempfile::tempdir().unwrap();
        let test = "part_file::tests::the_writer_that_is_killed";
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("on disk")));
        writer.kill().unwrap();
        writer.wait().unwrap();
        let part = folder.path().join("a.db.kube-migrate.part");
        assert_eq!(names(folder.path()), ["a.db.kube-migrate.part"]);
        assert_eq!(fs::read(part).unwrap(), b"whole");

        let next = PartFile::create(folder.path(), "a.db").await.unwrap();
        next.commit().await.unwrap();
        assert_eq!(names(folder.path()), ["a.db"]);
        assert_eq!(fs::read(folder.path().join("a.db")).unwrap(), b"");
    }

    #[tokio::test]
    #[ignore = "the process that is killed"]
    async fn the_writer_that_is_killed() {
        let Some(folder) = std::env::var_os(FOLDER) else {
            return;
        };
        let mut file = PartFile::create(Path::new(&folder), "a.db").await.unwrap();
        file.write(b"whole").await.unwrap();
        file.settle().await.unwrap();
        println!("on disk");
        std::future::pending().await
    }
}
