//! One GET over a connection, by HTTP/1.0: its answer ends with the connection, and comes
//! in one piece.

use std::io::{Error, ErrorKind, Result};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What `host` answers, status and body, when it is asked for `path` as `accept`: no more
/// than `longest` bytes in all.
pub(crate) async fn get(
    mut connection: impl AsyncRead + AsyncWrite + Unpin,
    host: &str,
    path: &str,
    accept: &str,
    longest: u64,
) -> Result<(u16, Vec<u8>)> {
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: {accept}\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    connection.take(longest).read_to_end(&mut answer).await?;
    if answer.len() as u64 == longest {
        return Err(Error::other("the answer has no end"));
    }
    parse(answer)
}

fn parse(mut answer: Vec<u8>) -> Result<(u16, Vec<u8>)> {
    const END: &[u8] = b"\r\n\r\n";
    let malformed = || Error::from(ErrorKind::InvalidData);
    let end = answer.windows(END.len()).position(|it| it == END);
    let end = end.ok_or_else(malformed)?;
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| malformed())?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(malformed)?;
    answer.drain(..end + END.len());
    Ok((status, answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_to_pieces_whatever_it_is() {
        let answer = b"HTTP/1.0 200 OK\r\nDate: now\r\n\r\na\r\n\r\nb".to_vec();
        assert_eq!(parse(answer).unwrap(), (200, b"a\r\n\r\nb".to_vec()));
        let empty = b"HTTP/1.1 503 Service Unavailable\r\n\r\n".to_vec();
        assert_eq!(parse(empty).unwrap(), (503, Vec::new()));
        for none in [
            &b""[..],
            b"HTTP/1.0",
            b"\r\n\r\n",
            b"HTTP/1.0 x\r\n\r\n",
            b"\xff \xff\r\n\r\n",
        ] {
            assert!(parse(none.to_vec()).is_err(), "{none:?}");
        }
    }
}
