# take_address ADDRESS: waits for the device that ties these namespaces to the
# bridge, and gives it its address.
take_address() {
    local tries=0
    ip link set lo up
    until ip link show eth0 > /dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || { echo "no network device came" >&2; exit 1; }
        sleep 0.05
    done
    ip addr add "$1/24" dev eth0
    ip link set eth0 up
}

