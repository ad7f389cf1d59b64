# node ROOT TARGET REVISION IGNORED SKIPPED PATCHES KUBELET-PATIENCE API-PATIENCE QUIET
#
# The kubelet's configuration, then the kubelet, and kubectl where it is. The
# node is drained.
node() {
    local root=$1 target=$2 revision=$3 ignored=$4 skipped=$5 patience=$7 api=$8 quiet=$9
    local kubernetes=$root/etc/kubernetes component image
    local patches=${6:+$root$6}
    local -a options=()
    require_patches "$patches"
    note_backups "$kubernetes"
    save_node "$root/var/lib/kubelet"
    update_lists
    install_packages "$target" "$revision" '' kubeadm
    if [ -s "$kubernetes/manifests/kube-apiserver.yaml" ]; then
        for component in kube-apiserver kube-controller-manager kube-scheduler; do
            image=$(manifest_image "$kubernetes" "$component")
            is_at "$image" "$target" || die "$FINAL" "$component is ${image:-missing}, not at v$target:" \
                'upgrade this control plane before its kubelet'
        done
    else
        kubeadm_options node "$ignored" "$skipped" "$patches"
        kubeadm upgrade node "${options[@]}" || die "$KUBEADM" "kubeadm upgrade node exited with $?"
    fi
    # shellcheck disable=SC2046 # names of packages are words
    install_packages "$target" "$revision" '' $(present kubelet kubectl)
    restart_kubelet "$root" "$patience" "$api" "$quiet"
    record_backups "$kubernetes"
}

# restart_kubelet ROOT KUBELET-PATIENCE API-PATIENCE QUIET
restart_kubelet() {
    local root=$1 patience=$2 api=$3 quiet=$4 before='' member=
    if [ -s "$root/etc/kubernetes/manifests/kube-apiserver.yaml" ]; then
        member=yes
        # Packages may have taken minutes; what the restart ends is judged now.
        etcd_may_rest "$root"
        before=$(static_pods)
    fi
    systemctl daemon-reload
    systemctl restart kubelet
    await_kubelet "$root/var/lib/kubelet/config.yaml" "$patience"
    if [ "$member" ]; then await_static_pods "$root/etc/kubernetes" "$before" "$quiet" "$api"; fi
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

static_pods() {
    running etcd kube-apiserver kube-controller-manager kube-scheduler | sort
}

# await_static_pods KUBERNETES-FOLDER BEFORE QUIET PATIENCE: a kubelet of another
# version may end all static pods of its node, some seconds after it is well
# itself. Over when all of them are others and the API server here has served for
# QUIET seconds; or when they have stayed the same for three times as long.
await_static_pods() {
    local kubernetes=$1 before=$2 quiet=$3 patience=$4 now last='' said=''
    local since=$SECONDS until=$((SECONDS + $4)) needed
    [ "$quiet" -gt 0 ] || return 0
    while :; do
        now=$(static_pods)
        if ! said=$(api_server_serves "$kubernetes" 2>&1) || [ "$now" != "$last" ]; then
            since=$SECONDS
            last=$now
        fi
        needed=$quiet
        if [ -n "$(comm -12 <(echo "$before") <(echo "$now"))" ]; then needed=$((3 * quiet)); fi
        if [ $((SECONDS - since)) -ge "$needed" ]; then return; fi
        [ "$SECONDS" -lt "$until" ] || die "$RETRY" \
            "the static pods here are not at rest ${patience}s after the kubelet's restart: $(tail -n 1 <<< "$said")"
        sleep 1
    done
}
