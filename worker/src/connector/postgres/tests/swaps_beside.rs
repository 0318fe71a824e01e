//! A swap among others: who waits for whom, and what is seen meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::super::SessionPool;
use super::swaps::{Swapped, target};
use super::*;
use crate::connector::Exchanged;

/// Exchanges while another session holds what this statement locks. While the exchange waits for
/// that, others work, at once; then the other session ends, if it is to.
async fn swap_beside(
    shop: &mut Swapped,
    by: &TableName,
    held: &str,
    work: &str,
    ends: bool,
) -> Result<(DataTx, Exchanged), ConnectorError> {
    let url = shop.world.server.url("wh");
    let connect = || PgConnection::connect(&url);
    let (mut holder, mut other) = (connect().await.expect("in"), connect().await.expect("in"));
    let hold = AssertSqlSafe(format!("begin; {held}"));
    holder.execute(sqlx::raw_sql(hold)).await.expect("held");
    let others = async {
        let waiting = "select count(*) from pg_locks where not granted and relation is not null";
        let waits = async |other: &mut PgConnection| {
            let found = sqlx::query_scalar::<_, i64>(waiting).fetch_one(other).await;
            found.expect("counted") > 0
        };
        while !waits(&mut other).await {}
        let work = AssertSqlSafe(format!("set lock_timeout = '10ms'; {work}"));
        let worked = other.execute(sqlx::raw_sql(work)).await;
        worked.unwrap_or_else(|error| panic!("{held} is in the way: {error}"));
        if ends {
            holder.execute("commit").await.expect("it ends");
        }
    };
    let patience = Duration::from_secs(3);
    let (exchanged, ()) = tokio::join!(shop.exchange(by, patience), others);
    exchanged
}

#[tokio::test]
async fn who_reads_the_table_does_not_wait_behind_a_swap_that_waits_for_something_else() {
    let sql = "create schema shop; create table shop.orders (id bigint primary key); create view \
               shop.v as select id from shop.orders; create table shop.lines (id bigint references \
               shop.orders); create table shop.customers (id bigint primary key); alter table \
               shop.orders add foreign key (id) references shop.customers";
    let mut shop = Swapped::start("shop.orders", sql).await;
    let shadow = shop.shadow("select 1").await;
    for (held, work) in [
        ("select from shop.v", "select from shop.lines"),
        ("select from shop.lines", "select from shop.orders"),
        ("select from shop.customers", "select from shop.orders"),
        ("select from shop.orders", "select 1"),
    ] {
        let refusal = swap_beside(&mut shop, &shadow, held, work, false).await;
        refused(refusal, ErrorClass::Resource, "swap_blocked");
        // THEN nobody waits for it any more
        let waiting = "select count(*) from pg_locks where not granted";
        assert_eq!(shop.world.count(waiting).await, 0, "{held}");
    }
    shop.publish(&shadow).await;
}

#[tokio::test]
async fn nobody_waits_behind_a_swap_that_waits_for_a_vacuum() {
    let sql = "create schema shop; create table shop.orders (id bigint primary key)";
    let mut shop = Swapped::start("shop.orders", sql).await;
    let shadow = shop.shadow("select 1").await;
    // GIVEN a lock like a vacuum's WHEN others read and write meanwhile THEN they do so at once,
    // and the swap goes on when it has ended
    let vacuum = "lock table shop.orders in share update exclusive mode";
    let work = "insert into shop.orders values (1); select from shop.orders";
    let exchanged = swap_beside(&mut shop, &shadow, vacuum, work, true).await;
    let (tx, _) = exchanged.expect("it is exchanged");
    shop.commit(tx).await;
}

/// Readers that ask without end, by every way there is, and what they saw that cannot be.
struct Readers {
    ended: Arc<AtomicBool>,
    seen: Arc<AtomicU64>,
    all: Vec<tokio::task::JoinHandle<()>>,
}

impl Readers {
    /// Each statement answers with how many rows there are, and the least and the largest of which
    /// table they are.
    async fn start(server: &Server, statements: &[&'static str]) -> Self {
        let (ended, seen) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let mut all = Vec::new();
        for &statement in statements {
            let url = server.url("wh");
            let mut conn = PgConnection::connect(&url).await.expect("connected");
            let (ended, seen) = (Arc::clone(&ended), Arc::clone(&seen));
            all.push(tokio::spawn(async move {
                while !ended.load(Ordering::Relaxed) {
                    let (rows, least, largest): (i64, Option<i32>, Option<i32>) =
                        sqlx::query_as(statement)
                            .fetch_one(&mut conn)
                            .await
                            .unwrap_or_else(|error| panic!("{statement}: {error}"));
                    assert_eq!(rows, 50, "{statement}");
                    assert!(least.is_some() && least == largest, "{statement}");
                    seen.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        Self { ended, seen, all }
    }

    async fn end(self) -> u64 {
        self.ended.store(true, Ordering::Relaxed);
        for one in self.all {
            one.await.expect("a reader saw what cannot be");
        }
        self.seen.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swap_under_readers_never_shows_a_missing_table_or_a_mix() {
    let sql = "create schema shop; create table shop.orders (id bigint primary key, of int); insert \
               into shop.orders select n, 1 from generate_series(1, 50) n; \
               create view shop.v as select * from shop.orders; create view shop.w as select * from \
               shop.v; \
               create function shop.late() returns setof record language plpgsql as $$ begin return \
               query select count(*), min(of), max(of) from shop.orders; end $$; \
               create function shop.parsed(out n bigint, out lo int, out hi int) begin \
               atomic select count(*), min(of), max(of) from shop.orders; end";
    let mut shop = Swapped::start("shop.orders", sql).await;
    let pool = SessionPool::new(shop.world.supervisor.clone());
    shop.world.target = target(&shop.world, "postgres").keeping(Some(pool));
    let fill = "insert into $shadow select n, 2 from generate_series(1, 50) n";
    let mut by = shop.shadow(fill).await;
    let readers = Readers::start(
        &shop.world.server,
        &[
            "select count(*), min(of), max(of) from shop.orders, pg_sleep(0.003)",
            "select count(*), min(of), max(of) from shop.v, pg_sleep(0.003)",
            "select count(*), min(v.of), max(o.of) from shop.w v join shop.orders o using (id), pg_sleep(0.003)",
            "select n, lo, hi from shop.late() as r(n bigint, lo int, hi int), pg_sleep(0.003)",
            "select n, lo, hi from shop.parsed(), pg_sleep(0.003)",
        ],
    )
    .await;
    let mut blocked = 0;
    for _ in 0..200 {
        loop {
            match shop.exchange(&by, Duration::from_millis(300)).await {
                Ok((tx, exchanged)) => {
                    shop.commit(tx).await;
                    by = exchanged.kept;
                    break;
                }
                Err(error) => {
                    blocked += 1;
                    let code = error.report.code.as_str();
                    assert!(matches!(code, "swap_blocked" | "deadlock"), "{error}");
                }
            }
        }
    }
    let seen = readers.end().await;
    assert!(
        seen > 200,
        "they read while it was swapped: {seen} reads, {blocked} swaps blocked"
    );
}
