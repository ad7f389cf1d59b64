//! Writes of a member wait for the end of its defragmentation, and that for the end of a
//! snapshot: none is taken meanwhile.

use std::time::Duration;

use migrate_core::Cancellation;
use migrate_etcd::Error;

use crate::member::{Act, Answers};
use crate::{Bench, database, sent};

/// A good snapshot that takes so long.
fn lasting(time: Duration) -> Vec<Act> {
    let mut acts = sent(&database());
    acts.insert(1, Act::Wait(time));
    acts
}

async fn bench(said: &[bool], acts: Vec<Act>) -> Bench {
    let mut answers = Answers::of(acts);
    answers.defragments = said.to_vec();
    Bench::with(answers).await
}

#[tokio::test]
async fn its_end_is_waited_for() {
    let bench = bench(&[true, true, false], sent(&database())).await;
    bench.save().await.unwrap();
    assert_eq!(
        (bench.names(), bench.member.snapshots()),
        (vec!["a.db".to_owned()], 1)
    );
    assert!(bench.member.looked() >= 3);
}

#[tokio::test]
async fn one_without_end_is_told_and_costs_the_member_nothing() {
    let bench = bench(&[true], sent(&database())).await;
    let backup = bench.backup().with_patience(Duration::from_millis(50));
    let saved = backup.save("a.db", &Cancellation::new(), |_, _| {}).await;
    let error = saved.unwrap_err();
    assert!(matches!(error, Error::Defragmenting { .. }), "{error:?}");
    assert_eq!(bench.member.snapshots(), 0);
    assert!(bench.names().is_empty());
}

#[tokio::test]
async fn a_snapshot_in_its_way_is_given_up_and_begun_anew() {
    // The second snapshot is looked at once while it lasts.
    let acts = lasting(Duration::from_millis(1200));
    let bench = bench(&[false, true, false], acts).await;
    let mut begun = 0;
    let backup = bench.backup();
    let first = |done: u64, _| begun += u32::from(done <= 16 << 10);
    let saved = backup.save("a.db", &Cancellation::new(), first).await;
    assert_eq!(saved.unwrap().bytes, database().len() as u64);
    bench.member.stream_has_ended().await;
    assert_eq!(bench.member.snapshots(), 2);
    assert!((1..=2).contains(&begun), "{begun}");
    assert_eq!(bench.names(), ["a.db"]);
}

#[tokio::test]
async fn after_three_that_were_given_up_that_is_told() {
    let said = [false, true].repeat(3);
    let bench = bench(&said, lasting(Duration::from_secs(60))).await;
    let error = bench.save().await.unwrap_err();
    assert!(matches!(error, Error::Defragmenting { .. }), "{error:?}");
    assert!(error.to_string().contains(&bench.member.endpoint));
    assert_eq!(bench.member.snapshots(), 3);
    assert!(bench.names().is_empty());
}
