# What the pause program does: nothing until told to end. kubeadm's health check
# runs it with -v and waits for it to say its version and end well.
if [ "$1" = -v ]; then
    echo "pause.sh @PAUSE@"
    exit 0
fi
trap 'exit 0' INT TERM
while :; do
    /bin/busybox sleep 3600 &
    wait $!
done
