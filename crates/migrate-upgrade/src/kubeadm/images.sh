# pull_images ROOT STATE TARGET REVISION: the images that the target's kubeadm
# wants here, pulled if they are missing. Installs nothing.
pull_images() {
    local root=$1 state=$2 target=$3 revision=$4
    local kubernetes=$root/etc/kubernetes kubeconfig work program images image have role=worker
    umask 077
    mkdir -p "$state"
    work=$(mktemp -d "$state/images-XXXXXX")
    # shellcheck disable=SC2064 # the folder of now
    trap "rm -rf '$work'" EXIT
    kubeconfig=$kubernetes/kubelet.conf
    if [ -e "$kubernetes/admin.conf" ]; then
        kubeconfig=$kubernetes/admin.conf
        role=control-plane
    fi
    program=$(target_kubeadm "$work" "$target" "$revision")
    command -v kubectl > /dev/null || die "$FINAL" 'kubectl is not installed here, so the cluster'"'"'s' \
        'image registry is not known: install it for the upgrade'
    kubectl --kubeconfig "$kubeconfig" --request-timeout=20s -n kube-system get configmap \
        kubeadm-config -o 'jsonpath={.data.ClusterConfiguration}' > "$work/now" \
        || die "$RETRY" 'the ConfigMap kube-system/kubeadm-config cannot be read'
    sed "s/^kubernetesVersion:.*/kubernetesVersion: v$target/" "$work/now" > "$work/config"
    images=$("$program" config images list --config "$work/config")
    have=$(present_images)
    while read -r image; do
        case $role/$image in
            worker/*/kube-apiserver:* | worker/*/kube-controller-manager:* \
                | worker/*/kube-scheduler:* | worker/*/etcd:*) continue ;;
        esac
        if ! grep -Fxq -- "$image" <<< "$have"; then
            if pull_image "$image" >&2; then echo "pulled $image"; else echo "missing $image"; fi
        else
            echo "present $image"
        fi
    done <<< "$images"
}

# The installed kubeadm if it is the target's, or one unpacked beside it. The
# lists of packages are brought up to date only if those there will not do: that
# takes a while, and `resolve_all` may have done it a moment ago.
target_kubeadm() {
    local work=$1 target=$2 version
    if [ "$(kubeadm version -o short 2> /dev/null || true)" = "v$target" ]; then
        command -v kubeadm
        return
    fi
    version=$(newest_version kubeadm "$target" "$3")
    if [ -z "$version" ] || ! download "$work" "kubeadm=$version"; then
        update_lists
        version=$(resolve kubeadm "$target" "$3")
        download "$work" "kubeadm=$version" \
            || die "$RETRY" "the package kubeadm $version cannot be downloaded"
    fi
    dpkg-deb --extract "$work"/kubeadm_*.deb "$work/package"
    echo "$work/package/usr/bin/kubeadm"
}

# download FOLDER PACKAGE=VERSION: into that folder.
download() {
    (cd "$1" && apt_get download "$2" >&2)
}

present_images() {
    if command -v ctr > /dev/null && [ -S /run/containerd/containerd.sock ]; then
        ctr --namespace k8s.io images ls -q
    else
        crictl images --output json \
            | sed -n '/"repoTags"/,/]/s/^ *"\([^"]*:[^"]*\)",\{0,1\}$/\1/p'
    fi
}

# Only the kubelet's own way knows mirrors and passwords.
pull_image() {
    command -v crictl > /dev/null || return 1
    crictl pull "$1"
}
