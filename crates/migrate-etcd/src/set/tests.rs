//! Sets: what is in them, what is refused, and whose keys they have.

mod hostile;
mod keys;

use std::fs;
use std::path::PathBuf;

use migrate_core::hex;
use sha2::{Digest, Sha256};

use super::*;
use crate::Lock;

/// Made by openssl for these tests alone: RSA, as kubeadm writes them.
const CA: &str = include_str!("testdata/ca.crt");
const CA_KEY: &str = include_str!("testdata/ca.key");
const SA: &str = include_str!("testdata/sa.pub");
const SA_KEY: &str = include_str!("testdata/sa.key");

/// The id of `sa.pub` as openssl computes it, without the padding.
const KID: &str = "GOAGGdsohpRJUKNLd0KEkvRVKwgmADw5MjpmqreYoWw";

const MARKER: &str = "planted-marker-7c21";

const MANIFEST: &str = "\
spec:
  containers:
  - command:
    - kube-apiserver
    - --encryption-provider-config=/etc/kubernetes/enc/enc.yaml
    - --admission-control-config-file=/etc/kubernetes/adm/adm.yaml
    - --audit-policy-file=/etc/kubernetes/audit.yaml
    - --tls-cert-file=/etc/kubernetes/pki/apiserver.crt
";

struct World {
    folder: tempfile::TempDir,
    seal: Seal,
    keys: Arc<KeyRing>,
    snapshot: BackupArtifact,
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let (secret, public) = KeyRing::generate();
    let bytes = format!("a snapshot with {MARKER} ").repeat(9000);
    let path = folder.path().join("etcd.db");
    fs::write(&path, &bytes).unwrap();
    let sha256 = hex(Sha256::digest(&bytes));
    let world = World {
        seal: Seal::new(Lock::for_keys([public]).unwrap()),
        keys: Arc::new(KeyRing::parse(&secret).unwrap()),
        snapshot: BackupArtifact::new(path, bytes.len() as u64, sha256),
        folder,
    };
    for (path, text) in [
        ("etc/kubernetes/admin.conf", MARKER),
        ("etc/kubernetes/manifests/kube-apiserver.yaml", MANIFEST),
        ("etc/kubernetes/pki/ca.crt", CA),
        ("etc/kubernetes/pki/ca.key", CA_KEY),
        ("etc/kubernetes/pki/sa.key", SA_KEY),
        ("etc/kubernetes/pki/sa.pub", SA),
        ("etc/kubernetes/enc/enc.yaml", MARKER),
        (
            "etc/kubernetes/adm/adm.yaml",
            "plugins:\n- name: A\n  path: plugin.yaml\n",
        ),
        ("etc/kubernetes/adm/plugin.yaml", "kind: A"),
        (
            "etc/kubernetes/tmp/etcd/db",
            "a database that kubeadm put aside",
        ),
        ("var/lib/kubelet/config.yaml", "kind: KubeletConfiguration"),
        (
            "var/lib/dpkg/status",
            "Package: kubelet\nStatus: install ok installed\nVersion: 1.36.2-1.1\n",
        ),
    ] {
        world.put(path, text);
    }
    world
}

