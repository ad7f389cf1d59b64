# Steps as processes of their own, where there is no systemd.
launch() {
    local folder=$2
    shift 2
    setsid "$@" < /dev/null > /dev/null 2>&1 &
    echo $! > "$folder/pid"
}

unit_is_active() {
    local pid
    pid=$(cat "$2/pid") || return 1
    [ -e "/proc/$pid/stat" ] && ! grep -q ') Z ' "/proc/$pid/stat"
}
