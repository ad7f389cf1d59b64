//! Which of the members that somebody has named, and of those that they tell of, a snapshot
//! is taken of.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod member;

use member::{Answers, FakeMember};
use migrate_etcd::{Error, FindMembers, Member, NamedMembers};

/// Member `id` of a cluster whose leader is `leader`.
async fn start(id: u64, leader: u64, change: impl Fn(&mut Answers)) -> FakeMember {
    let mut answers = Answers::of(Vec::new());
    answers.cluster = 7;
    answers.id = id;
    answers.leader = leader;
    answers.applied = 5_000;
    change(&mut answers);
    FakeMember::start(answers).await
}

fn of(members: &[&FakeMember]) -> Vec<Member> {
    let member = |it: &&FakeMember| Member::new(it.endpoint.clone());
    members.iter().map(member).collect()
}

fn endpoints(of: &[Member]) -> Vec<String> {
    of.iter().map(|it| it.endpoint.clone()).collect()
}

/// A member that nobody reaches: its port is given back at once.
fn away() -> Member {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    Member::new(format!("http://{}", listener.local_addr().unwrap()))
}

#[tokio::test]
async fn the_first_that_was_named_is_taken_only_if_it_is_the_best() {
    let leader = start(1, 1, |_| {}).await;
    let lagging = start(2, 1, |it| it.applied = 3_000).await;
    let learner = start(3, 1, |it| it.is_learner = true).await;
    let follower = start(4, 1, |_| {}).await;
    let mut members = of(&[&leader, &lagging, &learner, &follower]);
    members.insert(0, away());
    let found = NamedMembers::new(members.clone()).forced().find().await;
    let found = found.unwrap();
    assert_eq!(found.source.endpoint, follower.endpoint);
    // There is quorum, so that there is nothing to force.
    assert!(!found.is_forced);
    // It is compared with all, those too that did not answer.
    assert_eq!(endpoints(&found.members), endpoints(&members));

    // Who leads is asked where no other serves.
    members.pop();
    let found = NamedMembers::new(members).find().await.unwrap();
    assert_eq!(found.source.endpoint, leader.endpoint);
}

#[tokio::test]
async fn without_quorum_the_furthest_is_taken_by_force_alone() {
    let first = start(1, 0, |it| it.revisions = vec![8]).await;
    let second = start(2, 0, |it| it.revisions = vec![9]).await;
    let mut members = of(&[&first, &second]);
    members.push(away());
    let named = NamedMembers::new(members.clone());
    match named.find().await.unwrap_err() {
        Error::NoMember { nodes, reasons } => {
            assert_eq!(reasons.len(), 3, "{reasons:?}");
            assert!(members.iter().all(|it| nodes.contains(&it.endpoint)));
        }
        error => panic!("{error}"),
    }
    let found = named.forced().find().await.unwrap();
    assert_eq!(found.source.endpoint, second.endpoint);
    assert!(found.is_forced);
}

#[tokio::test]
async fn voters_that_nobody_has_named_are_found_from_one_that_was() {
    let follower = start(2, 1, |_| {}).await;
    let learner = start(3, 1, |it| it.is_learner = true).await;
    // Behind a URL of a member there may be anybody, such as another etcd of this machine.
    let stranger = start(5, 5, |it| it.cluster = 8).await;
    let gone = away();
    let named_and_gone = away();
    let leader = start(1, 1, |it| {
        it.members = vec![
            (1, "http://etcd-1.invalid:2379".to_owned(), false),
            (2, follower.endpoint.clone(), false),
            (3, learner.endpoint.clone(), true),
            (4, gone.endpoint.clone(), false),
            (5, stranger.endpoint.clone(), false),
            (6, "https://127.0.0.1:1".to_owned(), false),
            (7, format!("{}/", named_and_gone.endpoint), false),
        ];
    })
    .await;
    let member = Member::new(&leader.endpoint).with_user("root", "s3cret");
    let named = NamedMembers::new(vec![named_and_gone.clone(), member.clone()]);
    let found = named.find().await.unwrap();
    assert_eq!(found.source.endpoint, follower.endpoint);
    // Who is away is told with the others, when it is compared.
    let all = [
        &named_and_gone,
        &member,
        &Member::new(&follower.endpoint),
        &gone,
    ];
    let all = endpoints(&all.map(Clone::clone));
    assert_eq!(endpoints(&found.members), all);
    assert_eq!(endpoints(&named.all().await), all);
    assert_eq!(follower.authenticated(), 2);
    assert_eq!(learner.connections(), 0);

    let only = named.only_named();
    let found = only.find().await.unwrap();
    assert_eq!(found.source.endpoint, leader.endpoint);
    assert_eq!(endpoints(&found.members), all[..2]);
    assert_eq!(endpoints(&only.all().await), all[..2]);
    assert_eq!(follower.authenticated(), 2);
}

/// Whoever is named twice, or by another URL than its own, is one.
#[tokio::test]
async fn a_member_that_does_not_tell_of_others_does_for_itself() {
    let silent = start(1, 1, |_| {}).await;
    let found = NamedMembers::new(of(&[&silent])).find().await.unwrap();
    assert_eq!(endpoints(&found.members), [silent.endpoint.as_str()]);
    let other = start(2, 1, |it| {
        it.members = vec![(1, silent.endpoint.clone(), false)]
    })
    .await;
    let members = of(&[&silent, &other]);
    let found = NamedMembers::new(members.clone()).find().await.unwrap();
    assert_eq!(endpoints(&found.members), endpoints(&members));
}
