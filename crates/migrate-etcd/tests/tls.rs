//! Members that show a certificate and ask for none, or for one, with users and without.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod pki;
mod server;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, TlsOptions};
use migrate_core::Cancellation;
use migrate_etcd::{
    Error, FindMembers, FolderNode, FoundMembers, KubeadmMembers, Member, NamedMembers, NodeFiles,
    SnapshotBackup, Tls,
};
use pki::certificates;
use server::{Server, V34, etcd, ports, url, usual};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

/// What the certificates of members are for.
const HOST: &str = "127.0.0.1";
const PASSWORD: &str = "s3cret-and-long";

fn pem(pki: &Path, name: &str) -> String {
    fs::read_to_string(pki.join(name)).unwrap()
}

/// The CA alone.
fn trusting(pki: &Path) -> Tls {
    Tls::new(pem(pki, "ca.crt"))
}

fn https(port: u16) -> String {
    format!("https://{HOST}:{port}")
}

/// Starts members `m0`, `m1`, … of one cluster that take clients over TLS, and where each is.
fn start<const N: usize>(etcd: &Path, folder: &Path, more: &[&str]) -> Vec<(Server, String)> {
    let pki = folder.join("pki");
    let file = |name: &str| pki.join(name).to_str().unwrap().to_owned();
    let addresses: [[u16; 2]; N] = [(); N].map(|()| ports());
    let member = |(i, [_, peer]): (usize, &[u16; 2])| format!("m{i}={}", url(*peer));
    let cluster: Vec<_> = addresses.iter().enumerate().map(member).collect();
    let members = addresses.iter().enumerate().map(|(i, [client, peer])| {
        let (name, own) = (format!("m{i}"), https(*client));
        let data = folder.join(&name);
        let cluster = cluster.join(",");
        let tls = [
            ["--initial-cluster", &cluster],
            ["--listen-client-urls", &own],
            ["--advertise-client-urls", &own],
            ["--cert-file", &file("server.crt")],
            ["--key-file", &file("server.key")],
        ];
        let flags: Vec<_> = tls
            .as_flattened()
            .iter()
            .copied()
            .chain(more.iter().copied())
            .collect();
        (
            Server::start(etcd, &data, &name, [*client, *peer], &flags),
            own,
        )
    });
    members.collect()
}

/// A member that shows a certificate of `pki` in this folder, and asks for one if it `asks`.
fn alone(etcd: &Path, asks: bool) -> (TempDir, Server, String) {
    let folder = tempfile::tempdir().unwrap();
    let pki = folder.path().join("pki");
    certificates(&pki, HOST);
    // Who names this asks for certificates, whether it says --client-cert-auth or not.
    let ca = pki.join("ca.crt");
    let asking = [
        "--client-cert-auth",
        "--trusted-ca-file",
        ca.to_str().unwrap(),
    ];
    let more: &[&str] = if asks { &asking } else { &[] };
    let (server, own) = start::<1>(etcd, folder.path(), more).remove(0);
    (folder, server, own)
}

