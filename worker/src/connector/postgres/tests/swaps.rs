//! A table takes the place of another with all that hangs on it, on PostgreSQL.

use std::time::Duration;

use highwater_common::facts::{Dependant, DependantKind};
use highwater_common::plan::check_dependants;

use super::server::PASSWORD;
use super::*;
use crate::connector::{Doing, ExchangeRequest, Exchanged, ShadowKind, ShadowRequest, Shadows};

/// A table of `wh` that is swapped under the claims of `orders`.
pub(super) struct Swapped {
    pub(super) world: World,
    table: TableName,
    claim: Claim,
    tasks: u8,
}

impl Swapped {
    /// The table of this name, made by this.
    pub(super) async fn start(table: &str, sql: &str) -> Self {
        let mut world = World::with_orders(0).await;
        world.wh(sql).await;
        Self {
            claim: world.claim_of(1, all()).await,
            world,
            table: table_name(table),
            tasks: 0,
        }
    }

    fn shadows(&self) -> &dyn Shadows {
        self.world.target.shadows().expect("it has shadows")
    }

    async fn identity(&mut self) -> String {
        let sql = "select c.oid::text from pg_class c where c.relnamespace::regnamespace::text = \
                   $1 and c.relname = $2";
        sqlx::query_scalar(sql)
            .bind(&self.table.schema)
            .bind(&self.table.name)
            .fetch_one(&mut self.world.wh)
            .await
            .expect("the table is there")
    }

    async fn shadow_request(&mut self) -> ShadowRequest {
        ShadowRequest {
            table: self.table.clone(),
            identity: self.identity().await,
            run: RUN,
            stream: STREAM.to_owned(),
        }
    }

    /// A finished shadow, filled by this statement, in which `$shadow` stands for it.
    pub(super) async fn shadow(&mut self, fill: &str) -> TableName {
        let request = self.shadow_request().await;
        let shadow = self.shadows().make(&request).await.expect("it is made");
        let schema = shadow.schema.clone().expect("a schema");
        let name = format!("{schema}.{}", shadow.name);
        self.world.wh(&fill.replace("$shadow", &name)).await;
        self.shadows()
            .finish(&request, &Doing::default())
            .await
            .expect("finished");
        shadow
    }

    /// Exchanges under a claim of its own, up to the guard.
    pub(super) async fn exchange(
        &mut self,
        by: &TableName,
        lock_wait: Duration,
    ) -> Result<(DataTx, Exchanged), ConnectorError> {
        let identity = self.identity().await;
        let request = ExchangeRequest {
            table: self.table.clone(),
            identity,
            by: by.clone(),
            run: RUN,
            stream: STREAM.to_owned(),
            lock_wait,
        };
        let claim = Claim {
            task: TaskId::from_bytes([self.tasks; 16]),
            ..self.claim.clone()
        };
        let tx = self
            .world
            .held_for(&claim)
            .await
            .begin()
            .await
            .expect("begun");
        tx.exchange(&request).await
    }

    pub(super) async fn publish(&mut self, by: &TableName) -> Exchanged {
        let (tx, exchanged) = self
            .exchange(by, Duration::from_secs(10))
            .await
            .expect("it is exchanged");
        self.commit(tx).await;
        exchanged
    }

    pub(super) async fn commit(&mut self, tx: DataTx) {
        let guarded = tx.guard(&GuardStep::last(Receipt::default())).await;
        let GuardOutcome::Holds(guarded) = guarded.expect("no fault") else {
            panic!("lost")
        };
        let outcome = guarded.commit().await;
        assert!(
            matches!(outcome, CommitOutcome::Committed(_)),
            "{outcome:?}"
        );
        self.tasks += 1;
    }

    /// What left its place is checked, which only takes time.
    async fn validate(&mut self, left: String) {
        let request = ShadowRequest {
            identity: left,
            ..self.shadow_request().await
        };
        self.shadows()
            .validate(&request, &Doing::default())
            .await
            .expect("validated");
        self.shadows()
            .validate(&request, &Doing::default())
            .await
            .expect("again");
    }

    async fn indexes(&mut self, sql: &str) -> Vec<i64> {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_all(&mut self.world.wh)
            .await
            .expect("wh answers")
    }

    async fn dependants(&self) -> Vec<Dependant> {
        dependants(&self.world.target, &self.table).await
    }
}

/// The target as a role of the test's password.
pub(super) fn target(world: &World, role: &str) -> PostgresTarget {
    PostgresTarget::new(
        &world.server.url_as(role, PASSWORD, "wh"),
        "wh".parse().expect("a name"),
        world.supervisor.clone(),
    )
    .expect("a good url")
}

