# Steps as transient units of systemd.

# launch UNIT ATTEMPT-FOLDER WORD...: returns once the unit runs.
launch() {
    local unit=$1
    shift 2
    systemd-run --quiet --collect --unit="$unit" --description='step of an upgrade' \
        --property=Type=exec --property=KillMode=control-group \
        --property=StandardInput=null -- "$@"
}

# unit_is_active UNIT ATTEMPT-FOLDER: whether anything of it still runs.
unit_is_active() {
    local state
    # Not being able to ask is not an answer.
    state=$(systemctl show --property=ActiveState --value -- "$1.service") || exit 14
    case $state in
        inactive | failed) return 1 ;;
        *) return 0 ;;
    esac
}
