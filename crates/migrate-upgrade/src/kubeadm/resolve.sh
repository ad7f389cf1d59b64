# resolve_all TARGET REVISION PACKAGE...: which package version each would be.
resolve_all() {
    local target=$1 revision=$2 package version place
    shift 2
    update_lists
    for package in "$@"; do
        # It is left out where it is not installed.
        if [ "$package" = kubectl ] && ! is_present kubectl; then continue; fi
        if place=$(unmanaged "$package"); then
            echo "unmanaged $package $place"
            continue
        fi
        version=$(newest_version "$package" "$target" "$revision")
        if [ -n "$version" ]; then
            echo "package $package $version"
        else
            echo "missing $package $(known_versions "$package" | tr '\n' ' ')"
        fi
    done
}
