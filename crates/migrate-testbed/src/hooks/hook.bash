#!/usr/bin/env bash
# Hands one hook call to the test process that runs the control plane and
# answers as it says. Nothing happens here.
if ! { exec 3<>/dev/tcp/127.0.0.1/@PORT@; } 2>/dev/null; then
    echo "the testbed that wrote this hook has ended" >&2
    exit 1
fi
printf '%s\n' "${KUBE_MIGRATE_PHASE-}" "${KUBE_MIGRATE_ACTION_ID-}" \
    "${KUBE_MIGRATE_TARGET-}" "${KUBE_MIGRATE_NODE-}" \
    "${KUBE_MIGRATE_TO-}" "${KUBE_MIGRATE_EPOCH-}" >&3
if ! read -r code message <&3; then
    echo "the testbed ended while it was asked" >&2
    exit 1
fi
echo "$message"
exit "$code"
