//! What a table holds, as a count and a digest, read without Highwater's own code.
//!
//! A row is hashed in the text form of PostgreSQL's COPY: fields parted by tabs, NULL as `\N`, a
//! newline after each row, and backslash, tab, newline and carriage return escaped. Two tables that
//! hold the same values in the same order so have the same digest, in whichever database they are,
//! as long as both write a value by the same text.

use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use futures_util::TryStreamExt as _;
use sha2::{Digest as _, Sha256};
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _, SqliteConnection};

/// How many rows, and what is in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// The number of rows.
    pub rows: u64,
    /// SHA-256 over the rows, in hexadecimal.
    pub sha256: String,
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows, sha256 {}", self.rows, self.sha256)
    }
}

/// The digest of a SQLite table: all its columns as text, in their order, the rows sorted by
/// `order` (an SQL list).
///
/// # Errors
/// There is no such file, table or column.
pub async fn digest_sqlite(file: &Path, table: &str, order: &str) -> Result<Digest> {
    let columns: Vec<String> = sqlite_columns(file, table)
        .await?
        .iter()
        .map(|column| quoted(&column.name))
        .collect();
    digest_sqlite_query(
        file,
        &format!(
            "select {} from {} order by {order}",
            columns.join(", "),
            quoted(table)
        ),
    )
    .await
}

/// The digest of a query's rows in SQLite, every value as text. The query orders them.
///
/// # Errors
/// There is no such file, or SQLite refuses the query.
pub async fn digest_sqlite_query(file: &Path, query: &str) -> Result<Digest> {
    let mut conn = open(file).await?;
    let mut hashed = Hashed::default();
    let mut rows = sqlx::query(AssertSqlSafe(query.to_owned()))
        .persistent(false)
        .fetch(&mut conn);
    while let Some(row) = rows
        .try_next()
        .await
        .with_context(|| format!("read {}", file.display()))?
    {
        hashed.row(&row)?;
    }
    Ok(hashed.finish())
}

/// The digest of a PostgreSQL table: all its columns as text, in their order, the rows sorted by
/// `order` (an SQL list).
///
/// # Errors
/// There is no such database, table or column.
pub async fn digest_postgres(url: &str, table: &str, order: &str) -> Result<Digest> {
    digest_postgres_query(url, &format!("select * from {table} order by {order}")).await
}

/// The digest of a query's rows in PostgreSQL. The query orders them.
///
/// # Errors
/// The server does not answer, or refuses the query.
pub async fn digest_postgres_query(url: &str, query: &str) -> Result<Digest> {
    let mut conn = PgConnection::connect(url)
        .await
        .context("connect to read a digest")?;
    // sqlx has set the time zone to UTC and dates to ISO. The server writes the very text that is
    // hashed.
    let copied = conn
        .copy_out_raw(&format!("copy ({query}) to stdout"))
        .await;
    let mut frames = copied.with_context(|| format!("read the rows of {query}"))?;
    let mut hashed = Hashed::default();
    while let Some(frame) = frames
        .try_next()
        .await
        .with_context(|| format!("read the rows of {query}"))?
    {
        hashed.copied(&frame);
    }
    drop(frames);
    conn.close()
        .await
        .context("close the connection that read a digest")?;
    Ok(hashed.finish())
}

/// Whether two SQLite files hold the same table: the same columns, and the same values of the same
/// storage class, sorted by the primary key of the first. Returns both digests; they are equal just
/// when the tables are.
///
/// # Errors
/// A table is missing, the first has no primary key, or the columns differ in name or order.
pub async fn digest_both_sqlite(
    source: &Path,
    target: &Path,
    table: &str,
) -> Result<(Digest, Digest)> {
    let columns = sqlite_columns(source, table).await?;
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let theirs = sqlite_columns(target, table).await?;
    let theirs: Vec<&str> = theirs.iter().map(|column| column.name.as_str()).collect();
    ensure!(
        names == theirs,
        "the columns differ: {names:?} and {theirs:?}"
    );
    let mut key: Vec<&Column> = columns.iter().filter(|column| column.key > 0).collect();
    ensure!(
        !key.is_empty(),
        "{table} in {} has no primary key to sort by",
        source.display()
    );
    key.sort_by_key(|column| column.key);
    let order: Vec<String> = key.iter().map(|column| quoted(&column.name)).collect();
    // quote() tells 5 from '5' and from 5.0, which are one text.
    let values: Vec<String> = names
        .iter()
        .map(|name| format!("quote({})", quoted(name)))
        .collect();
    let query = format!(
        "select {} from {} order by {}",
        values.join(", "),
        quoted(table),
        order.join(", ")
    );
    Ok((
        digest_sqlite_query(source, &query).await?,
        digest_sqlite_query(target, &query).await?,
    ))
}

/// A column of a SQLite table.
struct Column {
    name: String,
    /// Its place in the primary key from 1; 0 outside.
    key: i64,
}

async fn sqlite_columns(file: &Path, table: &str) -> Result<Vec<Column>> {
    let mut conn = open(file).await?;
    let found: Vec<(String, i64)> = sqlx::query_as(
        "select name, pk from pragma_table_info($1) \
        order by cid",
    )
    .bind(table)
    .fetch_all(&mut conn)
    .await?;
    ensure!(!found.is_empty(), "{} has no table {table}", file.display());
    Ok(found
        .into_iter()
        .map(|(name, key)| Column { name, key })
        .collect())
}

async fn open(file: &Path) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new().filename(file).read_only(true);
    SqliteConnection::connect_with(&options)
        .await
        .with_context(|| format!("open {}", file.display()))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Rows hashed so far.
#[derive(Default)]
struct Hashed {
    rows: u64,
    hash: Sha256,
    line: Vec<u8>,
}

impl Hashed {
    /// Adds what COPY wrote: whole rows or parts of them. Newlines inside values come escaped, so
    /// that each one ends a row.
    fn copied(&mut self, frame: &[u8]) {
        self.rows += frame
            .iter()
            .filter(|byte| **byte == b'\n')
            .map(|_| 1)
            .sum::<u64>();
        self.hash.update(frame);
    }

    fn row(&mut self, row: &SqliteRow) -> Result<()> {
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        for index in 0..row.len() {
            if index > 0 {
                line.push(b'\t');
            }
            match text(row, index)? {
                Some(value) => escape(&value, &mut line),
                None => line.extend_from_slice(br"\N"),
            }
        }
        line.push(b'\n');
        self.copied(&line);
        self.line = line;
        Ok(())
    }

    fn finish(self) -> Digest {
        let sha256 = self
            .hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Digest {
            rows: self.rows,
            sha256,
        }
    }
}

/// A value as SQLite itself converts it to text; a blob as its bytes.
fn text(row: &SqliteRow, index: usize) -> Result<Option<Vec<u8>>> {
    row.try_get_unchecked(index)
        .with_context(|| format!("read column {index}"))
}

fn escape(value: &[u8], line: &mut Vec<u8>) {
    for byte in value {
        match byte {
            b'\\' => line.extend_from_slice(br"\\"),
            b'\t' => line.extend_from_slice(br"\t"),
            b'\n' => line.extend_from_slice(br"\n"),
            b'\r' => line.extend_from_slice(br"\r"),
            other => line.push(*other),
        }
    }
}
