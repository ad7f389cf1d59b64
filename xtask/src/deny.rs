//! Licences and sources of dependencies.

use std::path::PathBuf;
use std::process::Command;

use migrate_testbed::Binaries;

use crate::process::{cargo, run};

/// Checks with cargo-deny, installing it into the cache folder when missing.
pub(crate) fn check() -> Result<(), String> {
    let tools = tools_dir()?;
    let deny = tools.join("bin/cargo-deny");
    if !deny.is_file() {
        println!("installing cargo-deny into {}", tools.display());
        let mut install = cargo();
        install
            .args([
                "install",
                "cargo-deny",
                "--version",
                "^0.20",
                "--locked",
                "--root",
            ])
            .arg(&tools);
        run(&mut install)?;
    }
    run(Command::new(deny).args(["check", "bans", "licenses", "sources"]))
}

fn tools_dir() -> Result<PathBuf, String> {
    let testbed = Binaries::cache().map_err(|error| error.to_string())?;
    Ok(testbed.with_file_name("tools"))
}
