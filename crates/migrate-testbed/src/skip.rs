//! Skipped on a workstation, failed in CI.

use std::env;

use crate::Error;

/// Unwraps what a test needs, or says that the test cannot run here.
///
/// - `Ok`: the value.
/// - [`Error::NoPrograms`], [`Error::NoNamespaces`]: prints one line that says what to install and
///   returns `None`, so that the test returns early. With `CI=true` in the
///   environment it panics: there a skipped test would be a silent gap.
/// - Any other error panics: the testbed itself is broken.
///
/// # Panics
/// As said above.
#[track_caller]
pub fn skip_or_fail<T>(result: Result<T, Error>) -> Option<T> {
    let in_ci = env::var("CI").is_ok_and(|value| value == "true" || value == "1");
    match result {
        Ok(value) => Some(value),
        Err(error @ (Error::NoPrograms { .. } | Error::NoNamespaces { .. })) if !in_ci => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}
