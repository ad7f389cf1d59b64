# look ROOT STATE ACTION: the versions on a node, a line each, and what the step of an
# action, in its folder, has noted of certificates. Changes nothing.
look() {
    local try when
    echo "kubelet $(kubelet --version | sed 's/^Kubernetes //')"
    manifest_lines "$1/etc/kubernetes" etcd kube-apiserver kube-controller-manager kube-scheduler
    lost_manifests "$1/etc/kubernetes" "$2/kubeadm" | sed 's/^/lost /'
    moved_back "$1/etc/kubernetes" "$2/kubeadm" | sed 's/^/moved-back /'
    for when in before after; do
        if [ -e "$3/certificates-$when" ]; then
            echo "certificates-$when $(< "$3/certificates-$when")"
        fi
    done
    if kubelet_is_stale; then echo 'kubelet-stale yes'; fi
    # A busy machine may let one question go unanswered.
    for try in 1 2 3; do
        if kubelet_is_healthy "$1/var/lib/kubelet/config.yaml"; then
            echo 'kubelet-healthy yes'
            break
        fi
        [ "$try" = 3 ] || sleep 1
    done
}
