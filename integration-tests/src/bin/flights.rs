//! Makes the demos' source databases, and proves that a copy of them is equal, without Highwater's
//! own code.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use highwater_integration_tests::FlightsFull;
use highwater_integration_tests::digest::{Digest, digest_both_sqlite, digest_postgres_query};
use highwater_integration_tests::flights::{KEY, make_source};

const USAGE: &str = "usage: flights make-source CSV.GZ OUT.DB | flights compare SOURCE.DB \
     TARGET.DB [TABLE] | flights load-year URL | flights compare-year SOURCE_URL TARGET_URL";

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
        ["compare", source, target] => compare_files(source, target, "flights").await,
        ["compare", source, target, table] => compare_files(source, target, table).await,
        ["load-year", url] => {
            FlightsFull::find().await?.load(url).await?;
            println!("{} flights in the table flights", FlightsFull::ROWS);
            Ok(ExitCode::SUCCESS)
        }
        ["compare-year", source, target] => {
            let query = format!("select * from flights order by {KEY}");
            let (ours, theirs) = tokio::try_join!(
                digest_postgres_query(source, &query),
                digest_postgres_query(target, &query)
            )?;
            Ok(judge(&ours, &theirs))
        }
        _ => {
            eprintln!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    }
}

async fn compare_files(source: &str, target: &str, table: &str) -> Result<ExitCode> {
    let (ours, theirs) = digest_both_sqlite(Path::new(source), Path::new(target), table).await?;
    Ok(judge(&ours, &theirs))
}

fn judge(ours: &Digest, theirs: &Digest) -> ExitCode {
    println!("source  {ours}");
    println!("target  {theirs}");
    if ours == theirs {
        println!("equal");
        return ExitCode::SUCCESS;
    }
    println!("DIFFERENT");
    ExitCode::FAILURE
}
