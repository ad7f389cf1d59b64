//! Asking again when a failure may pass.

use std::time::Duration;

use futures::future::BoxFuture;

/// Between two tries; the last try's answer counts.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(900),
    Duration::from_millis(1800),
    Duration::from_millis(1800),
];

/// What `ask` answers when it does not fail for a passing reason, such as a
/// server that is overloaded or being restarted: then it is asked again.
pub(crate) async fn patiently<'a, T>(
    ask: impl Fn() -> BoxFuture<'a, Result<T, migrate_kube::Error>>,
) -> Result<T, migrate_kube::Error> {
    for pause in PAUSES {
        match ask().await {
            Err(error) if error.is_retryable() => tokio::time::sleep(pause).await,
            answer => return answer,
        }
    }
    ask().await
}
