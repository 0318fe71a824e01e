//! What hangs on a table and goes along when another one takes its place, as statements that the
//! server writes itself: its own text of a definition, names and literals quoted by its `format`.
//!
//! All of it is read before anything is renamed, while the table has its name. What is to be done
//! afterwards is written with that same name, and so speaks of the table that has it by then.

use highwater_common::spec::TableName;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use crate::connector::sql_text::{Dialect, Sql};

/// PostgreSQL 15: publications of some columns and some rows.
const PUBLISHES_PARTS: u32 = 150_000;

/// When a statement runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// While both tables have their own names.
    Leave,
    /// Between the two: the table's name is another's by the end of it.
    Rename,
    /// When the table that takes the place has the name.
    Arrive,
    /// When all that is to be there is there.
    Settle,
}

/// What is to be run, in its order.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) statements: Vec<String>,
    /// Foreign keys that it makes again without checking the rows: that is left for after the
    /// commit, since it takes as long as a scan does.
    pub(super) unchecked: Vec<Key>,
}

/// A foreign key, and the table that has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) table: TableName,
    pub(super) name: String,
}

/// The table that leaves (`l`) and the one that takes its place (`a`).
pub(super) const BOTH: &str = r"with l as (select c.*, c.oid::regclass::text as name from pg_class c
    where c.oid = $1::int8::oid),
  a as (select c.*, c.oid::regclass::text as name from pg_class c where c.oid = $2::int8::oid)";

const OWNER: &str = r"
select 'leave' as moment, format('alter table %s owner to %I', a.name,
    pg_get_userbyid(l.relowner)) as statement, 1 as place
  from l, a where a.relowner <> l.relowner";

/// A trigger goes: the table that leaves is written no more.
const TRIGGERS: &str = r",
own as (select t.* from pg_trigger t, l where t.tgrelid = l.oid and not t.tgisinternal)
select 'leave' as moment, format('drop trigger %I on %s', t.tgname, t.tgrelid::regclass)
    as statement, 1 as place
  from pg_trigger t, l, a where t.tgrelid in (l.oid, a.oid) and not t.tgisinternal
union all select 'arrive', pg_get_triggerdef(own.oid), 2 from own
union all select 'settle', format('alter table %s %s trigger %I', l.name, case own.tgenabled
    when 'D' then 'disable' when 'R' then 'enable replica' else 'enable always' end, own.tgname), 3
  from own, l where own.tgenabled <> 'O'
union all select 'settle', format('comment on trigger %I on %s is %L', own.tgname, l.name,
    obj_description(own.oid, 'pg_trigger')), 4
  from own, l where obj_description(own.oid, 'pg_trigger') is not null";

/// Policies stay on the table that leaves, too: its rows are as private as they were.
const POLICIES: &str = r",
own as (select p.*, case p.polcmd when 'r' then 'select' when 'a' then 'insert'
    when 'w' then 'update' when 'd' then 'delete' else 'all' end as command,
    (select string_agg(case r when 0 then 'public' else quote_ident(pg_get_userbyid(r)) end, ', ')
      from unnest(p.polroles) r) as roles,
    pg_get_expr(p.polqual, p.polrelid) as passes, pg_get_expr(p.polwithcheck, p.polrelid) as checks
  from pg_policy p, l where p.polrelid = l.oid)
select 'leave' as moment, format('drop policy %I on %s', p.polname, a.name) as statement, 1 as place
  from pg_policy p, a where p.polrelid = a.oid
union all select 'arrive', format('create policy %I on %s as %s for %s to %s', own.polname, l.name,
    case when own.polpermissive then 'permissive' else 'restrictive' end, own.command, own.roles)
    || coalesce(' using (' || own.passes || ')', '')
    || coalesce(' with check (' || own.checks || ')', ''), 2
  from own, l
union all select 'arrive', format('comment on policy %I on %s is %L', own.polname, l.name,
    obj_description(own.oid, 'pg_policy')), 3
  from own, l where obj_description(own.oid, 'pg_policy') is not null
