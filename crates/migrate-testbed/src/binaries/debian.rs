//! etcd 3.4, which was never published as modules: of a package of the distribution.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Binaries, Progress};
use crate::Error;
use crate::kubeadm::command::run;

const PACKAGE: &str = "etcd-server";
const VERSION: &str = "3.4";
/// Names the program where the distribution has no such package.
const NAMED: &str = "KUBE_MIGRATE_ETCD_3_4";
const CURE: &str = "name a program of that version in KUBE_MIGRATE_ETCD_3_4";

impl Binaries {
    /// Finds etcd 3.4: the program that `KUBE_MIGRATE_ETCD_3_4` names, or that of Debian's
    /// package `etcd-server`, which apt downloads from where this machine's own packages
    /// come from. It is unpacked into the cache; nothing is installed.
    ///
    /// # Errors
    /// [`Error::NoPrograms`] where there is none, which says why.
    pub fn find_or_unpack_etcd_3_4(progress: &dyn Fn(&Progress)) -> Result<PathBuf, Error> {
        if let Some(named) = std::env::var_os(NAMED) {
            return Ok(named.into());
        }
        let folder = Self::cache()?.join(format!("debian-etcd-{VERSION}"));
        let program = folder.join("usr/bin/etcd");
        let preparing = || Error::io(format!("preparing {}", folder.display()));
        fs::create_dir_all(&folder).map_err(preparing())?;
        let lock = File::create(folder.join(".lock")).map_err(preparing())?;
        lock.lock().map_err(preparing())?;
        if is_it(&program) {
            return Ok(program);
        }
        let what = format!("{PACKAGE} {VERSION} of the distribution");
        progress(&Progress::Step {
            what: format!("unpacking {what}"),
        });
        unpack(&folder).map_err(|error| missing(&error.to_string()))?;
        match is_it(&program) {
            true => Ok(program),
            false => Err(missing("the distribution's is of another version")),
        }
    }
}

fn missing(reason: &str) -> Error {
    Error::NoPrograms {
        programs: format!("etcd {VERSION}"),
        reason: reason.to_owned(),
        cure: CURE,
    }
}

/// Downloads the package and unpacks it into `folder`, where nobody else does.
fn unpack(folder: &Path) -> Result<(), Error> {
    let mut apt = Command::new("apt-get");
    run(
        "apt-get download",
        apt.args(["download", PACKAGE]).current_dir(folder),
    )?;
    let reading = || Error::io(format!("reading {}", folder.display()));
    for entry in fs::read_dir(folder).map_err(reading())? {
        let path = entry.map_err(reading())?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            let mut dpkg = Command::new("dpkg-deb");
            run("dpkg-deb -x", dpkg.arg("-x").arg(&path).arg(folder))?;
            fs::remove_file(&path).map_err(reading())?;
        }
    }
    Ok(())
}

/// Whether the program runs and says that it is of this minor version.
fn is_it(program: &Path) -> bool {
    let mut asked = Command::new(program);
    let said = asked.arg("--version").stdin(Stdio::null()).output();
    said.is_ok_and(|said| {
        String::from_utf8_lossy(&said.stdout).contains(&format!("etcd Version: {VERSION}."))
    })
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_program_of_another_version_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("etcd");
        for (said, is_taken) in [
            ("etcd Version: 3.4.23", true),
            ("etcd Version: 3.5.16", false),
            ("etcd Version: 3.40.1", false),
        ] {
            fs::write(&program, format!("#!/bin/sh\necho '{said}'\n")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            assert_eq!(is_it(&program), is_taken, "{said}");
        }
        assert!(!is_it(&folder.path().join("none")));
    }
}
