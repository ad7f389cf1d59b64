# The start of a node, inside its own namespaces, before systemd takes over as
# pid 1. The environment says which node: NODE, NAME, ADDRESS, PEERS (lines of
# "address name pod-subnet"), STATE (its folder), ROOTFS, SHARED (read-only for
# every node: images, packages), VOLUMES (every node may write there), ETCD_IN_MEMORY.
set -euo pipefail
root=$STATE/root
mount --make-rprivate /

# The node's own file system: the shared one below, its changes above. Storage
# on which containerd mounts overlays itself must not be an overlay.
mkdir -p "$STATE"/{changes,work,console} "$root" "$STATE"/var/{containerd,kubelet,etcd,log,kube-migrate}
mount -t overlay overlay -o "lowerdir=$ROOTFS,upperdir=$STATE/changes,workdir=$STATE/work" "$root"
for pair in containerd:lib/containerd kubelet:lib/kubelet etcd:lib/etcd log:log; do
    mkdir -p "$root/var/${pair#*:}"
    mount --bind "$STATE/var/${pair%%:*}" "$root/var/${pair#*:}"
done
mkdir -p "$root/srv/testbed"
mount --bind "$SHARED" "$root/srv/testbed"
mount -o remount,bind,ro "$root/srv/testbed"
mkdir -p "$root/srv/volumes"
mount --bind "$VOLUMES" "$root/srv/volumes"
if [ "$ETCD_IN_MEMORY" = true ]; then
    mkdir -p "$root/var/lib/etcd"
    mount -t tmpfs -o mode=700 etcd "$root/var/lib/etcd"
fi

mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty kmsg fuse; do
    [ -e "/dev/$device" ] || continue
    : > "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root"/dev/{pts,shm,mqueue}
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t mqueue mqueue "$root/dev/mqueue"
ln -s /proc/self/fd "$root/dev/fd"
for stream in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${stream%%:*}" "$root/dev/${stream#*:}"; done
: > "$root/dev/console"
: > "$STATE/console.log"
mount --bind "$STATE/console.log" "$root/dev/console"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mkdir -p "$root"/run/{lock,testbed}

# Only this node's part of the control groups can be seen from inside.
if [ -n "${CGROUP_CONTROLLERS:-}" ]; then
    mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
    for controller in $CGROUP_CONTROLLERS; do
        mkdir "$root/sys/fs/cgroup/$controller"
        mount -t cgroup -o "$controller" cgroup "$root/sys/fs/cgroup/$controller"
    done
    mkdir "$root/sys/fs/cgroup/systemd"
    mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
else
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
fi

# Settings of the whole machine stay as they are: read-only, and those that the
# kubelet insists on are files of the node's own. What belongs to the network
# namespace is the node's to change.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount --bind /proc/sys/net "$root/proc/sys/net"
shadow() {
    local file=$root/run/testbed/${1//\//_}
    echo "$2" > "$file"
    mount --bind "$file" "$root/proc/sys/$1"
}
shadow vm/overcommit_memory 1
shadow vm/panic_on_oom 0
shadow kernel/panic 10
shadow kernel/panic_on_oops 1
shadow kernel/keys/root_maxkeys 1000000
shadow kernel/keys/root_maxbytes 25000000
# A kernel that is a process names no clock speed, without which a kubelet ends.
if ! grep -q 'cpu MHz' /proc/cpuinfo; then
    { cat /proc/cpuinfo; echo 'cpu MHz : 1000.000'; } > "$root/run/testbed/cpuinfo"
    mount --bind "$root/run/testbed/cpuinfo" "$root/proc/cpuinfo"
fi
echo 1 > /proc/sys/net/ipv4/ip_forward

hostname "$NAME"
echo "$NAME" > "$root/etc/hostname"
{
    echo "127.0.0.1 localhost"
    while read -r address name _; do echo "$address $name"; done <<< "$PEERS"
} > "$root/etc/hosts"
# Nobody answers there: names of the cluster are all there is. An address of
# the node's own would be a loop to CoreDNS, which forwards to it.
echo "nameserver $GATEWAY" > "$root/etc/resolv.conf"

# The first boot makes what must differ between nodes; a reboot keeps it.
if [ ! -e "$root/etc/testbed-node" ]; then
    tr -d - < /proc/sys/kernel/random/uuid > "$root/etc/machine-id"
    rm -f "$root"/etc/ssh/ssh_host_*
    chroot "$root" ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
    echo "$NODE" > "$root/etc/testbed-node"
fi

take_address "$ADDRESS"
ip route add default via "$GATEWAY"
while read -r address _ subnet; do
    [ "$address" = "$ADDRESS" ] || [ -z "$subnet" ] || ip route add "$subnet" via "$address"
done <<< "$PEERS"

mkdir -p "$root/oldroot"
cd "$root"
pivot_root . oldroot
umount -l /oldroot
mount --make-rshared /
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --log-target=console --log-level=info < /dev/null > /dev/console 2>&1
