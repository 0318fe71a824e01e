//! Makes the demo's source database, and proves that a copy of it is equal, without Highwater's own code.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use highwater_integration_tests::digest::digest_both_sqlite;
use highwater_integration_tests::flights::make_source;

const USAGE: &str = "usage: flights make-source CSV.GZ OUT.DB | flights compare SOURCE.DB TARGET.DB [TABLE]";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["make-source", csv, database] => {
            let rows = make_source(Path::new(csv), Path::new(database)).await?;
            println!("{rows} flights in {database}");
            Ok(ExitCode::SUCCESS)
        }
        ["compare", source, target] => compare(source, target, "flights").await,
        ["compare", source, target, table] => compare(source, target, table).await,
        _ => {
            eprintln!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    }
}

async fn compare(source: &str, target: &str, table: &str) -> Result<ExitCode> {
    let (ours, theirs) = digest_both_sqlite(Path::new(source), Path::new(target), table).await?;
    println!("source  {ours}");
    println!("target  {theirs}");
    if ours == theirs {
        println!("equal");
        return Ok(ExitCode::SUCCESS);
    }
    println!("DIFFERENT");
    Ok(ExitCode::FAILURE)
}
