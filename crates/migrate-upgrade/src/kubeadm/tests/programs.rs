//! The programs of a node, as far as steps use them. `$w` is its folder.

use super::*;

pub(super) fn write(bin: &Path) {
    std::fs::create_dir_all(bin).unwrap();
    for &(name, text) in PROGRAMS {
        let path = bin.join(name);
        let text = format!("#!/bin/bash\nw=${{0%/bin/*}}\n{text}\n");
        crate::testing::executable(&path, &text);
    }
}

const PROGRAMS: &[(&str, &str)] = &[
    (
        "apt-get",
        r#"
        words=() simulate= downgrades= downloads=
        while [ $# -gt 0 ]; do
            case $1 in
                -o) shift ;;
                --simulate) simulate=yes ;;
                --download-only) downloads=yes ;;
                --allow-downgrades) downgrades=yes ;;
                -*) ;;
                *) words+=("$1") ;;
            esac
            shift
        done
        case ${words[0]} in
            update)
                echo updated >> "$w/updates"
                if [ -e "$w/newly-available" ]; then mv "$w/newly-available" "$w/available"; fi
                if [ -e "$w/lists-are-busy" ]; then
                    echo 'E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7' >&2
                    exit 100
                fi ;;
            install)
                for spec in "${words[@]:1}"; do
                    old=$(cat "$w/installed/${spec%%=*}")
                    if [ ! "$downgrades" ] && /usr/bin/dpkg --compare-versions "${spec#*=}" lt "$old"; then
                        exit 100
                    fi
                    if [ "$downloads" ]; then
                        if [ -e "$w/repository-is-away" ] || [ -e "$w/unfinished" ]; then exit 100; fi
                    elif [ "$simulate" ]; then
                        echo "Inst ${spec%%=*} [old] (${spec#*=} x)"
                    elif [ -e "$w/apt-fails" ]; then
                        echo 'dpkg: error: failed to write: No space left on device' >&2
                        exit 100
                    else
                        echo "${spec#*=}" > "$w/installed/${spec%%=*}"
                        rm -f "$w/cut-off-${spec%%=*}"
                        # As dpkg may: the hold is gone.
                        sed -i "/^${spec%%=*}$/d" "$w/held"
                    fi
                done
                if [ "$simulate" ]; then cat "$w/drags" 2> /dev/null; fi ;;
            download)
                if ! grep -qx -- "${words[1]#*=}" "$w/downloadable" 2> /dev/null && [ -e "$w/downloadable" ]; then
                    exit 100
                fi
                : > "${words[1]/=/_}.deb" ;;
        esac
        exit 0"#,
    ),
    (
        "apt-cache",
        r#"while read -r version; do echo "$2 | $version | file:/x Packages"; done < "$w/available""#,
    ),
    (
        "apt-mark",
        r#"case $1 in
            showhold) cat "$w/held" ;;
            hold) echo "$2" >> "$w/held"; sort -u -o "$w/held" "$w/held" ;;
        esac"#,
    ),
    (
        "df",
        r#"echo Avail
        case "$*" in
            */var/lib/dpkg) cat "$w/free" ;;
            *avail,size*) echo "$*" >> "$w/df-calls"; cat "$w/image-room" 2> /dev/null ;;
            *) echo '  5000' ;;
        esac"#,
    ),
    (
        "dpkg",
        r#"if [ "$1" = --compare-versions ]; then exec /usr/bin/dpkg "$@"; fi
        if [ "$1 $2" = '--configure -a' ]; then
            if [ -e "$w/dpkg-is-busy" ]; then
                echo 'dpkg: error: dpkg frontend lock was locked by another process with pid 7' >&2
                exit 2
            fi
            rm "$w/unfinished"
        fi
        if [ "$1" = --verify ]; then cat "$w/verify" 2> /dev/null; exit 2; fi"#,
    ),
    // Nobody waits here, and after a while whoever was at work is done.
    (
        "sleep",
        r#"echo "$1" >> "$w/slept"
        if [ "$(grep -c . "$w/slept")" -ge 3 ]; then rm -f "$w/dpkg-is-busy" "$w/lists-are-busy"; fi"#,
    ),
    (
        "dpkg-deb",
        r#"mkdir -p "$3/usr/bin"; cp "$w/bin/kubeadm" "$3/usr/bin/"
        # Its folder is two further down there.
        sed -i "s|^w=.*|w=$w|" "$3/usr/bin/kubeadm""#,
    ),
    (
        "dpkg-query",
        r#"case "$*" in
            *Abbrev*) cat "$w/unfinished" 2> /dev/null; exit 0 ;;
        esac
        package=${*: -1}
        [ -e "$w/installed/$package" ] || exit 1
        state=installed
        if grep -q "U  $package" "$w/unfinished" 2> /dev/null; then state=unpacked; fi
        if [ -e "$w/cut-off-$package" ]; then state=half-installed; fi
        printf '%s %s' "$state" "$(< "$w/installed/$package")""#,
    ),
    (
        "kubeadm",
        r#"version=v$(cut -d - -f 1 "$w/installed/kubeadm")
        case $1 in
            version) echo "$version"; exit ;;
            certs) cat "$w/certificates" 2> /dev/null; exit ;;
            config)
                grep -q 'kubernetesVersion: v1.37.2' "$5" || exit 1
                for image in kube-apiserver:v1.37.2 kube-proxy:v1.37.2 etcd:3.7 coredns:v9; do
                    echo "r.local/$image"
                done
                exit ;;
        esac
        echo "$*" >> "$w/kubeadm-calls"
        if [ -e "$w/kubeadm-backs-up" ]; then
            for kind in backup-manifests backup-etcd; do
                mkdir -p "$w/root/etc/kubernetes/tmp/kubeadm-$kind-$(< "$w/kubeadm-backs-up")"
            done
        fi
        if [ -e "$w/certificates-renewed" ]; then cp "$w/certificates-renewed" "$w/certificates"; fi
        if [ -e "$w/kubeadm-uploads" ]; then echo "$version" > "$w/cluster-version"; fi
        # Each component is moved away and back.
        for component in $(cat "$w/kubeadm-rolls-back" 2> /dev/null); do
            backup=$w/root/etc/kubernetes/tmp/kubeadm-backup-manifests-8
            manifest=$w/root/etc/kubernetes/manifests/$component.yaml
            mkdir -p "$backup"
            mv "$manifest" "$backup/"
            echo new > "$manifest"
            mv "$backup/$component.yaml" "$manifest"
        done
        if [ -e "$w/kubeadm-loses" ]; then
            mkdir -p "$w/root/etc/kubernetes/tmp/kubeadm-backup-manifests-9"
            mv "$w/root/etc/kubernetes/manifests/$(< "$w/kubeadm-loses").yaml" \
                "$w/root/etc/kubernetes/tmp/kubeadm-backup-manifests-9/"
        fi
        if [ -e "$w/kubeadm-fails" ]; then cat "$w/kubeadm-fails" >&2; exit 1; fi
        for manifest in "$w"/root/etc/kubernetes/manifests/*.yaml; do
            [ -e "$manifest" ] || continue
            [[ $manifest != */"$(cat "$w/kubeadm-forgets" 2> /dev/null)".yaml ]] || continue
            sed -i "s/:v1[.0-9]*/:$version/" "$manifest"
        done
        echo "$version" > "$w/cluster-version""#,
    ),
    (
        "kubectl",
        r#"[ ! -e "$w/api-is-away" ] || exit 1
        case "$*" in
            *'--raw /version'*)
                echo "$*" >> "$w/kubectl-calls"
                cat "$w/etcd-version" ;;
            *--raw*) [ ! -e "$w/meanwhile" ] || . "$w/meanwhile"
                [ ! -e "$w/api-is-down" ] || { echo "$w: refused" >&2; exit 1; } ;;
            *hostIP*) cat "$w/api-servers" 2> /dev/null ;;
            *'get pods'*) cat "$w/servers" 2> /dev/null ;;
            *'get configmap kubelet-config'*) cat "$w/kubelet-config" 2> /dev/null ;;
            *'get configmap kube-proxy'*) cat "$w/kube-proxy-config" 2> /dev/null ;;
            *'get daemonset'*) cat "$w/kube-proxy" 2> /dev/null || echo kube-proxy ;;
            *'get configmap coredns'*) echo configmap/coredns ;;
            *'get deployments'*) echo 'coredns r.local/coredns/coredns:v1.12.1 ' ;;
            *'get configmap'*jsonpath*)
                printf 'apiVersion: x\nkubernetesVersion: %s\nnetworking: {}\n' "$(< "$w/cluster-version")" ;;
        esac
        exit 0"#,
    ),
    (
        "kubelet",
        r#"echo "Kubernetes v$(cut -d - -f 1 "$w/installed/kubelet")""#,
    ),
    (
        "systemctl",
        r#"case $1 in
            show) echo 0 ;;
            is-active) [ ! -e "$w/kubelet-is-down" ] ;;
            *) echo "$*" >> "$w/systemctl-calls" ;;
        esac"#,
    ),
    (
        "containerd",
        r#"echo "containerd github.com/containerd/containerd $(cat "$w/containerd" 2> /dev/null || echo 2.1.4) abc""#,
    ),
    ("date", r#"cat "$w/clock" 2> /dev/null || echo 0"#),
    ("journalctl", "echo 'the journal of the kubelet'"),
    (
        "crictl",
        r#"case $1 in
            images)
                echo '"repoTags": ['
                sed 's/.*/  "&",/' "$w/images"
                echo '  ]' ;;
            pull) echo "$2" >> "$w/pulls"; grep -Fxq "$2" "$w/pullable"; exit ;;
            imagefsinfo) echo "\"fsId\": { \"mountpoint\": \"$w/root/images\" }"; exit ;;
            ps) case $* in
                *etcd*) cat "$w/etcd-container" 2> /dev/null ;;
                *) cat "$w/static-pods" 2> /dev/null ;;
            esac ;;
            exec) "$w/bin/$3" "${@:4}"; exit ;;
        esac
        # As ctr: `--namespace k8s.io NOUN VERB …`.
        case "$3 $4" in
            'tasks ls') echo "TASK PID STATUS"; echo "$(< "$w/etcd-container") 7 RUNNING" ;;
            'containers ls') printf 'old\n%s\n' "$(< "$w/etcd-container")" ;;
            'tasks exec') shift 7; "$w/bin/$1" "${@:2}" ;;
        esac"#,
    ),
    (
        "etcdctl",
        r#"case "$*" in
            *'endpoint health'*) cat "$w/etcd-is-ill" 2> /dev/null && exit 1 ;;
            # Of those endpoints that are asked.
            *=fields*)
                awk -v RS= -v asked=",${1#*=}," '
                    match($0, /"Endpoint" : "[^"]*"/) {
                        if (index(asked, "," substr($0, RSTART + 14, RLENGTH - 15) ",")) print $0 "\n"
                    }' "$w/etcd-fields" ;;
            *=json*'member list'*) cat "$w/etcd-says/members" ;;
            *'member list'*) cat "$w/etcd-members" ;;
            *'endpoint status'*) cat "$w/etcd-says/statuses" ;;
            *=json*'alarm list'*) cat "$w/etcd-says/alarms" ;;
            *'alarm list'*)
                if [ -d "$w/etcd-alarms" ]; then exit 1; fi
                cat "$w/etcd-alarms" 2> /dev/null ;;
            *move-leader*)
                echo "$*" >> "$w/etcd-moves"
                if [ -e "$w/etcd-says-then" ]; then cp "$w"/etcd-says-then/* "$w/etcd-says/"; fi ;;
        esac
        exit 0"#,
    ),
];
