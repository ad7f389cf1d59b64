//! What this machine lets a test do, and its control groups.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Error;

/// Begins the name of every control group of ours; the id and the start time
/// of the owning process follow, so that leftovers can be told from others', and
/// which of its clusters it is.
const MARK: &str = "kube-migrate-testbed-";

/// Names of hierarchies that hold the groups of a node.
const V1_CONTROLLERS: [&str; 8] = [
    "cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids",
];

/// The hierarchy of v2 that lies beside those of v1, with no controllers.
const BESIDE: &str = "unified";

/// What every node needs of control groups v2, as the kernel names it.
const V2_CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// With v2 a group that passes controllers on holds no process itself. What
/// enters a node from outside goes into this group below the node's.
const ENTRANCE: &str = "testbed";

/// The control groups of this machine as far as nodes need them.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    layout: Layout,
    owner: String,
}

#[derive(Clone, Debug)]
enum Layout {
    /// One hierarchy for each controller, and [`BESIDE`] where there is one: its name
    /// and our own group in it.
    V1(Vec<(&'static str, PathBuf)>),
    /// Where the only hierarchy is, and the group in it where nodes get theirs.
    V2 { root: PathBuf, own: PathBuf },
}

impl Machine {
    /// Looks whether nodes can be made here, and removes what earlier
    /// processes that were killed have left.
    pub(super) fn check() -> Result<Self, Error> {
        let refuse = |reason: &str| Error::NoNamespaces {
            reason: reason.to_owned(),
        };
        // The id of the user that opened it; `metadata` needs no unsafe call.
        let user = std::os::unix::fs::MetadataExt::uid(
            &fs::metadata("/proc/self").map_err(Error::io("looking at this process"))?,
        );
        if user != 0 {
            return Err(refuse("this user is not root"));
        }
        let unshare = [
            "--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup", "--fork",
        ];
        let tried = Command::new("unshare").args(unshare).arg("true").output();
        match tried {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                return Err(refuse(&format!("namespaces are refused ({})", said.trim())));
            }
            Err(error) => return Err(refuse(&format!("unshare cannot be run ({error})"))),
        }
        let own = fs::read_to_string("/proc/self/cgroup")
            .map_err(Error::io("reading the control groups of this process"))?;
        let mounts = fs::read_to_string("/proc/self/mounts")
            .map_err(Error::io("reading the mounts of this process"))?;
        let mut layout = Layout::of(&own, &mounts)
            .ok_or_else(|| refuse("it has neither the control groups v1 nor v2 that nodes need"))?;
        if let Layout::V2 { root, own } = &mut layout {
            *own = passes_on(root, own).ok_or_else(|| {
                refuse(&format!(
                    "no control group from {} up to {} passes the controllers {} on; let one \
                     do so (echo '+cpu +memory +pids' > {}/cgroup.subtree_control)",
                    own.display(),
                    root.display(),
                    V2_CONTROLLERS.join(", "),
                    root.display()
                ))
            })?;
        }
        // Clusters of one process have groups of their own, as those of several have.
        static CLUSTERS: AtomicU32 = AtomicU32::new(0);
        let cluster = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let start = started(process::id()).unwrap_or(0);
        let owner = format!("{}-{start}-{cluster}", process::id());
        let machine = Self { layout, owner };
        machine.reap();
        Ok(machine)
    }

    /// As the kubelet's `cgroupDriver`.
    pub(super) fn uses_systemd_driver(&self) -> bool {
        matches!(self.layout, Layout::V2 { .. })
    }

    /// The v1 controllers that a node mounts again, separated by spaces; empty
    /// with v2.
    pub(super) fn controllers(&self) -> String {
        match &self.layout {
            Layout::V1(all) => {
                let names = all.iter().map(|(name, _)| *name);
                names
                    .filter(|name| !["systemd", BESIDE].contains(name))
                    .collect::<Vec<_>>()
                    .join(" ")
            }
            Layout::V2 { .. } => String::new(),
        }
    }

    /// Makes the groups of a node.
    pub(super) fn create(&self, node: &str) -> Result<Groups, Error> {
        let name = format!("{MARK}{}-{node}", self.owner);
        let mut folders = Vec::new();
        for (controller, parent) in self.parents() {
            let folder = parent.join(&name);
            let making = || format!("making the control group {}", folder.display());
            fs::create_dir_all(&folder).map_err(Error::io(making()))?;
            if controller == "cpuset" {
                // An empty set admits no process.
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    fs::copy(parent.join(file), folder.join(file)).map_err(Error::io(making()))?;
                }
                fs::write(folder.join("cgroup.clone_children"), "1")
                    .map_err(Error::io(making()))?;
            }
            folders.push(folder);
        }
        let unified = matches!(self.layout, Layout::V2 { .. });
        Ok(Groups { folders, unified })
    }

