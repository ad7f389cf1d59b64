//! What goes wrong on a node. Nothing of it outlives the cluster.

use super::node::Node;
use crate::Error;

/// What is free on a full disk once it has been cleared, in KiB.
const ROOM: u64 = 256 * 1024;

/// A file system of the node's own takes the folder's place, with the same in it.
const FILL: &str = r#"
    if [ ! -e "$1/.testbed-full" ] && ! mountpoint -q "$1"; then
        mkdir -p /run/testbed
        new=$(mktemp -d /run/testbed/disk-XXXXXX)
        used=$(du -sk "$1" | cut -f 1)
        mount -t tmpfs -o "size=$((used + used / 8 + $3))k" disk "$new"
        cp -a "$1/." "$new/"
        mount --bind "$new" "$1"
    fi
    free=$(df -k --output=avail "$1" | tail -n 1)
    if [ "$free" -gt "$2" ]; then
        head -c $(((free - $2) * 1024)) /dev/zero > "$1/.testbed-full"
    fi
"#;

impl Node {
    /// Kills the kubelet; systemd starts it again.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn kill_kubelet(&self) -> Result<(), Error> {
        self.signal_kubelet("KILL").await
    }

    /// Stops the kubelet in the middle of what it does, until
    /// [`thaw_kubelet`](Self::thaw_kubelet).
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn freeze_kubelet(&self) -> Result<(), Error> {
        self.signal_kubelet("STOP").await
    }

    /// Lets the kubelet go on.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn thaw_kubelet(&self) -> Result<(), Error> {
        self.signal_kubelet("CONT").await
    }

    async fn signal_kubelet(&self, signal: &str) -> Result<(), Error> {
        let signal = format!("--signal={signal}");
        self.run(&["systemctl", "kill", "--kill-whom=main", &signal, "kubelet"])
            .await
            .map(drop)
    }

    /// Fills the disk under a folder until no more than `free` KiB are left on
    /// it. What is in the folder stays; what is written there from now on is
    /// lost when the node is rebooted.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn fill_disk(&self, folder: &str, free: u64) -> Result<(), Error> {
        let (free, room) = (free.to_string(), ROOM.to_string());
        let bash = ["bash", "-euo", "pipefail", "-c", FILL, "fill"];
        self.run(&[&bash[..], &[folder, &free, &room]].concat())
            .await
            .map(drop)
    }

    /// Clears the disk that [`fill_disk`](Self::fill_disk) has filled: some 256
    /// MiB are free.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn clear_disk(&self, folder: &str) -> Result<(), Error> {
        let full = format!("{folder}/.testbed-full");
        self.run(&["rm", "-f", &full]).await.map(drop)
    }

    /// Takes an image off the node, which cannot pull it again.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn remove_image(&self, image: &str) -> Result<(), Error> {
        let words = ["ctr", "--namespace", "k8s.io", "images", "rm", "--sync"];
        self.run(&[&words[..], &[image]].concat()).await.map(drop)
    }
}
