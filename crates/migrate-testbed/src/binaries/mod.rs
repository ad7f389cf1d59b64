//! Finding the programs of a control plane, or building them.

mod golang;
mod node;
mod source;

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use golang::Go;
use source::Source;

use crate::Error;
use crate::releases::{KWOK, Release};

pub(crate) use node::NodeBinaries;

/// Where the programs of one release are.
///
/// Each program is looked for on its own, in this order:
/// 1. in the folder `KUBEBUILDER_ASSETS`; programs of Kubernetes count only if
///    `kube-apiserver --version` there is of the minor version asked for;
/// 2. in the cache, `${KUBE_MIGRATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kube-migrate}/testbed`,
///    by exact version;
/// 3. else it is built with Go 1.26 or newer from Go modules, into the cache.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Binaries {
    /// The release these programs belong to.
    pub release: Release,
    /// Version of the Kubernetes programs without `v`; differs from
    /// `release.kubernetes` where `KUBEBUILDER_ASSETS` holds another patch.
    pub kubernetes: String,
    /// etcd.
    pub etcd: PathBuf,
    /// etcdctl.
    pub etcdctl: PathBuf,
    /// kube-apiserver.
    pub kube_apiserver: PathBuf,
    /// kube-controller-manager.
    pub kube_controller_manager: PathBuf,
    /// kube-scheduler.
    pub kube_scheduler: PathBuf,
    /// kubectl.
    pub kubectl: PathBuf,
    /// kwok.
    pub kwok: PathBuf,
}

/// What a search or build is doing; `Display` gives a line for people.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Progress {
    /// A program is being built, which takes minutes.
    Building {
        /// Program and version.
        what: String,
    },
    /// A program has been built into the cache.
    Built {
        /// Program and version.
        what: String,
        /// Wall-clock time of the build.
        took: Duration,
    },
    /// A step of making a cluster begins.
    Step {
        /// What is being done.
        what: String,
    },
    /// Another process builds the same version; this one waits for it.
    WaitingForBuild {
        /// Programs and version.
        what: String,
    },
}

impl Binaries {
    /// Finds the programs of a minor version or builds the missing ones,
    /// blocking for minutes in that case. Builders of the same version wait
    /// for each other; a program appears in the cache only when complete.
    ///
    /// # Errors
    /// [`Error::NoPrograms`] if something is missing and there is no Go,
    /// [`Error::Build`], [`Error::UnknownMinor`].
    pub fn find_or_build(minor: u32, progress: &dyn Fn(&Progress)) -> Result<Self, Error> {
        let release = Release::of_minor(minor)?;
        let search = Search::from_env()?;
        let (
            kubernetes,
            [
                kube_apiserver,
                kube_controller_manager,
                kube_scheduler,
                kubectl,
            ],
        ) = {
            let from_assets = search.assets_version(minor);
            let source = Source::kubernetes(release.kubernetes);
            let use_assets = from_assets.is_some();
            let programs = search.all(&source, use_assets, progress)?;
            let version = from_assets.unwrap_or_else(|| release.kubernetes.to_owned());
            (version, programs)
        };
        let [etcd, etcdctl] = search.all(&Source::etcd(release.etcd), true, progress)?;
        let [kwok] = search.all(&Source::kwok(KWOK), true, progress)?;
        Ok(Self {
            release,
            kubernetes,
            etcd,
            etcdctl,
            kube_apiserver,
            kube_controller_manager,
            kube_scheduler,
            kubectl,
            kwok,
        })
    }

    /// The folder in which programs are kept between runs.
    ///
    /// # Errors
    /// [`Error::Io`] if the environment names no home folder.
    pub fn cache() -> Result<PathBuf, Error> {
        let set = |name| env::var_os(name).filter(|value: &OsString| !value.is_empty());
        if let Some(folder) = set("KUBE_MIGRATE_CACHE") {
            return Ok(Path::new(&folder).join("testbed"));
        }
        set("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(Path::new(&set("HOME")?).join(".cache")))
            .map(|folder| folder.join("kube-migrate").join("testbed"))
            .ok_or_else(|| Error::Io {
                what: "none of KUBE_MIGRATE_CACHE, XDG_CACHE_HOME and HOME is set".to_owned(),
                source: std::io::ErrorKind::NotFound.into(),
            })
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Building { what } => write!(f, "building {what} (minutes, once)"),
            Self::Built { what, took } => write!(f, "built {what} in {} s", took.as_secs()),
            Self::Step { what } => f.write_str(what),
            Self::WaitingForBuild { what } => {
                write!(f, "waiting for another process that builds {what}")
            }
        }
    }
}

