//! How members are reached, and which are asked.

use clap::Parser;
use migrate_etcd::{Manifest, SigningKey};

use super::interrupted::alone;
use super::run;
use super::server::{Server, V36, etcd};
use crate::cli::{Cli, Command};

#[test]
fn a_ca_goes_without_a_client_certificate_and_that_not_without_its_key() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca"), "PEM").unwrap();
    let parsed = |more: &str| {
        let words = format!("etcd_backup save f --endpoint https://e:2379{more}");
        Cli::try_parse_from(words.split(' '))
    };
    let alone = parsed(&format!(" --cacert {}", folder.path().join("ca").display()));
    let Command::Save(save) = alone.unwrap().command else {
        unreachable!("it is a save");
    };
    let tls = save.members.list().unwrap().remove(0).tls.unwrap();
    assert_eq!((tls.ca.as_str(), tls.identity), ("PEM", None));
    assert!(parsed(" --cacert a --cert b --key c").is_ok());
    for half in [
        " --cacert a --cert b",
        " --cacert a --key c",
        " --cert b --key c",
    ] {
        assert!(parsed(half).is_err(), "{half}");
    }
}

/// One is enough to find the others.
#[tokio::test(flavor = "multi_thread")]
async fn one_endpoint_of_three_is_enough_unless_only_what_is_named_is_asked() {
    let Some(etcd) = etcd(V36) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let mut servers = Server::three(&etcd, folder.path());
    for server in &mut servers {
        server.client().await.put("a", "b", None).await.unwrap();
    }
    let one = servers[0].endpoint();
    let save = |file: &str| format!("save {} --endpoint {one}", at(file));
    let error = run(&format!("{} --only-named", save("a.db"))).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("with 1 of the 3 voting members"), "{error}");
    run(&save("a.db")).await.unwrap();
    let prove = format!("prove {} --endpoint {one}", at("a.db"));
    let error = run(&format!("{prove} --only-named")).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("with 1 of the 3 voting members"), "{error}");
    run(&prove).await.unwrap();
    // One that is away is in nobody's way, and told.
    drop(servers.pop());
    run(&save("b.db")).await.unwrap();
}

/// While a snapshot comes slowly, the member's database cannot use room again.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_link_is_refused_unless_its_rate_is_allowed() {
    let Some(etcd) = etcd(V36) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(at("seed"), [7; 32]).unwrap();
    let mut server = Server::alone(&etcd, &folder.path().join("data"));
    let mut client = server.client().await;
    client.put("a", vec![b'v'; 150 << 10], None).await.unwrap();
    let way = server.slow_way().await;
    let commands = [
        format!("save {}", at("a.db")),
        format!("backup {} --cluster c --sign {}", at("backups"), at("seed")),
    ];
    for command in commands {
        let line = format!("{command} --endpoint {way} --stall 3");
        let error = run(&line).await.unwrap_err().to_string();
        assert!(error.contains("are fewer than 1048576 a second"), "{error}");
        run(&format!("{line} --least-rate 1")).await.unwrap();
    }
}

