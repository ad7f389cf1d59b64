//! Members are found by what is on control-plane nodes, asked over TLS with the API
//! server's certificate, and through a node where this machine does not reach them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod pki;
mod server;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use futures::FutureExt;
use migrate_core::Cancellation;
use migrate_etcd::{
    Error, FindMembers, FolderNode, KubeadmMembers, Member, NodeFiles, SnapshotBackup, Tls, Way,
};
use pki::certificates;
use server::{Server, etcd, ports, told_of_a_held_defragmentation, url, usual};

/// Nobody resolves it, so that nobody reaches a member by its own URL.
const HOST: &str = "etcd-1.invalid";
const SECRET: &str = "PRIVATE KEY";

/// A node as kubeadm makes it, whose etcd calls itself `url`.
fn node(root: &Path, pki: &Path, url: &str) -> Arc<dyn NodeFiles> {
    let manifests = root.join("etc/kubernetes/manifests");
    let here = root.join("etc/kubernetes/pki");
    fs::create_dir_all(&manifests).unwrap();
    fs::create_dir_all(&here).unwrap();
    for name in ["ca.crt", "client.crt", "client.key"] {
        fs::copy(pki.join(name), here.join(name)).unwrap();
    }
    let server = "spec:\n  containers:\n  - command:\n    - kube-apiserver\n    \
                  - --etcd-cafile=/etc/kubernetes/pki/ca.crt\n    \
                  - --etcd-certfile=/etc/kubernetes/pki/client.crt\n    \
                  - --etcd-keyfile=/etc/kubernetes/pki/client.key\n    \
                  - --etcd-servers=https://127.0.0.1:2379\n";
    fs::write(manifests.join("kube-apiserver.yaml"), server).unwrap();
    let etcd = format!(
        "    - etcd\n    - --advertise-client-urls={url}\n    - --listen-client-urls={url}\n"
    );
    fs::write(manifests.join("etcd.yaml"), etcd).unwrap();
    Arc::new(FolderNode::new("cp-1", root))
}

/// A member over TLS, and the URL that it calls itself.
fn start(etcd: &Path, folder: &Path, pki: &Path) -> (Server, SocketAddr, String) {
    let [client, peer] = ports();
    let listen = format!("https://127.0.0.1:{client}");
    let own = format!("https://{HOST}:2379");
    let file = |name: &str| pki.join(name).to_str().unwrap().to_owned();
    let peer_url = url(peer);
    let server = Server::start(
        etcd,
        &folder.join("data"),
        "one",
        [client, peer],
        &[
            "--initial-cluster",
            &format!("one={peer_url}"),
            "--listen-client-urls",
            &listen,
            "--advertise-client-urls",
            &own,
            "--cert-file",
            &file("server.crt"),
            "--key-file",
            &file("server.key"),
            "--trusted-ca-file",
            &file("ca.crt"),
            "--client-cert-auth",
        ],
    );
    (server, SocketAddr::from(([127, 0, 0, 1], client)), own)
}

