# What the way back of a node needs, in RUN/ACTION/before.

# save_node KUBELET-FOLDER: as the first action of this run on this node found
# it, before anything changes: on a control-plane node `kubeadm upgrade` writes
# the kubelet's configuration, long before the kubelet itself is changed.
save_node() {
    local saved=$KUBE_MIGRATE_ACTION/before package file version other
    version=$(installed_version kubelet)
    for other in "${KUBE_MIGRATE_ACTION%/*}"/*/before; do
        if grep -Fxqs "kubelet $version" "$other/packages"; then return; fi
    done
    [ ! -e "$saved" ] || return 0
    # An earlier run that did not come to this kubelet may have had its
    # configuration written anew: what that run has saved is what was before.
    other=$(saved_of "$KUBE_MIGRATE_STATE" "$version")
    if [ -n "$other" ] && ! is_outdated "$other"; then return; fi
    rm -rf "$saved.new"
    (
        umask 077
        mkdir "$saved.new"
        for package in kubeadm kubelet kubectl; do
            version=$(installed_version "$package")
            [ -z "$version" ] || echo "$package $version"
        done > "$saved.new/packages"
        for file in config.yaml kubeadm-flags.env; do
            if [ -e "$1/$file" ]; then cp "$1/$file" "$saved.new/"; fi
        done
        sync "$saved.new"/* "$saved.new"
    )
    mv "$saved.new" "$saved"
    sync "$KUBE_MIGRATE_ACTION"
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

# is_outdated FOLDER: whether a kubelet was changed here after that was saved.
is_outdated() {
    local code
    for code in "$KUBE_MIGRATE_STATE"/*/*.node.*/[0-9]*/exit; do
        if [ "$code" -nt "$1" ] && grep -Exqs "0 *" "$code"; then return; fi
    done
    return 1
}

# saved_version FOLDER PACKAGE: empty if it was not installed.
saved_version() {
    sed -n "s/^$2 //p" "$1/packages"
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
