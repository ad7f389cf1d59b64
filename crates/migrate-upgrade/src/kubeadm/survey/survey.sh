# What is looked at of the Deployments of the cluster's DNS.
DEPLOYMENTS='{range .items[*]}{.metadata.name}{" "}{.spec.template.spec.containers[0].image}{" "}'
DEPLOYMENTS+='{.metadata.labels.app\.kubernetes\.io/managed-by}{"\n"}{end}'

# Node, address and image of each API server.
API_SERVERS='{range .items[*]}{.spec.nodeName}{" "}{.status.hostIP}{" "}'
API_SERVERS+='{.spec.containers[0].image}{"\n"}{end}'

# survey ROOT TARGET REVISION PATCHES: what an upgrade could trip over, a line
# each. Changes nothing.
survey() {
    local root=$1 target=$2 revision=$3 patches=$4 kubernetes=$1/etc/kubernetes
    # The first and the last word: how long the way here and back may have taken.
    echo "clock $(date +%s%3N)"
    look_at_kubelet "$root"
    short_of_room "$root" | sed 's/^/short-of-room /'
    if [ -n "$patches" ] && [ ! -d "$root$patches" ]; then echo "patches-missing $patches"; fi
    if command -v containerd > /dev/null; then
        echo "containerd $(containerd --version | cut -d ' ' -f 3)"
    fi
    look_at_packages "$target" "$revision" "$kubernetes"
    if [ -e "$kubernetes/manifests/kube-apiserver.yaml" ]; then
        look_at_control_plane "$root" "$kubernetes"
        look_at_cluster "$kubernetes"
    fi
    echo "clock $(date +%s%3N)"
}

# look_at_kubelet ROOT
look_at_kubelet() {
    local config=$1/var/lib/kubelet/config.yaml file
    echo "cgroup $(stat --file-system --format=%T "$1/sys/fs/cgroup" 2> /dev/null || echo unknown)"
    if grep -Eq '^failCgroupV1: *false' "$config" 2> /dev/null; then
        echo 'fail-cgroup-v1 false'
    fi
    if [ -e "$config" ]; then feature_gates < "$config" | sed 's/^/kubelet-gates /'; fi
    for file in /var/lib/kubelet/kubeadm-flags.env /etc/default/kubelet /etc/sysconfig/kubelet; do
        [ -e "$1$file" ] || continue
        # Names only, values may be anybody's secret.
        { grep -v '^ *#' "$1$file" || true; } \
            | { grep -oE -- "--[a-z][a-z0-9-]*(=[^\"' ]*)?" || true; } \
            | sed -E "/^--feature-gates=/!s/=.*//; s#^#kubelet-flag $file #"
    done
}

# feature_gates: of a configuration of the kubelet, and nothing else of it.
feature_gates() {
    awk '/^featureGates:/ { here = 1; print; next } /^[^ ]/ { here = 0 } here'
}

# look_at_packages TARGET REVISION KUBERNETES: what apt would change beyond what
# is to be installed. A version that apt does not know is told by resolve.
look_at_packages() {
    local target=$1 revision=$2 kubernetes=$3 package version place
    local -a specs=()
    for package in kubeadm kubelet; do
        if place=$(unmanaged "$package"); then echo "unmanaged $package $place"; fi
    done
    for package in kubeadm kubelet kubectl; do
        version=$(newest_version "$package" "$target" "$revision")
        [ -n "$version" ] || return 0
        if [ "$(installed_version "$package")" != "$version" ]; then specs+=("$package=$version"); fi
    done
    [ "${#specs[@]}" -gt 0 ] || return 0
    would_change along "${specs[@]}"
    if [ -e "$kubernetes/manifests/kube-apiserver.yaml" ] && [[ ${specs[0]} == kubeadm=* ]]; then
        would_change early "${specs[0]}"
    fi
}