/// The places to look.
struct Search {
    assets: Option<PathBuf>,
    cache: PathBuf,
    go: PathBuf,
}

impl Search {
    fn from_env() -> Result<Self, Error> {
        Ok(Self {
            assets: env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from),
            cache: Binaries::cache()?,
            go: PathBuf::from("go"),
        })
    }

    /// The version of the assets' kube-apiserver if it is of this minor.
    fn assets_version(&self, minor: u32) -> Option<String> {
        let server = self.assets.as_ref()?.join("kube-apiserver");
        let output = Command::new(server).arg("--version").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let version = text.trim().strip_prefix("Kubernetes v")?;
        let same = version.split('.').nth(1)? == minor.to_string();
        same.then(|| version.to_owned())
    }

    /// All programs of a source, in the order the source lists them.
    fn all<const N: usize>(
        &self,
        source: &Source<N>,
        use_assets: bool,
        progress: &dyn Fn(&Progress),
    ) -> Result<[PathBuf; N], Error> {
        let look = || {
            source
                .programs()
                .map(|program| self.find(source, program, use_assets))
        };
        let mut found = look();
        if found.iter().any(Option::is_none) {
            self.build(source, &found, progress)?;
            found = look();
        }
        let missing = source.programs().into_iter().zip(&found);
        let missing: Vec<_> = missing.filter(|(_, path)| path.is_none()).collect();
        if let Some((program, _)) = missing.first() {
            return Err(Error::Build {
                what: source.describe(program),
                log: "the Go tool reported success but left no program".to_owned(),
            });
        }
        Ok(found.map(Option::unwrap_or_default))
    }

    fn find<const N: usize>(
        &self,
        source: &Source<N>,
        program: &str,
        use_assets: bool,
    ) -> Option<PathBuf> {
        let assets = self.assets.iter().filter(|_| use_assets).cloned();
        assets
            .chain([self.cache.join(source.folder())])
            .map(|folder| folder.join(program))
            .find(|path| path.is_file())
    }

    fn build<const N: usize>(
        &self,
        source: &Source<N>,
        found: &[Option<PathBuf>; N],
        progress: &dyn Fn(&Progress),
    ) -> Result<(), Error> {
        let missing = || {
            let all = source.programs().into_iter().zip(found);
            all.filter(|(_, path)| path.is_none()).map(|(name, _)| name)
        };
        let names = missing().collect::<Vec<_>>().join(", ");
        let what = format!("{names} {}", source.version());
        let go = Go::check(&self.go).map_err(|reason| Error::NoPrograms {
            programs: what.clone(),
            reason,
        })?;
        let folder = self.cache.join(source.folder());
        let preparing = || format!("preparing {}", folder.display());
        fs::create_dir_all(&folder).map_err(Error::io(preparing()))?;
        let lock = File::create(folder.join(".lock")).map_err(Error::io(preparing()))?;
        if lock.try_lock().is_err() {
            progress(&Progress::WaitingForBuild { what });
            lock.lock().map_err(Error::io(preparing()))?;
        }
        // Whoever held the lock may have built them.
        let still_missing: Vec<_> = missing()
            .filter(|program| !folder.join(program).is_file())
            .collect();
        if still_missing.is_empty() {
            return Ok(());
        }
        go.build(source, &still_missing, &folder, progress)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A stand-in for the Go tool that notes each program it builds.
    const GO: &str = r#"#!/bin/sh
here=$(dirname "$0")
case "$1 $2" in
    "env GOVERSION") echo go1.26.8 ;;
    "mod download") echo "module m" > "$here/mod"; echo "{\"GoMod\": \"$here/mod\"}" ;;
    "mod tidy") [ -f go.mod ] && [ -f tools.go ] ;;
    build*)
        for word in "$@"; do
            case "$word" in */fails) echo "no such package" >&2; exit 1 ;; esac
            [ "$previous" = -o ] && printf part > "$word" && sleep 0.2 && printf ial >> "$word"
            previous=$word
        done
        echo built >> "$here/builds" ;;
