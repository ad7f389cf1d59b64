# node ROOT TARGET REVISION IGNORED SKIPPED PATCHES KUBELET-PATIENCE
#
# The kubelet's configuration, then kubelet and kubectl. The node is drained.
node() {
    local root=$1 target=$2 revision=$3 ignored=$4 skipped=$5 patience=$7
    local kubernetes=$root/etc/kubernetes component image
    local patches=${6:+$root$6}
    local -a options=()
    require_patches "$patches"
    note_backups "$kubernetes"
    save_node "$root/var/lib/kubelet"
    update_lists
    install_packages "$target" "$revision" '' kubeadm
    if [ -e "$kubernetes/manifests/kube-apiserver.yaml" ]; then
        for component in kube-apiserver kube-controller-manager kube-scheduler; do
            image=$(manifest_image "$kubernetes" "$component")
            is_at "$image" "$target" || die "$FINAL" "$component is ${image:-missing}, not at v$target:" \
                'upgrade this control plane before its kubelet'
        done
    else
        kubeadm_options node "$ignored" "$skipped" "$patches"
        kubeadm upgrade node "${options[@]}" || die "$KUBEADM" "kubeadm upgrade node exited with $?"
    fi
    install_packages "$target" "$revision" '' kubelet kubectl
    systemctl daemon-reload
    systemctl restart kubelet
    await_kubelet "$root/var/lib/kubelet/config.yaml" "$patience"
    record_backups "$kubernetes"
}

# save_node KUBELET-FOLDER: what a way back needs, as the first attempt of this
# action found it: a later one may find it half changed.
save_node() {
    local saved=$KUBE_MIGRATE_ACTION/before package file
    [ ! -e "$saved" ] || return 0
    rm -rf "$saved.new"
    (
        umask 077
        mkdir "$saved.new"
        for package in kubeadm kubelet kubectl; do
            echo "$package $(installed_version "$package")"
        done > "$saved.new/packages"
        for file in config.yaml kubeadm-flags.env; do
            if [ -e "$1/$file" ]; then cp "$1/$file" "$saved.new/"; fi
        done
        sync "$saved.new"/* "$saved.new"
    )
    mv "$saved.new" "$saved"
    sync "$KUBE_MIGRATE_ACTION"
}

# await_kubelet CONFIG SECONDS: until it says that it is well.
await_kubelet() {
    local until=$((SECONDS + $2))
    until kubelet_is_healthy "$1"; do
        if [ "$SECONDS" -ge "$until" ]; then
            journalctl --unit kubelet --no-pager --lines 20 || true
            die "$RETRY" "the kubelet is not well ${2}s after its restart; see the log above it"
        fi
        sleep 1
    done
}
