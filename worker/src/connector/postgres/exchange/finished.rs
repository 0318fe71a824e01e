//! What a table that is to take another's place still lacks: indexes, keys, checks and statistics
//! like the other's. What is there already, by its definition, is left as it is.

use sqlx::{PgConnection, Row};

use super::carried::{BOTH, INDEXES, STATISTICS};
use crate::connector::sql_text::{Dialect, Sql};

/// An index whose building broke off, by somebody's hand.
const INVALID: &str = r"
select case when k.oid is null then format('drop index %I.%I', n.nspname, c.relname)
    else format('alter table %s drop constraint %I', a.name, k.conname) end as statement
  from a, pg_index i join pg_class c on c.oid = i.indexrelid
  join pg_namespace n on n.oid = c.relnamespace
  left join pg_constraint k on k.conindid = c.oid and k.conrelid = i.indrelid
    and k.contype in ('p', 'u', 'x')
  where i.indrelid = a.oid and not i.indisvalid";

/// A key is built as an index first, for only that takes the index's own settings.
const MISSING_INDEXES: &str = r",
missing as (select own.*, '_highwater_new_' || own.indexrelid || $3::text as new_name
  from pairs, l, alike own where own.indexrelid = (pairs.own).indexrelid
  and (other).indexrelid is null)
select format('set local default_tablespace = %L; ', tablespace) || case
    when contype is null then
      format('create %sindex %I on %s%s', case when indisunique then 'unique ' end, new_name,
        a.name, body)
    when contype in ('p', 'u') and amname = 'btree' then
      format('create unique index %1$I on %2$s%3$s; alter table %2$s add constraint %1$I %4$s using '
        'index %1$I%5$s%6$s', new_name, a.name, body,
        case contype when 'p' then 'primary key' else 'unique' end,
        case when condeferrable then ' deferrable' end,
        case when condeferred then ' initially deferred' end)
    else
      format('alter table %s add constraint %I %s', a.name, new_name, constraint_definition)
      || coalesce((select format('; alter index %I.%I set (%s)', schema, new_name,
        string_agg(format('%I = %L', option_name, option_value), ', '))
        from pg_options_to_table(missing.reloptions) having count(*) > 0), '')
    end as statement
  from missing, a order by contype = 'p' desc nulls last, new_name";

const MISSING_CHECKS: &str = r"
select format('alter table %s add constraint %I %s', a.name, k.conname,
    pg_get_constraintdef(k.oid)) as statement
  from l, a, pg_constraint k where k.conrelid = l.oid and k.contype = 'c'
  and not exists (select from pg_constraint o where o.conrelid = a.oid and o.contype = 'c'
    and o.conname = k.conname and pg_get_constraintdef(o.oid) = pg_get_constraintdef(k.oid))
  order by k.conname";

const MISSING_STATISTICS: &str = r",
missing as (select own.*, '_highwater_new_' || own.oid || $3::text as new_name
  from pairs, l, alike own where own.oid = (pairs.own).oid and (other).oid is null)
select format('create statistics %1$I.%2$I%3$s from %4$s', schema, new_name, body, a.name)
    || coalesce(format('; alter statistics %I.%I set statistics %s', schema, new_name,
      nullif(stxstattarget, -1)), '') as statement
  from missing, a order by new_name";

/// How much of a column is looked at, and what is said of it.
const TARGETS: &str = r"
select format('alter table %s alter column %I set statistics %s', a.name, c.attname,
    coalesce(c.attstattarget, -1)) as statement
  from l, a, pg_attribute c join pg_attribute b on b.attname = c.attname
  where c.attrelid = l.oid and b.attrelid = a.oid and c.attnum > 0
  and c.attstattarget is distinct from b.attstattarget
union all select format('alter table %s alter column %I set (%s)', a.name, c.attname,
    array_to_string(c.attoptions, ', '))
  from l, a, pg_attribute c join pg_attribute b on b.attname = c.attname
  where c.attrelid = l.oid and b.attrelid = a.oid and c.attnum > 0 and not c.attisdropped
  and c.attoptions is not null and c.attoptions is distinct from b.attoptions";

