//! A small table to copy, cut by days, and what must be true of its copy.

use anyhow::{Result, ensure};
use sqlx::AssertSqlSafe;

use super::Cluster;

/// The table `orders` of the source: so many days from 2024-01-01 on, each with so many rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orders {
    /// Days; each one is a partition.
    pub days: u32,
    /// Rows of each day.
    pub rows: u32,
}

impl Orders {
    /// Fills the source, and makes the target's table: each of its rows says under which token and
    /// by which worker it came.
    ///
    /// # Errors
    /// A table exists, or a server does not answer.
    pub async fn load(self, cluster: &Cluster) -> Result<()> {
        let Self { days, rows } = self;
        let columns = "id bigint primary key, placed timestamptz not null, note text";
        let fill = format!(
            "create table orders ({columns}); \
             insert into orders select day * {rows} + row, timestamptz '2024-01-01Z' + day * \
             interval '1 day' \
             + row * interval '1 day' / {rows}, md5((day * {rows} + row)::text) \
             from generate_series(0, {days} - 1) as day, generate_series(0, {rows} - 1) as row; \
             create index on orders (placed); analyze orders"
        );
        sqlx::raw_sql(AssertSqlSafe(fill))
            .execute(&mut cluster.source.connect("postgres").await?)
            .await?;
        let make = format!(
            "create table orders ({columns}, token bigint default \
                current_setting('highwater.token', true)::bigint, \
                worker text default current_user); create index on orders (placed)"
        );
        sqlx::raw_sql(AssertSqlSafe(make))
            .execute(&mut cluster.target.connect("postgres").await?)
            .await?;
        Ok(())
    }

    /// The pipeline that copies them, a day at a time. `more` are further keys of the file.
    #[must_use]
    pub fn pipeline(self, more: &str) -> String {
        let Self { days, .. } = self;
        format!(
            "version: 1
name: orders
connections:
  source: {{type: postgres, url: \"${{env:SOURCE_URL}}\"}}
  target: {{type: postgres, url: \"${{env:TARGET_URL}}\"}}
{more}
steps:
  orders:
    strategy: {{type: backfill, start: 2024-01-01, end: {}}}
    from: {{connection: source, table: orders}}
    to: {{connection: target, table: orders}}
    partition: {{by: calendar, column: placed, grain: day, tz: UTC}}
    write: {{mode: replace_partition, key: [id]}}
    retries: {{max_attempts: 8, initial: 100ms, max: 500ms}}
",
            day(days)
        )
    }

    /// Demands that every row is there once, under the token of its ledger row, and that every task
    /// is committed once.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn check_copy(self, cluster: &Cluster) -> Result<()> {
        let (ours, theirs) = cluster
            .digests("select id, placed, note from orders order by id")
            .await?;
        ensure!(
            ours.rows == u64::from(self.days) * u64::from(self.rows),
            "the source has {ours}"
        );
        ensure!(ours == theirs, "source: {ours}, target: {theirs}");
        let ledger = cluster.ledger().await?;
        ensure!(
            ledger.others == 0 && ledger.committed == i64::from(self.days),
            "{ledger:?}"
        );
        ensure!(
            ledger.rows == i64::from(self.days) * i64::from(self.rows),
            "{ledger:?}"
        );
        let foreign = "select count(*) from orders where not exists (select from highwater.task \
            where state = 'C' \
            and task.token = orders.token and (extract(epoch from placed) * 1000000)::int8 >= \
            range_start \
            and (extract(epoch from placed) * 1000000)::int8 < range_end)";
        let foreign = cluster.number(foreign).await?;
        ensure!(
            foreign == 0,
            "{foreign} rows do not carry the token of their ledger row"
        );
        Ok(())
    }
}

/// The day that comes so many days after 2024-01-01, for as many as two years.
fn day(days: u32) -> String {
    let (mut month, mut left) = (0, days);
    let lengths = [
        31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30,
        31,
    ];
    while left >= lengths[month] {
        left -= lengths[month];
        month += 1;
    }
    format!(
        "{}-{:02}-{:02}",
        2024 + month / 12,
        month % 12 + 1,
        left + 1
    )
}