/// Waits until the member has a leader.
async fn ready(members: &KubeadmMembers, server: &Server) -> migrate_etcd::FoundMembers {
    let ready = async {
        loop {
            match members.find().await {
                Ok(found) => return found,
                Err(Error::NoMember { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let ready = tokio::time::timeout(Duration::from_secs(60), ready).await;
    ready.unwrap_or_else(|_| panic!("etcd does not get ready: {}", server.log()))
}

#[tokio::test]
async fn a_member_out_of_reach_is_asked_through_its_node_under_its_own_name() {
    let Some(etcd) = etcd(usual()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    certificates(&at("pki"), HOST);
    let (server, address, own) = start(&etcd, folder.path(), &at("pki"));
    let asked: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let asking = Arc::clone(&asked);
    let nodes = vec![node(&at("root"), &at("pki"), &own)];
    let members = KubeadmMembers::new(nodes.clone()).through(move |node, to| {
        asking.lock().unwrap().push((node, to));
        futures::future::ready(Ok(Way::new(address, ()))).boxed()
    });
    let found = ready(&members, &server).await;
    let way = ("cp-1".to_owned(), format!("{HOST}:2379"));
    assert!(asked.lock().unwrap().iter().all(|it| *it == way));
    // It goes by its own name, so that errors and proofs name it.
    assert_eq!(found.source.endpoint, own);
    let cancel = Cancellation::new();
    let backup = SnapshotBackup::new(found.source.clone(), at("backups"));
    let proven = backup.save_proven("a.db", &found.members, &cancel, |_, _| {});
    assert_eq!(proven.await.unwrap().proof.members, [own.as_str()]);
    assert!(!format!("{found:?}").contains(SECRET));

    // Without the way nobody is reached, which says where it was looked for.
    let error = KubeadmMembers::new(nodes).find().await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("cp-1") && text.contains(&own), "{text}");
    assert!(!text.contains(SECRET), "{text}");

    // The other end of a way has to be the member that was meant.
    let other = vec![node(
        &at("other"),
        &at("pki"),
        "https://etcd-2.invalid:2379",
    )];
    let misled = KubeadmMembers::new(other)
        .through(move |_, _| futures::future::ready(Ok(Way::new(address, ()))).boxed());
    let error = misled.find().await.unwrap_err().to_string();
    assert!(error.contains("etcd-2.invalid"), "{error}");
}

/// Asked for over the connection of gRPC, by the name of the member's certificate.
#[tokio::test]
async fn a_defragmentation_is_seen_over_tls_too() {
    let Some(etcd) = etcd(usual()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    certificates(&at("pki"), HOST);
    let (server, address, own) = start(&etcd, folder.path(), &at("pki"));
    let members = KubeadmMembers::new(vec![node(&at("root"), &at("pki"), &own)])
        .through(move |_, _| futures::future::ready(Ok(Way::new(address, ()))).boxed());
    let found = ready(&members, &server).await;
    let pem = |name: &str| fs::read_to_string(at("pki").join(name)).unwrap();
    let tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(pem("ca.crt")))
        .identity(Identity::from_pem(pem("client.crt"), pem("client.key")))
        .domain_name(HOST);
    let options = ConnectOptions::new().with_tls(tls);
    let mut client = Client::connect([format!("https://{address}")], Some(options))
        .await
        .unwrap();
    for i in 0..24 {
        let value = vec![b'v'; 1 << 20];
        client.put(format!("key-{i}"), value, None).await.unwrap();
    }
    let backup = SnapshotBackup::new(found.source.clone(), at("backups"));
    let told = told_of_a_held_defragmentation(&client, &backup, "a.db").await;
    assert_eq!(told, own);
    let cancel = Cancellation::new();
    backup.save("a.db", &cancel, |_, _| {}).await.unwrap();
}

/// What a node calls itself is not this machine, which may have an etcd there too. And
/// the same member by two ways is one.
#[tokio::test]
async fn an_address_of_the_node_itself_is_asked_through_the_node_and_a_member_counts_once() {
    let Some(etcd) = etcd(usual()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::alone(&etcd, &folder.path().join("data"));
    server.client().await.put("a", "b", None).await.unwrap();
    let address: SocketAddr = server.endpoint()["http://".len()..].parse().unwrap();
    let nodes = ["cp-1", "cp-2"].map(|name| {
        let root = folder.path().join(name);
        let manifests = root.join("etc/kubernetes/manifests");
        fs::create_dir_all(&manifests).unwrap();
        let told = format!("    - --etcd-servers=http://{address}\n");
        fs::write(manifests.join("kube-apiserver.yaml"), told).unwrap();
        Arc::new(FolderNode::new(name, root)) as Arc<dyn NodeFiles>
    });
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let asking = Arc::clone(&asked);
    let members = KubeadmMembers::new(nodes.to_vec()).through(move |node, _| {
        asking.lock().unwrap().push(node);
        futures::future::ready(Ok(Way::new(address, ()))).boxed()
    });
    let found = members.find().await.unwrap();
    assert_eq!(*asked.lock().unwrap(), ["cp-1", "cp-2"]);
    assert_eq!((found.members.len(), found.ways.len()), (1, 1));
}

#[tokio::test]
async fn a_node_that_kubeadm_has_not_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let node: Arc<dyn NodeFiles> = Arc::new(FolderNode::new("cp-9", folder.path()));
    let error = KubeadmMembers::new(vec![node]).find().await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("cp-9") && text.contains("kube-apiserver.yaml"),
        "{text}"
    );
}

#[tokio::test]
async fn a_member_that_is_named_by_hand_may_be_behind_a_way_too() {
    let Some(etcd) = etcd(usual()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::alone(&etcd, &folder.path().join("data"));
    server.client().await.put("a", "b", None).await.unwrap();
    let address = server.endpoint();
    let address = address.trim_start_matches("http://").parse().unwrap();
    let member = Member::new(format!("http://{HOST}:2379")).via(address);
    let backup = SnapshotBackup::new(member.clone(), folder.path().join("backups"));
    let (members, cancel) = ([member], Cancellation::new());
    let proven = backup.save_proven("a.db", &members, &cancel, |_, _| {});
    assert!(proven.await.unwrap().proof.inspection.revision > 1);
    let tls = Tls::new("").with_identity("", SECRET);
    assert!(!format!("{:?}", Member::new("https://a").with_tls(tls)).contains(SECRET));
}
