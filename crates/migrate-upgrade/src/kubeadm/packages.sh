# Packages of apt. Nothing here asks a question or waits for ever.

# What apt may do beyond installing.
APT_ALLOWS=(--allow-change-held-packages)

# What whoever works with packages locks; for that of the archives apt does not wait.
ARCHIVES_LOCK=/var/cache/apt/archives/lock
PACKAGE_LOCKS=(/var/lib/dpkg/lock-frontend /var/lib/dpkg/lock /var/lib/apt/lists/lock
    "$ARCHIVES_LOCK")

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
                if [ "$SECONDS" -ge "$until" ]; then
                    echo "kube-migrate: waited for five minutes$(lock_holders)" >&2
                    return "$code"
                fi
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
    local state
    state=$(package_state "$1")
    if [[ $state == 'installed '* ]]; then echo "${state#installed }"; fi
}

# package_state PACKAGE: a word and its version, as dpkg has it.
package_state() {
    dpkg-query -W -f '${db:Status-Status} ${Version}' "$1" 2> /dev/null || true
}

# is_present PACKAGE: whether dpkg knows of its programs, also of those that an unpack
# which was cut off has left (half-installed): it has them by another version's name.
is_present() {
    case $(package_state "$1") in
        '' | 'not-installed '* | 'config-files '*) return 1 ;;
    esac
}

# unmanaged PACKAGE: where a program of that name lies; false if it is a package's, or
# there is none.
unmanaged() {
    ! is_present "$1" && command -v "$1"
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

# lock_holders [FILE...]: to be appended to what failed; who is at work with packages,
# or who holds these of its locks.
lock_holders() {
    local file pid
    for file in "${@:-${PACKAGE_LOCKS[@]}}"; do
        while read -r pid; do
            [ -z "$pid" ] || printf '; %s is held by process %s (%s)' "$file" "$pid" "$(program_of "$pid")"
        done <<< "$(holders_of "$file")"
    done
}

# holders_of FILE: who has locked it by what the kernel lists; where that list is
# missing, or has other numbers than the file (overlays), who has it open.
holders_of() {
    local file=$1 inode pid found=''
    inode=$(stat --format=%i "$file" 2> /dev/null) || return 0
    # A second word `->` is of one that waits.
    for pid in $(awk -v inode=":$inode" '
        $2 != "->" && substr($6, length($6) - length(inode) + 1) == inode { print $5 }
    ' /proc/locks 2> /dev/null | sort -un || true); do
        if has_open "$pid" "$file"; then found+=$pid$'\n'; fi
    done
    if [ -z "$found" ]; then
        for pid in /proc/[0-9]*; do
            pid=${pid#/proc/}
            if has_open "$pid" "$file"; then found+=$pid$'\n'; fi
        done
    fi
    printf '%s' "$found"
}

# has_open PID FILE
has_open() {
    local opened
    for opened in "/proc/$1/fd"/*; do
        if [ "$opened" -ef "$2" ]; then return 0; fi
    done
    return 1
}

# program_of PID: the first words of its command, up to an option: values may be
# anybody's secret.
program_of() {
    local word text='' count=0
    while IFS= read -r -d '' word && [[ $word != -* ]] && [ "$count" -lt 3 ]; do
        text+=${text:+ }$word
        count=$((count + 1))
    done < <(cat "/proc/$1/cmdline" 2> /dev/null || true)
    echo "${text:-it has ended}"
}

# half_done [NAME...]: packages with work left, unpacked, half configured or waiting
# for triggers by the second letter of their state; of these names, if there are any.
half_done() {
    local state name
    dpkg-query --show --showformat '${db:Status-Abbrev} ${Package}\n' | while read -r state name; do
        case "$state/ ${*:-$name} " in
            ?[UFWt]*/*" $name "*) echo "$name" ;;
        esac
    done
}

# nobody_at_work [LOCK...]: or false, and says so as apt does.
nobody_at_work() {
    local held
    held=$(lock_holders "$@")
    [ -z "$held" ] || { echo "Could not get lock$held" && return 1; }
}

# finish_interrupted UNTOUCHED: a reboot in the middle of dpkg leaves work that apt
# refuses to go on without. That of an untouched one is not ours to finish: its own
# scripts may restart what runs below the pods.
finish_interrupted() {
    local -a untouched
    local names
    read -r -a untouched <<< "$1"
    if [ "${#untouched[@]}" -gt 0 ] && [ -n "$(half_done "${untouched[@]}")" ]; then
        # Somebody who is at work with it may be about to finish it.
        once_unlocked nobody_at_work \
            || die "$RETRY" "somebody else is at work with packages$(lock_holders)"
        names=$(half_done "${untouched[@]}" | tr '\n' ' ')
        [ -z "$names" ] || die "$FINAL" "an interrupted dpkg has left ${names% } half done, and finishing" \
            'it may restart what runs below the pods here, before the node is drained: drain it and run' \
            '`dpkg --configure -a` on it, then go on'
    fi
    if [ -n "$(half_done)" ] || [ -n "$(ls -A /var/lib/dpkg/updates 2> /dev/null || true)" ]; then
        once_unlocked env DEBIAN_FRONTEND=noninteractive dpkg --configure -a \
            --force-confdef --force-confold \
            || die "$RETRY" "an interrupted dpkg could not be finished (dpkg --configure -a)$(little_room)$(lock_holders)"
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

# present PACKAGE...: those of them that are here.
present() {
    local package
    for package in "$@"; do
        if is_present "$package"; then echo "$package"; fi
    done
}

# apt_install WORD...: once the archives are nobody's. Whoever takes them from then on fails
# this attempt, and the next one waits again.
apt_install() {
    once_unlocked nobody_at_work "$ARCHIVES_LOCK" && apt_get "${APT_ALLOWS[@]}" install "$@"
}

# fetch_packages PACKAGE=VERSION...: into the archives, from where they are installed.
fetch_packages() {
    [ "$#" -gt 0 ] || return 0
    apt_install --download-only "$@" \
        || die "$RETRY" "apt-get could not fetch $*$(little_room)$(lock_holders)"
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
    finish_interrupted "$untouched"
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
        if ! apt_install "${specs[@]}"; then
            hold_again
            die "$RETRY" "apt-get could not install ${specs[*]}$(little_room)$(lock_holders)"
        fi
    fi
    hold_again
    for package in "$@"; do
        echo "kube-migrate: $package $(installed_version "$package")"
    done
}
