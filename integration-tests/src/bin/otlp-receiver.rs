//! Receives telemetry and counts it: what the benchmarks send theirs to. Writes how much came to a
//! file, each second.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use highwater_integration_tests::otlp::Receiver;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, file] = args.as_slice() else {
        bail!("usage: otlp-receiver ADDRESS FILE");
    };
    let receiver = Receiver::counting_at(address).await?;
    println!("listening on {}", receiver.address());
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        let (spans, numbers, lines) = receiver.counts();
        std::fs::write(Path::new(file), format!("{spans} {numbers} {lines}\n"))
            .with_context(|| format!("write {file}"))?;
    }
}
