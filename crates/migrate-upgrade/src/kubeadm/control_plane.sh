# control_plane ROOT TARGET REVISION NODE IGNORED SKIPPED PATCHES API-PATIENCE
#
# The kubeadm package, then `kubeadm upgrade apply` or `upgrade node`. Running
# it again after any interruption goes on where it stopped.
control_plane() {
    local root=$1 target=$2 revision=$3 node=$4 ignored=$5 skipped=$6 patience=$8
    local kubernetes=$root/etc/kubernetes mark=$KUBE_MIGRATE_STATE/kubeadm mode
    local patches=${7:+$root$7}
    local -a options=()
    require_patches "$patches"
    note_backups "$kubernetes"
    restore_lost_manifests "$kubernetes" "$mark"
    [ -s "$kubernetes/manifests/kube-apiserver.yaml" ] \
        || die "$FINAL" "no kube-apiserver in $kubernetes/manifests: this is no control plane of kubeadm"
    save_node "$root/var/lib/kubelet"
    update_lists
    install_packages "$target" "$revision" "$BEFORE_DRAIN_UNTOUCHED" kubeadm
    choose "$kubernetes" "$target" "$node" "$mark" "$patience"
    note_manifests "$kubernetes" "$mark" "$target"
    # Packages may have taken minutes. What is half changed has to be brought to its
    # end; what was only begun, or moved back, is not changed.
    if are_as_noted "$kubernetes" "$mark"; then etcd_may_rest "$root"; fi
    note_certificates before
    echo "kube-migrate: kubeadm upgrade $mode"
    put "$mark" "$mode $target"
    kubeadm_options "$mode" "$ignored" "$skipped" "$patches"
    case $mode in
        apply) kubeadm upgrade apply -y "v$target" "${options[@]}" ;;
        node) kubeadm upgrade node "${options[@]}" ;;
    esac || die "$KUBEADM" "kubeadm upgrade $mode exited with $?"
    record_backups "$kubernetes"
    note_certificates after
    rm -f "$mark" "$mark-manifests"
    sync "${mark%/*}"
}

# note_certificates WHEN: what the driver compares once the step has ended well. An
# attempt that failed may have renewed some: what was before it stays.
note_certificates() {
    local file=$KUBE_MIGRATE_ACTION/certificates-$1
    if [ "$1" = before ] && [ -e "$file" ]; then return; fi
    put "$file" "$(certificates)"
}

# What was stopped between two moves of kubeadm left a component without any
# manifest: its backup of this upgrade comes back, and kubeadm starts over.
restore_lost_manifests() {
    local kubernetes=$1 mark=$2 component backup
    while read -r component backup; do
        [ -s "$backup" ] || continue
        echo "kube-migrate: the manifest of $component was lost; it comes back from $backup"
        cp -p "$backup" "$kubernetes/tmp/.$component.yaml"
        sync "$kubernetes/tmp/.$component.yaml"
        mv "$kubernetes/tmp/.$component.yaml" "$kubernetes/manifests/$component.yaml"
        sync "$kubernetes/manifests"
    done <<< "$(lost_manifests "$kubernetes" "$mark")"
}

# note_manifests KUBERNETES MARK TARGET: what the static pods were before the first
# attempt at this target, beside the mark, which that attempt has still to set.
note_manifests() {
    local of=''
    if [ -e "$2" ]; then read -r _ of _ < "$2" || true; fi
    [ "$of" = "$3" ] || put "$2-manifests" "$(manifest_sums "$1")"
}

# are_as_noted KUBERNETES MARK: whether every static pod is what it was then: kubeadm's
# own rollback moves the very files back. Without a note nobody knows.
are_as_noted() {
    [ -e "$2-manifests" ] && [ "$(< "$2-manifests")" = "$(manifest_sums "$1")" ]
}

manifest_sums() {
    local component
    for component in etcd kube-apiserver kube-controller-manager kube-scheduler; do
        if [ -e "$1/manifests/$component.yaml" ]; then
            echo "$component $(sha256sum < "$1/manifests/$component.yaml")"
        fi
    done
}

# choose KUBERNETES TARGET NODE MARK PATIENCE: sets `mode` of its caller.
#   begun here for this target and not ended      -> the same as then
#   kubeadm-config at the target                  -> node
#   older, and no other API server at the target  -> apply
#   older, and another member's API server at the target, or newer -> refused
choose() {
    local kubernetes=$1 target=$2 node=$3 mark=$4 patience=$5 config servers now member image
    local begun='' of=''
    if [ -e "$mark" ]; then read -r begun of _ < "$mark" || true; fi
    if [ "$of" = "$target" ] && { [ "$begun" = apply ] || [ "$begun" = node ]; }; then
        mode=$begun
        await_api "$patience"
        return
    fi
    await_api "$patience"
    config=$(kube_system get configmap kubeadm-config -o 'jsonpath={.data.ClusterConfiguration}') \
        || die "$RETRY" 'the ConfigMap kube-system/kubeadm-config cannot be read'
    now=$(sed -n 's/^kubernetesVersion: *"\{0,1\}v\{0,1\}\([^" ]*\).*/\1/p' <<< "$config")
    [ -n "$now" ] || die "$FINAL" 'kube-system/kubeadm-config names no kubernetesVersion'
    mode=node
    [ "$now" != "$target" ] || return 0
    if dpkg --compare-versions "$now" gt "$target"; then
        die "$FINAL" "kubeadm-config is at v$now already, newer than v$target"
    fi
    servers=$(kube_system get pods -l component=kube-apiserver \
        -o 'jsonpath={range .items[*]}{.spec.nodeName}{" "}{.spec.containers[0].image}{"\n"}{end}') \
        || die "$RETRY" 'the API servers cannot be listed'
    while read -r member image; do
        if [ "$member" != "$node" ] && is_at "$image" "$target"; then
            die "$FINAL" "the API server of $member is at v$target, kubeadm-config still at v$now:" \
                "finish \`kubeadm upgrade apply v$target\` on $member first"
        fi
    done <<< "$servers"
    mode=apply
}

# await_api SECONDS: until the configuration can be read.
await_api() {
    local until=$((SECONDS + $1))
    until kube_system get configmap kubeadm-config -o name > /dev/null; do
        [ "$SECONDS" -lt "$until" ] || die "$RETRY" "the API has not answered for ${1}s"
        sleep 2
    done
}
