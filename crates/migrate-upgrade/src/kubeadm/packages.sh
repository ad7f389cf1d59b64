# Packages of apt. Nothing here asks a question or waits for ever.

# What apt may do beyond installing.
APT_ALLOWS=(--allow-change-held-packages)

# What runs below the pods of a node that is not drained.
readonly BEFORE_DRAIN_UNTOUCHED='kubelet kubernetes-cni containerd containerd.io cri-o runc'

apt_get() {
    DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 UCF_FORCE_CONFFOLD=1 \
        apt-get -q -y -o DPkg::Lock::Timeout=300 \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
        -o APT::Install-Recommends=false "$@"
}

# once_unlocked COMMAND...: run again for as long as somebody else is at work
# with packages (unattended upgrades, say), up to five minutes: apt waits for one
# of these locks by itself, dpkg and `apt-get update` for none.
once_unlocked() {
    local said code until=$((SECONDS + 300))
    while :; do
        code=0
        said=$("$@" 2>&1) || code=$?
        [ -z "$said" ] || printf '%s\n' "$said" >&2
        case $code/$said in
            0/*) return 0 ;;
            */*'lock was locked by another process'* | */*'Could not get lock'*)
                [ "$SECONDS" -lt "$until" ] || return "$code"
                sleep 2
                ;;
            *) return "$code" ;;
        esac
    done
}

# Old lists will do when they name the version; resolve says if they do not.
update_lists() {
    local try
    for try in 1 2 3; do
        if once_unlocked apt_get update; then return; fi
        [ "$try" = 3 ] || sleep 2
    done
    echo 'kube-migrate: apt-get update failed; going on with the lists there are' >&2
}

known_versions() {
    apt-cache madison "$1" | cut -d '|' -f 2 | tr -d ' '
}

# newest_version PACKAGE VERSION REVISION: of that release; empty if none.
newest_version() {
    local version best=
    while read -r version; do
        if [ -n "$3" ]; then
            [ "$version" = "$2-$3" ] || continue
        else
            [[ $version == "$2" || $version == "$2"-* ]] || continue
        fi
        if [ -z "$best" ] || dpkg --compare-versions "$version" gt "$best"; then best=$version; fi
    done < <(known_versions "$1")
    echo "$best"
}

# resolve PACKAGE VERSION REVISION: as newest_version, or a final error.
resolve() {
    local version
    version=$(newest_version "$@")
    if [ -z "$version" ]; then
        die "$FINAL" "apt has no $1 of version $2${3:+-$3}: \`apt-cache madison $1\` names" \
            "$(known_versions "$1" | tr '\n' ' ')- add the repository of that minor version" \
            'to /etc/apt/sources.list.d and check its key'
    fi
    echo "$version"
}

installed_version() {
    local line
    line=$(dpkg-query -W -f '${db:Status-Status} ${Version}' "$1" 2> /dev/null || true)
    if [[ $line == 'installed '* ]]; then echo "${line#installed }"; fi
}

# unmanaged PACKAGE: where a program of that name lies; false if the package is
# installed, or there is none.
unmanaged() {
    [ -z "$(installed_version "$1")" ] && command -v "$1"
}

# short_of_room ROOT: where programs and packages are written, and the room is less
# than one of kubelet or kubeadm takes, each with the MiB that are free.
short_of_room() {
    local place free
    for place in /usr /var/cache/apt /var/lib/apt /var/lib/dpkg; do
        free=$(df --output=avail --block-size=1M "$1$place" 2> /dev/null | tail -n 1) || continue
        if [[ $free =~ ^\ *[0-9]+$ ]] && [ "$free" -lt 200 ]; then echo "$place $((free))"; fi
    done
}

# little_room: to be appended to what failed.
little_room() {
    short_of_room '' | while read -r place free; do
        printf '; %s has %d MiB free, make room there' "$place" "$free"
    done
}

# A reboot in the middle of dpkg leaves work that apt refuses to go on without.
finish_interrupted() {
    local states
    # The second letter: unpacked, half configured, waiting for triggers.
    states=$(dpkg-query --show --showformat '${db:Status-Abbrev} ${Package}\n')
    if grep -q '^.[UFWt]' <<< "$states" || [ -n "$(ls -A /var/lib/dpkg/updates 2> /dev/null || true)" ]; then
        once_unlocked env DEBIAN_FRONTEND=noninteractive dpkg --configure -a \
            --force-confdef --force-confold \
            || die "$RETRY" "an interrupted dpkg could not be finished (dpkg --configure -a)$(little_room)"
    fi
}

# Each package is held again if it was before the first attempt of this action.
hold_again() {
    local package
    while read -r package; do
        # One that apt does not know any more cannot be held.
        [ -z "$package" ] || apt-mark hold "$package" || true
    done < "$KUBE_MIGRATE_ACTION/held"
}

# present PACKAGE...: those of them that are installed.
present() {
    local package
    for package in "$@"; do
        if [ -n "$(installed_version "$package")" ]; then echo "$package"; fi
    done
}

# install_packages VERSION REVISION UNTOUCHED PACKAGE...: UNTOUCHED are words;
# packages of these names may not change on the way.
install_packages() {
    local version=$1 revision=$2 untouched=$3 package wanted held plan rest verb name
    local -a specs=()
    shift 3
    for package in "$@"; do
        wanted=$(resolve "$package" "$version" "$revision")
        if [ "$(installed_version "$package")" != "$wanted" ]; then specs+=("$package=$wanted"); fi
    done
    finish_interrupted
    if [ ! -e "$KUBE_MIGRATE_ACTION/held" ]; then
        held=$(apt-mark showhold)
        put "$KUBE_MIGRATE_ACTION/held" "$held"
    fi
    if [ "${#specs[@]}" -gt 0 ]; then
        plan=$(apt_get --simulate "${APT_ALLOWS[@]}" install "${specs[@]}") \
            || die "$RETRY" "apt-get cannot install ${specs[*]}$(little_room)"
        while read -r verb name rest; do
            case $verb in
                Remv) die "$FINAL" "installing ${specs[*]} would remove $name; resolve that by hand" ;;
                Inst)
                    case " $untouched " in
                        *" $name "*) die "$FINAL" "installing ${specs[*]} would change $name" \
                            'before the node is drained; its packages do not fit together' ;;
                    esac
                    ;;
            esac
        done <<< "$plan"
        if ! apt_get "${APT_ALLOWS[@]}" install "${specs[@]}"; then
            hold_again
            die "$RETRY" "apt-get could not install ${specs[*]}$(little_room)"
        fi
    fi
    hold_again
    for package in "$@"; do
        echo "kube-migrate: $package $(installed_version "$package")"
    done
}
