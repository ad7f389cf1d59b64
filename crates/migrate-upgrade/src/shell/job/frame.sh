# frame MARK SCRIPT [ARGUMENT]...
#
# Runs SCRIPT on the node, and prints what it says so that whoever reads it can
# tell that nothing is missing: the first MiB of its standard output and the
# last 16 KiB of its standard error between two lines that MARK is on; the last
# one has the length of each and the exit code.
frame() {
    local mark=$1 text=$2 ends
    shift 2
    exec < /dev/null 4>&1
    printf '%s\n' "kube-migrate: out $mark"
    ends=$(
        {
            {
                run "$text" "$@" 2>&3 3>&- 4>&- 5>&- |
                    {
                        head -c 1048576 | pass_on out
                        cat > /dev/null
                    }
                printf 'code=%s ' "${PIPESTATUS[0]}" >&5
            } 3>&1 | tail -c 16384 | pass_on err
        } 5>&1
    )
    printf '\n%s\n' "kube-migrate: end $mark $ends"
}

# As root sees it, not as the image of the container has it.
run() {
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        HOME=/root USER=root LOGNAME=root \
        bash -euo pipefail -c "$1" bash "${@:2}"
}

# pass_on NAME: to the log; how many bytes, on 5. Runtimes drop a carriage return
# at the end of a line; it is dropped here, so that the count is of what arrives.
pass_on() {
    LC_ALL=C sed 's/\r*$//' | tee >(printf '%s=%s ' "$1" "$(wc -c)" >&5) >&4
}

frame "$@"
