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
    # Every node asks at once, with clients that list whole APIs first.
    local attempt
    for attempt in 1 2 3; do
        if kubectl --kubeconfig "$kubeconfig" --request-timeout=20s -n kube-system get configmap \
            kubeadm-config -o 'jsonpath={.data.ClusterConfiguration}' > "$work/now"; then break; fi
        [ "$attempt" -lt 3 ] \
            || die "$RETRY" 'the ConfigMap kube-system/kubeadm-config cannot be read'
    done
    sed "s/^kubernetesVersion:.*/kubernetesVersion: v$target/" "$work/now" > "$work/config"
    images=$("$program" config images list --config "$work/config")
    have=$(present_images)
    local -a missing=()
    while read -r image; do
        case $role/$image in
            worker/*/kube-apiserver:* | worker/*/kube-controller-manager:* \
                | worker/*/kube-scheduler:* | worker/*/etcd:*) continue ;;
        esac
        if grep -Fxq -- "$image" <<< "$have"; then
            echo "present $image"
        else
            missing+=("$image")
        fi
    done <<< "$images"
    room_for_images "${#missing[@]}" "$root" || return 0
    for image in "${missing[@]}"; do
        if pull_image "$image" >&2; then echo "pulled $image"; else echo "missing $image"; fi
    done
}

# What one image may take, packed and unpacked, in KiB. Only the registry knows
# before the pull; the largest, etcd 3.5, takes about 200 MiB.
readonly IMAGE_KIB=$((256 * 1024))

# room_for_images COUNT ROOT: no-room NEEDED FREE FOLDER (KiB) and false, if they
# do not fit; little-room NEEDED FREE PERCENT FOLDER, if the kubelet would begin
# to clear away images that nobody uses yet. Says nothing where nobody can tell.
room_for_images() {
    local count=$1 root=$2 needed folder free size percent
    needed=$((count * IMAGE_KIB))
    [ "$count" -gt 0 ] || return 0
    folder=$(image_folder "$root")
    read -r free size <<< "$(df -k --output=avail,size "$folder" 2> /dev/null | tail -n 1)" || true
    if ! [[ "$free $size" =~ ^[0-9]+\ [0-9]+$ ]]; then return 0; fi
    if [ "$free" -lt "$needed" ]; then
        echo "no-room $needed $free $folder"
        return 1
    fi
    percent=$(sed -n 's/^imageGCHighThresholdPercent: *\([0-9]\{1,3\}\)$/\1/p' \
        "$root/var/lib/kubelet/config.yaml" 2> /dev/null || true)
    percent=${percent:-85}
    if [ "$(((free - needed) * 100))" -lt "$((size * (100 - percent)))" ]; then
        echo "little-room $needed $free $percent $folder"
    fi
}

# image_folder ROOT: where the runtime unpacks images, as it says itself.
image_folder() {
    local folder said
    said=$(crictl imagefsinfo 2> /dev/null || true)
    said=$(sed -n 's/.*"mountpoint": *"\([^"]*\)".*/\1/p' <<< "$said")
    for folder in "${said%%$'\n'*}" "$1"/var/lib/containerd "$1"/var/lib/containers; do
        if [ -n "$folder" ] && [ -d "$folder" ]; then
            echo "$folder"
            return
        fi
    done
    echo "$1/var/lib"
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
