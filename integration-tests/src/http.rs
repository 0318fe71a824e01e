//! A question over plain HTTP, as a kubelet or Prometheus asks it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Asks `address` (`127.0.0.1:7072`) for `path`; the status of the answer, and its body.
///
/// # Errors
/// Nobody listens there, or what came is no answer.
pub async fn get(address: &str, path: &str) -> Result<(u16, String)> {
    let asking = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        Ok((status, body.to_owned()))
    };
    tokio::time::timeout(ANSWER_LIMIT, asking)
        .await
        .context("no answer in time")?
}