union all select 'settle', format('alter table %s %s row level security', l.name,
    case when l.relrowsecurity then 'enable' else 'disable' end), 4
  from l, a where l.relrowsecurity <> a.relrowsecurity
union all select 'settle', format('alter table %s %s row level security', l.name,
    case when l.relforcerowsecurity then 'force' else 'no force' end), 5
  from l, a where l.relforcerowsecurity <> a.relforcerowsecurity";

const CHECKS: &str = r"
select 'settle' as moment, format('comment on constraint %I on %s is %L', k.conname, l.name,
    obj_description(k.oid, 'pg_constraint')) as statement, 1 as place
  from l, a, pg_constraint k join pg_constraint o on o.conname = k.conname and o.contype = k.contype
  where k.conrelid = l.oid and o.conrelid = a.oid and k.contype = 'c'
  and obj_description(k.oid, 'pg_constraint') is distinct from obj_description(o.oid,
    'pg_constraint')";

/// Foreign keys of both directions. A table that is kept holds no row of another one back.
const KEYS: &str = r",
own as (select k.*, k.conrelid::regclass::text as holder, pg_get_constraintdef(k.oid) as definition,
    obj_description(k.oid, 'pg_constraint') as comment
  from pg_constraint k, l
  where k.contype = 'f' and l.oid in (k.conrelid, k.confrelid) and k.conparentid = 0)
select 'leave' as moment, format('alter table %s drop constraint %I', k.conrelid::regclass,
    k.conname) as statement, 1 as place
  from pg_constraint k, l, a where k.contype = 'f' and k.conparentid = 0
  and (l.oid in (k.conrelid, k.confrelid) or a.oid in (k.conrelid, k.confrelid))
union all select 'arrive', format('alter table %s add constraint %I %s%s', own.holder, own.conname,
    own.definition, case when own.convalidated then ' not valid' end), 2
  from own
union all select 'settle', format('comment on constraint %I on %s is %L', own.conname, own.holder,
    own.comment), 3
  from own where own.comment is not null";

/// Those that were checked, and are to be checked again: of every row, so after the commit.
const CHECKED_KEYS: &str = r"
select n.nspname::text as schema, c.relname::text as name, k.conname::text as key
  from l, pg_constraint k join pg_class c on c.oid = k.conrelid
  join pg_namespace n on n.oid = c.relnamespace
  where k.contype = 'f' and k.convalidated and l.oid in (k.conrelid, k.confrelid)
  and k.conparentid = 0 order by 1, 2, 3";

const PUBLICATIONS_13: &str = r"
select 'leave' as moment, format('alter publication %I drop table %s', p.pubname,
    r.prrelid::regclass) as statement, 1 as place
  from pg_publication_rel r join pg_publication p on p.oid = r.prpubid, l, a
  where r.prrelid in (l.oid, a.oid)
union all select 'arrive', format('alter publication %I add table only %s', p.pubname, l.name), 2
  from pg_publication_rel r join pg_publication p on p.oid = r.prpubid, l where r.prrelid = l.oid";

const PUBLICATIONS_15: &str = r"
select 'leave' as moment, format('alter publication %I drop table %s', p.pubname,
    r.prrelid::regclass) as statement, 1 as place
  from pg_publication_rel r join pg_publication p on p.oid = r.prpubid, l, a
  where r.prrelid in (l.oid, a.oid)
union all select 'arrive', format('alter publication %I add table only %s', p.pubname, l.name)
    || coalesce((select ' (' || string_agg(quote_ident(c.attname), ', ' order by n) || ')'
      from unnest(r.prattrs::int2[]) with ordinality u(attnum, n)
      join pg_attribute c on c.attrelid = l.oid and c.attnum = u.attnum), '')
    || coalesce(' where (' || pg_get_expr(r.prqual, r.prrelid) || ')', ''), 2
  from pg_publication_rel r join pg_publication p on p.oid = r.prpubid, l where r.prrelid = l.oid";