const ANALYZE: &str = r" select format('analyze %s', a.name) as statement from a";

/// What else has to be as it is, and only is when neither table was altered meanwhile.
const UNLIKE: &str = r"
columns as (select c.attrelid, string_agg(concat_ws(' ', quote_ident(c.attname),
    format_type(c.atttypid, c.atttypmod), nullif(c.attcollation, t.typcollation)::regcollation,
    case when c.attnotnull then 'not null' end, 'generated ' || nullif(c.attgenerated::text, ''),
    'identity ' || nullif(c.attidentity::text, ''),
    case when c.attgenerated <> '' then pg_get_expr(d.adbin, d.adrelid) end), ', '
    order by c.attnum) as described
  from l, a, pg_attribute c join pg_type t on t.oid = c.atttypid
  left join pg_attrdef d on d.adrelid = c.attrelid and d.adnum = c.attnum
  where c.attrelid in (l.oid, a.oid) and c.attnum > 0 and not c.attisdropped group by c.attrelid)
select 'its columns are ' || other.described || ', and not ' || own.described as reason
  from l, a, columns own, columns other
  where own.attrelid = l.oid and other.attrelid = a.oid and own.described <> other.described";

/// The steps that are left to do, each a transaction of its own.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lack {
    Invalid,
    Index,
    Check,
    Statistics,
    Targets,
    Analysis,
}

impl Lack {
    pub(super) const ALL: [Self; 6] = [
        Self::Invalid,
        Self::Index,
        Self::Check,
        Self::Statistics,
        Self::Targets,
        Self::Analysis,
    ];

    /// What a person calls it.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Invalid => "what was left invalid",
            Self::Index => "an index",
            Self::Check => "a check",
            Self::Statistics | Self::Targets => "statistics",
            Self::Analysis => "the planner's statistics",
        }
    }
}

/// The statements that give `by` what it lacks of one kind; `suffix` ends the names of what is made.
pub(super) async fn read_lacking(
    conn: &mut PgConnection,
    lack: Lack,
    table: i64,
    by: i64,
    suffix: &str,
) -> Result<Vec<String>, sqlx::Error> {
    let both = Sql::new(Dialect::Postgres, BOTH);
    let asked = match lack {
        Lack::Invalid => both.text(INVALID),
        Lack::Index => both.text(INDEXES).text(MISSING_INDEXES),
        Lack::Check => both.text(MISSING_CHECKS),
        Lack::Statistics => both.text(STATISTICS).text(MISSING_STATISTICS),
        Lack::Targets => both.text(TARGETS),
        Lack::Analysis => both.text(ANALYZE),
    };
    let rows = sqlx::query(asked.into_statement()).bind(table).bind(by);
    let rows = match lack {
        Lack::Index | Lack::Statistics => rows.bind(suffix),
        Lack::Invalid | Lack::Check | Lack::Targets | Lack::Analysis => rows,
    };
    let rows = rows.fetch_all(conn).await?;
    rows.iter().map(|row| row.try_get("statement")).collect()
}

/// Why `by` is not like the table whose place it is to take; `None` when it is.
pub(super) async fn read_unlike(
    conn: &mut PgConnection,
    table: i64,
    by: i64,
) -> Result<Option<String>, sqlx::Error> {
    let asked = Sql::new(Dialect::Postgres, BOTH).text(",").text(UNLIKE);
    let unlike = sqlx::query_scalar(asked.into_statement())
        .bind(table)
        .bind(by)
        .fetch_optional(&mut *conn)
        .await?;
    if unlike.is_some() {
        return Ok(unlike);
    }
    for lack in [Lack::Index, Lack::Check, Lack::Statistics] {
        let lacking = read_lacking(conn, lack, table, by, "").await?;
        if let Some(first) = lacking.first() {
            return Ok(Some(format!("it lacks what `{first}` would give it")));
        }
    }
    Ok(None)
}
