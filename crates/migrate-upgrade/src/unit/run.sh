# run STATE ATTEMPT-FOLDER LIMIT: the one process of a step's unit.
run() {
    local state=$1 folder=$2 limit=$3 code words
    umask 077
    export LC_ALL=C HOME=/root KUBE_MIGRATE_STATE=$state KUBE_MIGRATE_ACTION=${folder%/*}
    exec >> "$folder/log" 2>&1 < /dev/null
    # What the step starts inherits the lock: the node is free when all of it
    # is gone.
    exec 9>> "$state/step.lock"
    if flock -w 60 9; then
        mapfile -d '' -t words < "$folder/args"
        code=0
        (
            umask 022
            exec timeout --kill-after=30 "$limit" \
                "$BASH" -euo pipefail "$folder/step.sh" "${words[@]}"
        ) || code=$?
        if [ "$code" = 124 ] || [ "$code" = 137 ]; then
            echo "kube-migrate: error: the step did not end within ${limit}s and was ended"
        fi
    else
        echo 'kube-migrate: error: another step has not let go of the node'
        code=75
    fi
    sync "$folder/log" || true
    # Over what `start` has left room for: a full disk does not keep the code.
    printf '%-4s\n' "$code" 1<> "$folder/exit.new" && put_new "$folder/exit"
}

set -uo pipefail
run "$@"
