# start STATE RUN ACTION ATTEMPT EPOCH UNIT LIMIT PATIENCE [STEP-ARGUMENT]...
#
# Begins an attempt, or finds that it was begun before. Exit codes: 10 our
# epoch is old, 11 another step is going on, 12 another start holds the lock.
start() {
    local state=$1 run=$2 action=$3 attempt=$4 epoch=$5 unit=$6 limit=$7 patience=$8
    shift 8
    umask 077
    mkdir -p "$state"
    exec 8>> "$state/lock"
    if ! flock -w "$patience" 8; then
        echo 'another start holds the lock of the node'
        exit 12
    fi
    fence "$state" "$run" "$epoch"

    local folder=$state/$run/$action
    mkdir -p "$folder"
    if [ "$(latest_attempt "$folder")" -ge "$attempt" ]; then
        echo attached
        return
    fi
    refuse_while_busy "$state"

    local new=$folder/.new
    rm -rf "$new"
    mkdir "$new"
    step_text > "$new/step.sh"
    runner_text > "$new/run.sh"
    printf '%s\0' "$@" > "$new/args"
    put "$new/boot" "$(boot_identity)"
    put "$new/epoch" "$epoch"
    put "$new/unit" "$unit"
    : > "$new/log"
    sync "$new/step.sh" "$new/run.sh" "$new/args" "$new/log" "$new"
    mv "$new" "$folder/$attempt"
    sync "$folder" "$state/$run" "$state"
    put "$state/current" "$unit $folder/$attempt"
    launch "$unit" "$folder/$attempt" \
        "$BASH" "$folder/$attempt/run.sh" "$state" "$folder/$attempt" "$limit" 8>&-
    echo started
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

# One step at a time, whoever asks for it.
refuse_while_busy() {
    local state=$1 unit='' folder=''
    if [ -e "$state/current" ]; then
        read -r unit folder < "$state/current" || true
        if [ ! -e "$folder/exit" ] && unit_is_active "$unit" "$folder"; then
            echo "$unit is going on"
            exit 11
        fi
    fi
    if ! (flock -n 9) 9>> "$state/step.lock"; then
        echo "something of $unit is still going on"
        exit 11
    fi
}
