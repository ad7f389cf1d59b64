# Words that all steps of kubeadm share.

# What fails inside $(…) fails outside too.
shopt -s inherit_errexit

# Exit codes of a step: trying again may help; it will not; kubeadm failed.
readonly RETRY=75 FINAL=78 KUBEADM=70

die() {
    local code=$1
    shift
    echo "kube-migrate: error: $*" >&2
    exit "$code"
}

# manifest_image KUBERNETES-FOLDER COMPONENT: the image of a static pod.
manifest_image() {
    local file=$1/manifests/$2.yaml
    [ -e "$file" ] || return 0
    sed -n '/^[- ]*image:/{s/^[- ]*image: *"\{0,1\}\([^" ]*\).*/\1/p;q}' "$file"
}

# manifest_lines KUBERNETES-FOLDER COMPONENT...: a line for each that is here.
manifest_lines() {
    local kubernetes=$1 component image
    shift
    for component in "$@"; do
        image=$(manifest_image "$kubernetes" "$component")
        if [ -n "$image" ]; then echo "manifest $component $image"; fi
    done
}

# lost_manifests KUBERNETES-FOLDER MARK: a line for each component whose manifest
# is gone or empty since the upgrade of MARK began here, with its backup of that
# upgrade, or `-`. kubeadm moves the old manifest away before it moves the new one
# in, and when it rolls back the new one away before the old one in. An etcd that
# has no backup may be an external one.
lost_manifests() {
    local kubernetes=$1 mark=$2 component backup
    [ -e "$mark" ] || return 0
    for component in etcd kube-apiserver kube-controller-manager kube-scheduler; do
        # A power cut may leave an empty file of one that was not synced.
        [ ! -s "$kubernetes/manifests/$component.yaml" ] || continue
        backup=$(backup_of "$kubernetes" "$mark" "$component")
        if [ -n "$backup" ] || [ "$component" != etcd ]; then echo "$component ${backup:--}"; fi
    done
}

# backup_of KUBERNETES-FOLDER MARK COMPONENT: the newest backup of its manifest that
# the upgrade of MARK has made.
backup_of() {
    local backup newest=
    for backup in "$1"/tmp/kubeadm-backup-manifests*/"$3.yaml"; do
        if [ -s "$backup" ] && [ "${backup%/*}" -nt "$2" ]; then
            if [ -z "$newest" ] || [ "${backup%/*}" -nt "${newest%/*}" ]; then newest=$backup; fi
        fi
    done
    echo "$newest"
}

# moved_back KUBERNETES-FOLDER MARK: the components whose old manifest kubeadm has
# moved away and back again since the upgrade of MARK began here. It came to its
# place meanwhile, and no backup is left of it; that of a new one is.
moved_back() {
    local component manifest
    [ -e "$2" ] || return 0
    for component in etcd kube-apiserver kube-controller-manager kube-scheduler; do
        manifest=$1/manifests/$component.yaml
        [ -s "$manifest" ] || continue
        if [ -n "$(find "$manifest" -newercm "$2")" ] \
            && [ -z "$(backup_of "$1" "$2" "$component")" ]; then
            echo "$component"
        fi
    done
}

# kube_system ARGUMENT...: kubectl as the administrator; `kubernetes` is the
# caller's.
kube_system() {
    kubectl --kubeconfig "$kubernetes/admin.conf" --request-timeout=10s -n kube-system "$@"
}

# require_patches FOLDER: without it kubeadm would not even begin.
require_patches() {
    [ -z "$1" ] || [ -d "$1" ] || die "$FINAL" "the folder of patches $1 is not on this node:" \
        'put it there, the same as on the other nodes'
}

# kubeadm_options MODE IGNORED SKIPPED PATCHES: sets `options` of its caller. A
# phase that `kubeadm upgrade node` does not have, it refuses.
kubeadm_options() {
    local mode=$1 ignored=$2 patches=$4 phase
    local -a phases=() left=()
    IFS=, read -r -a phases <<< "$3"
    for phase in "${phases[@]}"; do
        case $mode/$phase in
            node/upload-config* | node/bootstrap-token) ;;
            *) left+=("$phase") ;;
        esac
    done
    options=()
    if [ -n "$ignored" ]; then options+=("--ignore-preflight-errors=$ignored"); fi
    if [ "${#left[@]}" -gt 0 ]; then
        options+=("--skip-phases=$(IFS=, && echo "${left[*]}")")
    fi
    if [ -n "$patches" ]; then options+=("--patches=$patches"); fi
}

# certificates: when those of this control plane end, as kubeadm tells it, on one
# line; empty if it does not tell. Nothing in it is secret.
certificates() {
    timeout 30 kubeadm certs check-expiration -o json 2> /dev/null | tr -d '\n' || true
}

# manifest_flag MANIFEST NAME: the first value of one of its flags.
manifest_flag() {
    sed -n "/^ *- --$2=/{s/^ *- --$2=//;s/,.*//;p;q}" "$1"
}

# running NAME...: the ids of the running containers of these static pods.
running() {
    local name id all
    local -a filters=()
    if command -v crictl > /dev/null; then
        for name in "$@"; do
            crictl ps --quiet --state running --name "^$name\$" \
                --label io.kubernetes.pod.namespace=kube-system
        done
    elif command -v ctr > /dev/null; then
        for name in "$@"; do
            filters+=("labels.\"io.kubernetes.container.name\"==$name,labels.\"io.kubernetes.pod.namespace\"==kube-system")
        done
        all=$(ctr --namespace k8s.io tasks ls | awk '$3 == "RUNNING" { print $1 }')
        for id in $(ctr --namespace k8s.io containers ls -q "${filters[@]}"); do
            if grep -Fxq -- "$id" <<< "$all"; then echo "$id"; fi
        done
    else
        die "$FINAL" 'neither crictl nor ctr is installed: containers cannot be listed'
    fi
}

# Whether an image has the version; a digest may follow it.
is_at() {
    [[ $1 == *":v$2" || $1 == *":v$2@"* ]]
}

# kubelet_is_healthy KUBELET-CONFIG: its own health endpoint says ok.
kubelet_is_healthy() {
    local port=10248 configured
    if [ -e "$1" ]; then
        configured=$(sed -n 's/^healthzPort: *\([0-9][0-9]*\).*/\1/p' "$1")
        port=${configured:-$port}
    fi
    if [ "$port" = 0 ]; then
        systemctl is-active --quiet kubelet
        return
    fi
    (
        exec 3<> "/dev/tcp/127.0.0.1/$port"
        printf 'GET /healthz HTTP/1.0\r\n\r\n' >&3
        IFS= read -r -t 5 line <&3
        [[ $line == *' 200 '* ]]
    ) 2> /dev/null
}

# kubelet_is_stale: the running kubelet is not the installed one.
kubelet_is_stale() {
    local pid
    pid=$(systemctl show --property=MainPID --value kubelet) || return 1
    [[ $(readlink "/proc/$pid/exe" 2> /dev/null || true) == *'(deleted)' ]]
}