esac
"#;

    /// Written by another process: while this one has a file open for writing
    /// and forks in another thread, the file cannot be run.
    fn executable(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let script = r#"printf %s "$2" > "$1" && chmod 755 "$1""#;
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script, "write"]).arg(path).arg(text);
        assert!(shell.status().unwrap().success());
    }

    fn search(folder: &Path) -> Search {
        executable(&folder.join("go"), GO);
        Search {
            assets: None,
            cache: folder.join("cache"),
            go: folder.join("go"),
        }
    }

    #[test]
    fn two_builders_build_once_and_both_find_whole_programs() {
        let folder = tempfile::tempdir().unwrap();
        let search = search(folder.path());
        let said = Mutex::new(Vec::new());
        let build = || {
            let progress = |progress: &Progress| said.lock().unwrap().push(progress.to_string());
            let programs = search
                .all(&Source::etcd("3.6.16"), true, &progress)
                .unwrap();
            programs.map(|path| fs::read_to_string(path).unwrap())
        };
        let found = std::thread::scope(|scope| {
            let builders = [scope.spawn(build), scope.spawn(build)];
            builders.map(|builder| builder.join().unwrap())
        });
        assert_eq!(found, [["partial", "partial"], ["partial", "partial"]]);
        let builds = fs::read_to_string(folder.path().join("builds")).unwrap();
        assert_eq!(
            builds.lines().count(),
            2,
            "one for etcd and one for etcdctl"
        );
        let said = said.into_inner().unwrap();
        let count = |start: &str| said.iter().filter(|line| line.starts_with(start)).count();
        assert_eq!(
            (count("building"), count("built"), count("waiting")),
            (2, 2, 1),
            "{said:?}"
        );
    }

    #[test]
    #[ignore = "builds etcd with the real Go: a minute"]
    fn etcd_is_built_from_its_modules_and_runs() {
        let folder = tempfile::tempdir().unwrap();
        let search = Search {
            assets: None,
            cache: folder.path().join("cache"),
            go: PathBuf::from("go"),
        };
        let progress = |progress: &Progress| println!("{progress}");
        let found = search.all(&Source::etcd("3.6.16"), true, &progress);
        let [etcd, etcdctl] = found.unwrap();
        for (program, argument) in [(etcd, "--version"), (etcdctl, "version")] {
            let output = Command::new(program).arg(argument).output().unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            assert!(said.contains("3.6.16"), "{said}");
        }
    }

    #[test]
    fn a_failed_build_shows_what_go_said_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let search = search(folder.path());
        let source = Source::<1>::kwok("0.8.0").with_program("fails");
        let error = search.all(&source, true, &|_| {}).unwrap_err().to_string();
        assert!(
            error.contains("fails 0.8.0") && error.contains("no such package"),
            "{error}"
        );
        assert!(search.find(&source, "fails", true).is_none());
    }

    #[test]
    fn without_go_the_error_says_what_to_install() {
        let folder = tempfile::tempdir().unwrap();
        let mut search = search(folder.path());
        let error = |search: &Search| {
            let missing = search.all(&Source::etcd("3.6.16"), true, &|_| {});
            missing.unwrap_err().to_string()
        };
        search.go = folder.path().join("no-such-go");
        let said = error(&search);
        assert!(said.starts_with("no etcd, etcdctl 3.6.16 on this machine and no usable Go"));
        assert!(
            said.contains("install Go 1.26 or newer") && !said.contains('\n'),
            "{said}"
        );
        executable(&folder.path().join("go"), "#!/bin/sh\necho go1.25.9\n");
        search.go = folder.path().join("go");
        assert!(error(&search).contains("its Go is too old (go1.25.9)"));
    }

    #[test]
    fn assets_count_for_their_own_minor_only() {
        let folder = tempfile::tempdir().unwrap();
        let mut search = search(folder.path());
        let assets = folder.path().join("assets");
        executable(
            &assets.join("kube-apiserver"),
            "#!/bin/sh\necho Kubernetes v1.36.9\n",
        );
        executable(&assets.join("etcd"), "");
        search.assets = Some(assets.clone());
        assert_eq!(search.assets_version(36).as_deref(), Some("1.36.9"));
        assert_eq!(search.assets_version(37), None);
        executable(&search.cache.join("k8s-v1.36.3/kube-apiserver"), "");
        let server = |use_assets| {
            search
                .find(&Source::kubernetes("1.36.3"), "kube-apiserver", use_assets)
                .unwrap()
        };
        assert!(server(true).starts_with(&assets));
        assert!(server(false).starts_with(&search.cache));
    }
}
