# roll_back ROOT TARGET STATE KUBELET-PATIENCE
#
# The packages and the kubelet's configuration as the upgrade that left TARGET
# found them. The node is drained.
roll_back() {
    local root=$1 target=$2 state=$3 patience=$4 saved kubelet=$1/var/lib/kubelet version package
    local -a packages=(kubelet kubectl)
    saved=$(saved_of "$state" "$target")
    [ -n "$saved" ] || die "$FINAL" "nothing is saved under $state of a kubelet $target:" \
        'this node was not upgraded from it, or the folder was removed'
    # On a node with a control plane kubeadm belongs to that, which stays.
    if [ ! -e "$root/etc/kubernetes/manifests/kube-apiserver.yaml" ]; then packages+=(kubeadm); fi
    put_file "$saved/config.yaml" "$kubelet/config.yaml"
    put_file "$saved/kubeadm-flags.env" "$kubelet/kubeadm-flags.env"
    APT_ALLOWS+=(--allow-downgrades)
    update_lists
    for package in "${packages[@]}"; do
        version=$(sed -n "s/^$package //p" "$saved/packages")
        [ -n "$version" ] || die "$FINAL" "$saved/packages names no version of $package"
        install_packages "${version%%-*}" "$(revision_of "$version")" '' "$package"
    done
    systemctl daemon-reload
    systemctl restart kubelet
    await_kubelet "$kubelet/config.yaml" "$patience"
}

# saved_of STATE VERSION: the newest folder that an upgrade away from a kubelet
# of that version has saved.
saved_of() {
    local folder newest=
    for folder in "$1"/*/*/before; do
        grep -Eqs "^kubelet ${2//./\\.}(-|\$)" "$folder/packages" || continue
        if [ -z "$newest" ] || [ "$folder" -nt "$newest" ]; then newest=$folder; fi
    done
    echo "$newest"
}

# revision_of VERSION: 1.1 of 1.36.3-1.1.
revision_of() {
    if [[ $1 == *-* ]]; then echo "${1#*-}"; fi
}

# put_file FROM TO: whole or not at all; what was not there is not there again.
put_file() {
    if [ -e "$1" ]; then
        cp -p "$1" "$2.new"
        sync "$2.new"
        mv -f "$2.new" "$2"
    else
        rm -f "$2"
    fi
    sync "${2%/*}"
}
