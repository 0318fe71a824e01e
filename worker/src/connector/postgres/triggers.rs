//! What a table's triggers and rules do to a load, read from the catalog; and whether a session
//! may skip them. Never judges them: that is `highwater_common::plan`'s business.

use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{Reaction, ReactionKind};
use highwater_common::spec::Triggers;
use sqlx::{Connection, Executor, PgConnection, Row};

use super::errors::{classify, is_state, permanent};
use super::session::Endpoint;
use crate::connector::ConnectorError;
use crate::connector::sql_text::{Dialect, Sql};

const MISSING_RIGHT: &str = "42501";
/// The most that are read of one kind; those that are alike count as one.
const REACTIONS_MAX: i64 = 200;

/// Skips triggers for the rest of the transaction, and no longer: sessions are kept.
pub(super) const SKIP: &str = "pg_catalog.set_config('session_replication_role', 'replica', true)";

/// A row trigger acts where the row is stored, and a trigger of a partitioned table has a copy of
/// its own in each partition, which may be disabled apart from it: it acts where one of them does.
/// A statement trigger acts for the table that is named. INSERT goes to the table and its
/// partitions, DELETE also to those that inherit.
const TRIGGERS: &str = "with recursive tree as ( \
       select $1::oid as oid, true as named, true as gets_rows \
       union select i.inhrelid, false, t.gets_rows and c.relispartition \
       from tree t join pg_inherits i on i.inhparent = t.oid join pg_class c on c.oid = \
       i.inhrelid), \
       own as (select t.oid, t.tgparentid, t.tgname, t.tgtype::int4 as type, t.tgenabled, \
       t.tgrelid, tree.named, tree.gets_rows \
       from pg_trigger t join tree on tree.oid = t.tgrelid \
       where (t.tgtype & 1 = 1 or tree.named) and t.tgtype & 28 <> 0 \
       and case when t.tgconstraint = 0 then not t.tgisinternal or t.tgparentid <> 0 \
       else exists (select from pg_constraint k where k.oid = t.tgconstraint and k.contype = 't') \
       end), \
       family as (select oid as head, oid, tgenabled from own h where not exists (select from own \
       p where p.oid = h.tgparentid) \
       union all select f.head, o.oid, o.tgenabled from family f join own o on o.tgparentid = \
       f.oid) \
       select h.tgname::text as name, h.type, bool_or(h.gets_rows) as gets_rows, count(distinct \
       h.oid) - 1 as alike, \
       (min(n.nspname || '.' || c.relname)) as place, \
       bool_or(f.tgenabled in ('O', 'A')) as fires, bool_or(f.tgenabled in ('R', 'A')) as \
       if_skipped \
       from own h join family f on f.head = h.oid join pg_class c on c.oid = h.tgrelid join \
       pg_namespace n on n.oid = c.relnamespace \
       group by h.tgname, h.type, h.named, h.gets_rows having bool_or(f.tgenabled <> 'D') \
       order by h.named desc, h.tgname limit $2";

const RULES: &str = "select r.rulename::text as name, r.ev_type::text as event, r.is_instead, \
            r.ev_qual::text <> '<>' as has_condition, \
            n.nspname || '.' || c.relname as place, r.ev_enabled in ('O', 'A') as fires, \
            r.ev_enabled in ('R', 'A') as if_skipped \
            from pg_rewrite r join pg_class c on c.oid = r.ev_class join pg_namespace n on n.oid = \
            c.relnamespace \
            where r.ev_class = $1::oid and r.ev_type in ('2', '3', '4') and r.ev_enabled <> 'D' order \
            by r.rulename limit $2";