/// The indexes of both tables, each with what it is beside its name; constraints that stand on one
/// are part of it.
pub(super) const INDEXES: &str = r",
indexes as (select i.*, c.relname as index_name, n.nspname as schema, k.contype,
    k.condeferrable, k.condeferred, pg_get_constraintdef(k.oid) as constraint_definition,
    coalesce(s.spcname, '') as tablespace, c.reloptions, m.amname,
    obj_description(c.oid, 'pg_class') as comment,
    k.conname, obj_description(k.oid, 'pg_constraint') as constraint_comment,
    substr(pg_get_indexdef(c.oid), length(format('CREATE %sINDEX %I ON %s',
      case when i.indisunique then 'UNIQUE ' end, c.relname, i.indrelid::regclass)) + 1) as body
  from l, a, pg_index i join pg_class c on c.oid = i.indexrelid
  join pg_namespace n on n.oid = c.relnamespace join pg_am m on m.oid = c.relam
  left join pg_tablespace s on s.oid = c.reltablespace
  left join pg_constraint k on k.conindid = c.oid and k.conrelid = i.indrelid
    and k.contype in ('p', 'u', 'x')
  where i.indrelid in (l.oid, a.oid) and i.indisvalid),
alike as (select indexes.*, row_number() over (partition by indrelid, indisunique, body, tablespace,
    contype, constraint_definition order by index_name) as nth from indexes),
pairs as (select own as own, other as other
  from (select alike.* from alike, l where indrelid = l.oid) own
  left join (select alike.* from alike, a where indrelid = a.oid) other
  on other.nth = own.nth and other.indisunique = own.indisunique and other.body = own.body
    and other.tablespace = own.tablespace and other.contype is not distinct from own.contype
    and other.constraint_definition is not distinct from own.constraint_definition)";

const INDEX_NAMES: &str = r"
select 'rename' as moment, format('alter index %I.%I rename to %I', (own).schema, (own).index_name,
    '_highwater_old_' || (own).indexrelid) as statement, 1 as place
  from pairs
union all select 'rename', format('alter index %I.%I rename to %I', (other).schema,
    (other).index_name, (own).index_name), 2
  from pairs
union all select 'settle', format('comment on index %I.%I is %L', (own).schema, (own).index_name,
    (own).comment), 3
  from pairs where (own).comment is distinct from (other).comment
union all select 'settle', format('comment on constraint %I on %s is %L', (own).conname, l.name,
    (own).constraint_comment), 4
  from pairs, l where (own).constraint_comment is distinct from (other).constraint_comment
union all select 'settle', format('alter table %s cluster on %I', l.name, (own).index_name), 5
  from pairs, l where (own).indisclustered and not (other).indisclustered
union all select 'settle', format('alter table %s replica identity %s', l.name,
    case l.relreplident when 'n' then 'nothing' when 'f' then 'full' when 'd' then 'default'
      else (select format('using index %I', (own).index_name) from pairs
        where (own).indisreplident) end), 6
  from l, a where l.relreplident <> a.relreplident
  or (l.relreplident = 'i' and exists (select from pairs where (own).indisreplident
    and not (other).indisreplident))
union all select 'settle', format('alter index %I.%I alter column %s set statistics %s',
    (own).schema, (own).index_name, c.attnum, c.attstattarget), 7
  from pairs join pg_attribute c on c.attrelid = (own).indexrelid where c.attstattarget >= 0";

/// The extended statistics of both tables, each with what they are beside their names.
pub(super) const STATISTICS: &str = r",
statistics as (select s.*, n.nspname as schema, obj_description(s.oid, 'pg_statistic_ext')
    as comment, left(rest, length(rest) - length(' FROM ' || s.stxrelid::regclass)) as body
  from l, a, pg_statistic_ext s join pg_namespace n on n.oid = s.stxnamespace,
  lateral substr(pg_get_statisticsobjdef(s.oid),
    length(format('CREATE STATISTICS %I.%I', n.nspname, s.stxname)) + 1) rest
  where s.stxrelid in (l.oid, a.oid)),
alike as (select statistics.*, row_number() over (partition by stxrelid, body order by stxname)
    as nth from statistics),
