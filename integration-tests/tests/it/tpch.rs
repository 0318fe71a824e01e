//! The database of TPC-H: eight tables with keys and foreign keys, moved as one.

use std::fmt::Display;

use highwater_integration_tests::digest::digest_postgres_query;
use sqlx::{Connection, PgConnection};
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator,
    PartSuppGenerator, RegionGenerator, SupplierGenerator,
};

use crate::site::{Engine, Side, Site, assert_exit};

/// How large the database is: a tenth of what the benchmark calls 1, which is 866,602 rows.
const SCALE: f64 = 0.1;
const ROWS: i64 = 866_602;

/// The tables, with what their rows are told apart and put in order by.
const TABLES: [(&str, &str); 8] = [
    ("region", "r_regionkey"),
    ("nation", "n_nationkey"),
    ("supplier", "s_suppkey"),
    ("part", "p_partkey"),
    ("partsupp", "ps_partkey, ps_suppkey"),
    ("customer", "c_custkey"),
    ("orders", "o_orderkey"),
    ("lineitem", "l_orderkey, l_linenumber"),
];

const SCHEMA: &str = "
create table region (r_regionkey integer, r_name char(25) not null, r_comment varchar(152));
create table nation (n_nationkey integer, n_name char(25) not null, n_regionkey integer not null,
    n_comment varchar(152));
create table supplier (s_suppkey bigint, s_name char(25) not null, s_address varchar(40) not null,
    s_nationkey integer not null, s_phone char(15) not null, s_acctbal numeric(15, 2) not null,
    s_comment varchar(101) not null);
create table part (p_partkey bigint, p_name varchar(55) not null, p_mfgr char(25) not null,
    p_brand char(10) not null, p_type varchar(25) not null, p_size integer not null,
    p_container char(10) not null, p_retailprice numeric(15, 2) not null,
    p_comment varchar(23) not null);
create table partsupp (ps_partkey bigint, ps_suppkey bigint, ps_availqty integer not null,
    ps_supplycost numeric(15, 2) not null, ps_comment varchar(199) not null);
create table customer (c_custkey bigint, c_name varchar(25) not null,
    c_address varchar(40) not null, c_nationkey integer not null, c_phone char(15) not null,
    c_acctbal numeric(15, 2) not null, c_mktsegment char(10) not null,
    c_comment varchar(117) not null);
create table orders (o_orderkey bigint, o_custkey bigint not null, o_orderstatus char(1) not null,
    o_totalprice numeric(15, 2) not null, o_orderdate date not null,
    o_orderpriority char(15) not null, o_clerk char(15) not null, o_shippriority integer not null,
    o_comment varchar(79) not null);
create table lineitem (l_orderkey bigint, l_partkey bigint not null, l_suppkey bigint not null,
    l_linenumber integer, l_quantity numeric(15, 2) not null,
    l_extendedprice numeric(15, 2) not null, l_discount numeric(15, 2) not null,
    l_tax numeric(15, 2) not null, l_returnflag char(1) not null, l_linestatus char(1) not null,
    l_shipdate date not null, l_commitdate date not null, l_receiptdate date not null,
    l_shipinstruct char(25) not null, l_shipmode char(10) not null, l_comment varchar(44) not null);
";

const KEYS: &str = "
alter table region add primary key (r_regionkey);
alter table nation add primary key (n_nationkey);
alter table supplier add primary key (s_suppkey);
alter table part add primary key (p_partkey);
alter table partsupp add primary key (ps_partkey, ps_suppkey);
alter table customer add primary key (c_custkey);
alter table orders add primary key (o_orderkey);
alter table lineitem add primary key (l_orderkey, l_linenumber);
create index on orders (o_orderdate);
create index on lineitem (l_shipdate);
create index on lineitem (l_partkey, l_suppkey);
alter table nation add foreign key (n_regionkey) references region;
alter table supplier add foreign key (s_nationkey) references nation;
alter table customer add foreign key (c_nationkey) references nation;
alter table partsupp add foreign key (ps_partkey) references part,
    add foreign key (ps_suppkey) references supplier;
alter table orders add foreign key (o_custkey) references customer;
alter table lineitem add foreign key (l_orderkey) references orders,
    add foreign key (l_partkey, l_suppkey) references partsupp;
analyze;
";