    fn parents(&self) -> Vec<(&'static str, PathBuf)> {
        match &self.layout {
            Layout::V1(all) => all.clone(),
            Layout::V2 { own, .. } => vec![("", own.clone())],
        }
    }

    /// Removes groups whose owner is gone, with what still runs in them.
    fn reap(&self) {
        for (_, parent) in self.parents() {
            let Ok(entries) = fs::read_dir(&parent) else {
                continue;
            };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let abandoned = name
                    .to_str()
                    .and_then(owner_of)
                    .is_some_and(|(pid, start)| started(pid) != Some(start));
                if abandoned {
                    end_and_remove(&entry.path());
                }
            }
        }
    }
}

impl Layout {
    /// From `/proc/self/cgroup` and `/proc/self/mounts`.
    fn of(own: &str, mounts: &str) -> Option<Self> {
        let mounted = |kind: &str, option: &str| {
            mounts.lines().find_map(|line| {
                let mut words = line.split(' ').skip(1);
                let (at, what, options) = (words.next()?, words.next()?, words.next()?);
                let fits = what == kind
                    && (option.is_empty() || options.split(',').any(|word| word == option));
                fits.then(|| PathBuf::from(at))
            })
        };
        let own_group = |controller: &str| {
            own.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let (names, path) = (parts.next()?, parts.next()?);
                let fits = names.split(',').any(|name| name == controller);
                fits.then(|| path.trim_start_matches('/').to_owned())
            })
        };
        let v1: Option<Vec<_>> = V1_CONTROLLERS
            .into_iter()
            .map(|name| Some((name, mounted("cgroup", name)?.join(own_group(name)?))))
            .collect();
        if let Some(mut all) = v1 {
            let systemd = mounted("cgroup", "name=systemd")?.join(own_group("name=systemd")?);
            all.push(("systemd", systemd));
            // Beside these a node's systemd and runtime use v2 where there is one, and static
            // pods have the same names in every cluster. One that cannot be written is used by
            // nobody.
            let beside = mounted("cgroup2", "rw").zip(own_group(""));
            all.extend(beside.map(|(root, own)| (BESIDE, root.join(own))));
            return Some(Self::V1(all));
        }
        let root = mounted("cgroup2", "")?;
        let own = root.join(own_group("")?);
        Some(Self::V2 { root, own })
    }
}

/// The nearest group, from one up to the root, that gives groups below it all
/// that nodes need. None is told to: the machine stays as it is.
fn passes_on(root: &Path, own: &Path) -> Option<PathBuf> {
    let mut upwards = own.ancestors().take_while(|group| group.starts_with(root));
    let passes = |group: &&Path| {
        let text = fs::read_to_string(group.join("cgroup.subtree_control")).unwrap_or_default();
        let passed: Vec<&str> = text.split_whitespace().collect();
        V2_CONTROLLERS.iter().all(|name| passed.contains(name))
    };
    upwards.find(passes).map(Path::to_owned)
}

/// The control groups of one node; dropping it removes them.
#[derive(Debug)]
pub(super) struct Groups {
    folders: Vec<PathBuf>,
    unified: bool,
}

impl Groups {
    /// Makes them as they were before the node was switched on: with v2, what
    /// an earlier boot passed on to groups below would keep the next one's
    /// first process out. Blocks while what is left there ends.
    pub(super) fn renew(&self) -> Result<(), Error> {
        for folder in self.folders.iter().filter(|_| self.unified) {
            end_and_remove(folder);
            let entrance = folder.join(ENTRANCE);
            fs::create_dir_all(&entrance).map_err(Error::io(format!(
                "making the control group {}",
                entrance.display()
            )))?;
        }
        Ok(())
    }

    /// A shell command line that moves its shell into the groups themselves and
    /// then becomes `"$@"`, for a node's first process: systemd moves on from
    /// there.
    pub(super) fn begin(&self) -> String {
        move_to(self.folders.iter().cloned())
    }

    /// The same for whatever a node's systemd does not start itself: it must be
    /// moved, or a kubelet restarted from there would live outside.
    pub(super) fn enter(&self) -> String {
        let below = if self.unified { ENTRANCE } else { "" };
        move_to(self.folders.iter().map(|folder| folder.join(below)))
    }
}

fn move_to(groups: impl Iterator<Item = PathBuf>) -> String {
    let mut script = String::new();
    for group in groups {
        // 0 is who writes, also where process ids are others than outside.
        script += &format!("echo 0 > '{}' && ", group.join("cgroup.procs").display());
    }
    script + r#"exec "$@""#
}

impl Drop for Groups {
    fn drop(&mut self) {
        for folder in &self.folders {
            end_and_remove(folder);
        }
    }
}

