//! The server in the pods.

use std::fmt::Display;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

use super::load::closed;

/// How long connections that are open at SIGTERM are still answered.
const DRAIN: Duration = Duration::from_secs(1);

/// Serves every path, `/ready` only some time after the start, until SIGTERM.
/// Then no new connection is accepted, and the next answer of each that is open
/// says that it is the last: as servers do that end well.
pub(super) async fn serve(port: &str, ready_after: &str) -> Result<(), String> {
    let ready_after = Duration::from_secs(ready_after.parse().map_err(said("the seconds"))?);
    // As the first process of a container it would not be ended otherwise.
    let mut end = signal(SignalKind::terminate()).map_err(said("listening for the end"))?;
    serve_until(end.recv(), port, ready_after).await
}

/// Serves as [`serve`] does, until standard input ends: it does not outlive whoever
/// started it, however that ends.
pub(super) async fn serve_held(port: &str) -> Result<(), String> {
    serve_until(closed(), port, Duration::ZERO).await
}

async fn serve_until<T>(
    end: impl Future<Output = T>,
    port: &str,
    ready_after: Duration,
) -> Result<(), String> {
    let port: u16 = port.parse().map_err(said("the port"))?;
    let ready_at = Instant::now() + ready_after;
    let mut end = pin!(end);
    let listener = TcpListener::bind(("0.0.0.0", port))
        .await
        .map_err(said("listening"))?;
    let (ending, has_ended) = watch::channel(false);
    loop {
        tokio::select! {
            _ = &mut end => break,
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    tokio::spawn(answer(stream, ready_at, has_ended.clone()));
                }
            }
        }
    }
    drop((listener, has_ended));
    ending.send_replace(true);
    // Until the last connection has let go of its receiver.
    tokio::time::timeout(DRAIN, ending.closed()).await.ok();
    Ok(())
}

fn said<E: Display>(what: &'static str) -> impl Fn(E) -> String {
    move |error| format!("{what}: {error}")
}

/// Answers requests without bodies until the other side has enough.
async fn answer(mut stream: TcpStream, ready_at: Instant, has_ended: watch::Receiver<bool>) {
    let mut buffer = Vec::new();
    loop {
        let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
            match stream.read_buf(&mut buffer).await {
                Ok(read) if read > 0 && buffer.len() < 16 * 1024 => continue,
                _ => return,
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end + 4);
        let is_early = head.starts_with("GET /ready ") && Instant::now() < ready_at;
        let status = if is_early {
            "503 Service Unavailable"
        } else {
            "200 OK"
        };
        let asked_to_close = head.to_ascii_lowercase().contains("connection: close");
        let closes = asked_to_close || *has_ended.borrow();
        let connection = if closes { "close" } else { "keep-alive" };
        let text = format!(
            "HTTP/1.1 {status}\r\nContent-Length: 3\r\nConnection: {connection}\r\n\r\nok\n"
        );
        if stream.write_all(text.as_bytes()).await.is_err() || closes {
            return;
        }
    }
}
