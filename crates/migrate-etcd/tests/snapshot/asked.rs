//! Which members are asked for a snapshot, and what becomes of those that refuse.

use super::*;

#[tokio::test]
async fn a_member_whose_data_may_be_old_is_not_asked() {
    for (leader, is_learner) in [(0, false), (1, true)] {
        let mut answers = Answers::of(sent(&database()));
        (answers.leader, answers.is_learner) = (leader, is_learner);
        let bench = Bench::with(answers).await;
        let saved = bench.save().await;
        assert!(matches!(saved, Err(Error::MemberUnfit { .. })), "{saved:?}");
        assert_eq!(bench.member.snapshots(), 0);
        assert!(bench.names().is_empty());
    }
}

/// A member without a leader may be all that there is; nothing else is forced.
#[tokio::test]
async fn a_member_without_a_leader_is_saved_by_force_and_that_proves_nothing() {
    for (leader, is_learner, is_saved) in [(0, false, true), (0, true, false), (1, true, false)] {
        let mut answers = Answers::of(sent(&database()));
        (answers.leader, answers.is_learner) = (leader, is_learner);
        let bench = Bench::with(answers).await;
        let backup = bench.backup().forced();
        let cancel = Cancellation::new();
        let ours = [Member::new(&bench.member.endpoint)];
        let proven = backup.save_proven("a.db", &ours, &cancel, |_, _| {}).await;
        let error = proven.unwrap_err();
        assert!(error.to_string().contains("proves nothing"), "{error}");
        assert_eq!(bench.member.connections(), 0);

        let saved = backup.save("a.db", &cancel, |_, _| {}).await;
        assert_eq!(saved.is_ok(), is_saved, "{saved:?}");
        assert_eq!(bench.member.snapshots(), usize::from(is_saved));
        assert_eq!(bench.names().len(), usize::from(is_saved));
    }
}

#[tokio::test]
async fn a_member_that_refuses_us_is_told_from_one_out_of_reach() {
    // PERMISSION_DENIED of the call, as from 3.6 on; as before, without a code; any other
    // trouble without a code; and a wrong password.
    for (code, message, refuses) in [
        (7, "etcdserver: permission denied", true),
        (2, "auth: permission denied", true),
        (2, "etcdserver: no space", false),
    ] {
        let bench = Bench::sending(vec![Act::Fail { code, message }]).await;
        let saved = bench.save().await;
        let is_denied =
            matches!(&saved, Err(Error::PermissionDenied { reason, .. }) if reason == message);
        assert_eq!(is_denied, refuses, "{saved:?}");
        assert!(bench.names().is_empty());
    }

    let mut answers = Answers::of(sent(&database()));
    answers.authenticate = 3;
    let bench = Bench::with(answers).await;
    let member = Member::new(&bench.member.endpoint).with_user("root", "s3cret");
    let backup = SnapshotBackup::new(member, bench.folder.path());
    let error = backup.save("a.db", &Cancellation::new(), |_, _| {}).await;
    let error = error.unwrap_err();
    let is_denied = matches!(error, Error::PermissionDenied { .. });
    assert!(is_denied, "{error:?}");
    assert!(!format!("{error:?} {error}").contains("s3cret"));
    assert_eq!(bench.member.snapshots(), 0);

    // Nobody listens, and somebody who never says a word.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let backup = SnapshotBackup::new(Member::new(&endpoint), folder.path());
    let silent = backup.clone().with_stall(Duration::from_millis(200));
    let saved = silent.save("a.db", &Cancellation::new(), |_, _| {}).await;
    assert!(
        matches!(saved, Err(Error::Stalled { bytes: 0, .. })),
        "{saved:?}"
    );
    drop(listener);
    let saved = backup.save("a.db", &Cancellation::new(), |_, _| {}).await;
    assert!(matches!(saved, Err(Error::Unreachable { .. })), "{saved:?}");
    assert!(names(folder.path()).is_empty());
}

#[tokio::test]
async fn a_token_that_has_expired_is_asked_for_once_more() {
    for (expired, user, authenticated) in [(1, true, 2), (2, true, 2), (1, false, 0)] {
        let mut answers = Answers::of(sent(&database()));
        answers.expired = expired;
        let bench = Bench::with(answers).await;
        let mut member = Member::new(&bench.member.endpoint);
        if user {
            member = member.with_user("root", "s3cret");
        }
        let backup = SnapshotBackup::new(member, bench.folder.path());
        let saved = backup.save("a.db", &Cancellation::new(), |_, _| {}).await;
        assert_eq!(bench.member.authenticated(), authenticated);
        if (expired, user) == (1, true) {
            saved.unwrap();
            continue;
        }
        let is_denied = matches!(saved, Err(Error::PermissionDenied { .. }));
        assert!(is_denied, "{saved:?}");
        assert!(bench.names().is_empty());
    }
}

/// Without the feature it is not built; with it, it does not go with `http://`.
#[tokio::test]
async fn a_member_with_tls_material_is_never_asked_in_the_clear() {
    let bench = Bench::sending(sent(&database())).await;
    let tls = migrate_etcd::Tls::new("").with_identity("", "");
    let member = Member::new(&bench.member.endpoint).with_tls(tls);
    let backup = SnapshotBackup::new(member, bench.folder.path());
    let saved = backup.save("a.db", &Cancellation::new(), |_, _| {}).await;
    let is_refused = match cfg!(feature = "tls") {
        true => matches!(saved, Err(Error::InvalidEndpoint { .. })),
        false => matches!(saved, Err(Error::NotBuilt { .. })),
    };
    assert!(is_refused, "{saved:?}");
    assert_eq!(bench.member.connections(), 0);
    assert!(bench.names().is_empty());
}
