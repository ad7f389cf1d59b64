//! The folder of one control plane, removed even after `SIGKILL`.

use std::env;
use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Error;

const JANITOR: &str = include_str!("janitor.sh");

/// A private temporary folder; dropping it removes it.
pub(crate) struct RunDir {
    path: PathBuf,
    keep: bool,
    janitor: Child,
}

impl RunDir {
    pub(crate) fn create() -> Result<Self, Error> {
        let creating = || "creating the folder of a control plane".to_owned();
        let folder = tempfile::Builder::new()
            .prefix("kube-migrate-testbed-")
            .tempdir()
            .map_err(Error::io(creating()))?;
        let mut janitor = Command::new("/bin/sh")
            .args(["-c", JANITOR, "janitor"])
            .arg(folder.path())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(Error::io(creating()))?;
        let keep = env::var_os("KUBE_MIGRATE_TESTBED_KEEP").is_some();
        if keep && let Some(pipe) = &mut janitor.stdin {
            pipe.write_all(b"keep\n").map_err(Error::io(creating()))?;
        }
        // From here on the janitor removes it, not tempfile.
        let path = folder.keep();
        for name in ["logs", "pki"] {
            fs::create_dir(path.join(name)).map_err(Error::io(creating()))?;
        }
        Ok(Self {
            path,
            keep,
            janitor,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        drop(self.janitor.stdin.take());
        self.janitor.wait().ok();
        if self.keep {
            eprintln!("testbed: kept {}", self.path.display());
        }
    }
}