pairs as (select own as own, other as other
  from (select alike.* from alike, l where stxrelid = l.oid) own
  left join (select alike.* from alike, a where stxrelid = a.oid) other
  on other.nth = own.nth and other.body = own.body)";

const STATISTICS_NAMES: &str = r"
select 'rename' as moment, format('alter statistics %I.%I rename to %I', (own).schema,
    (own).stxname, '_highwater_old_' || (own).oid) as statement, 1 as place
  from pairs
union all select 'rename', format('alter statistics %I.%I rename to %I', (other).schema,
    (other).stxname, (own).stxname), 2
  from pairs
union all select 'settle', format('comment on statistics %I.%I is %L', (own).schema, (own).stxname,
    (own).comment), 3
  from pairs where (own).comment is distinct from (other).comment
union all select 'settle', format('alter statistics %I.%I owner to %I', (own).schema, (own).stxname,
    pg_get_userbyid((own).stxowner)), 4
  from pairs where (own).stxowner <> (other).stxowner
union all select 'settle', format('alter statistics %I.%I set statistics %s', (own).schema,
    (own).stxname, (own).stxstattarget), 5
  from pairs where (own).stxstattarget is distinct from (other).stxstattarget
  and (own).stxstattarget is not null";

/// The columns' own settings.
const COLUMNS: &str = r",
columns as (select c.*, b.attstattarget as given_target, b.attoptions as given_options,
    pg_get_expr(d.adbin, d.adrelid) as value, pg_get_expr(e.adbin, e.adrelid) as given_value,
    col_description(c.attrelid, c.attnum) as comment,
    col_description(b.attrelid, b.attnum) as given_comment
  from l, a, pg_attribute c join pg_attribute b on b.attname = c.attname
  left join pg_attrdef d on d.adrelid = c.attrelid and d.adnum = c.attnum
  left join pg_attrdef e on e.adrelid = b.attrelid and e.adnum = b.attnum
  where c.attrelid = l.oid and b.attrelid = a.oid and c.attnum > 0 and not c.attisdropped)
select 'settle' as moment, format('alter table %s alter column %I set statistics %s', l.name,
    attname, coalesce(attstattarget, -1)) as statement, 1 as place
  from columns, l where attstattarget is distinct from given_target
union all select 'settle', format('alter table %s alter column %I set (%s)', l.name, attname,
    array_to_string(attoptions, ', ')), 2
  from columns, l where attoptions is distinct from given_options and attoptions is not null
union all select 'settle', format('alter table %s alter column %I %s', l.name, attname,
    coalesce('set default ' || value, 'drop default')), 3
  from columns, l where attgenerated = '' and value is distinct from given_value
union all select 'settle', format('comment on column %s.%I is %L', l.name, attname, comment), 4
  from columns, l where comment is distinct from given_comment";

/// A sequence that belongs to a column goes to its new one, with what it has given out so far. That
/// of an identity cannot go: the new one takes its name and its place.
const SEQUENCES: &str = r",
owned as (select s.oid, s.relname, n.nspname as schema, c.attname, d.deptype, s.oid::regclass::text
    as name, obj_description(s.oid, 'pg_class') as comment, d.refobjid as holder, q.*
  from l, a, pg_depend d join pg_class s on s.oid = d.objid and s.relkind = 'S'
  join pg_namespace n on n.oid = s.relnamespace join pg_sequence q on q.seqrelid = s.oid
  join pg_attribute c on c.attrelid = d.refobjid and c.attnum = d.refobjsubid
  where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
  and d.refobjid in (l.oid, a.oid) and d.deptype in ('a', 'i')),
identities as (select own as own, other as other,
    format('%I.%I', own.schema, '_highwater_old_' || own.oid) as kept
  from l, a, owned own join owned other on other.attname = own.attname and other.deptype = 'i'
  where own.holder = l.oid and other.holder = a.oid and own.deptype = 'i')
select 'arrive' as moment, format('alter sequence %s owned by %s.%I', owned.name, l.name, attname)
    as statement, 1 as place
  from owned, l where holder = l.oid and deptype = 'a'
