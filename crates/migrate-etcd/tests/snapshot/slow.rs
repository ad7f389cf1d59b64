//! Members that send, and do not get on.

use migrate_core::StepErrorKind;
use migrate_etcd::{NamedMembers, ProvenBackup};

use super::*;

/// What nothing may come for.
const SHORT: Duration = Duration::from_secs(1);

/// A database as it comes over a slow link: all of it within some seconds.
fn slowly() -> Vec<Act> {
    let pause = Duration::from_millis(50);
    let stream = database();
    let (data, trailer) = stream.split_at(stream.len() - 32);
    let mut remaining = data.len();
    let mut acts = Vec::new();
    for piece in data.chunks(1 << 10).chain([trailer]) {
        remaining = remaining.saturating_sub(piece.len());
        let blob = piece.to_vec();
        let remaining = remaining as u64;
        acts.extend([Act::Send { blob, remaining }, Act::Wait(pause)]);
    }
    acts
}

/// It always sends long before the limit, and would take hours for a database of some
/// size. The clock is the real one: it would jump ahead of what is under way.
#[tokio::test]
async fn a_member_that_sends_too_slowly_is_given_up_unless_that_is_allowed() {
    for least_rate in [None, Some(1)] {
        let bench = Bench::sending(slowly()).await;
        let backup = bench.backup().with_stall(SHORT);
        let backup = match least_rate {
            Some(rate) => backup.with_least_rate(rate),
            None => backup,
        };
        let saved = backup.save("a.db", &Cancellation::new(), |_, _| {}).await;
        if least_rate.is_some() {
            assert_eq!(saved.unwrap().bytes, database().len() as u64);
            continue;
        }
        let is_slow = matches!(&saved, Err(Error::TooSlow { bytes, took, .. }) if *took > SHORT && *bytes > 0);
        assert!(is_slow, "{saved:?}");
        assert!(bench.names().is_empty());
        bench.member.stream_has_ended().await;
    }
}

/// Whether the member was named or is found when the backup begins. What then comes is no
/// database of etcd, which is found only once all of it is there.
#[tokio::test]
async fn a_step_of_a_run_waits_for_a_slow_member_as_long_as_it_is_told() {
    for (finds, least_rate) in [
        (false, None),
        (false, Some(1)),
        (true, None),
        (true, Some(1)),
    ] {
        let bench = Bench::sending(slowly()).await;
        let member = Member::new(&bench.member.endpoint);
        let step = match finds {
            true => {
                let members = NamedMembers::new(vec![member]);
                ProvenBackup::finding(Arc::new(members), bench.folder.path())
            }
            false => ProvenBackup::new(bench.backup(), vec![member]),
        };
        let step = step.with_stall(SHORT);
        let step = match least_rate {
            Some(rate) => step.with_least_rate(rate),
            None => step,
        };
        let (cx, input) = environment();
        let error = step.run(&cx, &input).await.unwrap_err();
        let expected = match least_rate {
            Some(_) => (StepErrorKind::Permanent, "is no etcd database"),
            None => (StepErrorKind::Deadline, "are fewer than"),
        };
        assert!(
            error.kind == expected.0 && error.to_string().contains(expected.1),
            "{finds} {least_rate:?}: {error}"
        );
        assert!(bench.names().is_empty());
    }
}
