//! Addresses that a node reaches, and that it does not.

use std::net::TcpListener;

use migrate_core::ReachFrom;

use super::*;

#[tokio::test]
async fn an_address_is_reached_while_somebody_listens() {
    let cp = Node::new(true);
    for host in ["127.0.0.1:0", "[::1]:0"] {
        // Not every machine has both families.
        let Ok(listener) = TcpListener::bind(host) else {
            continue;
        };
        let address = listener.local_addr().unwrap();
        assert!(cp.driver.reach(&cx(), CP, address).await.unwrap(), "{host}");
        drop(listener);
        assert!(!reaches(&cp, address).await, "{host}");
    }
}

/// Without the seconds that a node is given.
async fn reaches(cp: &Node, address: std::net::SocketAddr) -> bool {
    let reached = cp.driver.reached(CP, address, Duration::ZERO);
    reached.await.unwrap()
}