# would_change WHEN SPEC...
would_change() {
    local when=$1 simulated verb name rest
    shift
    if ! simulated=$(apt_get --simulate "${APT_ALLOWS[@]}" install "$@" 2>&1); then
        echo "packages-refused $(grep '^E:' <<< "$simulated" | head -n 1 || true)"
        return
    fi
    while read -r verb name rest; do
        [ -n "$name" ] || continue
        case $when/$verb in
            along/Remv) echo "package-removed $name" ;;
            along/Inst)
                case $name in
                    kubeadm | kubelet | kubectl) continue ;;
                esac
                echo "package $name $rest"
                { dpkg --verify "$name" 2> /dev/null || true; } \
                    | sed -n "s#^[^ ]*5[^ ]* *[^ /]* */#package-changed $name /#p"
                ;;
            early/Inst)
                case " $BEFORE_DRAIN_UNTOUCHED " in
                    *" $name "*) echo "package-early $name" ;;
                esac
                ;;
        esac
    done <<< "$simulated"
}

# look_at_control_plane ROOT KUBERNETES
look_at_control_plane() {
    local root=$1 kubernetes=$2 file server copies
    manifest_lines "$kubernetes" kube-apiserver kube-controller-manager kube-scheduler
    echo "address $(hostname -I 2> /dev/null || true)"
    for file in controller-manager scheduler; do
        server=$(sed -n 's/^ *server: *"\{0,1\}\([^" ]*\).*/\1/p' "$kubernetes/$file.conf" 2> /dev/null || true)
        if [ -n "$server" ]; then echo "server $file $server"; fi
    done
    # kubeadm copies the database of a stacked etcd to its own folder.
    if [ -e "$kubernetes/manifests/etcd.yaml" ] && [ -d "$root/var/lib/etcd" ]; then
        echo "etcd-kib $(du -sk "$root/var/lib/etcd" | cut -f1)"
        copies=$kubernetes/tmp
        if [ ! -d "$copies" ]; then copies=$kubernetes; fi
        echo "free-kib $(df -Pk "$copies" | awk 'NR == 2 { print $4 }')"
    fi
    echo "certificates $(timeout 30 kubeadm certs check-expiration -o json 2> /dev/null | tr -d '\n' || true)"
}

# look_at_cluster KUBERNETES: what is the same on every control plane. A line
# alone says that an answer begins; what could not be asked has none.
look_at_cluster() {
    local kubernetes=$1 text server
    if text=$(kube_system get configmap kubeadm-config -o 'jsonpath={.data.ClusterConfiguration}'); then
        echo kubeadm-config
        sed 's/^/kubeadm-config /' <<< "$text"
        if grep -q '^ *external:' <<< "$text"; then look_at_external_etcd "$kubernetes"; fi
    fi
    if text=$(kube_system get pods -l component=kube-apiserver -o "jsonpath=$API_SERVERS"); then
        sed -n 's/^./api-server &/p' <<< "$text"
    fi
    if text=$(kube_system get configmap kubelet-config -o 'jsonpath={.data.kubelet}'); then
        echo kubelet-config
        feature_gates <<< "$text" | sed 's/^/kubelet-config /'
    fi
    if text=$(kube_system get configmap coredns --ignore-not-found -o name); then
        echo "coredns-config $text"
    fi
    if text=$(kube_system get deployments -l k8s-app=kube-dns -o "jsonpath=$DEPLOYMENTS"); then
        echo coredns
        sed -n 's/^./coredns &/p' <<< "$text"
    fi
}

# look_at_external_etcd KUBERNETES: as the API server reaches it.
look_at_external_etcd() {
    local manifest=$1/manifests/kube-apiserver.yaml server version
    local -a servers=() keys=()
    IFS=, read -r -a servers <<< "$(sed -n 's/^ *- --etcd-servers=//p' "$manifest")"
    keys=("--certificate-authority=$(manifest_flag "$manifest" etcd-cafile)"
        "--client-certificate=$(manifest_flag "$manifest" etcd-certfile)"
        "--client-key=$(manifest_flag "$manifest" etcd-keyfile)")
    for server in "${servers[@]}"; do
        version=$(kubectl --kubeconfig=/dev/null --server="$server" "${keys[@]}" \
            --request-timeout=10s get --raw /version \
            | sed -n 's/.*"etcdserver": *"\([^"]*\)".*/\1/p') || true
        echo "etcd-version $server ${version:-unknown}"
    done
}
