# Plain programs in the place of packages. What is said here replaces the
# functions of the same names, so that the steps stay as they are: their REVISION
# is the place the programs come from, with {name}, {version} and {arch}.
#
# STATE/binaries/VERSION/NAME    a program whose checksum was verified
# STATE/binaries/VERSION/NAME.sha256

update_lists() { :; }
finish_interrupted() { :; }
hold_again() { :; }
# What is resolved has been fetched.
fetch_packages() { :; }

# installed_version NAME: as the program says itself; empty if there is none.
installed_version() {
    local said
    case $1 in
        kubeadm) said=$(kubeadm version -o short 2> /dev/null || true) ;;
        kubectl) said=$(kubectl version --client 2> /dev/null || true) ;;
        *) said=$("$1" --version 2> /dev/null || true) ;;
    esac
    sed -n '1s/^\(Kubernetes \|Client Version: \)\{0,1\}v\([0-9][^ ]*\)$/\2/p' <<< "$said"
}

# A program is here or is not.
is_present() {
    [ -n "$(installed_version "$1")" ]
}

# The one question that the steps have for dpkg, where there may be none.
dpkg() {
    [ "$1 $3" = '--compare-versions gt' ] && [ "$2" != "$4" ] \
        && [ "$(printf '%s\n' "$2" "$4" | sort --version-sort | tail -n 1)" = "$2" ]
}

# resolve NAME VERSION SOURCE: the version, if it can be had, or a final error.
resolve() {
    local said
    said=$(fetch "$@") || die "$FINAL" "$said"
    echo "$2"
}

# fetch NAME VERSION SOURCE: the path of a verified copy in our own folder; or
# false, and why. Without a source only what is there already will do.
fetch() {
    local name=$1 version=$2 source=$3 folder=$KUBE_MIGRATE_STATE/binaries/$2 from wanted has
    if is_verified "$folder" "$name"; then
        echo "$folder/$name"
        return
    fi
    if [ -z "$source" ]; then
        echo "no $name of version $version is kept in $folder"
        return 1
    fi
    from=${source//'{name}'/"$name"}
    from=${from//'{version}'/"$version"}
    from=${from//'{arch}'/"$(architecture)"}
    (umask 077 && mkdir -p "$folder")
    if ! bring "$from.sha256" "$folder/$name.wanted"; then
        echo "its checksum $from.sha256 is missing"
        return 1
    fi
    read -r wanted _ < "$folder/$name.wanted" || true
    rm -f "$folder/$name.wanted"
    if ! [[ $wanted =~ ^[0-9a-f]{64}$ ]]; then
        echo "$from.sha256 is no checksum"
        return 1
    fi
    if ! bring "$from" "$folder/$name.new"; then
        rm -f "$folder/$name.new"
        echo "$from cannot be fetched"
        return 1
    fi
    has=$(checksum "$folder/$name.new")
    if [ "$has" != "$wanted" ]; then
        rm -f "$folder/$name.new"
        echo "$from has the checksum $has, not $wanted"
        return 1
    fi
    chmod 755 "$folder/$name.new"
    if ! put_new "$folder/$name" || ! put "$folder/$name.sha256" "$wanted"; then
        echo "$folder/$name cannot be written"
        return 1
    fi
    echo "$folder/$name"
}

# bring FROM TO: from a file of this node or by https.
bring() {
    case $1 in
        /*) [ -f "$1" ] && cp "$1" "$2" ;;
        *) curl --fail --silent --show-error --location --proto =https --retry 3 \
            --connect-timeout 20 --output "$2" "$1" >&2 ;;
    esac
}

checksum() {
    sha256sum < "$1" | cut -d ' ' -f 1
}

# is_verified FOLDER NAME: whether it is there as it was when it came.
is_verified() {
    local sum
    [ -s "$1/$2" ] && [ -s "$1/$2.sha256" ] || return 1
    read -r sum < "$1/$2.sha256"
    [ "$(checksum "$1/$2")" = "$sum" ]
}

architecture() {
    case $(uname -m) in
        x86_64) echo amd64 ;;
        aarch64) echo arm64 ;;
        *) uname -m ;;
    esac
}

# place_of NAME: the file that runs by that name, else beside the kubelet.
place_of() {
    local path
    path=$(command -v "$1" || true)
    if [ -n "$path" ]; then
        readlink -f "$path"
    else
        path=$(readlink -f "$(command -v kubelet)")
        echo "${path%/*}/$1"
    fi
}

# owner_of FILE: the package that it belongs to, empty if it is none's.
owner_of() {
    local said=
    if command -v dpkg-query > /dev/null; then
        said=$(dpkg-query --search "$1" 2> /dev/null || true)
        said=${said%%:*}
    elif command -v rpm > /dev/null; then
        said=$(rpm --query --file "$1" 2> /dev/null || true)
    fi
    echo "$said"
}

# look_at_packages: what the steps would refuse, since it would be written over.
look_at_packages() {
    local name owner
    for name in kubeadm kubelet kubectl; do
        owner=$(owner_of "$(place_of "$name")")
        if [ -n "$owner" ]; then echo "managed $name $owner"; fi
    done
}

# keep NAME VERSION FILE: what is replaced, for the way back.
keep() {
    local folder=$KUBE_MIGRATE_STATE/binaries/$2
    [ -n "$2" ] || return 0
    if is_verified "$folder" "$1"; then return; fi
    (umask 077 && mkdir -p "$folder")
    cp "$3" "$folder/$1.new"
    chmod 755 "$folder/$1.new"
    put_new "$folder/$1"
    put "$folder/$1.sha256" "$(checksum "$folder/$1")"
}

# install_packages VERSION SOURCE UNTOUCHED NAME...: each in the place of what is
# there, whole or not at all.
install_packages() {
    local version=$1 source=$2 name has from place owner
    shift 3
    for name in "$@"; do
        has=$(installed_version "$name")
        if [ "$has" != "$version" ]; then
            from=$(fetch "$name" "$version" "$source") || die "$RETRY" "$from"
            place=$(place_of "$name")
            owner=$(owner_of "$place")
            [ -z "$owner" ] || die "$FINAL" "$place belongs to the package $owner," \
                'which would write over it again: upgrade by packages, or remove that one'
            keep "$name" "$has" "$place"
            cp "$from" "$place.new"
            chmod 755 "$place.new"
            put_new "$place"
        fi
        echo "kube-migrate: $name $(installed_version "$name")"
    done
}

# target_kubeadm WORK TARGET SOURCE: one that lies beside the installed one.
target_kubeadm() {
    local said
    KUBE_MIGRATE_STATE=${1%/*}
    said=$(fetch kubeadm "$2" "$3") || die "$FINAL" "$said"
    echo "$said"
}

# fetch_all STATE TARGET SOURCE NAME...: each program that is here, verified and
# put beside the installed one. Changes nothing that runs.
fetch_all() {
    KUBE_MIGRATE_STATE=$1
    local target=$2 source=$3 name owner said
    shift 3
    for name in "$@"; do
        # It is left out where it is not installed.
        if [ "$name" = kubectl ] && [ -z "$(installed_version kubectl)" ]; then continue; fi
        if [ "$name" = kubelet ] && ! command -v kubelet > /dev/null; then
            echo "unfit kubelet is not in the PATH of root"
            continue
        fi
        owner=$(owner_of "$(place_of "$name")")
        if [ -n "$owner" ]; then
            echo "managed $name $owner"
        elif said=$(fetch "$name" "$target" "$source"); then
            echo "package $name $target"
        else
            echo "unfit $name $said"
        fi
    done
}