async fn dependants(target: &PostgresTarget, table: &TableName) -> Vec<Dependant> {
    let probe = TargetProbe {
        twin: None,
        cluster: CLUSTER,
        table: table.clone(),
        source_engine: Engine::Postgres,
        columns: Vec::new(),
        partition: None,
        stream: STREAM.into(),
        triggers: Triggers::Fire,
        exchange: true,
    };
    let facts = target.probe(&probe).await.expect("probed");
    let facts = facts.table.expect("it is there").exchange;
    facts.expect("it was asked for").dependants
}

const SHOP: &str = include_str!("shop.sql");
const FILL: &str = "insert into $shadow (id, customer, \"a mount\", note) select n, 2, n, 'new' from \
                    generate_series(1000, 1009) n";

/// What pg_dump says of everything but our own tables.
fn dump(world: &World) -> String {
    let said = world
        .server
        .dump("wh", &["-N", "highwater", "-T", "*._highwater*"]);
    // A key of the dump's own, another each time.
    let lines = said.lines().filter(|line| !line.contains("restrict "));
    lines.collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn same(before: &str, after: &str) {
    let (mut gone, mut new) = (Vec::new(), Vec::new());
    for line in before.lines() {
        if !after.lines().any(|other| other == line) {
            gone.push(line);
        }
    }
    for line in after.lines() {
        if !before.lines().any(|other| other == line) {
            new.push(line);
        }
    }
    assert!(
        gone.is_empty() && new.is_empty(),
        "gone: {gone:#?}\nnew: {new:#?}"
    );
    assert_eq!(before, after);
}

#[tokio::test]
async fn swap_carries_what_hangs_on_the_table_or_refuses() {
    let mut shop = Swapped::start("shop.Ord ers", SHOP).await;
    let before = dump(&shop.world);
    let told = shop.dependants().await;
    let kinds: std::collections::BTreeSet<_> = told.iter().map(|one| one.kind).collect();
    assert_eq!(kinds.len(), 10, "every kind that goes along: {told:?}");
    let first = shop.identity().await;
    // WHEN another table takes its place
    let shadow = shop.shadow(FILL).await;
    same(&before, &dump(&shop.world));
    let exchanged = shop.publish(&shadow).await;
    shop.validate(first.clone()).await;
    // THEN nothing else is another
    same(&before, &dump(&shop.world));
    assert_eq!(shop.dependants().await, told);
    assert_eq!(
        shop.world
            .count("select count(*) from shop.\"Ord ers\"")
            .await,
        10
    );
    // AND so it is when the old one comes back, and goes and comes again: keys that were checked
    // once are checked in the end, whoever left them unchecked
    let undone = shop.publish(&exchanged.kept).await;
    let again = shop.publish(&undone.kept).await;
    shop.validate(first.clone()).await;
    same(&before, &dump(&shop.world));
    // AND with something more on it that would stay behind nothing is exchanged
    let stays = "create materialized view shop.stays as select count(*) from shop.\"Ord ers\"";
    shop.world.wh(stays).await;
    let refusal = shop.exchange(&again.kept, Duration::from_secs(10)).await;
    let message = refused(refusal, ErrorClass::Permanent, "plan::uncarried_dependant");
    assert!(
        message.contains("materialized view shop.stays"),
        "{message}"
    );
    shop.world.wh("drop materialized view shop.stays").await;
    same(&before, &dump(&shop.world));
    let undone = shop.publish(&again.kept).await;
    shop.validate(again.identity).await;
    same(&before, &dump(&shop.world));
    assert_eq!(undone.identity, first);
    assert_eq!(
        shop.world
            .count("select count(*) from shop.\"Ord ers\"")
            .await,
        3
    );
    // AND what is kept goes without anything that hangs on it
    for found in shop.shadows().find().await.expect("found") {
        assert_eq!(found.kind, ShadowKind::Kept);
        shop.shadows()
            .drop(&found)
            .await
            .expect("nothing depends on it");
    }
    same(&before, &dump(&shop.world));
}

#[tokio::test]
async fn grants_views_and_sequences_survive() {
    let mut shop = Swapped::start("shop.Ord ers", SHOP).await;
    let next = "select nextval('shop.\"Ord ers_id_seq\"')";
    let given = shop.world.count(next).await;
    let number = "select nextval('shop.\"Ord ers_no_seq\"')";
    let numbered = shop.world.count(number).await;
    let shadow = shop.shadow(FILL).await;
    shop.publish(&shadow).await;
    // THEN views see the new rows, a view on a view and a parsed function too
    for (sql, rows) in [
        ("select count(*) from shop.v1", 10),
        ("select count(*) from shop.v2", 10),
        ("select count(*) from shop.v3", 10),
        ("select shop.how_many()", 10),
        ("select shop.how_many2()", 10),
    ] {
        assert_eq!(shop.world.count(sql).await, rows, "{sql}");
    }
    // AND sequences go on
    assert_eq!(shop.world.count(next).await, given + 5);
    assert_eq!(shop.world.count(number).await, numbered + 11);
    shop.world
        .wh("insert into shop.\"Ord ers\" (customer, \"a mount\") values (1, 5)")
        .await;
    let last = "select id from shop.\"Ord ers\" where customer = 1";
    assert_eq!(shop.world.count(last).await, given + 10);
    // AND whoever could read can, as far as policies let him, and nobody else
    let seen = "select count(*) from shop.\"Ord ers\"";
    shop.world.wh("set role auditor").await;
    assert_eq!(shop.world.count(seen).await, 0);
    shop.world
        .wh("reset role; create role nobody; set role nobody")
        .await;
    let refused = shop.world.wh.execute(seen).await;
    assert!(refused.is_err());
    shop.world.wh("reset role").await;
    // AND foreign keys hold in both directions, before they are validated
    for sql in [
        "insert into shop.lines values (1, 4711)",
        "insert into shop.\"Ord ers\" (customer) values (4711)",
    ] {
        assert!(shop.world.wh.execute(sql).await.is_err(), "{sql}");
    }
    // AND a customer can go, whatever the kept table says
    shop.world
        .wh("delete from shop.customers where id = 2")
        .await;
}

#[tokio::test]
async fn an_uncarried_dependant_is_refused() {
    let sql = "create schema shop; create table shop.orders (id bigint primary key, note text)";
    let mut shop = Swapped::start("shop.orders", sql).await;
    let shadow = shop.shadow("insert into $shadow values (1, 'new')").await;
    for (kind, make, named, unmake) in [
        (
            DependantKind::MaterializedView,
            "create materialized view shop.m as select id from shop.orders",
            "materialized view shop.m",
            "drop materialized view shop.m",
        ),
        (
            DependantKind::Rule,
            "create rule loud as on delete to shop.orders do also notify deleted",
            "rule loud on shop.orders",
            "drop rule loud on shop.orders",
        ),
        (
            DependantKind::Rule,
            "create table shop.log (id bigint); create rule far as on insert to shop.log do also \
             select * from shop.orders",
            "rule far on shop.log",
            "drop table shop.log",
        ),
        (
            DependantKind::Inheritance,
            "create table shop.child () inherits (shop.orders)",
            "shop.child",
            "drop table shop.child",
        ),
        (
            DependantKind::RowType,
            "create function shop.latest() returns shop.orders language sql as 'select null::bigint, null::text'",
            "shop.latest()",
            "drop function shop.latest()",
        ),
        (
            DependantKind::RowType,
            "create table shop.history (was shop.orders[])",
            "table shop.history",
            "drop table shop.history",
        ),
        (
            DependantKind::RowType,
            "create view shop.whole as select o from shop.orders o",
            "shop.whole",
            "drop view shop.whole",
        ),
        (
            DependantKind::PartitionedKey,
            "create table shop.parts (id bigint references shop.orders) partition by range (id)",
            "parts_id_fkey on shop.parts",
            "drop table shop.parts",
        ),
        (
            DependantKind::TemporaryView,
            "create temporary view mine as select id from shop.orders",
            "mine",
            "drop view mine",
        ),
        (
            DependantKind::Other,
            "create table shop.names (of regclass default 'shop.orders'::regclass)",
            "default value for column of of table shop.names",
            "drop table shop.names",
        ),
        (
            DependantKind::Other,
            "create table shop.seen (id bigint); create policy p on shop.seen using (exists (select \
             from shop.orders))",
            "policy p on table shop.seen",
            "drop table shop.seen",
        ),
        (
            DependantKind::Other,
            "alter table shop.orders add foreign key (id) references shop.orders; alter table \
             shop.orders disable trigger all",
            "the disabled check of orders_id_fkey on shop.orders",
            "alter table shop.orders drop constraint orders_id_fkey",
        ),
    ] {
        shop.world.wh(make).await;
        let found = shop.dependants().await;
        assert!(
            found.iter().any(|one| one.kind == kind),
            "{kind:?}: {found:?}"
        );
        let planned = check_dependants(&shop.table, &found).refusal();
        let (_, why) = planned.expect("it is refused");
        assert!(why.contains(named), "{named}: {why}");
        let refusal = shop.exchange(&shadow, Duration::from_secs(1)).await;
        let message = refused(refusal, ErrorClass::Permanent, "plan::uncarried_dependant");
        assert!(message.contains(named), "{named}: {message}");
        shop.world.wh(unmake).await;
    }
    // AND without them it is exchanged
    shop.publish(&shadow).await;
    assert_eq!(
        shop.world.count("select count(*) from shop.orders").await,
        1
    );
}

#[tokio::test]
async fn an_owner_without_further_rights_swaps_what_is_his() {
    let sql = format!(
        "create role loader login password '{PASSWORD}'; grant create on database wh to loader; \
         create schema shop authorization loader; grant loader to postgres; \
         create table shop.orders (id bigint generated always as identity primary key, note text); \
         alter table shop.orders owner to loader; \
         create view shop.his as select id from shop.orders; alter view shop.his owner to loader; \
         grant all on all tables in schema highwater to loader; grant usage on schema highwater to \
         loader; grant select on orders to loader"
    );
    let mut shop = Swapped::start("shop.orders", &sql).await;
    shop.world.target = target(&shop.world, "loader");
    // GIVEN a view that is somebody else's THEN it is told whose
    shop.world
        .wh("create view shop.theirs as select id from shop.orders")
        .await;
    let found = shop.dependants().await;
    let view = found
        .iter()
        .find(|one| one.name == "shop.theirs")
        .expect("it is told");
    assert_eq!(view.foreign_owner.as_deref(), Some("postgres"));
    assert!(check_dependants(&shop.table, &found).refusal().is_some());
    // WHEN it is gone THEN his own goes along
    shop.world.wh("drop view shop.theirs").await;
    assert_eq!(
        check_dependants(&shop.table, &shop.dependants().await).refusal(),
        None
    );
    let fill = "insert into $shadow overriding system value values (7, 'new')";
    let shadow = shop.shadow(fill).await;
    shop.publish(&shadow).await;
    assert_eq!(shop.world.count("select id from shop.his").await, 7);
}

#[tokio::test]
async fn a_shadow_is_nobody_elses_to_read_whatever_new_tables_are_by_default() {
    let sql = "create schema shop; create role clerk; create role boss; grant usage on schema shop \
               to clerk; alter default privileges in schema shop grant select on tables to clerk, \
               public; create unlogged table shop.orders (id bigint primary key); revoke all on \
               shop.orders from clerk, public; alter table shop.orders owner to boss";
    let mut shop = Swapped::start("shop.orders", sql).await;
    let before = dump(&shop.world);
    let shadow = shop.shadow("insert into $shadow values (1)").await;
    let seen = format!("select id from shop.{}", shadow.name);
    shop.world.wh("set role clerk").await;
    let read = shop
        .world
        .wh
        .execute(sqlx::raw_sql(AssertSqlSafe(seen.clone())));
    assert!(read.await.is_err(), "the shadow is private");
    shop.world.wh("reset role").await;
    // AND it is stored as the table is, and belongs to whom that belongs to
    let stored = "select count(*) from pg_class where relname like any (array['orders', \
                  '\\_highwater\\_new%']) and relkind = 'r' and relpersistence = 'u' and relowner = \
                  'boss'::regrole";
    assert_eq!(shop.world.count(stored).await, 2);
    shop.publish(&shadow).await;
    same(&before, &dump(&shop.world));
}

#[tokio::test]
async fn what_a_shadow_has_is_left_and_an_invalid_index_is_built_again() {
    let sql = "create schema shop; create table shop.orders (id bigint primary key, note text); \
               create index on shop.orders (note); create index on shop.orders (note)";
    let mut shop = Swapped::start("shop.orders", sql).await;
    let shadow = shop.shadow("insert into $shadow values (1, 'new')").await;
    let indexes = format!(
        "select indexrelid::int8 from pg_index where indrelid = 'shop.{}'::regclass and indisvalid \
         order by 1",
        shadow.name
    );
    let built = shop.indexes(&indexes).await;
    assert_eq!(built.len(), 3, "one for each, also of two that are alike");
    // WHEN nothing is wrong THEN nothing is built
    let request = shop.shadow_request().await;
    shop.shadows()
        .finish(&request, &Doing::default())
        .await
        .expect("again");
    assert_eq!(shop.indexes(&indexes).await, built);
    // WHEN some are invalid THEN those are, the key among them
    let (first, last) = (built[0], built[2]);
    let spoil = "update pg_index set indisvalid = false where indexrelid in";
    shop.world.wh(&format!("{spoil} ({first}, {last})")).await;
    shop.shadows()
        .finish(&request, &Doing::default())
        .await
        .expect("finished");
    let now = shop.indexes(&indexes).await;
    assert_eq!((now.len(), now[0]), (3, built[1]));
    assert!(!now.contains(&first) && !now.contains(&last));
    shop.publish(&shadow).await;
}
