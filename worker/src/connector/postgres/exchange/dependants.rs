//! What hangs on a table, as the catalog of dependencies tells: by kind and name. What is of no known
//! kind is told, too, so that nothing is left behind in silence.

use highwater_common::facts::{Dependant, DependantKind, ExchangeFacts};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

const DEPENDANTS_MAX: i64 = 500;

/// Everything that depends on the table, its row type or the array of that; then what no dependency
/// tells. What is known to be the table's own and is made anew with it has no kind.
const DEPENDANTS: &str = r"with own as (select c.*, c.oid::regclass::text as name,
    (select t.typarray from pg_type t where t.oid = c.reltype) as array_type
  from pg_class c where c.oid = $1::int8::oid),
uses as (select distinct d.classid, d.objid, d.refclassid = 'pg_type'::regclass as of_type
  from own, pg_depend d where d.deptype <> 'P' and d.deptype <> 'S'
  and ((d.refclassid = 'pg_class'::regclass and d.refobjid = own.oid)
    or (d.refclassid = 'pg_type'::regclass and d.refobjid in (own.reltype, own.array_type)))
  and not (d.classid = 'pg_class'::regclass and d.objid = own.oid)
  and not (d.classid = 'pg_type'::regclass and d.objid in (own.reltype, own.array_type))),
found as (
  select case when of_type then 'row_type'
      when exists (select from pg_inherits i where i.inhrelid = c.oid and i.inhparent = own.oid)
        then 'inheritance'
      when c.relkind = 'S' then 'sequence' when c.relkind in ('i', 't') then null
      else 'other' end as kind,
    case when of_type then pg_describe_object(classid, objid, 0) else c.oid::regclass::text end
      as name, c.relowner as owner
  from own, uses join pg_class c on c.oid = objid where classid = 'pg_class'::regclass
  union all select case when r.rulename <> '_RETURN' then 'rule' when of_type then 'row_type'
      when v.relkind = 'm' then 'materialized_view' when v.relpersistence = 't'
      then 'temporary_view' else 'view' end,
    case when r.rulename <> '_RETURN' then format('%I on %s', r.rulename, v.oid::regclass)
      else v.oid::regclass::text end, v.relowner
  from uses join pg_rewrite r on r.oid = objid join pg_class v on v.oid = r.ev_class
  where classid = 'pg_rewrite'::regclass
  union all select case when t.tgrelid = own.oid and not t.tgisinternal then 'trigger'
      when t.tgisinternal then null else 'other' end,
    case when t.tgrelid = own.oid then quote_ident(t.tgname)
      else pg_describe_object(classid, objid, 0) end, own.relowner
  from own, uses join pg_trigger t on t.oid = objid where classid = 'pg_trigger'::regclass
  union all select case when of_type then 'row_type' when k.contype = 'f' and k.conrelid = own.oid
        then 'foreign_key'
      when k.conrelid = own.oid then null
      when k.contype = 'f' and (k.conparentid <> 0 or o.relkind <> 'r') then 'partitioned_key'
      when k.contype = 'f' then 'referencing_key' else 'other' end,
    case when k.contype = 'f' then format('%I on %s', k.conname, k.conrelid::regclass)
      else pg_describe_object(classid, objid, 0) end, coalesce(o.relowner, own.relowner)
  from own, uses join pg_constraint k on k.oid = objid left join pg_class o on o.oid = k.conrelid
  where classid = 'pg_constraint'::regclass
  union all select case when of_type then 'row_type' when e.adrelid = own.oid then null
      else 'other' end, pg_describe_object(classid, objid, 0), own.relowner
  from own, uses join pg_attrdef e on e.oid = objid where classid = 'pg_attrdef'::regclass
  union all select case when p.polrelid = own.oid then 'policy' else 'other' end,
    case when p.polrelid = own.oid then quote_ident(p.polname)
      else pg_describe_object(classid, objid, 0) end, own.relowner
  from own, uses join pg_policy p on p.oid = objid where classid = 'pg_policy'::regclass
  union all select 'statistics', pg_describe_object(classid, objid, 0), s.stxowner
  from uses join pg_statistic_ext s on s.oid = objid where classid = 'pg_statistic_ext'::regclass
  union all select 'publication', quote_ident(p.pubname), p.pubowner
  from uses join pg_publication_rel r on r.oid = objid join pg_publication p on p.oid = r.prpubid
  where classid = 'pg_publication_rel'::regclass
  union all select case when of_type then 'row_type' when p.prokind in ('f', 'p') then 'function'
      else 'other' end, p.oid::regprocedure::text, p.proowner
  from uses join pg_proc p on p.oid = objid where classid = 'pg_proc'::regclass
  union all select case when of_type then 'row_type' else 'other' end,
    pg_describe_object(classid, objid, 0), own.relowner
  from own, uses where classid not in ('pg_class'::regclass, 'pg_rewrite'::regclass,
    'pg_trigger'::regclass, 'pg_constraint'::regclass, 'pg_attrdef'::regclass,
    'pg_policy'::regclass, 'pg_statistic_ext'::regclass, 'pg_publication_rel'::regclass,
    'pg_proc'::regclass)
  union all select 'table', name, relowner from own
  union all select 'not_ordinary', case when relkind = 'p' then 'a partitioned table'
      when relkind = 'v' then 'a view' when relkind = 'm' then 'a materialized view'
      when relkind = 'f' then 'a foreign table' when relpersistence = 't' then 'a temporary table'
      else 'a table of the type ' || reloftype::regtype end, relowner
  from own where relkind <> 'r' or relpersistence = 't' or reloftype <> 0
  union all select case when own.relispartition then 'partition' else 'inheritance' end,
    i.inhparent::regclass::text, own.relowner
  from own join pg_inherits i on i.inhrelid = own.oid
  union all select 'other', format('the disabled check of %I on %s', k.conname,
    k.conrelid::regclass), own.relowner
  from own join pg_constraint k on k.contype = 'f' and own.oid in (k.conrelid, k.confrelid)
  where exists (select from pg_trigger t where t.tgconstraint = k.oid and t.tgenabled <> 'O')
  union all select 'subscription', pg_describe_object('pg_subscription'::regclass, r.srsubid, 0),
    own.relowner
  from own join pg_subscription_rel r on r.srrelid = own.oid
  union all select 'extension', quote_ident(x.extname), own.relowner
  from own join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = own.oid
    and d.refclassid = 'pg_extension'::regclass and d.deptype = 'e'
  join pg_extension x on x.oid = d.refobjid
  union all select 'security_label', s.provider, own.relowner
  from own join pg_seclabel s on s.classoid = 'pg_class'::regclass and s.objoid = own.oid)
