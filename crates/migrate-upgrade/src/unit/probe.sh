# no_room FOLDER: says so if nothing can be written there any more, for then
# the log cannot say why a step has failed.
no_room() {
    local free
    free=$(df --output=avail -k "$1" | tail -n 1)
    if [ "$free" -lt 1024 ]; then
        echo "kube-migrate: error: the disk of $1 is full: make room there"
    fi
}

# probe STATE RUN ACTION: where its latest attempt stands. Changes nothing.
probe() {
    local state=$1 folder=$1/$2/$3 attempt unit active=no
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
        return
    else
        echo 'state lost'
        if [ "$(< "$folder/boot")" != "$(boot_identity)" ]; then echo 'boot other'; fi
    fi
    echo log
    tail -c 16384 "$folder/log"
    no_room "$state"
}