/// So that a bare snapshot too can be handed on, and restored by who trusts the key.
#[tokio::test(flavor = "multi_thread")]
async fn a_saved_snapshot_is_signed_with_the_members_that_it_is_equal_to() {
    let Some(etcd) = etcd(V36) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut server = Server::alone(&etcd, &at("data"));
    server.client().await.put("a", "b", None).await.unwrap();
    std::fs::write(at("seed"), [7; 32]).unwrap();
    let key = SigningKey::from_seed(&[7; 32]).unwrap().public();
    let save = |name: &str, more: &str| {
        let (file, end) = (at(name), server.endpoint());
        format!(
            "save {} --endpoint {end} --sign {}{more}",
            file.display(),
            at("seed").display()
        )
    };
    // A key that is none is told before a member is asked for anything.
    std::fs::write(at("short"), [7; 31]).unwrap();
    let short = save("a.db", "").replace("seed", "short");
    let error = run(&short).await.unwrap_err().to_string();
    assert!(
        error.contains("a seed has 32 bytes") && !at("a.db").exists(),
        "{error}"
    );

    run(&save("a.db", "")).await.unwrap();
    let manifest = Manifest::open(&at("a.db"), &[key]).unwrap();
    manifest.check(&at("a.db")).unwrap();
    assert_eq!((manifest.compared.len(), manifest.voters), (1, Some(1)));
    assert_eq!((manifest.revision, manifest.forced), (Some(2), false));
    // The member's, not the 3.6.0 that its cluster has agreed on.
    assert_eq!(manifest.etcd.as_deref(), Some(V36));
    let proof = format!("{:?}", manifest.proof);
    assert_eq!(proof, "Unproven", "it has no keys of the cluster");
    let trusted = format!("--trusted {key}");
    let restore = |data: &str, trusted: &str| {
        let (file, to) = (at("a.db"), at(data));
        let cluster = "--initial-cluster a=http://127.0.0.1:2380 --token t --etcd 3.6";
        let (file, to) = (file.display(), to.display());
        format!("restore {file} {to} --name a {cluster} {trusted}")
    };
    run(&restore("new", &trusted)).await.unwrap();
    // What another one would have signed.
    let other = SigningKey::from_seed(&[8; 32]).unwrap().public();
    let error = run(&restore("other", &format!("--trusted {other}"))).await;
    assert!(error.unwrap_err().to_string().contains("trusted keys"));
}

/// Nobody shall take what quorum never agreed on for a backup like any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_was_forced_is_signed_as_such() {
    let Some(etcd) = etcd(V36) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("seed"), [7; 32]).unwrap();
    let mut servers = Server::three(&etcd, folder.path());
    servers[0].client().await.put("a", "b", None).await.unwrap();
    servers.truncate(1);
    let (file, seed, one) = (at("a.db"), at("seed"), servers[0].endpoint());
    let (file, seed) = (file.display(), seed.display());
    let line = format!("save {file} --endpoint {one} --sign {seed} --force --only-named");
    // Until it knows no leader any more it is alone, and proves nothing.
    let saved = async { while run(&line).await.is_err() {} };
    let limit = std::time::Duration::from_secs(60);
    tokio::time::timeout(limit, saved).await.unwrap();
    let key = SigningKey::from_seed(&[7; 32]).unwrap().public();
    let manifest = Manifest::open(&at("a.db"), &[key]).unwrap();
    assert!(manifest.forced && manifest.compared.is_empty());
    assert_eq!(manifest.etcd.as_deref(), Some(V36));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_saves_a_plain_snapshot_is_told_that_it_is_one() {
    let Some(etcd) = etcd(V36) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut server = Server::alone(&etcd, &at("data"));
    server.client().await.put("a", "b", None).await.unwrap();
    for force in ["", " --force"] {
        let file = at(&format!("a{}.db", force.len()));
        let line = format!(
            "save {} --endpoint {}{force}",
            file.display(),
            server.endpoint()
        );
        let output = alone(&line).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && file.exists(), "{said}");
        assert!(said.contains("NOT ENCRYPTED"), "{said}");
    }
}

/// Also where there is no etcd to start on it, and the first endpoint does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_restored_on_trial_and_is_of_a_member_that_answers() {
    let Some(etcd) = etcd(V36) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("seed"), [7; 32]).unwrap();
    let mut server = Server::alone(&etcd, &at("data"));
    server.client().await.put("a", "b", None).await.unwrap();
    let line = format!(
        "backup {} --cluster c --sign {} --endpoint http://127.0.0.1:1 --endpoint {}",
        at("backups").display(),
        at("seed").display(),
        server.endpoint()
    );
    run(&line).await.unwrap();
    let mut files = std::fs::read_dir(at("backups")).unwrap();
    let backup = files.find_map(|entry| {
        let path = entry.unwrap().path();
        (path.extension()? == "db").then_some(path)
    });
    let signer = SigningKey::from_seed(&[7; 32]).unwrap().public();
    let manifest = Manifest::open(&backup.unwrap(), &[signer]).unwrap();
    assert_eq!(manifest.trial.as_deref(), Some("reRead"));
    assert_eq!(manifest.compared.len(), 1);
    drop(server);
    let error = run(&line).await.unwrap_err().to_string();
    assert!(
        error.contains("127.0.0.1:1: ") && error.contains("no etcd member"),
        "{error}"
    );
}
