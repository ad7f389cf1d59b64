# survey ROOT: what an upgrade could trip over, a line each. Changes nothing.
survey() {
    local root=$1 kubernetes=$1/etc/kubernetes file server copies
    echo "cgroup $(stat --file-system --format=%T "$root/sys/fs/cgroup" 2> /dev/null || echo unknown)"
    if grep -Eq '^failCgroupV1: *false' "$root/var/lib/kubelet/config.yaml" 2> /dev/null; then
        echo 'fail-cgroup-v1 false'
    fi
    [ -e "$kubernetes/manifests/kube-apiserver.yaml" ] || return 0
    manifest_lines "$kubernetes" kube-apiserver kube-controller-manager kube-scheduler
    echo "address $(hostname -I 2> /dev/null || true)"
    for file in controller-manager scheduler; do
        server=$(sed -n 's/^ *server: *"\{0,1\}\([^" ]*\).*/\1/p' "$kubernetes/$file.conf" 2> /dev/null || true)
        if [ -n "$server" ]; then echo "server $file $server"; fi
    done
    # kubeadm copies the database of a stacked etcd to its own folder.
    if [ -e "$kubernetes/manifests/etcd.yaml" ] && [ -d "$root/var/lib/etcd" ]; then
        echo "etcd-kib $(du -sk "$root/var/lib/etcd" | cut -f1)"
        copies=$kubernetes/tmp
        if [ ! -d "$copies" ]; then copies=$kubernetes; fi
        echo "free-kib $(df -Pk "$copies" | awk 'NR == 2 { print $4 }')"
    fi
    echo "certificates $(timeout 30 kubeadm certs check-expiration -o json 2> /dev/null | tr -d '\n' || true)"
}