/// The benchmark's question about the volume of local suppliers, over six of the tables.
const LOCAL_SUPPLIERS: &str = "
select n_name, sum(l_extendedprice * (1 - l_discount)) as revenue
  from customer, orders, lineitem, supplier, nation, region
  where c_custkey = o_custkey and l_orderkey = o_orderkey and l_suppkey = s_suppkey
  and c_nationkey = s_nationkey and s_nationkey = n_nationkey and n_regionkey = r_regionkey
  and r_name = 'ASIA' and o_orderdate >= date '1994-01-01' and o_orderdate < date '1995-01-01'
  group by n_name order by revenue desc";

const WHOLE_DATABASE: &str = "version: 1
name: tpch
connections: {source: {type: postgres, url: \"${env:SOURCE_URL}\"}, target: {type: postgres, url: \"${env:TARGET_URL}\"}}
defaults: {from: {connection: source}, to: {connection: target}}
steps:
  all: {strategy: backfill, tables: \"public.*\", write: {mode: append}}
";

async fn load<R: Display>(conn: &mut PgConnection, table: &str, rows: impl Iterator<Item = R>) {
    let copy = format!("copy {table} from stdin (delimiter '|')");
    let mut copy = conn.copy_in_raw(&copy).await.unwrap();
    let mut frame = Vec::new();
    for row in rows {
        let line = row.to_string();
        frame.extend_from_slice(line.trim_end_matches('|').as_bytes());
        frame.push(b'\n');
        if frame.len() > 1 << 18 {
            copy.send(std::mem::take(&mut frame)).await.unwrap();
        }
    }
    copy.send(frame).await.unwrap();
    copy.finish().await.unwrap();
}

#[tokio::test]
async fn the_database_of_tpch_arrives_whole() {
    // GIVEN its eight tables, with rows, keys, indexes and foreign keys
    let site = Site::empty(Engine::Postgres).await;
    site.execute(Side::Source, SCHEMA).await;
    let url = |of: &str| site.server().url(of);
    let mut conn = PgConnection::connect(&url("source")).await.unwrap();
    load(
        &mut conn,
        "region",
        RegionGenerator::new(SCALE, 1, 1).iter(),
    )
    .await;
    load(
        &mut conn,
        "nation",
        NationGenerator::new(SCALE, 1, 1).iter(),
    )
    .await;
    load(
        &mut conn,
        "supplier",
        SupplierGenerator::new(SCALE, 1, 1).iter(),
    )
    .await;
    load(&mut conn, "part", PartGenerator::new(SCALE, 1, 1).iter()).await;
    load(
        &mut conn,
        "partsupp",
        PartSuppGenerator::new(SCALE, 1, 1).iter(),
    )
    .await;
    load(
        &mut conn,
        "customer",
        CustomerGenerator::new(SCALE, 1, 1).iter(),
    )
    .await;
    load(&mut conn, "orders", OrderGenerator::new(SCALE, 1, 1).iter()).await;
    load(
        &mut conn,
        "lineitem",
        LineItemGenerator::new(SCALE, 1, 1).iter(),
    )
    .await;
    conn.close().await.unwrap();
    site.execute(Side::Source, KEYS).await;
    std::fs::write(site.path("pipeline.yaml"), WHOLE_DATABASE).unwrap();
    // WHEN the whole database is moved
    assert_exit(&site.run().await, 0);
    // THEN every row of every table is there, as it was
    let mut rows = 0;
    for (table, key) in TABLES {
        let query = format!("select * from {table} order by {key}");
        let there = digest_postgres_query(&url("source"), &query).await.unwrap();
        let here = digest_postgres_query(&url("target"), &query).await.unwrap();
        assert_eq!(there, here, "{table}");
        rows += i64::try_from(here.rows).unwrap();
    }
    assert_eq!(rows, ROWS);
    // AND each has its keys, indexes and foreign keys, under their names
    for of in [
        "from pg_indexes where schemaname = 'public' order by 1",
        "from pg_constraint where connamespace = 'public'::regnamespace order by 1",
    ] {
        let told = match of.contains("pg_indexes") {
            true => "indexdef",
            false => "conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)",
        };
        let there = site.texts(Side::Source, told, of).await;
        assert_eq!(there, site.texts(Side::Target, told, of).await);
        assert!(there.len() >= 11, "{there:?}");
    }
    // AND a question over them has the same answer
    let there = digest_postgres_query(&url("source"), LOCAL_SUPPLIERS)
        .await
        .unwrap();
    let here = digest_postgres_query(&url("target"), LOCAL_SUPPLIERS)
        .await
        .unwrap();
    assert_eq!((there, here.rows), (here, 5));
}
