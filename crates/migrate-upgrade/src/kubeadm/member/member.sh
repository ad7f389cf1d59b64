# API servers that are out of their load balancer, as the node remembers it:
# STATE/out-of-balancer, "EPOCH RUN" of who took this one out.

# mark_out STATE RUN EPOCH PATIENCE: says whether it was marked before.
mark_out() {
    local state=$1 run=$2 epoch=$3 patience=$4
    lock_node "$state" "$run" "$epoch" "$patience"
    if [ -e "$state/out-of-balancer" ]; then
        echo before
    else
        echo now
    fi
    put "$state/out-of-balancer" "$epoch $run"
}

# forget_out STATE
forget_out() {
    rm -f "$1/out-of-balancer"
    sync "$1"
}

# outside ROOT STATE EPOCH: in, held (not to be put back now), serving, or dead
# and why.
outside() {
    local kubernetes=$1/etc/kubernetes state=$2 epoch=$3 held=0 said
    if [ ! -e "$state/out-of-balancer" ]; then
        echo in
        return
    fi
    if [ -e "$state/fence" ]; then read -r held _ < "$state/fence" || true; fi
    if [ "$held" -gt "$epoch" ]; then
        echo held
    elif [ -e "$state/step.lock" ] && ! (flock -n 9) 9>> "$state/step.lock"; then
        echo held
    elif said=$(api_server_serves "$kubernetes" 2>&1); then
        echo serving
    else
        echo "dead $(tail -n 1 <<< "$said")"
    fi
}

# api_server_serves KUBERNETES-FOLDER: this node's own, whatever its balancer
# would say: ready, and an administrator is known to it.
api_server_serves() {
    local manifest=$1/manifests/kube-apiserver.yaml address port
    address=$(manifest_flag "$manifest" advertise-address)
    port=$(manifest_flag "$manifest" secure-port)
    if [[ $address == *:* ]]; then address="[$address]"; fi
    own_api "$1" "https://$address:${port:-6443}" get --raw /readyz || return 1
    own_api "$1" "https://$address:${port:-6443}" get namespace kube-system -o name || return 1
}

own_api() {
    kubectl --kubeconfig "$1/admin.conf" --server "$2" --request-timeout=5s "${@:3}"
}
