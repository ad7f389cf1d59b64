//! Files that a flag names.

use std::path::Path;

use crate::failure::Failure;

/// What is in a file.
pub(crate) fn text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        let cure = "name a text file that this user may read";
        Failure::new(path.display(), format!("{error}; {cure}"))
    })
}

/// Makes a file, or takes the place of what it was.
pub(crate) fn write(path: &Path, content: &str) -> Result<(), Failure> {
    std::fs::write(path, content).map_err(|error| {
        let cure = "name a file in a folder where this user may write";
        Failure::new(path.display(), format!("{error}; {cure}"))
    })
}
