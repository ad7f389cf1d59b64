//! Work that would hold up the runtime.

use std::panic::resume_unwind;

use crate::Error;

/// What `work` comes to on a thread of its own. It goes on to its end there, even if nobody
/// waits for it any more; what it comes to is dropped then. A panic of it goes on here: it is
/// no damage of a file, and nobody has cancelled anything.
pub(crate) async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is shutting down, and it was not begun.
            Err(_) => Err(Error::Cancelled),
        },
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_neither_an_error_nor_a_cancellation() {
        let work = || -> Result<(), Error> { panic!("a bug") };
        let ended = std::panic::AssertUnwindSafe(off_the_runtime(work));
        let panic = ended.catch_unwind().await.unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"a bug"));
        let done = off_the_runtime(|| Ok(7)).await;
        assert!(matches!(done, Ok(7)), "{done:?}");
    }

    #[test]
    fn what_is_not_begun_as_the_runtime_has_ended_is_cancelled() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let handle = runtime.handle().clone();
        runtime.shutdown_background();
        let _entered = handle.enter();
        let ended = off_the_runtime(|| Ok(())).now_or_never();
        assert!(matches!(ended, Some(Err(Error::Cancelled))), "{ended:?}");
    }
}
