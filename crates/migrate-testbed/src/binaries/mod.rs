//! Finding the programs of a control plane, or building them.

mod debian;
mod golang;
mod node;
mod source;
mod version;

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use golang::Go;
use source::Source;

use crate::Error;
use crate::releases::{KWOK, Release};

pub(crate) use node::NodeBinaries;

/// Where the programs of one release are.
///
/// Each program is looked for on its own, in this order:
/// 1. in the folder `KUBEBUILDER_ASSETS`;
/// 2. in the cache, `${KUBE_MIGRATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kube-migrate}/testbed`;
/// 3. else it is built with Go 1.26 or newer from Go modules, into the cache.
///
/// # Guarantees
/// Every program of Kubernetes and of etcd is of exactly the version in
/// [`release`](Self::release): it was run and has said so. So was what else
/// comes from `KUBEBUILDER_ASSETS`; what has no way to say it is not taken from
/// there.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Binaries {
    /// The release these programs belong to.
    pub release: Release,
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
        let [
            kube_apiserver,
            kube_controller_manager,
            kube_scheduler,
            kubectl,
        ] = search.all(&Source::kubernetes(release.kubernetes), progress)?;
        let [etcd, etcdctl] = search.all(&Source::etcd(release.etcd), progress)?;
        let [kwok] = search.all(&Source::kwok(KWOK), progress)?;
        Ok(Self {
            release,
            etcd,
            etcdctl,
            kube_apiserver,
            kube_controller_manager,
            kube_scheduler,
            kubectl,
            kwok,
        })
    }

    /// Finds etcd of `version` (`3.7.0`), which need not be that of a release,
    /// or builds it as [`find_or_build`](Self::find_or_build) does.
    ///
    /// # Errors
    /// [`Error::NoPrograms`] or [`Error::Build`].
    pub fn find_or_build_etcd(
        version: &'static str,
        progress: &dyn Fn(&Progress),
    ) -> Result<PathBuf, Error> {
        let [etcd, _etcdctl] = Search::from_env()?.all(&Source::etcd(version), progress)?;
        Ok(etcd)
    }

    /// Finds etcdctl and etcdutl of `version`, or builds them as
    /// [`find_or_build`](Self::find_or_build) does.
    ///
    /// # Errors
    /// [`Error::NoPrograms`] or [`Error::Build`].
    pub fn find_or_build_etcd_tools(
        version: &'static str,
        progress: &dyn Fn(&Progress),
    ) -> Result<[PathBuf; 2], Error> {
        Search::from_env()?.all(&Source::etcd_tools(version), progress)
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

    /// All programs of a source, in the order the source lists them.
    fn all<const N: usize>(
        &self,
        source: &Source<N>,
        progress: &dyn Fn(&Progress),
    ) -> Result<[PathBuf; N], Error> {
        let look = || source.programs().map(|program| self.find(source, program));
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
                log: "the Go tool reported success but left no program that says this version"
                    .to_owned(),
            });
        }
        Ok(found.map(Option::unwrap_or_default))
    }

    fn find<const N: usize>(&self, source: &Source<N>, program: &str) -> Option<PathBuf> {
        let from_assets = self.assets.iter().map(|folder| folder.join(program));
        from_assets
            .filter(|path| version::is_said(source, program, path))
            .chain(self.cached(source, program))
            .next()
    }

    /// The program in the cache, if it is what its folder says: what people have
    /// put there or a disk has lost is built anew.
    fn cached<const N: usize>(&self, source: &Source<N>, program: &str) -> Option<PathBuf> {
        let path = self.cache.join(source.folder()).join(program);
        let right = match source.says_version_when_built() {
            true => version::is_said(source, program, &path),
            false => path.is_file(),
        };
        right.then_some(path)
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
            cure: "install Go 1.26 or newer, or point KUBEBUILDER_ASSETS at a folder that holds \
                   them",
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
            .filter(|program| self.cached(source, program).is_none())
            .collect();
        if still_missing.is_empty() {
            return Ok(());
        }
        go.build(source, &still_missing, &folder, progress)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
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
            if [ "$previous" = -o ]; then
                printf '#!/bin/sh\n' > "$word"; sleep 0.2
                echo "echo etcd Version: 3.6.16" >> "$word"; chmod 755 "$word"
            fi
            previous=$word
        done
        echo built >> "$here/builds" ;;
esac
"#;

    /// What the stand-in has built when it is complete.
    const WHOLE: &str = "#!/bin/sh\necho etcd Version: 3.6.16\n";

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
            let programs = search.all(&Source::etcd("3.6.16"), &progress).unwrap();
            programs.map(|path| fs::read_to_string(path).unwrap())
        };
        let found = std::thread::scope(|scope| {
            let builders = [scope.spawn(build), scope.spawn(build)];
            builders.map(|builder| builder.join().unwrap())
        });
        assert_eq!(found, [[WHOLE, WHOLE], [WHOLE, WHOLE]]);
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
        let found = search.all(&Source::etcd("3.6.16"), &progress);
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
        let error = search.all(&source, &|_| {}).unwrap_err().to_string();
        assert!(
            error.contains("fails 0.8.0") && error.contains("no such package"),
            "{error}"
        );
        assert!(search.find(&source, "fails").is_none());
    }

    #[test]
    fn without_go_the_error_says_what_to_install() {
        let folder = tempfile::tempdir().unwrap();
        let mut search = search(folder.path());
        let error = |search: &Search| {
            let missing = search.all(&Source::etcd("3.6.16"), &|_| {});
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

    /// A folder of assets with a server of 1.36.3 and an etcd of another release.
    fn with_assets(folder: &Path) -> Search {
        let mut search = search(folder);
        let assets = folder.join("assets");
        let server = "#!/bin/sh\necho Kubernetes v1.36.3\n";
        executable(&assets.join("kube-apiserver"), server);
        executable(
            &assets.join("etcd"),
            "#!/bin/sh\necho etcd Version: 3.6.1\n",
        );
        search.assets = Some(assets);
        search
    }

    #[test]
    fn assets_count_for_their_very_release_only() {
        let folder = tempfile::tempdir().unwrap();
        let search = with_assets(folder.path());
        let server = |version| search.find(&Source::kubernetes(version), "kube-apiserver");
        let assets = search.assets.clone().unwrap();
        assert!(server("1.36.3").unwrap().starts_with(&assets));
        for other in ["1.36.30", "1.36.2", "1.37.2", "1.36", "6.3"] {
            assert_eq!(server(other), None, "{other}");
        }
        let [etcd, etcdctl] = search.all(&Source::etcd("3.6.16"), &|_| {}).unwrap();
        assert!(etcd.starts_with(&search.cache) && etcdctl.starts_with(&search.cache));
        // What cannot say its version is not taken from there.
        executable(&assets.join("loopback"), "");
        assert!(
            search
                .find(&Source::cni_plugins("1.9.1"), "loopback")
                .is_none()
        );
    }

    #[test]
    fn what_the_cache_has_under_a_wrong_version_is_built_anew() {
        let folder = tempfile::tempdir().unwrap();
        let search = search(folder.path());
        let source = Source::etcd("3.6.16");
        let cached = search.cache.join(source.folder());
        executable(
            &cached.join("etcd"),
            "#!/bin/sh\necho etcd Version: 3.5.9\n",
        );
        executable(&cached.join("etcdctl"), WHOLE);
        let found = search.all(&source, &|_| {}).unwrap();
        assert_eq!(
            found.map(|path| fs::read_to_string(path).unwrap()),
            [WHOLE, WHOLE]
        );
        let builds = fs::read_to_string(folder.path().join("builds")).unwrap();
        assert_eq!(builds.lines().count(), 1, "etcdctl was right");
    }

    #[test]
    fn a_build_that_says_another_version_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let search = search(folder.path());
        let error = search.all(&Source::etcd("3.6.17"), &|_| {}).unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("etcd 3.6.17") && said.contains("says this version"),
            "{said}"
        );
    }
}