/// Waits until one of them answers and is fit.
async fn ready(members: &[Member], server: &Server) -> FoundMembers {
    let ready = async {
        loop {
            if let Ok(found) = NamedMembers::new(members.to_vec()).find().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let ready = tokio::time::timeout(Duration::from_secs(60), ready).await;
    ready.unwrap_or_else(|_| panic!("etcd does not get ready: {}", server.log()))
}

/// A client of the tests, as root if there are users.
async fn client(endpoint: &str, tls: TlsOptions, user: Option<&str>) -> Client {
    let options = ConnectOptions::new().with_tls(tls);
    let options = match user {
        Some(password) => options.with_user("root", password),
        None => options,
    };
    Client::connect([endpoint], Some(options)).await.unwrap()
}

async fn users(client: &mut Client) {
    // There may be the role already.
    let _ = client.role_add("root").await;
    client.user_add("root", PASSWORD, None).await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.auth_enable().await.unwrap();
}

async fn save(
    member: Member,
    members: &[Member],
    folder: &Path,
    name: &str,
) -> Result<usize, Error> {
    let backup = SnapshotBackup::new(member, folder);
    let cancel = Cancellation::new();
    let saved = backup.save_proven(name, members, &cancel, |_, _| {});
    Ok(saved.await?.proof.compared.len())
}

/// The certificate of the member is looked at all the same.
#[tokio::test]
async fn a_member_that_asks_for_a_password_alone_is_saved_without_a_client_certificate() {
    let Some(etcd) = etcd(usual()) else { return };
    let (folder, server, own) = alone(&etcd, false);
    let at = |name: &str| folder.path().join(name);
    let member = Member::new(&own).with_tls(trusting(&at("pki")));
    ready(std::slice::from_ref(&member), &server).await;
    let tls = TlsOptions::new().ca_certificate(Certificate::from_pem(pem(&at("pki"), "ca.crt")));
    users(&mut client(&own, tls, None).await).await;

    let error = save(member.clone(), &[], &at("backups"), "a.db")
        .await
        .unwrap_err();
    assert!(matches!(error, Error::PermissionDenied { .. }), "{error:?}");
    let root = member.with_user("root", PASSWORD);
    let members = [root.clone()];
    assert_eq!(
        save(root, &members, &at("backups"), "a.db").await.unwrap(),
        1
    );

    certificates(&at("other"), HOST);
    let stranger = Member::new(&own).with_tls(trusting(&at("other")));
    let error = save(
        stranger.with_user("root", PASSWORD),
        &[],
        &at("backups"),
        "b.db",
    )
    .await;
    assert!(matches!(error, Err(Error::Unreachable { .. })), "{error:?}");
}

#[tokio::test]
async fn a_member_that_asks_for_a_certificate_is_saved_with_one_alone() {
    let Some(etcd) = etcd(usual()) else { return };
    let (folder, server, own) = alone(&etcd, true);
    let at = |name: &str| folder.path().join(name);
    let without = Member::new(&own).with_tls(trusting(&at("pki")));
    let (certificate, key) = (pem(&at("pki"), "client.crt"), pem(&at("pki"), "client.key"));
    let with = Member::new(&own).with_tls(trusting(&at("pki")).with_identity(certificate, key));
    ready(std::slice::from_ref(&with), &server).await;
    let members = [with.clone()];
    assert_eq!(
        save(with, &members, &at("backups"), "a.db").await.unwrap(),
        1
    );
    let error = save(without, &[], &at("backups"), "b.db").await;
    assert!(matches!(error, Err(Error::Unreachable { .. })), "{error:?}");
}

/// The API server of an etcd elsewhere is told its CA, and no certificate of its own.
#[tokio::test]
async fn an_etcd_elsewhere_of_which_only_the_ca_is_known_is_asked_over_tls() {
    let Some(etcd) = etcd(usual()) else { return };
    let (folder, server, own) = alone(&etcd, false);
    let at = |name: &str| folder.path().join(name);
    let manifests = at("root/etc/kubernetes/manifests");
    fs::create_dir_all(&manifests).unwrap();
    fs::copy(at("pki/ca.crt"), at("root/etc/kubernetes/etcd-ca.crt")).unwrap();
    let told =
        format!("    - --etcd-cafile=/etc/kubernetes/etcd-ca.crt\n    - --etcd-servers={own}\n");
    fs::write(manifests.join("kube-apiserver.yaml"), told).unwrap();
    ready(&[Member::new(&own).with_tls(trusting(&at("pki")))], &server).await;
    let node: Arc<dyn NodeFiles> = Arc::new(FolderNode::new("cp-1", at("root")));
    let found = KubeadmMembers::new(vec![node]).find().await.unwrap();
    let saved = save(found.source, &found.members, &at("backups"), "a.db").await;
    assert_eq!(saved.unwrap(), 1);
}

/// Passes connections on to `port`. The one that asks for metrics, which is the second of a
/// save, is held until `until` ends.
async fn held<F: Future<Output = ()> + Send + 'static>(port: u16, until: F) -> SocketAddr {
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut until = Some(until);
    let mut taken = 0;
    tokio::spawn(async move {
        loop {
            let (mut here, _) = listener.accept().await.unwrap();
            taken += 1;
            if taken == 2 {
                until.take().unwrap().await;
            }
            let mut there = TcpStream::connect((HOST, port)).await.unwrap();
            tokio::spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
            });
        }
    });
    address
}

/// The token is that of who logged in when the save began: the member has forgotten it by the
/// time that the snapshot is asked for. It is asked for another one, at each call.
#[tokio::test(flavor = "multi_thread")]
async fn three_members_over_tls_are_saved_and_proven_though_tokens_expire() {
    // Tokens of etcd 3.4 live for five minutes, whatever it is told.
    let Some(etcd) = etcd(usual()).filter(|_| usual() != V34) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    certificates(&at("pki"), HOST);
    let short = ["--auth-token-ttl", "1", "--bcrypt-cost", "4"];
    let servers = start::<3>(&etcd, folder.path(), &short);
    let member = |own: &String| Member::new(own).with_tls(trusting(&at("pki")));
    let members: Vec<_> = servers.iter().map(|(_, own)| member(own)).collect();
    for (member, (server, _)) in members.iter().zip(&servers) {
        ready(std::slice::from_ref(member), server).await;
    }
    let source = members[0].clone();
    let tls = TlsOptions::new().ca_certificate(Certificate::from_pem(pem(&at("pki"), "ca.crt")));
    let mut root = client(&source.endpoint, tls.clone(), None).await;
    root.put("a", "b", None).await.unwrap();
    users(&mut root).await;

    let log_in = |member: Member| member.with_user("root", PASSWORD);
    let members: Vec<_> = members.into_iter().map(log_in).collect();
    let expired = Arc::new(AtomicUsize::new(0));
    let expiring = Arc::clone(&expired);
    let endpoint = source.endpoint.clone();
    let address = held(servers[0].0.port(), async move {
        // Tokens younger than that of the save. Each is used once only: to use one is to keep it.
        let log_in = (0..30).map(|_| client(&endpoint, tls.clone(), Some(PASSWORD)));
        for mut client in futures::future::join_all(log_in).await {
            if client.get("a", None).await.is_err() {
                expiring.fetch_add(1, Ordering::SeqCst);
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    let source = log_in(source).via(address);
    let compared = save(source, &members, &at("backups"), "a.db")
        .await
        .unwrap();
    assert_eq!(compared, 3);
    assert_eq!(expired.load(Ordering::SeqCst), 1);
}
