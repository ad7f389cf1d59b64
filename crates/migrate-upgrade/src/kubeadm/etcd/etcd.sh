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
    endpoint=$(manifest_flag "$1" advertise-client-urls)
    pki=$(manifest_flag "$1" trusted-ca-file)
    pki=${pki%/*}
    container=$(running etcd)
    container=${container%%$'\n'*}
}

# etcd_may_rest ROOT: or ends the step. Whether the member of this node may be
# down for a moment, by what etcd says now and not when the step was begun; one
# that leads hands the lead on.
etcd_may_rest() {
    local manifest=$1/etc/kubernetes/manifests/etcd.yaml said own leader other
    [ -e "$manifest" ] || return 0
    etcd_find "$manifest"
    # What is down takes nothing from the others.
    [ -n "$container" ] || return 0
    said=$(etcdctl endpoint health --cluster 2>&1) \
        || die "$RETRY" "not every member of etcd is well: $(tail -n 3 <<< "$said" | tr '\n' ' ')"
    said=$(etcdctl alarm list) || die "$RETRY" 'etcd does not say whether an alarm is raised'
    [ -z "$said" ] || die "$RETRY" "etcd has raised an alarm: ${said//$'\n'/ }"
    said=$(etcdctl --write-out=fields endpoint status) || die "$RETRY" 'the etcd of this node is silent'
    own=$(sed -n 's/^"MemberID" : //p' <<< "$said")
    leader=$(sed -n 's/^"Leader" : //p' <<< "$said")
    [ "$own" = "$leader" ] || return 0
    said=$(etcdctl --write-out=fields endpoint status --cluster) \
        || die "$RETRY" 'not every member of etcd answers'
    # As texts: the numbers are too large for awk.
    other=$(awk -v own="$own" '$1 == "\"MemberID\"" && $3 "" != own "" { print $3; exit }' <<< "$said")
    # The only member has nobody to hand the lead to.
    [ -n "$other" ] || return 0
    etcdctl move-leader "$(printf '%x' "$other")" \
        || die "$RETRY" 'the etcd of this node leads and could not hand the lead on'
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
