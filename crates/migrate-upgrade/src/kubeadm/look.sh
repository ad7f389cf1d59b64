# look ROOT STATE: the versions on a node, a line each. Changes nothing.
look() {
    local try
    echo "kubelet $(kubelet --version | sed 's/^Kubernetes //')"
    manifest_lines "$1/etc/kubernetes" etcd kube-apiserver kube-controller-manager kube-scheduler
    lost_manifests "$1/etc/kubernetes" "$2/kubeadm" | sed 's/^/lost /'
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
