//! The tests that want a server that speaks S3: moto, a Python package.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::process::{cargo, run};
use crate::testbed::in_ci;

/// Where Python keeps the server.
const FOLDER: &str = "target/moto";
const PACKAGE: &str = "moto[s3,server]";
const SERVER: &str = include_str!("s3.py");

/// Runs them. A machine without Python only loses them, except in CI.
pub(crate) fn test() -> Result<(), String> {
    match install() {
        Err(error) if !in_ci() => {
            println!("tests on a server that speaks S3 are skipped: {error}");
            return Ok(());
        }
        installed => installed?,
    }
    let (mut server, address) = start()?;
    let mut test = cargo();
    test.args(["test", "-p", "migrate-etcd", "--features", "s3"])
        .args(["--test", "s3", "--", "--ignored"])
        .env("KUBE_MIGRATE_S3", address);
    let tested = run(&mut test);
    // It ends with its standard input.
    drop(server.stdin.take());
    let ended = server.wait().map(drop);
    let ended = ended.map_err(|error| format!("moto: {error}"));
    tested.and(ended)
}

fn install() -> Result<(), String> {
    if python().is_file() {
        return Ok(());
    }
    run(Command::new("python3").args(["-m", "venv", FOLDER]))?;
    let installed = run(Command::new(python()).args(["-m", "pip", "install", "-q", PACKAGE]));
    if installed.is_err() {
        // Else it would be taken for one that is whole the next time.
        let _ = std::fs::remove_dir_all(FOLDER);
    }
    installed
}

fn python() -> PathBuf {
    Path::new(FOLDER).join("bin/python")
}

/// The server and its address.
fn start() -> Result<(Child, String), String> {
    let failed = |error: std::io::Error| format!("moto: {error}");
    let mut server = Command::new(python())
        .args(["-c", SERVER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut address = String::new();
    if let Some(said) = server.stdout.take() {
        BufReader::new(said)
            .read_line(&mut address)
            .map_err(failed)?;
    }
    match address.trim_end() {
        "" => {
            let _ = server.kill();
            let _ = server.wait();
            Err("moto: it does not say where it is".to_owned())
        }
        address => Ok((server, address.to_owned())),
    }
}
