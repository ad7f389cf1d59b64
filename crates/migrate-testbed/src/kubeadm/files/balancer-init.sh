# The start of the load balancer, inside its own namespaces: the program is of
# the nodes' file system, its files are of STATE, the address is ADDRESS.
set -euo pipefail
mount --make-rprivate /
mount --bind "$STATE" "$ROOTFS/mnt"
mount --bind /dev "$ROOTFS/dev"
take_address "$ADDRESS"
exec chroot "$ROOTFS" /usr/sbin/haproxy -db -f /mnt/haproxy.cfg
