//! Which of the members that somebody has named a snapshot is taken of.
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
    let endpoints = |of: &[Member]| {
        let endpoints = of.iter().map(|it| it.endpoint.clone());
        endpoints.collect::<Vec<_>>()
    };
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
