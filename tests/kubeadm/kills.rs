//! The program is killed (SIGKILL) at named points of one upgrade of real
//! nodes, and the same command goes on each time.

use migrate_core::Phase;
use migrate_executor::{Record, RunStep};
use tokio::time::Instant;

use crate::lane::is_at_the_target;
use crate::load::{CALM_RATE, Load};
use crate::real::program::assert_announced_once;
use crate::rig::{Place, Rig, Sign};
use crate::{TARGET, figure};

/// The kubelet's program has changed since the step began.
pub(crate) const KUBELET_CHANGED: &str =
    r#"[ -n "$(find /usr/bin/kubelet -cnewer "$folder/args")" ]"#;

/// kubeadm has begun to change etcd, or restarts it because an attempt before has.
pub(crate) const ETCD_SWAPPED: &str = r#"grep -qE \
    'manifests/etcd.yaml" and backing up|Restarting the etcd static pod and backing up' "$log""#;

/// kubeadm has begun to change the API server.
pub(crate) const API_SERVER_SWAPPED: &str =
    r#"grep -qF 'manifests/kube-apiserver.yaml" and backing up' "$log""#;

/// How many of the programs have written something down before their end, at least: one that
/// begins while the API is away waits for it.
const OPENED: usize = 7;

/// Where the program is killed, in the order in which a run comes there.
const POINTS: [(&str, Sign); 11] = [
    (
        "apt of the control plane",
        Sign::Step(Place::Member(0), "pgrep -x 'apt-get|dpkg'"),
    ),
    (
        "before the swap of etcd",
        Sign::Step(
            Place::Member(0),
            r#"grep -qF 'Preparing for "etcd" upgrade' "$log""#,
        ),
    ),
    ("swap of etcd", Sign::Step(Place::Member(0), ETCD_SWAPPED)),
    (
        "swap of the API server",
        Sign::Step(Place::Member(0), API_SERVER_SWAPPED),
    ),
    (
        "upload-config",
        Sign::Step(Place::Member(0), r#"grep -qF '[upload-config]' "$log""#),
    ),
    (
        "kubelet of the control plane's node",
        Sign::Step(Place::MemberNode(0), KUBELET_CHANGED),
    ),
    ("drain of a worker", Sign::Leaving(Place::Worker(0))),
    (
        "kubelet of that worker",
        Sign::Step(Place::Worker(0), KUBELET_CHANGED),
    ),
    (
        "between its kubelet and its verification",
        Sign::Step(Place::Worker(0), r#"[ -e "$folder/exit" ]"#),
    ),
    (
        "its verification",
        Sign::Journal(|rig| rig.has_begun(Phase::Verify, Place::Worker(0))),
    ),
    (
        "before the final verification",
        Sign::Journal(|rig| {
            rig.entries().iter().any(|entry| {
                let step = RunStep::FinalVerify;
                matches!(entry.record, Record::StepBegan { step: begun } if begun == step)
            })
        }),
    ),
];

/// The whole upgrade of a fresh cluster, killed at every point, and nobody who asks the
/// replicated Services notices.
pub(crate) async fn a_killed_program_goes_on(rig: &mut Rig) {
    let load = Load::start(&rig.cluster, &rig.shop, CALM_RATE).await;
    let began = Instant::now();
    let mut opened = 0;
    for (name, sign) in POINTS {
        let before = rig.journal.entries.len();
        rig.begin();
        rig.comes_to(name, sign).await;
        rig.kill().await;
        let at = began.elapsed().as_secs();
        let records = rig.journal.entries.len() - before;
        println!("killed at {name:?}, {at} s in, after {records} records of its own");
        opened += usize::from(records > 0);
    }
    assert!(opened >= OPENED, "{opened} of {} had opened", POINTS.len());
    let ended = rig.run(&["--to", TARGET]).await;
    println!("{}", ended.said());
    assert!(ended.status.success(), "{}\n{}", ended.said(), rig.log());
    let took = began.elapsed();
    figure("kills.upgrade", took.as_secs_f64(), "s");
    let tallies = load.finish(&rig.cluster).await;
    tallies.print("kills", &rig.shop);
    tallies.assert_unfailing(&rig.shop, took);
    it_was_one_upgrade(rig).await;
}

/// However many programs took part: everything is at the target and given back, and
/// nothing was done twice.
pub(crate) async fn it_was_one_upgrade(rig: &mut Rig) {
    let again = rig.run(&["--to", TARGET]).await;
    assert!(
        again.status.success() && again.out.contains("nothing to do"),
        "{}",
        again.said()
    );

    is_at_the_target(&rig.cluster).await;
    rig.is_given_back().await;
    rig.was_done_once().await;
    rig.journal.read();
    assert_announced_once(&rig.journal.entries);
    assert_eq!(rig.broken_rules().await, Vec::<String>::new());
}
