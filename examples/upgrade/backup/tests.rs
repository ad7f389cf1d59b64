//! How members of etcd are reached, and which are asked.

#[path = "../../../crates/migrate-etcd/tests/server/mod.rs"]
mod server;

use migrate_core::{ClusterId, ClusterModel, Fence, KubeVersion, Moment, Policy};
use migrate_etcd::{BACKUP_COMPARED, BACKUP_NOT_COMPARED};

use self::server::{Server, V36, etcd};
use super::*;

#[test]
fn a_ca_of_etcd_is_used_with_a_client_certificate_and_without() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, name).unwrap();
        path.display().to_string()
    };
    let (ca, cert, key) = (file("ca"), file("cert"), file("key"));
    let tls = |more: &[&str]| {
        let words = ["upgrade", "check", "--etcd", "https://e:2379"];
        let cli = Cli::read([&words, more].concat()).unwrap();
        member(&cli, "https://e:2379").unwrap().tls
    };
    assert!(tls(&[]).is_none());
    let alone = tls(&["--etcd-ca", &ca]).unwrap();
    assert_eq!((alone.ca.as_str(), alone.identity), ("ca", None));
    let with = ["--etcd-ca", &ca, "--etcd-cert", &cert, "--etcd-key", &key];
    let identity = ("cert".to_owned(), "key".to_owned());
    assert_eq!(tls(&with).unwrap().identity, Some(identity));
}

#[test]
fn a_user_of_etcd_logs_in_with_what_is_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    let words = ["upgrade", "check", "--etcd", "https://e:2379"];
    let user = ["--etcd-user", "root", "--etcd-password-file"];
    let named = path.display().to_string();
    let cli = Cli::read([&words[..], &user, &[&named]].concat()).unwrap();
    let reached = || member(&cli, "https://e:2379");
    // Not there: told by its name, and nobody is asked without a password.
    let error = reached().err().unwrap().to_string();
    assert!(error.contains(&named), "{error}");
    std::fs::write(&path, "s3 cret\n").unwrap();
    let user = Some(("root".to_owned(), "s3 cret".to_owned()));
    assert_eq!(reached().unwrap().user, user);
}

/// What is said of a backup that is made by these flags, by the codes of what is said.
async fn said(folder: &Path, endpoint: &str, more: &[&str]) -> Vec<(String, String)> {
    let folder = folder.join("backups").display().to_string();
    let words = [
        "upgrade",
        "run",
        "--etcd",
        endpoint,
        "--backup-dir",
        &folder,
    ];
    let cli = Cli::read([&words, more].concat()).unwrap();
    let step = Chosen::read(&cli).unwrap().without_nodes(&cli);
    let run = format!("run{}", more.len());
    let cx = StepContext::new(Arc::new(|| Moment::EPOCH), Fence::new(run, 1));
    let model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
    let target = KubeVersion::new(1, 37, 0);
    let input = StepInput::new(Arc::new(model), Arc::new(Policy::default()), target);
    let report = step.run(&cx, &input).await.unwrap();
    assert_eq!(report.artifacts.len(), 1);
    let findings = report.findings.into_iter();
    findings.map(|it| (it.code, it.evidence)).collect()
}

/// A member that went wrong by itself agrees with what was taken of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_compared_with_all_members_though_one_is_named() {
    let Some(etcd) = etcd(V36) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut servers = Server::three(&etcd, folder.path());
    for server in &mut servers {
        server.client().await.put("a", "b", None).await.unwrap();
    }
    let one = servers[0].endpoint();
    let is_told = |said: &[(String, String)], of: &str, words: &str| {
        let is_it = |(code, evidence): &(String, String)| code == of && evidence.contains(words);
        assert!(said.iter().any(is_it), "{words}: {said:?}");
    };
    let all = said(folder.path(), &one, &[]).await;
    is_told(&all, BACKUP_COMPARED, "those of 3 of the 3 voting members");
    let alone = said(folder.path(), &one, &["--etcd-only-named"]).await;
    is_told(&alone, BACKUP_UNPROVEN, "with 1 of the 3 voting members");
    // One that is away is in nobody's way, and told.
    drop(servers.pop());
    let two = said(folder.path(), &one, &["--backup-least-rate", "1"]).await;
    is_told(&two, BACKUP_COMPARED, "those of 2 of the 3 voting members");
    is_told(&two, BACKUP_NOT_COMPARED, "was not compared");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_with_users_is_backed_up_by_who_logs_in() {
    let Some(etcd) = etcd(V36) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::alone(&etcd, &folder.path().join("data"));
    let mut client = server.client().await;
    client.put("a", "b", None).await.unwrap();
    let _ = client.role_add("root").await;
    client.user_add("root", "s3cret", None).await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.auth_enable().await.unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "s3cret\n").unwrap();
    let file = file.display().to_string();
    let user = ["--etcd-user", "root", "--etcd-password-file", &file];
    let said = said(folder.path(), &server.endpoint(), &user).await;
    let is_compared = |(code, _): &(String, String)| code == BACKUP_COMPARED;
    assert!(said.iter().any(is_compared), "{said:?}");
}
