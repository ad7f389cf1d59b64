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
    if [ -e "$folder/exit" ]; then
        echo "state ended"
        echo "code $(< "$folder/exit")"
    elif [ "$active" = yes ]; then
        echo 'state running'
        return
    else
        echo 'state lost'
        if [ "$(< "$folder/boot")" != "$(boot_identity)" ]; then echo 'boot other'; fi
    fi
    echo log
    tail -c 16384 "$folder/log"
}
