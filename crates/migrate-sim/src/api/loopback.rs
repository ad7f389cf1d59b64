//! The API over a TCP port of this machine, for clients that are no
//! [`kube::Client`] of this process.

use std::net::{Ipv4Addr, SocketAddr};

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::ApiServer;
use crate::SimError;

/// An API server that is served over loopback until this is dropped, which ends
/// all connections too.
#[derive(Debug)]
#[must_use = "the server is gone when this is dropped"]
pub struct Loopback {
    address: SocketAddr,
    _serving: JoinSet<()>,
}

impl Loopback {
    /// Address and port, on 127.0.0.1.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as the server of a kubeconfig: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl ApiServer {
    /// Serves this API over HTTP/1.1, without TLS, on a free port of 127.0.0.1.
    /// A fault or outage of the cluster that breaks an answer ends its
    /// connection.
    ///
    /// Must be called inside a tokio runtime with I/O, and serves while that
    /// runs. On a paused clock no time passes while another process thinks.
    ///
    /// # Errors
    /// [`SimError::Listen`].
    pub async fn listen(&self) -> Result<Loopback, SimError> {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = TcpListener::bind(any_port)
            .await
            .map_err(SimError::Listen)?;
        let address = listener.local_addr().map_err(SimError::Listen)?;
        let api = self.clone();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            // Dropped, and all of them ended, with the task.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let service = TowerToHyperService::new(api.clone());
                connections.spawn(async move {
                    let connection = http1::Builder::new();
                    let served = connection.serve_connection(TokioIo::new(stream), service);
                    // A client that goes away ends it; that is all.
                    let _ = served.await;
                });
            }
        });
        Ok(Loopback {
            address,
            _serving: serving,
        })
    }
}
