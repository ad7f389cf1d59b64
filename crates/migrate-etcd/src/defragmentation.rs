//! Whether a member is being defragmented.
//!
//! All writes of a member wait for the end of its defragmentation, and that waits for the
//! end of a snapshot which began before it (`defrag` of etcd's `storage/backend`: it holds
//! the locks of all transactions while it closes the old database, which is open as long
//! as anybody reads it). So none is taken while one runs, and one that is under way when
//! one begins is given up.

use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use tokio::net::TcpStream;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower::ServiceExt;

use crate::{Member, http1};

/// 1 while the member is defragmented (etcd's `storage/backend/metrics.go`, from 3.5 on).
const METRIC: &[u8] = b"etcd_disk_defrag_inflight ";

/// Where a member has its metrics.
const PATH: &str = "/metrics";

/// No member has as many bytes of them.
const LONGEST: usize = 16 << 20;

/// How long they are waited for. They cost nothing, and may be kept waiting by a
/// compaction that waits for the defragmentation itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a member is asked.
const PERIOD: Duration = Duration::from_secs(1);

/// The metrics of a member, asked for over the address of its clients, where it has them
/// unless it has been told otherwise (`--listen-client-http-urls`, and a firewall).
#[derive(Debug)]
pub(crate) enum Metrics {
    /// gRPC and all else share one connection of HTTP/2.
    Tls(Channel),
    /// HTTP/2 in the clear is for gRPC alone; all else is HTTP/1.
    Clear { authority: String },
    /// It cannot be asked at all; whoever asks it for a snapshot is told why.
    Nowhere,
}

impl Metrics {
    pub(crate) fn of(member: &Member) -> Self {
        if !member.is_https() {
            return Self::Clear {
                authority: member.reached_at(),
            };
        }
        let endpoint = Endpoint::from_shared(member.target()).ok();
        let endpoint = endpoint.and_then(|endpoint| member.with_own_tls(endpoint));
        endpoint.map_or(Self::Nowhere, |endpoint| Self::Tls(endpoint.connect_lazy()))
    }

    /// Whether the member is being defragmented. `None`: it does not say, as etcd 3.4, or
    /// not here.
    pub(crate) async fn say(&self) -> Option<bool> {
        let asked = async {
            match self {
                Self::Tls(channel) => over_tls(channel.clone()).await,
                Self::Clear { authority } => in_the_clear(authority).await.ok(),
                Self::Nowhere => None,
            }
        };
        let text = tokio::time::timeout(PATIENCE, asked).await.ok()??;
        is_active(&text)
    }

    /// Ends once the member, which was not a moment ago, is being defragmented. Never,
    /// where it does not say.
    pub(crate) async fn begins(&self) {
        loop {
            tokio::time::sleep(PERIOD).await;
            if self.say().await == Some(true) {
                return;
            }
        }
    }

    /// Ends once the member is not, or does not say.
    pub(crate) async fn ends(&self) {
        while self.say().await == Some(true) {
            tokio::time::sleep(PERIOD).await;
        }
    }
}

async fn over_tls(channel: Channel) -> Option<Vec<u8>> {
    let request = Request::builder().method(Method::GET).uri(PATH);
    let request = request.body(Body::empty()).ok()?;
    let answer = channel.oneshot(request).await.ok()?;
    if answer.status() != StatusCode::OK {
        return None;
    }
    let body = Limited::new(answer.into_body(), LONGEST).collect().await;
    Some(body.ok()?.to_bytes().to_vec())
}

async fn in_the_clear(authority: &str) -> std::io::Result<Vec<u8>> {
    let connection = TcpStream::connect(authority).await?;
    let answer = http1::get(connection, authority, PATH, "text/plain", LONGEST as u64);
    Ok(answer.await?.1)
}

/// What the text of a member's metrics says.
fn is_active(text: &[u8]) -> Option<bool> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(METRIC))?;
    let value: f64 = std::str::from_utf8(value).ok()?.trim().parse().ok()?;
    Some(value > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_metrics_say_is_read_from_any_text() {
        let help = "# HELP etcd_disk_defrag_inflight Whether or not defrag is active\n\
                    # TYPE etcd_disk_defrag_inflight gauge\n";
        for (value, said) in [
            ("etcd_disk_defrag_inflight 1\n", Some(true)),
            ("etcd_disk_defrag_inflight 0\r\n", Some(false)),
            ("etcd_disk_defrag_inflight 1e+00", Some(true)),
            ("etcd_disk_defrag_inflight\n", None),
            ("etcd_disk_defrag_inflight one\n", None),
            ("etcd_disk_defrag_inflight_more 1\n", None),
            ("", None),
        ] {
            let text = format!("{help}{value}");
            assert_eq!(is_active(text.as_bytes()), said, "{value:?}");
        }
        assert_eq!(is_active(b"etcd_disk_defrag_inflight \xff\n"), None);
    }
}
