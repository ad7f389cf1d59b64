//! A member with client certificates, filled with keys as Kubernetes' are.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions, Txn, TxnOp};
use migrate_testbed::Binaries;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// Bytes of a value: what an object of Kubernetes takes in the middle.
const VALUE: usize = 1_000;
/// Keys that are put at once.
const BATCH: usize = 100;

pub(crate) struct Server {
    child: Child,
    port: u16,
    tls: PathBuf,
    keys: u64,
}

/// etcdctl and etcdutl.
pub(crate) fn tools(version: &'static str) -> [PathBuf; 2] {
    Binaries::find_or_build_etcd_tools(version, &|it| eprintln!("{it}")).unwrap()
}

impl Server {
    /// A member whose database has `megabytes` or a little more.
    pub(crate) fn start(version: &'static str, folder: &Path, megabytes: usize) -> Self {
        let etcd = Binaries::find_or_build_etcd(version, &|it| eprintln!("{it}")).unwrap();
        let tls = folder.join("tls");
        certificates(&tls);
        let listener = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [port, peer] = listener.map(|it| it.local_addr().unwrap().port());
        let url = format!("https://127.0.0.1:{port}");
        let peer = format!("http://127.0.0.1:{peer}");
        let child = Command::new(etcd)
            .arg("--data-dir")
            .arg(folder.join("live"))
            .args([
                "--name",
                "live",
                "--log-level",
                "error",
                "--unsafe-no-fsync",
            ])
            .args(["--quota-backend-bytes", "17179869184"])
            .args([
                "--listen-client-urls",
                &url,
                "--advertise-client-urls",
                &url,
            ])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("live={peer}")])
            .arg("--cert-file")
            .arg(tls.join("server.crt"))
            .arg("--key-file")
            .arg(tls.join("server.key"))
            .arg("--trusted-ca-file")
            .arg(tls.join("ca.crt"))
            .arg("--client-cert-auth")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("live.log")).unwrap())
            .spawn()
            .unwrap();
        let mut server = Self {
            child,
            port,
            tls,
            keys: 0,
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        server.keys = runtime.block_on(server.fill(megabytes));
        server
    }

    pub(crate) fn endpoint(&self) -> PathBuf {
        PathBuf::from(format!("https://127.0.0.1:{}", self.port))
    }

    /// Folder of `ca.crt`, `client.crt` and `client.key`.
    pub(crate) fn tls(&self) -> PathBuf {
        self.tls.clone()
    }

    /// Keys that are there.
    pub(crate) fn keys(&self) -> u64 {
        self.keys
    }

    /// etcdctl, told where the member is.
    pub(crate) fn client(&self, etcdctl: &Path) -> Command {
        let mut command = Command::new(etcdctl);
        command.arg("--endpoints").arg(self.endpoint());
        for (flag, file) in [
            ("--cacert", "ca.crt"),
            ("--cert", "client.crt"),
            ("--key", "client.key"),
        ] {
            command.arg(flag).arg(self.tls.join(file));
        }
        command
    }

    async fn connect(&self) -> Client {
        let read = |name| fs::read(self.tls.join(name)).unwrap();
        let identity = Identity::from_pem(read("client.crt"), read("client.key"));
        let tls = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(read("ca.crt")))
            .identity(identity);
        let options = ConnectOptions::new().with_tls(tls);
        let url = self.endpoint().to_string_lossy().into_owned();
        let give_up = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let connected = Client::connect([&url], Some(options.clone())).await;
            if let Ok(mut client) = connected
                && client.status().await.is_ok_and(|it| it.leader() != 0)
            {
                return client;
            }
            assert!(tokio::time::Instant::now() < give_up, "etcd does not start");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Values do not compress: a seeded walk over all bytes.
    async fn fill(&self, megabytes: usize) -> u64 {
        let mut client = self.connect().await;
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut keys = 0;
        while client.status().await.unwrap().db_size() < megabytes as i64 * 1_000_000 {
            for _ in 0..100 {
                let mut puts = Vec::with_capacity(BATCH);
                for _ in 0..BATCH {
                    let value: Vec<u8> = std::iter::repeat_with(|| {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        random.to_le_bytes()
                    })
                    .take(VALUE / 8)
                    .flatten()
                    .collect();
                    let key = format!("/registry/pods/ns-{}/pod-{keys}", keys % 500);
                    puts.push(TxnOp::put(key, value, None));
                    keys += 1;
                }
                client.txn(Txn::new().and_then(puts)).await.unwrap();
            }
        }
        keys
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An authority, and certificates of the member and of its client.
fn certificates(folder: &Path) {
    fs::create_dir(folder).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap();
    fs::write(folder.join("ca.crt"), ca.pem()).unwrap();
    let issuer = Issuer::new(params, key);
    for name in ["server", "client"] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        fs::write(folder.join(format!("{name}.crt")), certificate.pem()).unwrap();
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}
