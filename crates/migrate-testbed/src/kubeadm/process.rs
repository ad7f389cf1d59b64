//! Finding the processes behind a shell that was started.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::{Error, eventually};

const PATIENCE: Duration = Duration::from_secs(20);

/// A shell script that writes its own process id to a file and goes on. It has
/// no child before `script` makes one: [`child_of`] would take it for that.
pub(super) fn announced(file: &Path, script: &str) -> String {
    format!("echo $$ > '{}' && {script}", file.display())
}

/// The process id that an [`announced`] script has written.
pub(super) async fn announced_pid(file: &Path) -> Result<u32, Error> {
    let mut pid = 0;
    let what = format!("{} to be written", file.display());
    eventually(&what, PATIENCE, || {
        let text = fs::read_to_string(file);
        let whole = |text: String| text.strip_suffix('\n')?.parse().ok();
        let read = text.map(|text| whole(text).unwrap_or(0));
        pid = *read.as_ref().unwrap_or(&0);
        async move { read.map(|pid| pid != 0) }
    })
    .await?;
    Ok(pid)
}

/// Waits until a process has a network namespace of its own.
pub(super) async fn own_network(pid: u32) -> Result<(), Error> {
    let ours = fs::read_link("/proc/self/ns/net").ok();
    eventually("a network namespace", PATIENCE, || async {
        let theirs = fs::read_link(format!("/proc/{pid}/ns/net"))?;
        Ok::<_, std::io::Error>(Some(&theirs) != ours.as_ref())
    })
    .await
}

/// The only child of a process, when it has come.
pub(super) async fn child_of(parent: u32) -> Result<u32, Error> {
    let mut found = 0;
    eventually(&format!("a child of process {parent}"), PATIENCE, || {
        let child = children(parent).into_iter().next();
        found = child.unwrap_or(0);
        async move { Ok::<_, String>(child.is_some()) }
    })
    .await?;
    Ok(found)
}

fn children(parent: u32) -> Vec<u32> {
    let wanted = parent.to_string();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after = stat.rsplit_once(") ").map(|(_, after)| after);
        after.and_then(|after| after.split(' ').nth(1)) == Some(&wanted)
    })
    .collect()
}
