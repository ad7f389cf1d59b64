#!/bin/bash
# The start of the load balancer, inside its own namespaces: the program is of
# the nodes' file system, its files are of STATE, the address is ADDRESS.
set -euo pipefail
mount --make-rprivate /
mount --bind "$STATE" "$ROOTFS/mnt"
mount --bind /dev "$ROOTFS/dev"
ip link set lo up
tries=0
until ip link show eth0 > /dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] || { echo "no network device came" >&2; exit 1; }
    sleep 0.05
done
ip addr add "$ADDRESS/24" dev eth0
ip link set eth0 up
exec chroot "$ROOTFS" /usr/sbin/haproxy -db -f /mnt/haproxy.cfg
