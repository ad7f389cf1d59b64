# Who may change a node's state: one at a time, and nobody who was superseded.

# lock_node STATE RUN EPOCH PATIENCE: held, as file 8, until the script ends.
# Exit codes: 10 our epoch is old, 12 another one holds the lock.
lock_node() {
    take_lock "$1" "$4"
    fence "$1" "$2" "$3"
}

# take_lock STATE PATIENCE: the lock alone, whoever asks.
take_lock() {
    umask 077
    mkdir -p "$1"
    exec 8>> "$1/lock"
    if ! flock -w "$2" 8; then
        echo 'another start holds the lock of the node'
        exit 12
    fi
}

# Refuses who is older than the last one that acted here; stamps who is newer.
fence() {
    local state=$1 run=$2 epoch=$3 held=0 holder=
    if [ -e "$state/fence" ]; then
        read -r held holder < "$state/fence" || true
        if ! [[ $held =~ ^[0-9]+$ ]]; then
            echo "an epoch that cannot be read ($state/fence)"
            exit 10
        fi
    fi
    if [ "$held" -gt "$epoch" ]; then
        echo "$held (run $holder)"
        exit 10
    fi
    if [ "$held" -lt "$epoch" ] || [ "$holder" != "$run" ]; then
        put "$state/fence" "$epoch $run"
    fi
}
