//! A node that is reached by running scripts on it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use migrate_core::{ObjectName, StepError, StepErrorKind};

use super::NodeFiles;
use super::node::PACKAGES;

/// Bytes that are asked for at once: as base64 they are less than the MiB of
/// output that ways to nodes keep.
const CHUNK: u64 = 512 << 10;

/// Files below `$1`, which may be a link itself, and links to files and folders.
const LIST: &str = r#"if [ -d "$1" ]; then
    find -H "$1" -type f -print -o -type l \( -xtype f -o -xtype d \) -print
fi"#;

/// Tells that `$1` is a file, then `$3` bytes of it from `$2` on.
const READ: &str = r#"if [ -f "$1" ]; then
    echo file
    dd if="$1" iflag=skip_bytes,count_bytes,fullblock skip="$2" count="$3" bs=64K status=none | base64 -w 0
fi"#;

/// Installed packages of those named, by dpkg or rpm.
const INSTALLED: &str = r#"if command -v dpkg-query > /dev/null; then
    dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n' "$@" 2> /dev/null || true
elif command -v rpm > /dev/null; then
    rpm -q --qf 'installed %{NAME} %{VERSION}-%{RELEASE}\n' "$@" 2> /dev/null || true
fi"#;

/// A node reached by `run`, which runs a script of bash there, as root and with
/// these arguments, and gives what it printed, up to 1 MiB; an end other than 0
/// is an error. `NodeShell` of `migrate-upgrade` is such a way.
pub struct ScriptNode<F> {
    name: String,
    run: F,
}

impl<F> ScriptNode<F>
where
    F: Fn(&'static str, Vec<String>) -> BoxFuture<'static, Result<String, StepError>> + Send + Sync,
{
    /// The node `name`.
    pub fn new(name: impl Into<String>, run: F) -> Self {
        Self {
            name: name.into(),
            run,
        }
    }

    /// `count` bytes of a file from `at` on.
    async fn chunk(&self, path: &str, at: u64, count: u64) -> Result<Option<Vec<u8>>, StepError> {
        let args = vec![path.to_owned(), at.to_string(), count.to_string()];
        let said = (self.run)(READ, args).await?;
        let Some(body) = said.trim_start().strip_prefix("file\n") else {
            return Ok(None);
        };
        let bytes = STANDARD.decode(body.trim()).map_err(|_| {
            let object = ObjectName::cluster("Node", self.name.clone());
            let message = format!("{path}: what came of it is damaged; try again");
            StepError::new(StepErrorKind::Unavailable, object, message)
        })?;
        Ok(Some(bytes))
    }
}

#[async_trait]
impl<F> NodeFiles for ScriptNode<F>
where
    F: Fn(&'static str, Vec<String>) -> BoxFuture<'static, Result<String, StepError>> + Send + Sync,
{
    fn node(&self) -> &str {
        &self.name
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, StepError> {
        let said = (self.run)(LIST, vec![folder.to_owned()]).await?;
        // A name with a line break is none of Kubernetes'.
        let files = said.lines().filter(|line| line.starts_with(folder));
        let mut files: Vec<_> = files.map(str::to_owned).collect();
        files.sort();
        Ok(files)
    }

    async fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, StepError> {
        let mut whole = Vec::new();
        loop {
            let left = limit.saturating_sub(whole.len() as u64);
            let count = left.min(CHUNK);
            let chunk = self.chunk(path, whole.len() as u64, count).await?;
            let Some(chunk) = chunk else {
                return Ok(None);
            };
            let is_last = (chunk.len() as u64) < CHUNK;
            whole.extend(chunk);
            if is_last || whole.len() as u64 >= limit {
                return Ok(Some(whole));
            }
        }
    }

    async fn packages(&self) -> Result<BTreeMap<String, String>, StepError> {
        let named = PACKAGES.map(str::to_owned).to_vec();
        let said = (self.run)(INSTALLED, named).await?;
        let packages = said.lines().filter_map(|line| {
            let (name, version) = line.strip_prefix("installed ")?.split_once(' ')?;
            Some((name.to_owned(), version.to_owned()))
        });
        Ok(packages.collect())
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use futures::FutureExt;

    use super::*;
    use crate::FolderNode;

    /// Runs them here, as a way to a node does there.
    fn here() -> impl NodeFiles {
        ScriptNode::new("cp-1", |script, args| {
            let run = Command::new("bash")
                .args(["-euo", "pipefail", "-c", script, "--"])
                .args(args)
                .output()
                .unwrap();
            assert!(run.status.success(), "{run:?}");
            let said = String::from_utf8(run.stdout).unwrap();
            futures::future::ready(Ok(said)).boxed()
        })
    }

    #[tokio::test]
    async fn scripts_and_folders_agree() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("deep")).unwrap();
        fs::write(root.join("deep/it's a \"file\""), "text\n").unwrap();
        fs::write(root.join("empty"), "").unwrap();
        let large: Vec<u8> = (0..1_100_000_u32).map(|at| (at % 253) as u8).collect();
        fs::write(root.join("large"), &large).unwrap();
        std::os::unix::fs::symlink("large", root.join("link")).unwrap();
        std::os::unix::fs::symlink("gone", root.join("broken")).unwrap();
        std::os::unix::fs::symlink("deep", root.join("link to a folder")).unwrap();
        let (scripts, folders) = (here(), FolderNode::new("cp-1", "/"));
        let path = root.to_str().unwrap();
        let listed = scripts.list(path).await.unwrap();
        assert_eq!(listed.len(), 5, "{listed:?}");
        assert_eq!(listed, folders.list(path).await.unwrap());
        // The folder itself may be one.
        let link = format!("{path}/link to a folder");
        let below = scripts.list(&link).await.unwrap();
        assert_eq!(below.len(), 1, "{below:?}");
        assert_eq!(below, folders.list(&link).await.unwrap());
        for name in listed.iter().map(String::as_str).chain(["/nowhere", "/"]) {
            for limit in [3, CHUNK, CHUNK + 1, 2 << 20] {
                let read = scripts.read(name, limit).await.unwrap();
                let same = folders.read(name, limit).await.unwrap();
                assert!(read == same, "{name} {limit}");
            }
        }
        assert!(scripts.list("/nowhere").await.unwrap().is_empty());
        assert_eq!(
            scripts.packages().await.unwrap(),
            folders.packages().await.unwrap()
        );
    }
}