union all select 'settle', format('alter table %I.%I alter column %I drop default', n.nspname,
    '_highwater_old_' || l.oid, c.attname), 2
  from l join pg_namespace n on n.oid = l.relnamespace join pg_attrdef e on e.adrelid = l.oid
  join pg_attribute c on c.attrelid = l.oid and c.attnum = e.adnum
  where exists (select from pg_depend d join owned on owned.oid = d.refobjid and owned.holder = l.oid
    and owned.deptype = 'a'
    where d.classid = 'pg_attrdef'::regclass and d.objid = e.oid
    and d.refclassid = 'pg_class'::regclass)
union all select 'rename', format('alter sequence %s rename to %I', (own).name,
    '_highwater_old_' || (own).oid), 3
  from identities
union all select 'rename', format('alter sequence %s rename to %I', (other).name, (own).relname), 4
  from identities
union all select 'arrive', format('alter sequence %s increment %s minvalue %s maxvalue %s start %s
    cache %s %s', (own).name, (own).seqincrement, (own).seqmin, (own).seqmax, (own).seqstart,
    (own).seqcache, case when (own).seqcycle then 'cycle' else 'no cycle' end), 5
  from identities
union all select 'arrive', format('select setval(%L, last_value, is_called) from %s', (own).name,
    kept), 6
  from identities
union all select 'settle', format('comment on sequence %s is %L', (own).name, (own).comment), 7
  from identities where (own).comment is distinct from (other).comment";

/// Grants, each by whoever gave it, to the table, its columns and its identities' sequences.
const GRANTS: &str = r",
identities as (select own.oid::regclass::text as name, own.relowner, own.relacl as wanted,
    other.relacl as given
  from l, a, pg_depend d join pg_class own on own.oid = d.objid and own.relkind = 'S'
  join pg_attribute c on c.attrelid = d.refobjid and c.attnum = d.refobjsubid
  join pg_attribute b on b.attname = c.attname
  join pg_depend e on e.refobjid = b.attrelid and e.refobjsubid = b.attnum and e.deptype = 'i'
    and e.classid = 'pg_class'::regclass and e.refclassid = 'pg_class'::regclass
  join pg_class other on other.oid = e.objid and other.relkind = 'S'
  where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
  and d.refobjid = l.oid and d.deptype = 'i' and b.attrelid = a.oid),
things as (select 'table' as word, l.name, l.relowner as owner, null::name as of_column,
    coalesce(l.relacl, acldefault('r', l.relowner)) as wanted,
    coalesce(a.relacl, acldefault('r', a.relowner)) as given
  from l, a
union all select 'sequence', name, relowner, null, coalesce(wanted, acldefault('s', relowner)),
    coalesce(given, acldefault('s', relowner))
  from identities
union all select 'table', l.name, l.relowner, c.attname, 
    coalesce(c.attacl, acldefault('c', l.relowner)), coalesce(b.attacl, acldefault('c', l.relowner))
  from l, a, pg_attribute c join pg_attribute b on b.attname = c.attname
  where c.attrelid = l.oid and b.attrelid = a.oid and not c.attisdropped),
wanted as (select word, name, owner, of_column, g.grantor, g.is_grantable,
    case g.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end as grantee,
    string_agg(g.privilege_type || coalesce(' (' || quote_ident(of_column) || ')', ''), ', ') as privileges
  from things, aclexplode(wanted) g
  group by word, name, owner, of_column, g.grantor, g.is_grantable, g.grantee)
select distinct 'settle' as moment, format('revoke all on %s %s from %s cascade', word, name,
    case g.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end)
    as statement, 1 as place
  from things, aclexplode(given) g
union all select 'settle',
    case when grantor <> owner then format('set local role %I; ', pg_get_userbyid(grantor))
      else '' end
    || format('grant %s on %s %s to %s', privileges, word, name, grantee)
    || case when is_grantable then ' with grant option' else '' end
    || case when grantor <> owner then '; reset role' else '' end,
    2 + (grantor <> owner)::int * 2 + (not is_grantable)::int
  from wanted";

