# clean STATE RUN EPOCH PATIENCE ROOT SECONDS RUN-FOLDER...: removes what these
# runs have made kubeadm put aside, SECONDS after it was, except the newest of
# its kind. Exit codes: those of lock_node, 11 a step is going on.
clean() {
    local state=$1 tmp=$5/etc/kubernetes/tmp keep=$6 run record name age there
    lock_node "$1" "$2" "$3" "$4"
    shift 6
    if ! (flock -n 9) 9>> "$state/step.lock"; then
        echo 'a step of an upgrade is going on'
        exit 11
    fi
    for run in "$@"; do
        for record in "$state/$run"/*/backups; do
            [ -e "$record" ] || continue
            age=$(($(date +%s) - $(stat --format=%Y "$record")))
            # Only names of this form: nothing else can be meant, least of all no name.
            while read -r name; do
                if ! is_dated "$name"; then continue; fi
                # No pipe: `grep -q` leaves it at once, whose writer then fails.
                there=$(backups_in "$tmp")
                if ! grep -Fxq -- "$name" <<< "$there"; then continue; fi
                if [ "$age" -lt "$keep" ]; then
                    echo "kept $name it is too young"
                elif [ "$name" = "$(newest_like "$tmp" "$name")" ]; then
                    echo "kept $name it is the newest, the only way back here"
                elif [ -d "$tmp/$name" ] && [ ! -L "$tmp/$name" ]; then
                    rm -rf -- "${tmp:?}/$name"
                    echo "removed $name"
                fi
            done < "$record"
        done
    done
}

# newest_like FOLDER NAME: by the time in the names of its kind.
newest_like() {
    local kind=${2%-????-??-??-??-??-??} path newest=
    for path in "$1/$kind"-????-??-??-??-??-??; do
        path=${path##*/}
        if [[ $path > $newest ]]; then newest=$path; fi
    done
    echo "$newest"
}
