//! What the crash loops run on.

use std::future::Future;

use migrate_executor::{Executor, Journal, Report, Setup, StepOutcome};

/// A cluster that the crash loops can break and look at. One per attempt.
pub(crate) trait Subject {
    /// A setup over this cluster. The first of an attempt has a plan; those
    /// after a crash may do without.
    fn setup(&self, journal: Box<dyn Journal>, first: bool) -> Setup;
    /// Dies right after that many effects.
    fn crash_after(&self, effects: usize);
    /// Resolves when it has.
    fn crashed(&self) -> impl Future<Output = ()>;
    /// What the cluster is like, as far as it must not depend on crashes.
    fn state(&self) -> String;
    /// Rules that were broken so far.
    fn broken(&self) -> Vec<String>;
}

/// How a runner ended.
pub(crate) enum Run {
    Ended(Box<Report>),
    /// The journal failed, or the process died at an effect.
    Crashed,
}

/// More steps than any run needs.
const STEPS: usize = 20_000;

/// Runs until the end or the crash.
pub(crate) async fn run(subject: &impl Subject, setup: Setup) -> Run {
    let open = async { Executor::open(setup).await };
    let mut executor = tokio::select! {
        biased;
        () = subject.crashed() => return Run::Crashed,
        opened = open => match opened {
            Ok(executor) => executor,
            Err(_) => return Run::Crashed,
        },
    };
    for _ in 0..STEPS {
        let step = tokio::select! {
            biased;
            () = subject.crashed() => return Run::Crashed,
            step = executor.step() => step,
        };
        match step {
            Ok(StepOutcome::Done(report)) => return Run::Ended(report),
            Ok(StepOutcome::Stopped(stop)) => return Run::Ended(Box::new(stop.report)),
            Ok(_) => {}
            Err(_) => return Run::Crashed,
        }
    }
    panic!("it does not end: {}", executor.report());
}
