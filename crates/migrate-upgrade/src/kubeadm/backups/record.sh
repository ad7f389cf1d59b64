# What kubeadm puts aside in /etc/kubernetes/tmp, and whose it is.

# note_backups KUBERNETES: what was there before the first attempt of this action.
note_backups() {
    local file=$KUBE_MIGRATE_ACTION/backups-before
    [ -e "$file" ] || put "$file" "$(backups_in "$1/tmp")"
}

# record_backups KUBERNETES: what has come since, once the action has succeeded.
record_backups() {
    local come
    come=$(backups_in "$1/tmp" | grep -Fxvf "$KUBE_MIGRATE_ACTION/backups-before" || true)
    [ -z "$come" ] || put "$KUBE_MIGRATE_ACTION/backups" "$come"
}

# backups_in FOLDER: the folders that have their time in their name.
backups_in() {
    local path
    for path in "$1"/kubeadm-*; do
        path=${path##*/}
        if is_dated "$path"; then echo "$path"; fi
    done
}

is_dated() {
    [[ $1 =~ ^kubeadm-[a-z-]+-[0-9]{4}(-[0-9]{2}){5}$ ]]
}
