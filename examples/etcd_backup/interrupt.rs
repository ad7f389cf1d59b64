//! Ctrl-C.

use migrate_core::Cancellation;

/// What `work` comes to, or `None` if it is given up: at the first `signal` if it does not
/// listen to `cancel`, else at the second one, as its answer to the first may take a while
/// where a store or a member does not answer.
pub(crate) async fn unless_interrupted<T>(
    work: impl Future<Output = T>,
    listens: bool,
    cancel: &Cancellation,
    mut signal: impl AsyncFnMut(),
) -> Option<T> {
    let interrupted = async {
        signal().await;
        cancel.cancel();
        if listens {
            signal().await;
        }
    };
    tokio::select! {
        biased;
        done = work => Some(done),
        () = interrupted => None,
    }
}

/// The next Ctrl-C; never where there is none.
pub(crate) async fn ctrl_c() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}
