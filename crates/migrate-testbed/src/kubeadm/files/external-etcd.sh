# An etcd on this node that kubeadm does not know to be here: a unit of systemd.
# Arguments: the node's ADDRESS, a VERSION of Kubernetes, which kubeadm looks up if it is not told.
pki=/etc/etcd/pki
# The address of the default route, which kubeadm takes by itself, is the node's.
for certificate in etcd-ca etcd-server etcd-healthcheck-client apiserver-etcd-client; do
    kubeadm init phase certs "$certificate" --cert-dir "$pki" --kubernetes-version "$2"
done
install -m 755 /srv/testbed/etcd /usr/local/bin/etcd
cat > /etc/systemd/system/etcd.service <<EOF
[Service]
Type=notify
ExecStart=/usr/local/bin/etcd --name external --data-dir /var/lib/external-etcd \\
    --listen-client-urls https://$1:2379 --advertise-client-urls https://$1:2379 \\
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \\
    --initial-cluster external=http://127.0.0.1:2380 --client-cert-auth \\
    --trusted-ca-file $pki/etcd/ca.crt --cert-file $pki/etcd/server.crt --key-file $pki/etcd/server.key
Restart=always
[Install]
WantedBy=multi-user.target
EOF
systemctl daemon-reload
systemctl enable --quiet --now etcd
