# Files under the state folder of a node, and who the node is.

# put FILE TEXT: durable before it returns, whole or not there at all, also for
# a caller that goes on after an error.
put() {
    local file=$1 text=$2
    printf '%s\n' "$text" > "$file.new" && put_new "$file"
}

# put_new FILE: FILE.new in its place.
put_new() {
    sync "$1.new" && mv -f "$1.new" "$1" && sync "${1%/*}"
}

# Differs after every boot. In a container the boot id is the machine's, so
# the start of pid 1 belongs to it.
boot_identity() {
    local stat
    stat=$(< /proc/1/stat)
    printf '%s %s' "$(< /proc/sys/kernel/random/boot_id)" \
        "$(printf '%s' "${stat##*) }" | cut -d ' ' -f 20)"
}

# latest_attempt FOLDER: the highest attempt that was ever made, 0 if none.
latest_attempt() {
    local latest=0 path number
    for path in "$1"/*/; do
        number=${path%/}
        number=${number##*/}
        if [[ $number =~ ^[1-9][0-9]*$ ]] && [ "$number" -gt "$latest" ]; then
            latest=$number
        fi
    done
    echo "$latest"
}