/// The views of the table, made again of their own text: they stay the same views, with their
/// grants, owners, comments, triggers and all that hangs on them.
const VIEWS: &str = r",
views as (select distinct v.oid, v.reloptions from l, pg_depend d join pg_rewrite r on r.oid = d.objid
    join pg_class v on v.oid = r.ev_class
  where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
  and d.refobjid = l.oid and v.relkind = 'v' and r.rulename = '_RETURN')
select 'arrive' as moment, format('create or replace view %s%s as %s', views.oid::regclass,
    (select ' with (' || string_agg(format('%I = %L', option_name, option_value), ', ') || ')'
      from pg_options_to_table(views.reloptions)),
    rtrim(pg_get_viewdef(views.oid), '; ')) as statement, 2 as place
  from views";

/// Functions whose body or defaults the server holds parsed.
const FUNCTIONS: &str = r"
select 'arrive' as moment, pg_get_functiondef(p.oid) as statement, 1 as place
  from l, pg_proc p where p.prokind in ('f', 'p')
  and exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid
    and d.refclassid = 'pg_class'::regclass and d.refobjid = l.oid)";

const TABLES: &str = r"
select 'rename' as moment, format('alter table %s rename to %I', l.name, '_highwater_old_' || l.oid)
    as statement, 1 as place
  from l
union all select 'rename', format('alter table %s rename to %I', a.name, l.relname), 2 from l, a
union all select 'settle', format('comment on table %s is %L', l.name,
    obj_description(l.oid, 'pg_class')), 3
  from l";

/// Reads what is to be run for `by` to take the place of `table`, both by their oids.
pub(super) async fn read_script(
    conn: &mut PgConnection,
    table: i64,
    by: i64,
) -> Result<Script, sqlx::Error> {
    let publications = match conn.server_version_num() {
        Some(version) if version < PUBLISHES_PARTS => PUBLICATIONS_13,
        Some(_) | None => PUBLICATIONS_15,
    };
    let mut found = Vec::new();
    for (shared, of) in [
        ("", OWNER),
        ("", TABLES),
        ("", SEQUENCES),
        (INDEXES, INDEX_NAMES),
        (STATISTICS, STATISTICS_NAMES),
        ("", COLUMNS),
        ("", CHECKS),
        ("", KEYS),
        ("", GRANTS),
        ("", POLICIES),
        ("", FUNCTIONS),
        ("", VIEWS),
        ("", TRIGGERS),
        ("", publications),
    ] {
        let asked = Sql::new(Dialect::Postgres, BOTH)
            .text(shared)
            .text(of)
            .text(" order by place, statement");
        let rows = sqlx::query(asked.into_statement())
            .bind(table)
            .bind(by)
            .fetch_all(&mut *conn)
            .await?;
        for row in rows {
            let moment = Moment::of(&row.try_get::<String, _>("moment")?);
            found.push((moment, row.try_get::<String, _>("statement")?));
        }
    }
    // Stable: what is of one moment stays in the order above.
    found.sort_by_key(|(moment, _)| *moment);
    Ok(Script {
        statements: found.into_iter().map(|(_, statement)| statement).collect(),
        unchecked: read_checked_keys(conn, table, by).await?,
    })
}

async fn read_checked_keys(
    conn: &mut PgConnection,
    table: i64,
    by: i64,
) -> Result<Vec<Key>, sqlx::Error> {
    let asked = Sql::new(Dialect::Postgres, BOTH).text(CHECKED_KEYS);
    let rows = sqlx::query(asked.into_statement())
        .bind(table)
        .bind(by)
        .fetch_all(conn)
        .await?;
    let key = |row: &PgRow| {
        Ok(Key {
            table: TableName {
                schema: row.try_get("schema")?,
                name: row.try_get("name")?,
            },
            name: row.try_get("key")?,
        })
    };
    rows.iter().map(key).collect()
}

impl Moment {
    fn of(word: &str) -> Self {
        match word {
            "leave" => Self::Leave,
            "rename" => Self::Rename,
            "arrive" => Self::Arrive,
            _ => Self::Settle,
        }
    }
}
