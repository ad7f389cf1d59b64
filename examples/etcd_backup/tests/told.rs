//! What is said of a backup whose manifest is opened, and of one that could not be signed.

use migrate_etcd::{BackupProof, Lock, Manifest, Seal};

use super::interrupted::alone;
use super::server::{Server, V36, etcd};
use super::{Desk, run};

/// What the program says, and whether it ends well.
fn said(line: &str) -> (String, bool) {
    let output = alone(line).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (text, output.status.success())
}

/// Nobody shall find out afterwards.
#[tokio::test]
async fn who_restores_what_was_forced_or_never_proven_is_told_so() {
    let desk = Desk::new();
    let path = desk.snapshot("a.db", "ours").await;
    let key = desk.signing.public();
    for (forced, proof) in [
        (true, BackupProof::Unproven),
        (false, BackupProof::Unproven),
        (false, BackupProof::Proven),
    ] {
        let taken = "2026-11-29T00:00:00Z".parse().unwrap();
        let mut manifest = Manifest::of(&path, taken, proof).unwrap();
        manifest.forced = forced;
        let signed = manifest.write(path.parent().unwrap(), &desk.signing);
        signed.await.unwrap();
        let _ = std::fs::remove_dir_all(desk.at("data"));
        let (file, folder) = (path.display(), desk.at("data"));
        let (said, is_well) = said(&format!(
            "restore {file} {} --initial-cluster default=http://127.0.0.1:1 --token t --etcd 3.6 \
             --trusted {key}",
            folder.display()
        ));
        assert!(is_well && said.contains("a.db"), "{said}");
        assert_eq!(said.contains("FORCED     "), forced, "{said}");
        let unproven = said.contains("UNPROVEN   it was compared with no member");
        assert_eq!(unproven, proof == BackupProof::Unproven, "{said}");
    }
}

#[tokio::test]
async fn who_puts_a_plain_snapshot_is_told_that_it_is_one() {
    let desk = Desk::new();
    let path = desk.snapshot("a.db", "ours").await;
    desk.sign(&path).await;
    let (key, store) = (desk.signing.public(), desk.at("store"));
    let put = |file: &str| {
        let (file, store) = (desk.at(file), store.display());
        said(&format!(
            "put {} --store {store} --trusted {key}",
            file.display()
        ))
    };
    let (said, is_well) = put("a.db");
    assert!(is_well && said.contains("PLAIN      "), "{said}");
    let public = migrate_etcd::KeyRing::generate().1;
    let seal = Seal::new(Lock::for_keys([&public]).unwrap());
    let cancel = migrate_core::Cancellation::new();
    let sealed = seal.file(&path, &cancel).await.unwrap().path;
    let taken = "2026-11-29T00:00:00Z".parse().unwrap();
    let mut manifest = Manifest::of(&sealed, taken, BackupProof::Proven).unwrap();
    manifest.locked_for = vec![public];
    let signed = manifest.write(sealed.parent().unwrap(), &desk.signing);
    signed.await.unwrap();
    let (said, is_well) = put("a.db.age");
    assert!(is_well && !said.contains("PLAIN      "), "{said}");
}

/// The last copy is worth something, and nobody takes it for a whole one.
#[tokio::test]
async fn what_is_salvaged_is_said_to_be() {
    let desk = Desk::new();
    let path = desk.snapshot("a.db", "ours").await;
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = desk.restore("a.db", " --unsigned").await.unwrap_err();
    assert!(error.to_string().contains("SHA-256"), "{error}");
    let (said, is_well) = said(&format!(
        "restore {} {} --initial-cluster default=http://127.0.0.1:1 --token t --etcd 3.6 \
         --unsigned --salvage",
        path.display(),
        desk.at("data").display()
    ));
    assert!(is_well && said.contains("WRONG HASH "), "{said}");
    assert!(!said.contains("LEFT OUT") && desk.at("data/member/snap/db").exists());
}

/// What cannot be signed is there all the same, and is signed by what the program says.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_could_not_be_signed_is_kept_and_signed_later() {
    let Some(etcd) = etcd(V36) else { return };
    let desk = Desk::new();
    let mut server = Server::alone(&etcd, &desk.at("etcd"));
    server.client().await.put("a", "b", None).await.unwrap();
    std::fs::write(desk.at("seed"), [7; 32]).unwrap();
    let (file, seed) = (desk.at("a.db"), desk.at("seed"));
    // In the way of the manifest.
    let manifest = Manifest::path_of(&file);
    std::fs::create_dir_all(manifest.join("in-the-way")).unwrap();
    let (file, seed) = (file.display(), seed.display());
    let (said, is_well) = said(&format!(
        "save {file} --endpoint {} --sign {seed}",
        server.endpoint()
    ));
    assert!(!is_well && desk.at("a.db").exists(), "{said}");
    assert!(
        said.contains("PLAIN      ") && said.contains("NOT SIGNED"),
        "{said}"
    );
    let (_, line) = said.split_once("`etcd_backup ").unwrap();
    let (line, _) = line.split_once('`').unwrap();
    run(line).await.unwrap_err();

    std::fs::remove_dir_all(&manifest).unwrap();
    run(line).await.unwrap();
    let signed = Manifest::open(&desk.at("a.db"), &[desk.signing.public()]).unwrap();
    signed.check(&desk.at("a.db")).unwrap();
    assert_eq!((signed.etcd.as_deref(), signed.forced), (Some(V36), false));
    assert!(
        line.contains(&format!("--taken {:.3}", signed.taken)),
        "{line}"
    );
    assert!(signed.compared.is_empty() && signed.proof == BackupProof::Unproven);
    // One that says more is not written over.
    let error = run(line).await.unwrap_err().to_string();
    assert!(error.contains("signed already"), "{error}");
    std::fs::remove_file(&manifest).unwrap();
    run(&format!("{line} --forced")).await.unwrap();
    assert!(
        Manifest::open(&desk.at("a.db"), &[desk.signing.public()])
            .unwrap()
            .forced
    );
}
