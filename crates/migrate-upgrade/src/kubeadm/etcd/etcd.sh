# What the etcd beside an API server says of its cluster. Changes nothing but,
# when told so, which member leads.

# etcd_state ROOT: lines that `State::read` understands.
etcd_state() {
    local manifests=$1/etc/kubernetes/manifests
    if [ -e "$manifests/kube-apiserver.yaml" ]; then echo 'api-server here'; fi
    # An etcd elsewhere is never touched.
    [ -e "$manifests/etcd.yaml" ] || return 0
    echo 'etcd here'
    etcd_find "$manifests/etcd.yaml"
    [ -n "$container" ] || return 0
    echo 'etcd runs'
    etcd_ask members member list
    # With a member that does not answer, the others are told all the same.
    etcd_ask statuses endpoint status --cluster
    etcd_ask alarms alarm list
}

# etcd_move_leader ROOT MEMBER-ID: from the member of this node to another.
etcd_move_leader() {
    etcd_find "$1/etc/kubernetes/manifests/etcd.yaml"
    [ -n "$container" ] || die "$RETRY" 'etcd does not run here'
    etcdctl move-leader "$2"
}

# etcd_ask NAME WORD...: a line with the answer, if there is one.
etcd_ask() {
    local name=$1 answer
    shift
    answer=$(etcdctl --write-out=json "$@") || true
    if [ -n "$answer" ]; then echo "$name $answer"; fi
}

# etcd_find MANIFEST: sets `container`, empty if it does not run, and what
# etcdctl needs to ask it.
etcd_find() {
    local id running
    endpoint=$(manifest_flag "$1" advertise-client-urls)
    pki=$(manifest_flag "$1" trusted-ca-file)
    pki=${pki%/*}
    container=
    if command -v crictl > /dev/null; then
        container=$(crictl ps --quiet --state running --name '^etcd$' | head -n 1)
    elif command -v ctr > /dev/null; then
        running=$(ctr --namespace k8s.io tasks ls | awk '$3 == "RUNNING" { print $1 }')
        for id in $(ctr --namespace k8s.io containers ls -q 'labels."io.kubernetes.container.name"==etcd'); do
            if grep -Fxq -- "$id" <<< "$running"; then container=$id; fi
        done
    else
        die "$FINAL" 'neither crictl nor ctr is installed: etcd cannot be asked'
    fi
}

# The etcdctl of etcd's own image, as the user that kubeadm has made for it.
etcdctl() {
    local -a words=(etcdctl "--endpoints=$endpoint" "--cacert=$pki/ca.crt"
        "--cert=$pki/healthcheck-client.crt" "--key=$pki/healthcheck-client.key"
        --command-timeout=5s "$@")
    if command -v crictl > /dev/null; then
        crictl exec "$container" "${words[@]}"
    else
        ctr --namespace k8s.io tasks exec --exec-id "kube-migrate-$BASHPID-$RANDOM" "$container" \
            "${words[@]}"
    fi
}
