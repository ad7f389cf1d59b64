//! Where the files of a control-plane node come from.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use migrate_core::{ObjectName, StepError, StepErrorKind};

/// The files of one control-plane node.
///
/// # Guarantees
/// Paths are absolute, as the node itself has them. Nothing is changed, and no
/// error shows what is in a file.
#[async_trait]
pub trait NodeFiles: Send + Sync {
    /// The node's name.
    fn node(&self) -> &str;

    /// All files below `folder`, with their paths, sorted; none if it is not there. A link to a
    /// folder, which could lead in a circle, is not followed but listed, as if it were a file:
    /// there is nothing to [`read`](Self::read) of it.
    ///
    /// # Errors
    /// The node is out of reach, or the folder cannot be read.
    async fn list(&self, folder: &str) -> Result<Vec<String>, StepError>;

    /// The first `limit` bytes of the file at `path`; `None` if there is no such
    /// file.
    ///
    /// # Errors
    /// The node is out of reach, or the file cannot be read.
    async fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, StepError>;

    /// Versions of the packages that make a Kubernetes node, by their names;
    /// none where that cannot be told.
    ///
    /// # Errors
    /// The node is out of reach.
    async fn packages(&self) -> Result<BTreeMap<String, String>, StepError>;
}

/// Packages whose versions a restore has to match.
pub(super) const PACKAGES: [&str; 8] = [
    "containerd",
    "containerd.io",
    "cri-o",
    "cri-tools",
    "kubeadm",
    "kubectl",
    "kubelet",
    "kubernetes-cni",
];

/// What dpkg knows.
const DPKG: &str = "/var/lib/dpkg/status";

/// A node whose file system is a folder here: `/` on the node itself, or where it
/// is mounted or was copied to.
///
/// Links are followed as long as they stay within the folder.
#[derive(Clone, Debug)]
pub struct FolderNode {
    name: String,
    root: PathBuf,
}

impl FolderNode {
    /// The node `name`, whose `/` is `root`.
    pub fn new(name: impl Into<String>, root: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            root: root.into(),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        path: &str,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StepError> {
        let here = self.path(path);
        let done = tokio::task::spawn_blocking(move || work(&here)).await;
        done.unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(|error| {
                let object = ObjectName::cluster("Node", self.name.clone());
                let message = format!("{path}: {error}; see that it may be read");
                StepError::new(StepErrorKind::Permanent, object, message)
            })
    }
}

#[async_trait]
impl NodeFiles for FolderNode {
    fn node(&self) -> &str {
        &self.name
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, StepError> {
        let below = folder.trim_end_matches('/').to_owned();
        self.blocking(folder, move |here| {
            let mut found = Vec::new();
            walk(here, &below, &mut found)?;
            found.sort();
            Ok(found)
        })
        .await
    }

    async fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, StepError> {
        let root = self.root.clone();
        self.blocking(path, move |here| read(&root, here, limit))
            .await
    }

    async fn packages(&self) -> Result<BTreeMap<String, String>, StepError> {
        // Some MiB on a node with many packages.
        let status = self.read(DPKG, 64 << 20).await?.unwrap_or_default();
        Ok(packages(&String::from_utf8_lossy(&status)))
    }
}

fn walk(here: &Path, name: &str, found: &mut Vec<String>) -> io::Result<()> {
    let entries = match fs::read_dir(here) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        // Others are none of Kubernetes'.
        let Ok(file) = entry.file_name().into_string() else {
            continue;
        };
        let name = format!("{name}/{file}");
        match entry.file_type()? {
            kind if kind.is_dir() => walk(&entry.path(), &name, found)?,
            kind if kind.is_file() => found.push(name),
            kind if kind.is_symlink() => {
                let to = fs::metadata(entry.path());
                if to.is_ok_and(|to| to.is_file() || to.is_dir()) {
                    found.push(name);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn read(root: &Path, here: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let real = match here.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        real => real?,
    };
    if !real.is_file() {
        return Ok(None);
    }
    if !real.starts_with(root.canonicalize()?) {
        return Err(io::Error::other("it leads out of the node's file system"));
    }
    let mut bytes = Vec::new();
    File::open(real)?.take(limit).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Installed packages of interest in dpkg's status file.
fn packages(status: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for paragraph in status.split("\n\n") {
        let field = |name: &str| {
            let mut lines = paragraph.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let installed = field("Status").is_some_and(|status| status.ends_with(" installed"));
        if let (Some(name), Some(version), true) = (field("Package"), field("Version"), installed)
            && PACKAGES.contains(&name)
        {
            found.insert(name.to_owned(), version.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_installed_packages() {
        let status = "Package: kubelet\nStatus: hold ok installed\nVersion: 1.36.2-1.1\n\n\
                      Package: kubeadm\nStatus: deinstall ok config-files\nVersion: 1.35.0-1.1\n\n\
                      Package: bash\nStatus: install ok installed\nVersion: 5.2\n";
        let found = packages(status);
        assert_eq!(
            found,
            [("kubelet".to_owned(), "1.36.2-1.1".to_owned())].into()
        );
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn links_out_of_the_folder_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let pki = folder.path().join("root/etc/kubernetes/pki");
        fs::create_dir_all(&pki).unwrap();
        fs::write(folder.path().join("secret"), "outside").unwrap();
        fs::write(pki.join("ca.crt"), "a certificate").unwrap();
        std::os::unix::fs::symlink("ca.crt", pki.join("link.crt")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("secret"), pki.join("out.crt")).unwrap();
        std::os::unix::fs::symlink("..", pki.join("circle")).unwrap();
        std::os::unix::fs::symlink(folder.path(), pki.join("folder")).unwrap();
        let node = FolderNode::new("cp-1", folder.path().join("root"));
        let listed = node.list("/etc/kubernetes").await.unwrap();
        let names = ["ca.crt", "circle", "folder", "link.crt", "out.crt"];
        assert_eq!(
            listed,
            names.map(|name| format!("/etc/kubernetes/pki/{name}"))
        );
        let read = |name: &str| {
            let path = format!("/etc/kubernetes/pki/{name}");
            let node = node.clone();
            async move { node.read(&path, 4).await }
        };
        assert_eq!(read("link.crt").await.unwrap().unwrap(), b"a ce");
        for none in ["gone", "circle", "folder"] {
            assert_eq!(read(none).await.unwrap(), None);
        }
        let error = read("out.crt").await.unwrap_err().to_string();
        assert!(
            error.contains("out.crt") && !error.contains("outside"),
            "{error}"
        );
        assert!(node.list("/nowhere").await.unwrap().is_empty());
    }
}