impl World {
    fn put(&self, path: &str, text: &str) {
        let path = self.folder.path().join("root").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn node(&self, name: &str) -> Arc<dyn NodeFiles> {
        Arc::new(FolderNode::new(name, self.folder.path().join("root")))
    }

    async fn write(&self, set: BackupSet) -> Result<(BackupArtifact, SetRecord), Error> {
        let folder = self.folder.path().join("out");
        set.write(&folder, "set", &self.seal, &Cancellation::new())
            .await
    }

    async fn unpack(&self, path: &Path) -> Result<(PathBuf, SetRecord), Error> {
        let folder = self.folder.path().join("unpacked");
        let keys = Arc::clone(&self.keys);
        let record = BackupSet::unpack(path, keys, &folder, &Cancellation::new()).await?;
        Ok((folder, record))
    }
}

fn live() -> LiveKeys {
    LiveKeys::parse(
        CA,
        &format!(r#"{{"keys":[{{"kty":"RSA","kid":"{KID}"}}]}}"#),
    )
    .unwrap()
}

#[tokio::test]
async fn a_set_holds_what_restores_a_cluster_and_is_unpacked_as_it_was() {
    let world = world();
    let set = BackupSet::new(world.snapshot.clone()).with_node(world.node("cp-1"));
    let instance = "/var/lib/kubelet/instance-config.yaml";
    let (artifact, record) = world.write(set).await.unwrap();
    let files = record.nodes[0].files.iter();
    assert!(!files.map(|file| &file.path).any(|path| path == instance));
    fs::remove_file(artifact.path).unwrap();
    // From kubeadm 1.34 on.
    world.put(&instance[1..], "kind: KubeletConfiguration");
    let set = BackupSet::new(world.snapshot.clone()).with_node(world.node("cp-1"));
    let (artifact, record) = world.write(set).await.unwrap();
    assert!(artifact.path.ends_with("set.tar.age"));
    let node = &record.nodes[0];
    let paths: Vec<_> = node.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "/etc/kubernetes/adm/adm.yaml",
            "/etc/kubernetes/adm/plugin.yaml",
            "/etc/kubernetes/admin.conf",
            "/etc/kubernetes/enc/enc.yaml",
            "/etc/kubernetes/manifests/kube-apiserver.yaml",
            "/etc/kubernetes/pki/ca.crt",
            "/etc/kubernetes/pki/ca.key",
            "/etc/kubernetes/pki/sa.key",
            "/etc/kubernetes/pki/sa.pub",
            "/var/lib/kubelet/config.yaml",
            instance,
        ]
    );
    assert_eq!(
        node.missing,
        [
            "/etc/kubernetes/audit.yaml",
            "/etc/kubernetes/pki/apiserver.crt",
            "/var/lib/kubelet/kubeadm-flags.env",
        ]
    );
    assert_eq!(node.packages["kubelet"], "1.36.2-1.1");
    record.refuse_other_keys(&live()).unwrap();
    let text = serde_json::to_string(&record).unwrap();
    assert!(
        !text.contains(MARKER) && !text.contains("PRIVATE"),
        "{text}"
    );
    let whole = fs::read(&artifact.path).unwrap();
    let has = |text: &str| {
        whole
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(!has(MARKER) && !has("PRIVATE KEY"));

    let (folder, unpacked) = world.unpack(&artifact.path).await.unwrap();
    assert_eq!(unpacked, record);
    // Which files a folder has is on disk before the whole gets its name.
    let synced = crate::folders::seen::below(world.folder.path());
    let part = "unpacked.kube-migrate.part";
    let pki = format!("{part}/nodes/cp-1/etc/kubernetes/pki");
    let at = |name: &str| synced.iter().rposition(|it| it == name);
    assert!(at(&pki).is_some() && at(&pki) < at(part) && at(part) < at(""));
    let read = |path: &str| fs::read(folder.join(path)).unwrap();
    assert_eq!(read("snapshot.db"), fs::read(&world.snapshot.path).unwrap());
    assert_eq!(
        read("nodes/cp-1/etc/kubernetes/pki/ca.key"),
        CA_KEY.as_bytes()
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &str| {
            let data = fs::metadata(folder.join(path)).unwrap();
            data.permissions().mode() & 0o777
        };
        assert_eq!(mode("nodes/cp-1/etc/kubernetes/pki/ca.key"), 0o600);
        assert_eq!((mode(""), mode("nodes/cp-1/etc")), (0o700, 0o700));
    }
    let error = world.unpack(&artifact.path).await.unwrap_err();
    assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
}

#[tokio::test]
async fn a_set_that_was_cut_or_is_none_leaves_nothing() {
    let world = world();
    let set = BackupSet::new(world.snapshot.clone()).with_node(world.node("cp-1"));
    let (artifact, _) = world.write(set).await.unwrap();
    let whole = fs::read(&artifact.path).unwrap();
    for end in [whole.len() - 1, whole.len() / 2, 65_800, 10] {
        fs::write(&artifact.path, &whole[..end]).unwrap();
        let error = world.unpack(&artifact.path).await.unwrap_err();
        assert!(matches!(error, Error::Locked { .. }), "{end}: {error}");
    }
    // Somebody who knows the public key made another one.
    let put = |name: &str, text: &[u8], archive: &mut tar::Builder<Vec<u8>>| {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        // Past the crate's own check of names.
        let field = header.as_old_mut();
        field.name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, text).unwrap();
    };
    let mut record = SetRecord {
        schema: 1,
        snapshot: FileRecord {
            path: "snapshot.db".to_owned(),
            bytes: 1,
            sha256: hex(Sha256::digest("x")),
        },
        nodes: Vec::new(),
    };
    let sound = serde_json::to_vec(&record).unwrap();
    record.nodes.push(NodeRecord {
        name: "..".to_owned(),
        files: vec![FileRecord {
            path: "/../out".to_owned(),
            bytes: 1,
            sha256: hex(Sha256::digest("x")),
        }],
        missing: Vec::new(),
        too_large: Vec::new(),
        packages: BTreeMap::new(),
        keys: NodeKeys::default(),
    });
    let going_up = serde_json::to_vec(&record).unwrap();
    let entries: [&[(&str, &[u8])]; 7] = [
        &[("set.json", &sound), ("snapshot.db", b"x")],
        &[("set.json", &sound)],
        &[("set.json", &sound), ("snapshot.db", b"y")],
        &[
            ("set.json", &sound),
            ("snapshot.db", b"x"),
            ("snapshot.db", b"x"),
        ],
        &[("set.json", &sound), ("../out", b"x")],
        &[("set.json", &going_up), ("nodes/../../out", b"x")],
        &[("snapshot.db", b"x")],
    ];
    for (at, entries) in entries.iter().enumerate() {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, text) in *entries {
            put(name, text, &mut archive);
        }
        let path = world.folder.path().join(format!("made-{at}.tar"));
        fs::write(&path, archive.into_inner().unwrap()).unwrap();
        let sealed = world.seal.file(&path, &Cancellation::new()).await.unwrap();
        let got = world.unpack(&sealed.path).await;
        match at {
            // The control: this is one.
            0 => fs::remove_dir_all(got.unwrap().0).unwrap(),
            2 => assert!(matches!(got, Err(Error::Changed { .. })), "{got:?}"),
            _ => assert!(matches!(got, Err(Error::Malformed { .. })), "{at}: {got:?}"),
        }
        assert!(!world.folder.path().join("out.kube-migrate.part").exists());
        assert!(!world.folder.path().join("unpacked").exists(), "{at}");
        assert!(
            !world
                .folder
                .path()
                .join("unpacked.kube-migrate.part")
                .exists()
        );
    }
}

