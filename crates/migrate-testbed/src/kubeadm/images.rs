//! Container images made by hand, for a registry is out of reach: archives of
//! one layer, as `ctr images import` reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::command::run;
use super::sha256;
use crate::binaries::NodeBinaries;
use crate::releases::KubeadmParts;
use crate::{Binaries, Error};

/// Stands where a registry's name stands; nothing is ever fetched from it.
pub(crate) const REPOSITORY: &str = "testbed.local";

const PAUSE: &str = include_str!("files/pause.sh");
const BUSYBOX: &str = "bin/busybox";
const SHELL: &str = "usr/bin/dash";
const NETCAT: &str = "usr/bin/nc.openbsd";

/// A user without any rights, for programs that want one with a name, as OpenSSH does.
const USERS: &str = "nonroot:x:65532:65532::/tmp:/sbin/nologin\n";

/// What kube-proxy calls, with everything that loads.
const PACKET_FILTERS: [&str; 3] = [
    "usr/sbin/xtables-nft-multi",
    "usr/sbin/xtables-legacy-multi",
    "usr/sbin/conntrack",
];
const EXTENSIONS: &str = "usr/lib/x86_64-linux-gnu/xtables";
const IPTABLES: [&str; 6] = [
    "iptables",
    "iptables-save",
    "iptables-restore",
    "ip6tables",
    "ip6tables-save",
    "ip6tables-restore",
];

/// How long an image is kept when another of its name is made.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// The archives of one release, in the cache.
#[derive(Clone, Debug, Default)]
pub(super) struct Images {
    /// Only control-plane nodes run these.
    pub(super) control_plane: Vec<PathBuf>,
    /// Every node runs these.
    pub(super) everywhere: Vec<PathBuf>,
}

impl Images {
    /// Makes what is not in the cache yet.
    pub(super) fn find_or_build(
        binaries: &NodeBinaries,
        parts: &KubeadmParts,
        rootfs: &Path,
    ) -> Result<Self, Error> {
        let folder = cached_in()?;
        let version = format!("v{}", binaries.control_plane.release.kubernetes);
        let program = |name: &str, tag: &str, path: &Path| {
            let inside = format!("usr/local/bin/{name}");
            let image = Image::new(name, tag, [format!("/{inside}")]).with(&inside, path);
            image.store(&folder)
        };
        let plane = &binaries.control_plane;
        let mut images = Self::default();
        for (name, path) in [
            ("kube-apiserver", &plane.kube_apiserver),
            ("kube-controller-manager", &plane.kube_controller_manager),
            ("kube-scheduler", &plane.kube_scheduler),
        ] {
            images.control_plane.push(program(name, &version, path)?);
        }
        let tag = format!("{}-0", parts.etcd);
        let etcd = Image::new("etcd", &tag, ["/usr/local/bin/etcd"])
            .with("usr/local/bin/etcd", &binaries.etcd)
            .with("usr/local/bin/etcdctl", &binaries.etcdctl);
        images.control_plane.push(etcd.store(&folder)?);
        let tag = format!("v{}", parts.coredns);
        images
            .everywhere
            .push(program("coredns", &tag, &binaries.coredns)?);
        let pause = Image::new("pause", parts.pause, ["/bin/busybox", "sh", "/pause.sh"])
            .with(BUSYBOX, &rootfs.join(BUSYBOX))
            .with_text("pause.sh", &PAUSE.replace("@PAUSE@", parts.pause));
        images.everywhere.push(pause.store(&folder)?);
        let proxy = kube_proxy(&version, &binaries.kube_proxy, rootfs)?;
        images.everywhere.push(proxy.store(&folder)?);
        Ok(images)
    }
}

