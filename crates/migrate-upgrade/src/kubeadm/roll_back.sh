# roll_back ROOT TARGET STATE KUBELET-PATIENCE API-PATIENCE QUIET
#
# The packages and the kubelet's configuration as the upgrade that left TARGET
# found them. The node is drained. Nothing changes before every package is fetched:
# a kubelet is never left with a configuration of another version.
roll_back() {
    local root=$1 target=$2 state=$3 patience=$4 api=$5 quiet=$6
    local kubelet=$1/var/lib/kubelet saved version package
    local -a names=(kubelet kubectl) packages=() specs=()
    saved=$(saved_of "$state" "$target")
    [ -n "$saved" ] || die "$FINAL" "nothing is saved under $state of a kubelet $target:" \
        'this node was not upgraded from it, or the folder was removed'
    # On a node with a control plane kubeadm belongs to that, which stays.
    if [ ! -s "$root/etc/kubernetes/manifests/kube-apiserver.yaml" ]; then names+=(kubeadm); fi
    update_lists
    # Nothing of what is unpacked counts as here yet, and apt fetches nothing beside it.
    finish_interrupted ''
    for package in $(present "${names[@]}"); do
        version=$(saved_version "$saved" "$package")
        # It came with the upgrade.
        [ -n "$version" ] || continue
        specs+=("$package=$(resolve "$package" "${version%%-*}" "$(revision_of "$version")")")
        packages+=("$package")
    done
    APT_ALLOWS+=(--allow-downgrades)
    fetch_packages "${specs[@]}"
    put_file "$saved/config.yaml" "$kubelet/config.yaml"
    put_file "$saved/kubeadm-flags.env" "$kubelet/kubeadm-flags.env"
    for package in "${packages[@]}"; do
        version=$(saved_version "$saved" "$package")
        install_packages "${version%%-*}" "$(revision_of "$version")" '' "$package"
    done
    restart_kubelet "$root" "$patience" "$api" "$quiet"
}
