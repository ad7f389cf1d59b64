# Runs "$@" for as long as the process that holds the other end of standard
# input lives. Each line read there is the name of a signal to pass on; the end
# of it, which the kernel delivers however that process died, kills the whole
# process group: this shell, its reader and the program.
exec 3<&0
"$@" </dev/null 3<&- &
program=$!
(
    while read -r signal; do kill -s "$signal" "$program"; done
    kill -s KILL 0
) <&3 &
reader=$!
exec 3<&- </dev/null
wait "$program"
status=$?
kill -s KILL "$reader"
exit "$status"
