//! Asking a program for its version.

use std::path::Path;
use std::process::{Command, Stdio};

use super::source::Source;

/// Whether the program at `path` runs and says that it is of the source's very
/// version. One that cannot be run, or cannot say it, is not.
pub(super) fn is_said<const N: usize>(source: &Source<N>, program: &str, path: &Path) -> bool {
    let Some(arguments) = source.version_arguments(program) else {
        return false;
    };
    let asked = Command::new(path)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    asked.is_ok_and(|output| names(&String::from_utf8_lossy(&output.stdout), source.version()))
}

/// Whether a word of `said` is this version, with or without `v`.
fn names(said: &str, version: &str) -> bool {
    let mut words = said.split_whitespace();
    words.any(|word| word.strip_prefix('v').unwrap_or(word) == version)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First lines as the released programs print them.
    #[test]
    fn what_programs_say() {
        for said in [
            "Kubernetes v1.36.3\n",
            "Client Version: v1.36.3\nKustomize Version: v5.7.1\n",
            "etcd Version: 1.36.3\nGit SHA: Not provided\n",
            "kwok version v1.36.3 go1.26.8 (linux/amd64)\n",
        ] {
            assert!(names(said, "1.36.3"), "{said}");
        }
        for said in [
            "",
            "Kubernetes v1.36.3-rc.1",
            "Kubernetes v1.36.30",
            "v11.36.3",
        ] {
            assert!(!names(said, "1.36.3"), "{said}");
        }
    }
}
