# start STATE RUN EPOCH PATIENCE ACTION ATTEMPT UNIT LIMIT [STEP-ARGUMENT]...
#
# Begins an attempt, or finds that it was begun before. Exit codes: those of
# lock_node, 11 another step is going on.
start() {
    local state=$1 run=$2 epoch=$3 patience=$4 action=$5 attempt=$6 unit=$7 limit=$8
    shift 8
    lock_node "$state" "$run" "$epoch" "$patience"

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
    printf '    \n' > "$new/exit.new"
    sync "$new/step.sh" "$new/run.sh" "$new/args" "$new/log" "$new/exit.new" "$new"
    mv "$new" "$folder/$attempt"
    sync "$folder" "$state/$run" "$state"
    put "$state/current" "$unit $folder/$attempt"
    launch "$unit" "$folder/$attempt" \
        "$BASH" "$folder/$attempt/run.sh" "$state" "$folder/$attempt" "$limit" 8>&-
    echo started
}

# One step at a time, whoever asks for it.
refuse_while_busy() {
    local state=$1 unit='' folder=''
    if [ -e "$state/current" ]; then
        read -r unit folder < "$state/current" || true
        if [ ! -s "$folder/exit" ] && unit_is_active "$unit" "$folder"; then
            echo "$unit is going on"
            exit 11
        fi
    fi
    if ! (flock -n 9) 9>> "$state/step.lock"; then
        echo "something of $unit is still going on"
        exit 11
    fi
}