/// The triggers and rules that answer to rows inserted into a table, updated in it or deleted from
/// it.
pub(super) async fn read_reactions(
    conn: &mut PgConnection,
    oid: i64,
) -> Result<Vec<Reaction>, sqlx::Error> {
    let mut found = Vec::new();
    for row in sqlx::query(RULES)
        .bind(oid)
        .bind(REACTIONS_MAX)
        .fetch_all(&mut *conn)
        .await?
    {
        let event: String = row.try_get("event")?;
        let (on_insert, on_update) = (event == "3", event == "2");
        let is_instead: bool = row.try_get("is_instead")?;
        let condition = if row.try_get("has_condition")? {
            " where a condition holds"
        } else {
            ""
        };
        let (event, how) = (
            match event.as_str() {
                "2" => "update",
                "3" => "insert",
                _ => "delete",
            },
            if is_instead { "instead" } else { "also" },
        );
        found.push(Reaction {
            name: row.try_get("name")?,
            table: row.try_get("place")?,
            alike: 0,
            kind: if is_instead {
                ReactionKind::RuleInstead
            } else {
                ReactionKind::RuleAlso
            },
            when: format!("on {event} do {how}{condition}"),
            on_insert,
            on_update,
            on_delete: !on_insert && !on_update,
            fires: row.try_get("fires")?,
            fires_if_skipped: row.try_get("if_skipped")?,
        });
    }
    for row in sqlx::query(TRIGGERS)
        .bind(oid)
        .bind(REACTIONS_MAX)
        .fetch_all(&mut *conn)
        .await?
    {
        let when = When(row.try_get("type")?);
        let gets_rows: bool = row.try_get("gets_rows")?;
        found.push(Reaction {
            name: row.try_get("name")?,
            table: row.try_get("place")?,
            alike: u64::try_from(row.try_get::<i64, _>("alike")?).unwrap_or(0),
            kind: ReactionKind::Trigger,
            when: when.text(),
            on_insert: when.has(When::INSERT) && gets_rows,
            on_update: when.has(When::UPDATE) && gets_rows,
            on_delete: when.has(When::DELETE),
            fires: row.try_get("fires")?,
            fires_if_skipped: row.try_get("if_skipped")?,
        });
    }
    Ok(found)
}

/// `pg_trigger.tgtype`: when a trigger acts.
#[derive(Debug, Clone, Copy)]
struct When(i32);

impl When {
    const ROW: i32 = 1;
    const BEFORE: i32 = 2;
    const INSERT: i32 = 4;
    const DELETE: i32 = 8;
    const UPDATE: i32 = 16;
    const TRUNCATE: i32 = 32;
    const INSTEAD: i32 = 64;

    const fn has(self, bit: i32) -> bool {
        self.0 & bit != 0
    }

    fn text(self) -> String {
        let time = match (self.has(Self::BEFORE), self.has(Self::INSTEAD)) {
            (_, true) => "instead of",
            (true, false) => "before",
            (false, false) => "after",
        };
        let events = [
            (Self::INSERT, "insert"),
            (Self::UPDATE, "update"),
            (Self::DELETE, "delete"),
            (Self::TRUNCATE, "truncate"),
        ];
        let events: Vec<&str> = events
            .into_iter()
            .filter(|(bit, _)| self.has(*bit))
            .map(|(_, name)| name)
            .collect();
        let each = if self.has(Self::ROW) {
            "row"
        } else {
            "statement"
        };
        format!("{time} {}, each {each}", events.join(" or "))
    }
}

/// Makes sure that the role may skip triggers, where that is wanted, by doing so in a transaction
/// that is undone.
///
/// # Errors
/// Permanent `triggers_not_skipped`, with the right that is missing.
pub(super) async fn check_right(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    triggers: Triggers,
) -> Result<(), ConnectorError> {
    if triggers == Triggers::Fire {
        return Ok(());
    }
    let failed = |error| refusal(endpoint, error);
    let mut tx = conn.begin().await.map_err(failed)?;
    let skip = Sql::new(Dialect::Postgres, "select ")
        .text(SKIP)
        .into_statement();
    tx.execute(sqlx::raw_sql(skip)).await.map_err(failed)?;
    tx.rollback().await.map_err(failed)
}

/// The error of a session that could not skip triggers.
pub(super) fn refusal(endpoint: &Endpoint, error: sqlx::Error) -> ConnectorError {
    if !is_state(&error, MISSING_RIGHT) {
        return classify(endpoint, "skip triggers", error);
    }
    let user = endpoint.route().user();
    let message = format!(
        "`write.triggers: skip` sets session_replication_role, which {user} may not on {endpoint}: \
         load as a superuser, or `grant set on parameter session_replication_role to {user}` \
         (PostgreSQL 15 or later), or leave `write.triggers` out"
    );
    permanent(ErrorCode::TriggersNotSkipped, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_a_trigger_acts_is_said_as_it_was_written() {
        for (bits, text) in [
            (1 | 2 | 4 | 16, "before insert or update, each row"),
            (8, "after delete, each statement"),
            (1 | 64 | 4, "instead of insert, each row"),
        ] {
            assert_eq!(When(bits).text(), text);
        }
    }
}
