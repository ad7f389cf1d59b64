//! Running programs that are expected to succeed.

use std::process::{Command, Output, Stdio};

use crate::Error;
use crate::text::last_lines;

/// Runs a command to its end; failure is an error with the end of what it said.
pub(crate) fn run(what: &str, command: &mut Command) -> Result<Output, Error> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(Error::io(format!("running {what}")))?;
    succeeded(what, output)
}

/// The output if it is of a success.
pub(super) fn succeeded(what: &str, output: Output) -> Result<Output, Error> {
    if output.status.success() {
        return Ok(output);
    }
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said += &String::from_utf8_lossy(&output.stderr);
    Err(Error::Command {
        what: what.to_owned(),
        status: output.status.to_string(),
        said: last_lines(&said, 30),
    })
}
