//! Times in which the API server cannot be reached.

use std::io;

use tokio::sync::watch;
use tower::BoxError;

/// Tells whether the server is up; each request and each watch holds one.
#[derive(Debug, Clone)]
pub(super) struct Outage {
    up: watch::Receiver<bool>,
}

impl Outage {
    pub(super) fn new(up: watch::Receiver<bool>) -> Self {
        Self { up }
    }

    /// Refuses while the server is down.
    pub(super) fn check(&self) -> Result<(), BoxError> {
        if *self.up.borrow() {
            Ok(())
        } else {
            Err(refused())
        }
    }

    /// Waits until the server goes down; the error that open connections then see.
    pub(super) async fn begins(&mut self) -> BoxError {
        if self.up.wait_for(|up| !up).await.is_err() {
            // The server is gone for good, and with it every reason to wake.
            std::future::pending::<()>().await;
        }
        reset()
    }
}

/// A connection that nobody accepts.
pub(super) fn refused() -> BoxError {
    io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused").into()
}

/// A connection that ends in the middle.
pub(super) fn reset() -> BoxError {
    io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by peer").into()
}
