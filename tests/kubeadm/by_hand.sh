#!/usr/bin/env bash
# by_hand.sh SSH-CONFIG VERSION CONTROL-PLANE-NODE WORKER...
#
# The documented way to upgrade a kubeadm cluster
# (https://kubernetes.io/docs/tasks/administer-cluster/kubeadm/kubeadm-upgrade/),
# as an engineer with care scripts it: node by node, each drained before its
# kubelet changes and Ready at the new version before the next, and whatever
# meets an API that is away is asked again. Prints `step NAME SECONDS`.
set -euo pipefail
config=$1 version=$2 first=$3
shift 3

# on NODE [ARGUMENT...]: runs the script on standard input there, as root.
on() {
    local node=$1 words=
    shift
    # A shell on the node reads the words again.
    [ $# -eq 0 ] || words=$(printf '%q ' "$@")
    ssh -F "$config" "$node" "sudo -n bash -euo pipefail -s -- $words"
}

kubectl() {
    on "$first" "$@" <<< 'exec kubectl --kubeconfig /etc/kubernetes/admin.conf "$@"'
}

# patiently COMMAND...: until it succeeds, for three minutes.
patiently() {
    local until=$((SECONDS + 180))
    until "$@"; do
        [ "$SECONDS" -lt "$until" ] || { echo "gave up: $*" >&2; return 1; }
        sleep 2
    done
}

# step NAME COMMAND...
step() {
    local name=$1 began=${EPOCHREALTIME/[.,]/} tenths
    shift
    "$@"
    tenths=$(((${EPOCHREALTIME/[.,]/} - began) / 100000))
    echo "step $name $((tenths / 10)).$((tenths % 10))"
}

# packages NODE PACKAGE...
packages() {
    local node=$1
    shift
    on "$node" "$version" "$@" <<'SCRIPT'
version=$1
shift
export DEBIAN_FRONTEND=noninteractive
apt-mark unhold "$@" > /dev/null
apt-get -qq update
apt-get -qq install -y "${@/%/=$version-*}" > /dev/null
apt-mark hold "$@" > /dev/null
SCRIPT
}

kubeadm_on() {
    local node=$1
    shift
    on "$node" "$@" --ignore-preflight-errors=SystemVerification <<< 'kubeadm upgrade "$@" > /dev/null'
}

drain() {
    patiently kubectl drain "$1" --ignore-daemonsets --delete-emptydir-data --timeout=300s
}

is_ready() {
    local seen
    seen=$(kubectl get node "$1" -o \
        'jsonpath={.status.nodeInfo.kubeletVersion}/{.status.conditions[?(@.type=="Ready")].status}')
    [ "$seen" = "v$version/True" ]
}

kubelet() {
    packages "$1" kubelet kubectl
    on "$1" <<< 'systemctl daemon-reload; systemctl restart kubelet'
    patiently is_ready "$1"
}

uncordon() {
    patiently kubectl uncordon "$1"
}

step control-plane.kubeadm packages "$first" kubeadm
step control-plane.plan kubeadm_on "$first" plan "v$version"
step control-plane.apply kubeadm_on "$first" apply -y "v$version"
step "$first.drain" drain "$first"
step "$first.kubelet" kubelet "$first"
step "$first.uncordon" uncordon "$first"
for worker in "$@"; do
    step "$worker.kubeadm" packages "$worker" kubeadm
    step "$worker.node" kubeadm_on "$worker" node
    step "$worker.drain" drain "$worker"
    step "$worker.kubelet" kubelet "$worker"
    step "$worker.uncordon" uncordon "$worker"
done
