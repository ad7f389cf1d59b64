//! A disk without room.

use std::path::PathBuf;

use migrate_testbed::Error;
use tokio::process::Command;

/// A file system too small for any snapshot, which only one command sees.
pub(crate) struct SmallDisk {
    pub(crate) path: PathBuf,
    /// How to get a mount namespace here.
    flags: &'static [&'static str],
}

impl SmallDisk {
    /// The way of root, else the way of anybody.
    const WAYS: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
    const MOUNT: &str = "mount -t tmpfs -o size=64k none \"$0\" || exit 99";

    pub(crate) fn new(path: PathBuf) -> Result<Self, Error> {
        std::fs::create_dir(&path).unwrap();
        let works = |flags: &&[&str]| {
            let mut unshare = std::process::Command::new("unshare");
            unshare.args(*flags).args(["sh", "-c", Self::MOUNT]);
            let output = unshare.arg(&path).output();
            output.is_ok_and(|output| output.status.success())
        };
        let flags = Self::WAYS.into_iter().find(works);
        let flags = flags.ok_or_else(|| Error::NoNamespaces {
            reason: "no small file system can be mounted for one process".to_owned(),
        })?;
        Ok(Self { path, flags })
    }

    /// `command` where the disk is mounted; says at the end how many files it
    /// has left there.
    pub(crate) fn around(&self, command: &Command) -> Command {
        let inner = command.as_std();
        let script = format!(
            "{}; \"$@\"; code=$?; echo \"left: $(ls -A \"$0\" | wc -l)\"; exit $code",
            Self::MOUNT
        );
        let mut around = Command::new("unshare");
        around
            .args(self.flags)
            .args(["sh", "-c", &script])
            .arg(&self.path)
            .arg(inner.get_program())
            .args(inner.get_args())
            .env_remove("KUBECONFIG")
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true);
        if let Some(folder) = inner.get_current_dir() {
            around.current_dir(folder);
        }
        around
    }
}
