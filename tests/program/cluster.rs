//! An embedded cluster on a port of this machine.

use std::net::SocketAddr;
use std::path::Path;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use migrate_sim::api::ApiServer;
use serde_json::json;
use tokio::task::JoinSet;

/// Serves `api` on a port of this machine until dropped.
pub(crate) async fn serve(api: ApiServer) -> (SocketAddr, JoinSet<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(api.clone());
            connections.spawn(async move {
                let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                // A client that goes away ends it; that is all.
                let _ = served.await;
            });
        }
    });
    (address, tasks)
}

/// A file `kubeconfig` for the API server at `address`.
pub(crate) fn kubeconfig(folder: &Path, address: &SocketAddr) {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "c", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    });
    std::fs::write(folder.join("kubeconfig"), config.to_string()).unwrap();
}