fn kube_proxy(version: &str, program: &Path, rootfs: &Path) -> Result<Image, Error> {
    let extensions = fs::read_dir(rootfs.join(EXTENSIONS))
        .map_err(Error::io("reading the packet filter's extensions"))?;
    let mut files: BTreeSet<String> = extensions
        .flatten()
        .filter_map(|entry| Some(format!("{EXTENSIONS}/{}", entry.file_name().to_str()?)))
        .filter(|path| path.ends_with(".so"))
        .collect();
    files.extend(PACKET_FILTERS.map(str::to_owned));
    files.extend(libraries_within(rootfs, &files)?);
    files.insert(BUSYBOX.to_owned());
    let mut image = Image::new("kube-proxy", version, Vec::<String>::new())
        .with("usr/local/bin/kube-proxy", program);
    for file in files {
        image = image.with(&file, &rootfs.join(&file));
    }
    for name in IPTABLES {
        let target = rootfs.join("usr/sbin/xtables-nft-multi");
        image = image.with(&format!("usr/sbin/{name}"), &target);
    }
    Ok(image)
}

/// An image `shell:1` with a shell and a netcat of the nodes' file system, each by
/// its usual name. Not busybox: Debian's runs its own `nc`, which knows no `-z`,
/// whatever else is called so.
pub(super) fn of_shell(rootfs: &Path) -> Result<PathBuf, Error> {
    let mut image = Image::new("shell", "1", ["/bin/sh"])
        .with("bin/sh", &rootfs.join(SHELL))
        .with("usr/bin/nc", &rootfs.join(NETCAT));
    let programs = BTreeSet::from([SHELL, NETCAT].map(str::to_owned));
    for library in libraries_within(rootfs, &programs)? {
        image = image.with(&library, &rootfs.join(&library));
    }
    image.store(&cached_in()?)
}

/// An image of one program of this machine with the libraries it loads, called
/// `NAME:1`. Programs that it calls are where they are here, and then there is a
/// [`USERS`] too.
pub(super) fn of_program(name: &str, program: &Path, calls: &[PathBuf]) -> Result<PathBuf, Error> {
    let folder = cached_in()?;
    let inside = format!("usr/local/bin/{name}");
    let mut image = Image::new(name, "1", [format!("/{inside}")]).with(&inside, program);
    if !calls.is_empty() {
        image = image.with_text("etc/passwd", USERS);
    }
    for called in calls {
        let inside = called.strip_prefix("/").unwrap_or(called);
        image = image.with(&inside.to_string_lossy(), called);
    }
    for library in libraries(Command::new("ldd").arg(program).args(calls))? {
        image = image.with(&library, &Path::new("/").join(&library));
    }
    image.store(&folder)
}

