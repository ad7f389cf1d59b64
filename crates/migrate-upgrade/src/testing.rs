//! What the tests of this crate share.

use std::path::Path;
use std::process::Command;

/// Puts a program at `path`. Another process writes it: a thread that forks
/// while this one had it open for writing would keep it busy.
pub(crate) fn executable(path: &Path, text: &str) {
    let source = path.with_extension("text");
    std::fs::write(&source, text).unwrap();
    let mut install = Command::new("install");
    install.args(["-m", "755"]).arg(&source).arg(path);
    assert!(install.status().unwrap().success());
    std::fs::remove_file(source).unwrap();
}
