# What the etcd beside an API server says of its cluster. Changes nothing but,
# when told so, which member leads.

# etcd_state ROOT: lines that `State::read` understands.
etcd_state() {
    local manifests=$1/etc/kubernetes/manifests
    if [ -e "$manifests/kube-apiserver.yaml" ]; then echo 'api-server here'; fi
    # An etcd elsewhere is never touched.
    [ -e "$manifests/etcd.yaml" ] || return 0
    echo 'etcd here'
    etcd_find "$manifests/etcd.yaml"
    [ -n "$container" ] || return 0
    echo 'etcd runs'
    etcd_ask members member list
    # With a member that does not answer, the others are told all the same.
    etcd_ask statuses endpoint status --cluster
    etcd_ask alarms alarm list
}

# etcd_move_leader ROOT MEMBER-ID: from the member of this node to another.
etcd_move_leader() {
    etcd_find "$1/etc/kubernetes/manifests/etcd.yaml"
    [ -n "$container" ] || die "$RETRY" 'etcd does not run here'
    etcdctl move-leader "$2"
}

# etcd_ask NAME WORD...: a line with the answer, if there is one.
etcd_ask() {
    local name=$1 answer
    shift
    answer=$(etcdctl --write-out=json "$@") || true
    if [ -n "$answer" ]; then echo "$name $answer"; fi
}

# etcd_find MANIFEST: sets `container`, empty if it does not run, and what
# etcdctl needs to ask it.
etcd_find() {
    endpoint=$(manifest_flag "$1" advertise-client-urls)
    pki=$(manifest_flag "$1" trusted-ca-file)
    pki=${pki%/*}
    container=$(running etcd)
    container=${container%%$'\n'*}
}

# etcd_may_rest ROOT: or ends the step. Whether the member of this node may be
# down for a moment, by what etcd says now and not when the step was begun; one
# that leads hands the lead on, to the voting member that is furthest. What may
# pass by itself is tried again; an alarm and a missing quorum are final.
etcd_may_rest() {
    local manifest=$1/etc/kubernetes/manifests/etcd.yaml said own='' members voters voting='' alarms asked=yes
    [ -e "$manifest" ] || return 0
    etcd_find "$manifest"
    # What is down takes nothing from the others.
    [ -n "$container" ] || return 0
    etcd_voters
    # Before health, which a member with an alarm has not either: an alarm stays
    # until somebody acts, so that waiting for it would hide what is to be done.
    alarms=$(etcdctl alarm list) || asked=no
    [ -z "$alarms" ] || die "$FINAL" "etcd has raised an alarm: ${alarms//$'\n'/ }: $ETCD_ALARM_CURE"
    said=$(endpoint=$voting etcdctl endpoint health 2>&1) \
        || die "$RETRY" "not every member of etcd is well: $(tail -n 3 <<< "$said" | tr '\n' ' ')"
    [ "$asked" = yes ] || die "$RETRY" 'etcd does not say whether an alarm is raised'
    said=$(etcdctl --write-out=fields endpoint status) || die "$RETRY" 'the etcd of this node is silent'
    own=$(sed -n 's/^"MemberID" : //p' <<< "$said")
    # Else everybody would count as another one.
    [ -n "$own" ] && grep -Fxq -- "$(printf '%x' "$own")" <<< "$members" \
        || die "$RETRY" 'the etcd of this node does not say which of the members it is'
    said=$(endpoint=$voting etcdctl --write-out=fields endpoint status) \
        || die "$RETRY" 'not every member of etcd answers'
    etcd_others "$(awk '
        $1 == "\"MemberID\"" { id = $3 }
        $1 == "\"Leader\"" { leader = $3 }
        $1 == "\"RaftAppliedIndex\"" { print id, leader, $3 }' <<< "$said")"
}

# etcd_voters: sets `members`, the ids of all, `voters`, how many of them have a vote,
# and `voting`, an endpoint of each of these. Learners have no vote, cannot lead, and call themselves ill. One that was
# added and not started is a voter all the same.
etcd_voters() {
    local said id address
    said=$(etcdctl member list) || die "$RETRY" 'the members of etcd cannot be listed'
    members=$(cut -d , -f 1 <<< "$said")
    voters=0
    while IFS=$'\t' read -r id address; do
        [ -n "$address" ] || die "$RETRY" "the member ${id:-of etcd} has not started"
        voting+=${voting:+,}$address
        voters=$((voters + 1))
    done <<< "$(awk -F ', ' '$6 != "true" { split($5, urls, ","); print $1 "\t" urls[1] }' <<< "$said")"
}

# etcd_others STATUSES: member, its leader and what it has applied, a line for each
# voter. The others are a quorum and have caught up; one of them leads after it.
etcd_others() {
    local id follows applied leader='' newest=0 least='' slowest='' most=-1 other='' others=0
    while read -r id follows applied; do
        if [ -z "$leader" ]; then leader=$follows; fi
        if [ "$follows" != "$leader" ] || [ "${leader:-0}" = 0 ]; then
            die "$RETRY" 'the members of etcd do not agree on a leader'
        fi
        if [ "$applied" -gt "$newest" ]; then newest=$applied; fi
        # As texts: ids are too large for a signed number.
        [ "$id" != "$own" ] || continue
        others=$((others + 1))
        if [ -z "$least" ] || [ "$applied" -lt "$least" ]; then least=$applied slowest=$id; fi
        if [ "$applied" -gt "$most" ]; then most=$applied other=$id; fi
    done <<< "$1"
    # The only member has nobody to wait for, or to hand the lead to.
    [ "$voters" -gt 1 ] || return 0
    [ "$others" -ge $((voters / 2 + 1)) ] || die "$FINAL" "without this one, $others of $voters" \
        'voting members of etcd are no quorum: add one, so that there are three'
    [ $((newest - least)) -le "$ETCD_MOST_BEHIND" ] || die "$RETRY" \
        "the member $(printf '%x' "$slowest") of etcd is $((newest - least)) entries behind;" \
        "$ETCD_MOST_BEHIND are allowed"
    [ "$own" = "$leader" ] || return 0
    etcdctl move-leader "$(printf '%x' "$other")" \
        || die "$RETRY" 'the etcd of this node leads and could not hand the lead on'
}

# The etcdctl of etcd's own image, as the user that kubeadm has made for it.
etcdctl() {
    local -a words=(etcdctl "--endpoints=$endpoint" "--cacert=$pki/ca.crt"
        "--cert=$pki/healthcheck-client.crt" "--key=$pki/healthcheck-client.key"
        --command-timeout=5s "$@")
    if command -v crictl > /dev/null; then
        crictl exec "$container" "${words[@]}"
    else
        ctr --namespace k8s.io tasks exec --exec-id "kube-migrate-$BASHPID-$RANDOM" "$container" \
            "${words[@]}"
    fi
}