/// Removes images of a name that nobody has made for a day: of programs that have been
/// built anew since. One that is removed all the same is made again.
fn remove_old(folder: &Path, prefix: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_of_it = entry.file_name().to_string_lossy().starts_with(prefix);
        let made = entry.metadata().and_then(|data| data.modified());
        let age = made.ok().and_then(|at| at.elapsed().ok());
        if is_of_it && age.is_some_and(|age| age > KEPT) {
            // Somebody else may have been faster.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The libraries that files of the nodes' file system load.
fn libraries_within(rootfs: &Path, files: &BTreeSet<String>) -> Result<BTreeSet<String>, Error> {
    let mut ldd = Command::new("chroot");
    ldd.arg(rootfs).arg("ldd");
    ldd.args(files.iter().map(|path| format!("/{path}")));
    libraries(&mut ldd)
}

/// The libraries that `ldd` names, without a slash before.
fn libraries(ldd: &mut Command) -> Result<BTreeSet<String>, Error> {
    let output = run("ldd", ldd)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter(|line| line.starts_with('\t'));
    let paths = lines.filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths
        .map(|path| path.trim_start_matches('/').to_owned())
        .collect())
}

fn cached_in() -> Result<PathBuf, Error> {
    let folder = Binaries::cache()?.join("images");
    fs::create_dir_all(&folder).map_err(Error::io(format!("making {}", folder.display())))?;
    Ok(folder)
}

/// An image to be: files by the path they have inside, without a slash before.
struct Image {
    name: String,
    tag: String,
    entrypoint: Vec<String>,
    files: BTreeMap<String, Content>,
}

enum Content {
    /// Of a file outside; links are followed.
    File(PathBuf),
    Text(String),
}

impl Image {
    fn new(name: &str, tag: &str, entrypoint: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            name: name.to_owned(),
            tag: tag.to_owned(),
            entrypoint: entrypoint.into_iter().map(Into::into).collect(),
            files: BTreeMap::new(),
        }
    }

    fn with(mut self, path: &str, from: &Path) -> Self {
        self.files
            .insert(path.to_owned(), Content::File(from.to_owned()));
        self
    }

    fn with_text(mut self, path: &str, text: &str) -> Self {
        self.files
            .insert(path.to_owned(), Content::Text(text.to_owned()));
        self
    }

    /// Writes the archive into a folder unless it is there already.
    fn store(&self, folder: &Path) -> Result<PathBuf, Error> {
        let file = folder.join(format!(
            "{}-{}-{}.tar",
            self.name,
            self.tag,
            self.fingerprint()?
        ));
        if file.is_file() {
            return Ok(file);
        }
        remove_old(folder, &format!("{}-{}-", self.name, self.tag));
        let storing = || format!("storing the image {}", file.display());
        let partial = tempfile::NamedTempFile::new_in(folder).map_err(Error::io(storing()))?;
        self.write(partial.as_file())
            .map_err(Error::io(storing()))?;
        partial
            .persist(&file)
            .map_err(|error| Error::io(storing())(error.error))?;
        Ok(file)
    }

    /// Of what decides the content; files by size and time of change.
    fn fingerprint(&self) -> Result<String, Error> {
        let mut text = format!("{:?}", self.entrypoint);
        for (path, content) in &self.files {
            text += path;
            match content {
                Content::Text(lines) => text += lines,
                Content::File(from) => {
                    let data = fs::metadata(from)
                        .map_err(Error::io(format!("looking at {}", from.display())))?;
                    text += &format!(" {} {:?}", data.len(), data.modified().ok());
                }
            }
        }
        Ok(super::fingerprint(&text))
    }

    fn write(&self, to: &File) -> std::io::Result<()> {
        let layer = self.layer()?;
        let layer_digest = sha256(&layer);
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Entrypoint": self.entrypoint,
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
            "history": [{"created_by": "migrate-testbed"}],
        })
        .to_string();
        let config_name = format!("{}.json", sha256(config.as_bytes()));
        let manifest = json!([{
            "Config": config_name,
            "RepoTags": [format!("{REPOSITORY}/{}:{}", self.name, self.tag)],
            "Layers": ["layer.tar"],
        }])
        .to_string();
        let mut archive = tar::Builder::new(to);
        append(&mut archive, &config_name, 0o644, config.as_bytes())?;
        append(&mut archive, "layer.tar", 0o644, &layer)?;
        append(&mut archive, "manifest.json", 0o644, manifest.as_bytes())?;
        archive.finish()
    }

    fn layer(&self) -> std::io::Result<Vec<u8>> {
        let mut layer = tar::Builder::new(Vec::new());
        let mut folders = BTreeSet::from(["etc".to_owned(), "tmp".to_owned()]);
        for path in self.files.keys() {
            let parents = Path::new(path).ancestors().skip(1);
            folders.extend(parents.filter_map(|parent| Some(parent.to_str()?.to_owned())));
        }
        for folder in folders.iter().filter(|folder| !folder.is_empty()) {
            let mut header = header(if folder == "tmp" { 0o1777 } else { 0o755 }, 0);
            header.set_entry_type(tar::EntryType::Directory);
            layer.append_data(&mut header, format!("{folder}/"), std::io::empty())?;
        }
        for (path, content) in &self.files {
            match content {
                Content::Text(text) => append(&mut layer, path, 0o755, text.as_bytes())?,
                Content::File(from) => append(&mut layer, path, 0o755, &fs::read(from)?)?,
            }
        }
        layer.into_inner()
    }
}

fn append<W: std::io::Write>(
    archive: &mut tar::Builder<W>,
    path: &str,
    mode: u32,
    bytes: &[u8],
) -> std::io::Result<()> {
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    archive.append_data(&mut header(mode, size), path, bytes)
}

fn header(mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header
}