/// Names that do not fit a header come before it, of the length that they say.
#[tokio::test]
async fn long_names_are_names_and_longer_ones_fill_nobodys_memory() {
    let world = world();
    let node = "n".repeat(200);
    let set = BackupSet::new(world.snapshot.clone()).with_node(world.node(&node));
    let (artifact, _) = world.write(set).await.unwrap();
    let (folder, _) = world.unpack(&artifact.path).await.unwrap();
    assert!(
        folder
            .join(format!("nodes/{node}/etc/kubernetes/pki/ca.crt"))
            .exists()
    );
    fs::remove_dir_all(folder).unwrap();

    let path = world.folder.path().join("made.tar");
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(9000);
    header.set_cksum();
    archive.append(&header, &[b'n'; 9000][..]).unwrap();
    fs::write(&path, archive.into_inner().unwrap()).unwrap();
    let sealed = world.seal.file(&path, &Cancellation::new()).await.unwrap();
    let error = world.unpack(&sealed.path).await.unwrap_err();
    assert!(error.to_string().contains("longer than any"), "{error}");
}

#[tokio::test]
async fn keys_of_another_cluster_are_refused() {
    let set = |world: &World| BackupSet::new(world.snapshot.clone()).with_node(world.node("cp-1"));
    let other = |ca: &str, kid: &str| {
        LiveKeys::parse(ca, &format!(r#"{{"keys":[{{"kid":"{kid}"}}]}}"#)).unwrap()
    };
    let world = world();
    let (_, record) = world.write(set(&world)).await.unwrap();
    let pretended = SA.replace("PUBLIC KEY", "CERTIFICATE");
    let has_keys = |node: &NodeKeys| [node.ca_key, node.service_account_key];
    assert_eq!(has_keys(&record.nodes[0].keys), [PrivateKey::There; 2]);
    assert!(record.keys_in_doubt().is_empty() && record.signs_tokens());
    let kid = KID.replace('G', "H");
    for live in [other(&pretended, KID), other(CA, &kid)] {
        let error = record.refuse_other_keys(&live).unwrap_err();
        assert!(matches!(error, Error::OtherKeys { .. }), "{error}");
    }
    // A set that is to have them is not begun without, so that no kill leaves one.
    fs::remove_dir_all(world.folder.path().join("out")).unwrap();
    let wrong = set(&world).with_live_keys(other(CA, &kid));
    let error = world.write(wrong).await.unwrap_err();
    assert!(matches!(error, Error::OtherKeys { .. }), "{error}");
    assert!(!world.folder.path().join("out").exists());
    let right = set(&world).with_live_keys(live());
    let (artifact, _) = world.write(right).await.unwrap();
    // Private halves that belong to others.
    for (file, text) in [("sa.key", CA_KEY), ("ca.key", SA_KEY)] {
        let world = self::world();
        world.put(&format!("etc/kubernetes/pki/{file}"), text);
        let (_, record) = world.write(set(&world)).await.unwrap();
        let error = record.refuse_other_keys(&live()).unwrap_err();
        assert!(error.to_string().contains(file), "{error}");
        assert!(!error.to_string().contains("PRIVATE KEY--"), "{error}");
    }
    fs::remove_file(artifact.path).unwrap();
    let (_, record) = world
        .write(BackupSet::new(world.snapshot.clone()))
        .await
        .unwrap();
    let error = record.refuse_other_keys(&live()).unwrap_err();
    assert!(error.to_string().contains("no node"), "{error}");
    for (ca, jwks) in [("", r#"{"keys":[]}"#), (CA, r#"{"keys":[]}"#), (CA, "no")] {
        assert!(LiveKeys::parse(ca, jwks).is_err());
    }
}

#[tokio::test]
async fn a_snapshot_that_is_another_by_now_and_names_of_no_node_are_refused() {
    let world = world();
    let twice = BackupSet::new(world.snapshot.clone())
        .with_node(world.node("cp-1"))
        .with_node(world.node("cp-1"));
    let up = BackupSet::new(world.snapshot.clone()).with_node(world.node("../cp-1"));
    for set in [twice, up] {
        let error = world.write(set).await.unwrap_err();
        assert!(matches!(error, Error::Node { .. }), "{error}");
    }
    fs::write(&world.snapshot.path, "another one, and a shorter one").unwrap();
    let error = world
        .write(BackupSet::new(world.snapshot.clone()))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Changed { .. } | Error::File { .. }),
        "{error}"
    );
    let left = fs::read_dir(world.folder.path().join("out"));
    assert_eq!(left.map_or(0, Iterator::count), 0);
}

#[tokio::test]
async fn how_much_of_the_snapshot_is_encrypted_is_told() {
    let world = world();
    let path = world.folder.path().join("large.db");
    let bytes = vec![7; 5 << 19];
    fs::write(&path, &bytes).unwrap();
    let sha256 = hex(Sha256::digest(&bytes));
    let snapshot = BackupArtifact::new(path, bytes.len() as u64, sha256);
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let hearing = Arc::clone(&heard);
    let told = Told::new(move |done, of| hearing.lock().unwrap().push((done, of)));
    let set = BackupSet::new(snapshot).with_node(world.node("cp-1"));
    world.write(set.telling(told)).await.unwrap();
    assert_eq!(
        *heard.lock().unwrap(),
        [(1 << 20, 5 << 19), (2 << 20, 5 << 19)]
    );
}

#[cfg(unix)]
#[tokio::test]
async fn a_folder_that_is_a_link_is_told_and_not_followed() {
    use std::os::unix::fs::symlink;
    let world = world();
    let root = world.folder.path().join("root");
    fs::create_dir(root.join("aside")).unwrap();
    fs::write(root.join("aside/ca.crt"), MARKER).unwrap();
    symlink("../../../aside", root.join("etc/kubernetes/pki/other")).unwrap();
    symlink("../../aside", root.join("etc/kubernetes/patches")).unwrap();
    let set = BackupSet::new(world.snapshot.clone()).with_node(world.node("cp-1"));
    let (_, record) = world.write(set).await.unwrap();
    let missing = &record.nodes[0].missing;
    for link in ["/etc/kubernetes/patches", "/etc/kubernetes/pki/other"] {
        assert!(missing.iter().any(|path| path == link), "{missing:?}");
    }
    let files = &record.nodes[0].files;
    assert!(!files.iter().any(|file| file.path.contains("other")));
}
