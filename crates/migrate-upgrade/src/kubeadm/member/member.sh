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

# move_lead STATE RUN EPOCH PATIENCE ROOT MEMBER-ID: hands the lead of etcd to another
# member. Exit codes: those of lock_node.
move_lead() {
    lock_node "${@:1:4}"
    etcd_move_leader "${@:5}"
}

# forget_out STATE RUN EPOCH PATIENCE: removes the mark: forgotten, gone (there
# was none), or newer (that of a newer holder, which is never touched) and whose.
# Exit codes: those of lock_node.
forget_out() {
    local state=$1 run=$2 epoch=$3 patience=$4
    take_lock "$state" "$patience"
    case $(mark_of "$state" "$epoch") in
        none) echo gone ;;
        newer) echo "newer $(< "$state/out-of-balancer")" ;;
        *)
            fence "$state" "$run" "$epoch"
            rm -f "$state/out-of-balancer"
            sync "$state"
            echo forgotten
            ;;
    esac
}

# mark_of STATE EPOCH: none, ours (of this holder or an older one) or newer. One
# that cannot be read is nobody's to remove but that of the last holder here.
mark_of() {
    local marked=
    if [ ! -e "$1/out-of-balancer" ]; then
        echo none
        return
    fi
    read -r marked _ < "$1/out-of-balancer" || true
    if [[ $marked =~ ^[0-9]+$ ]] && [ "$marked" -gt "$2" ]; then echo newer; else echo ours; fi
}

# outside STATE RUN EPOCH PATIENCE ROOT: in, held (not to be put back now),
# serving, or dead and why. Exit codes: those of lock_node.
outside() {
    local state=$1 run=$2 epoch=$3 patience=$4 kubernetes=$5/etc/kubernetes said
    if ! is_ours_to_put_back "$state" "$epoch"; then return; fi
    if ! said=$(api_server_serves "$kubernetes" 2>&1); then
        echo "dead $(tail -n 1 <<< "$said")"
        return
    fi
    # That took a while, in which a successor may have taken it out, and begun.
    # Whoever comes after this look finds the mark; it is stamped as seen by us.
    lock_node "$state" "$run" "$epoch" "$patience"
    if is_ours_to_put_back "$state" "$epoch"; then echo serving; fi
}

# is_ours_to_put_back STATE EPOCH: if not, says why: in or held.
is_ours_to_put_back() {
    local state=$1 epoch=$2 held=0
    if [ -e "$state/fence" ]; then read -r held _ < "$state/fence" || true; fi
    case $(mark_of "$state" "$epoch") in
        none) echo in ;;
        newer) echo held ;;
        *)
            if [ "$held" -gt "$epoch" ]; then
                echo held
            elif [ -e "$state/step.lock" ] && ! (flock -n 9) 9>> "$state/step.lock"; then
                echo held
            else
                return 0
            fi
            ;;
    esac
    return 1
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
