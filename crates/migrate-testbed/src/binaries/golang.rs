//! Building from Go modules with the ordinary `go` tool.

use std::fs;
use std::path::Path;
use std::process::{self, Command, Output};

use tokio::time::Instant;

use super::Progress;
use super::source::{ETCD_MAIN, Kind, Source};
use crate::Error;
use crate::text::last_lines;

/// Oldest Go that builds every release of the testbed.
const OLDEST: (u32, u32) = (1, 26);

/// A usable Go tool.
pub(super) struct Go<'a> {
    program: &'a Path,
}

impl<'a> Go<'a> {
    /// Looks at the Go tool; the error says in words why it cannot be used.
    pub(super) fn check(program: &'a Path) -> Result<Self, String> {
        let go = Self { program };
        let output = go
            .output(&["env", "GOVERSION"], Path::new("."))
            .map_err(|error| format!("no usable Go ({error})"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        match parse_version(text.trim()) {
            Some(version) if version >= OLDEST => Ok(go),
            _ => Err(format!("its Go is too old ({})", text.trim())),
        }
    }

    /// Builds `programs` of a source into `folder`.
    pub(super) fn build<const N: usize>(
        &self,
        source: &Source<N>,
        programs: &[&str],
        folder: &Path,
        progress: &dyn Fn(&Progress),
    ) -> Result<(), Error> {
        let work = tempfile::Builder::new()
            .prefix("kube-migrate-build-")
            .tempdir()
            .map_err(Error::io("creating a folder to build in"))?;
        for (index, program) in programs.iter().enumerate() {
            let what = source.describe(program);
            progress(&Progress::Building { what: what.clone() });
            let begun = Instant::now();
            if index == 0 {
                self.prepare(source, work.path())?;
            }
            // Renamed when complete, so that whoever finds the name can run it.
            let partial = folder.join(format!(".{program}.{}", process::id()));
            let arguments = [
                "build",
                "-trimpath",
                "-ldflags",
                &source.linker_flags(),
                "-o",
                &partial.to_string_lossy(),
                &source.package(program),
            ];
            self.run(&what, &arguments, work.path())?;
            fs::rename(&partial, folder.join(program))
                .map_err(Error::io(format!("storing {what}")))?;
            progress(&Progress::Built {
                what,
                took: begun.elapsed(),
            });
        }
        Ok(())
    }

    /// Writes the module that depends on the wanted packages.
    fn prepare<const N: usize>(&self, source: &Source<N>, work: &Path) -> Result<(), Error> {
        let what = format!("{} {}", source.module(), source.version());
        let module = format!("{}@v{}", source.module(), source.version());
        let downloaded = self.run(&what, &["mod", "download", "-json", &module], work)?;
        let path = go_mod_path(&downloaded.stdout).ok_or_else(|| Error::Build {
            what: what.clone(),
            log: "`go mod download` named no GoMod file".to_owned(),
        })?;
        let theirs = fs::read_to_string(&path).map_err(Error::io(format!("reading {path}")))?;
        let write = |name: &str, text: &str| {
            fs::write(work.join(name), text).map_err(Error::io(format!("writing {name}")))
        };
        write("go.mod", &source.go_mod(&theirs))?;
        write("tools.go", &source.tools_go())?;
        if source.kind() == Kind::Etcd {
            fs::create_dir(work.join("etcd")).map_err(Error::io("creating the package of etcd"))?;
            write("etcd/main.go", ETCD_MAIN)?;
        }
        // -e: packages that only tests of the dependencies need may be missing.
        self.run(&what, &["mod", "tidy", "-e"], work)?;
        Ok(())
    }

    fn run(&self, what: &str, arguments: &[&str], folder: &Path) -> Result<Output, Error> {
        let output = self
            .output(arguments, folder)
            .map_err(Error::io(format!("running go for {what}")))?;
        if output.status.success() {
            return Ok(output);
        }
        let log = String::from_utf8_lossy(&output.stderr);
        Err(Error::Build {
            what: what.to_owned(),
            log: last_lines(&log, 20),
        })
    }

    fn output(&self, arguments: &[&str], folder: &Path) -> std::io::Result<Output> {
        Command::new(self.program)
            .args(arguments)
            .current_dir(folder)
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-mod=mod")
            .env("GOTOOLCHAIN", "local")
            .env("GOWORK", "off")
            .output()
    }
}

fn go_mod_path(json: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(json).ok()?;
    Some(value.get("GoMod")?.as_str()?.to_owned())
}

/// `go1.26.8` as (1, 26).
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("go")?.split('.');
    let major = numbers.next()?.parse().ok()?;
    let minor: String = numbers
        .next()?
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    Some((major, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_go() {
        assert_eq!(parse_version("go1.26.8"), Some((1, 26)));
        assert_eq!(parse_version("go1.27rc1"), Some((1, 27)));
        assert_eq!(parse_version("devel"), None);
        assert!(parse_version("go1.9") < Some(OLDEST));
    }
}
