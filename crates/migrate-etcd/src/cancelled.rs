//! Work that is given up when somebody says so.

use futures::future::{Either, select};
use migrate_core::Cancellation;

use crate::Error;

/// What `work` comes to; it is dropped when `cancel` says so, and not begun if it has
/// already. What goes on elsewhere, as on a thread, is not waited for.
pub(crate) async fn unless_cancelled<T>(
    cancel: &Cancellation,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let cancelled = std::pin::pin!(cancel.cancelled());
    match select(cancelled, std::pin::pin!(work)).await {
        Either::Left(_) => Err(Error::Cancelled),
        Either::Right((result, _)) => result,
    }
}
