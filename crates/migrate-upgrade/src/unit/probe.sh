# no_room FOLDER: says so if nothing can be written there any more, for then
# the log cannot say why a step has failed.
no_room() {
    local free
    free=$(df --output=avail -k "$1" | tail -n 1)
    if [ "$free" -lt 1024 ]; then
        echo "kube-migrate: error: the disk of $1 is full: make room there"
    fi
}

# news LOG FROM MOST: the bytes of a log from there on, the last ones if they
# are more than that, and where they begin. What is written meanwhile comes later.
news() {
    local size from=$2
    size=$(stat --format=%s "$1")
    if [ "$((size - from))" -gt "$3" ]; then from=$((size - $3)); fi
    if [ "$from" -gt "$size" ]; then from=$size; fi
    echo "from $from"
    echo log
    head -c "$size" "$1" | tail -c "+$((from + 1))"
}

# probe STATE RUN ACTION HEARD-ATTEMPT HEARD-BYTES: where its latest attempt
# stands, and what is new in its log. Changes nothing.
probe() {
    local state=$1 folder=$1/$2/$3 attempt unit active=no heard=0
    attempt=$(latest_attempt "$folder")
    if [ "$attempt" = 0 ]; then
        echo 'state absent'
        return
    fi
    echo "attempt $attempt"
    folder=$folder/$attempt
    unit=$(< "$folder/unit")
    # In this order: a step that ends between the two has left its code.
    if unit_is_active "$unit" "$folder"; then active=yes; fi
    if [ -s "$folder/exit" ]; then
        echo "state ended"
        echo "code $(tr -d ' ' < "$folder/exit")"
    elif [ "$active" = yes ]; then
        echo 'state running'
        if [ "$4" = "$attempt" ]; then heard=$5; fi
        news "$folder/log" "$heard" 4096
        return
    else
        echo 'state lost'
        if [ "$(< "$folder/boot")" != "$(boot_identity)" ]; then echo 'boot other'; fi
    fi
    news "$folder/log" 0 16384
    no_room "$state"
}