select kind, name, case when not pg_has_role(owner, 'USAGE') then pg_get_userbyid(owner)::text end
    as foreign_owner
  from found where kind is not null
  group by kind, name, owner
  order by kind in ('table', 'view', 'function', 'trigger', 'policy', 'sequence', 'foreign_key',
    'referencing_key', 'statistics', 'publication'), kind, name limit $2";

/// What hangs on the table of this oid.
pub(super) async fn read_dependants(
    conn: &mut PgConnection,
    oid: i64,
) -> Result<Vec<Dependant>, sqlx::Error> {
    let rows = sqlx::query(DEPENDANTS)
        .bind(oid)
        .bind(DEPENDANTS_MAX)
        .fetch_all(conn)
        .await?;
    rows.iter().map(dependant).collect()
}

/// What a plan has to know before another table takes the place of the one of this oid.
pub(in crate::connector::postgres) async fn read_exchange_facts(
    conn: &mut PgConnection,
    oid: i64,
) -> Result<ExchangeFacts, sqlx::Error> {
    let bytes = sqlx::query_scalar::<_, i64>("select pg_total_relation_size($1::int8::oid)")
        .bind(oid)
        .fetch_one(&mut *conn)
        .await?;
    Ok(ExchangeFacts {
        identity: oid.to_string(),
        bytes: u64::try_from(bytes).unwrap_or(0),
        dependants: read_dependants(conn, oid).await?,
    })
}

fn dependant(row: &PgRow) -> Result<Dependant, sqlx::Error> {
    let kind: String = row.try_get("kind")?;
    Ok(Dependant {
        kind: kind_of(&kind),
        name: row.try_get("name")?,
        foreign_owner: row.try_get("foreign_owner")?,
    })
}

fn kind_of(word: &str) -> DependantKind {
    match word {
        "table" => DependantKind::Table,
        "view" => DependantKind::View,
        "function" => DependantKind::Function,
        "trigger" => DependantKind::Trigger,
        "policy" => DependantKind::Policy,
        "sequence" => DependantKind::Sequence,
        "foreign_key" => DependantKind::ForeignKey,
        "referencing_key" => DependantKind::ReferencingKey,
        "statistics" => DependantKind::Statistics,
        "publication" => DependantKind::Publication,
        "not_ordinary" => DependantKind::NotOrdinary,
        "partition" => DependantKind::Partition,
        "inheritance" => DependantKind::Inheritance,
        "materialized_view" => DependantKind::MaterializedView,
        "temporary_view" => DependantKind::TemporaryView,
        "rule" => DependantKind::Rule,
        "row_type" => DependantKind::RowType,
        "partitioned_key" => DependantKind::PartitionedKey,
        "subscription" => DependantKind::Subscription,
        "extension" => DependantKind::Extension,
        "security_label" => DependantKind::SecurityLabel,
        _ => DependantKind::Other,
    }
}