/// `(pid, start time)` in the name of a group of ours.
fn owner_of(name: &str) -> Option<(u32, u64)> {
    let mut parts = name.strip_prefix(MARK)?.split('-');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// When a process began, in clock ticks since boot; `None` if it is gone.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything, but not a last closing bracket.
    let (_, after) = stat.rsplit_once(") ")?;
    after.split(' ').nth(19)?.parse().ok()
}

/// Kills what runs in a group of a node and removes it, deepest groups first.
#[allow(
    clippy::disallowed_methods,
    reason = "run when dropped, and by a node that boots beside its runtime; mostly the first try does it"
)]
fn end_and_remove(folder: &Path) {
    for _ in 0..100 {
        let mut groups = Vec::new();
        collect(folder, &mut groups);
        if groups.is_empty() {
            return;
        }
        for group in groups.iter().rev() {
            let inside = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            let pids: Vec<&str> = inside.lines().filter(|pid| *pid != "0").collect();
            if !pids.is_empty() {
                Command::new("kill").arg("-KILL").args(pids).output().ok();
            }
            fs::remove_dir(group).ok();
        }
        if !folder.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// The groups at and below a folder, parents first.
fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    into.push(folder.to_owned());
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), into);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_comes_from_what_the_kernel_says() {
        let hierarchies = V1_CONTROLLERS.iter().enumerate();
        let mut own = "1:name=systemd:/\n0::/\n".to_owned();
        let mut mounts = "cgroup /c/systemd cgroup rw,name=systemd 0 0\n".to_owned();
        for (index, name) in hierarchies {
            own += &format!("{}:{name}:/own\n", index + 2);
            mounts += &format!("cgroup /c/{name} cgroup rw,relatime,{name} 0 0\n");
        }
        let Some(Layout::V1(all)) = Layout::of(&own, &mounts) else {
            panic!("not v1");
        };
        assert!(all.contains(&("memory", "/c/memory/own".into())), "{all:?}");
        assert_eq!(all.last(), Some(&("systemd", "/c/systemd".into())));
        mounts += "cgroup2 /c/unified cgroup2 rw,relatime 0 0\n";
        let Some(Layout::V1(all)) = Layout::of(&own, &mounts) else {
            panic!("not v1");
        };
        assert_eq!(all.last(), Some(&(BESIDE, "/c/unified".into())));
        let closed = mounts.replace("cgroup2 rw", "cgroup2 ro");
        let Some(Layout::V1(all)) = Layout::of(&own, &closed) else {
            panic!("not v1");
        };
        assert_eq!(all.last(), Some(&("systemd", "/c/systemd".into())));

        let v2 = Layout::of(
            "0::/user.slice\n",
            "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n",
        );
        assert!(
            matches!(&v2, Some(Layout::V2 { root, own }) if root == Path::new("/sys/fs/cgroup")
                && own == Path::new("/sys/fs/cgroup/user.slice")),
            "{v2:?}"
        );
        assert!(Layout::of("", "").is_none());
    }

    #[test]
    fn nodes_go_where_controllers_are_passed_on() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("cgroup");
        let own = root.join("a.slice/b.service");
        fs::create_dir_all(&own).unwrap();
        let pass = |group: &Path, names: &str| {
            fs::write(group.join("cgroup.subtree_control"), names).unwrap();
        };
        // Of a group above the hierarchy nothing is read.
        pass(folder.path(), "cpu memory pids\n");
        pass(&own, "");
        pass(&root.join("a.slice"), "memory pids\n");
        assert_eq!(passes_on(&root, &own), None);
        pass(&root, "cpuset cpu io memory pids\n");
        assert_eq!(passes_on(&root, &own), Some(root.clone()));
        pass(&own, "cpu memory pids\n");
        assert_eq!(passes_on(&root, &own), Some(own.clone()));
    }

    #[test]
    fn with_v2_only_the_first_process_is_in_the_group_itself() {
        let groups = |unified| Groups {
            folders: vec!["/nowhere/node1".into()],
            unified,
        };
        let begun = "echo 0 > '/nowhere/node1/cgroup.procs' && exec \"$@\"";
        assert_eq!(groups(true).begin(), begun);
        assert_eq!(
            groups(true).enter(),
            "echo 0 > '/nowhere/node1/testbed/cgroup.procs' && exec \"$@\""
        );
        assert_eq!(groups(false).begin(), begun);
        assert_eq!(groups(false).enter(), begun);
    }

    #[test]
    fn owners_are_named_by_their_groups() {
        assert_eq!(
            owner_of("kube-migrate-testbed-12-3456-0-node-1"),
            Some((12, 3456))
        );
        assert_eq!(owner_of("docker-12-3456"), None);
        let own = process::id();
        assert!(started(own).is_some_and(|ticks| ticks > 0));
    }
}
