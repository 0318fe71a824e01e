//! Reads what a table is made of, in the server's own words. Never reads a row of it.

use highwater_common::facts::{
    ColumnDefinition, DefinedPart, Feeds, Generated, OwnedSequence, PartKind, TableDefinition,
};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::super::catalog::Table;

/// The bytes of a definition that a plan has room for.
const BYTES_MAX: usize = 512 * 1024;

/// A sequence that feeds a column by its default is the column's own; one that it feeds by another
/// expression is not told of as its default.
const COLUMNS: &str = r"
select a.attname::text as name, a.attgenerated::text as generated, a.attidentity::text as identity,
    pg_get_expr(d.adbin, d.adrelid) as expression,
    coalesce((select array_agg(distinct r.attname::text) from pg_depend p
      join pg_attribute r on r.attrelid = p.refobjid and r.attnum = p.refobjsubid
      where p.classid = 'pg_attrdef'::regclass and p.objid = d.oid
      and p.refclassid = 'pg_class'::regclass and p.refobjid = a.attrelid and p.refobjsubid > 0
      and p.refobjsubid <> a.attnum), '{}') as reads,
    case when a.attcollation <> t.typcollation then a.attcollation::regcollation::text end
      as collation,
    array_remove(array[
      case when a.attstorage <> t.typstorage then 'set storage ' || case a.attstorage
        when 'p' then 'plain' when 'e' then 'external' when 'x' then 'extended' else 'main' end end,
      case to_jsonb(a) ->> 'attcompression' when 'p' then 'set compression pglz'
        when 'l' then 'set compression lz4' end,
      case when a.attstattarget >= 0 then 'set statistics ' || a.attstattarget end,
      (select 'set (' || string_agg(format('%I = %L', option_name, option_value), ', ') || ')'
        from pg_options_to_table(a.attoptions))], null) as settings,
    col_description(a.attrelid, a.attnum) as comment,
    s.relname::text as sequence, format_type(q.seqtypid, null) as sequence_type,
    format('increment by %s minvalue %s maxvalue %s start with %s cache %s %scycle', q.seqincrement,
      q.seqmin, q.seqmax, q.seqstart, q.seqcache, case when not q.seqcycle then 'no ' end)
      as sequence_options,
    coalesce(pg_get_expr(d.adbin, d.adrelid)
      = format('nextval(%L::regclass)', s.oid::regclass::text), false) as is_fed
  from pg_attribute a join pg_type t on t.oid = a.atttypid
  left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  left join lateral (select c.oid, c.relname from pg_depend p join pg_class c on c.oid = p.objid
    where p.classid = 'pg_class'::regclass and p.refclassid = 'pg_class'::regclass
    and p.refobjid = a.attrelid and p.refobjsubid = a.attnum and p.deptype in ('a', 'i')
    and c.relkind = 'S' order by c.oid limit 1) s on true
  left join pg_sequence q on q.seqrelid = s.oid
  where a.attrelid = $1::int8::oid and a.attnum > 0 and not a.attisdropped order by a.attnum";

const PARTS: &str = r"
with parts as (
  select i.indexrelid as index, k.oid as constr, coalesce(k.conname, c.relname)::text as name,
    case when k.contype is not null then k.contype::text when i.indisunique then 'unique index'
      else 'index' end as kind,
    case when k.contype = 'x' then pg_get_constraintdef(k.oid)
      else substr(pg_get_indexdef(c.oid), length(format('CREATE %sINDEX %I ON %s%s',
        case when i.indisunique then 'UNIQUE ' end, c.relname,
        case when c.relkind = 'I' then 'ONLY ' end, i.indrelid::regclass)) + 1) end as definition,
    case when k.condeferrable then ' deferrable' else '' end
      || case when k.condeferred then ' initially deferred' else '' end as deferring,
    i.indisunique and i.indimmediate and i.indpred is null and i.indexprs is null as is_key,
    m.amname = 'btree' and i.indpred is null and (i.indkey::int2[])[0] <> 0 and coalesce((select l.collname = 'C'
      and l.collnamespace = 'pg_catalog'::regnamespace from pg_collation l
      where l.oid = (i.indcollation::oid[])[0]), true) as is_ordered,
    i.indkey::int2[] as columns, i.indnkeyatts as keys, i.indisreplident and r.relreplident = 'i'
      as is_replica_identity, i.indisclustered as is_clustered,
    obj_description(c.oid, 'pg_class') as index_comment
  from pg_index i join pg_class c on c.oid = i.indexrelid join pg_class r on r.oid = i.indrelid
  join pg_am m on m.oid = c.relam
  left join pg_constraint k on k.conindid = c.oid and k.conrelid = i.indrelid
    and k.contype in ('p', 'u', 'x')
  where i.indrelid = $1::int8::oid and i.indisvalid
  union all select null, k.oid, k.conname::text, k.contype::text, pg_get_constraintdef(k.oid), '',
    false, false, k.conkey, 0, false, false, null
  from pg_constraint k where k.conrelid = $1::int8::oid and k.contype = 'c')
select p.*, obj_description(p.constr, 'pg_constraint') as constraint_comment,
    coalesce((select array_agg(a.attname::text order by u.place)
      from unnest(p.columns) with ordinality u (attnum, place) join pg_attribute a
      on a.attrelid = $1::int8::oid and a.attnum = u.attnum where u.place <= p.keys), '{}')
      as key_columns,
    coalesce((select array_agg(distinct a.attname::text) from pg_attribute a
      where a.attrelid = $1::int8::oid and a.attnum > 0 and (a.attnum = any (p.columns) or exists (
        select from pg_depend d where d.refclassid = 'pg_class'::regclass
        and d.refobjid = a.attrelid and d.refobjsubid = a.attnum
        and ((d.classid = 'pg_class'::regclass and d.objid = p.index)
          or (d.classid = 'pg_constraint'::regclass and d.objid = p.constr))))), '{}') as reads
  from parts p where p.kind = 'index' or p.kind = 'c' and not coalesce((select connoinherit
    from pg_constraint where oid = p.constr), false) or not exists (select from pg_inherits h
    join pg_class r on r.oid = h.inhparent where r.oid = $1::int8::oid and r.relkind <> 'p')
  order by p.kind = 'p' desc, p.kind = 'c' desc, p.name";

const TABLE: &str = r"
select c.relkind::text as kind,
    obj_description(c.oid, 'pg_class') as comment,
    array_remove(array[
      (select 'set (' || string_agg(o, ', ') || ')' from (
        select format('%I = %L', option_name, option_value) from pg_options_to_table(c.reloptions)
        union all select format('toast.%I = %L', option_name, option_value)
        from pg_class t, pg_options_to_table(t.reloptions) where t.oid = c.reltoastrelid) x (o)),
      case c.relreplident when 'n' then 'replica identity nothing'
        when 'f' then 'replica identity full' end], null) as settings,
    array_remove(array[
      case when c.relpersistence = 'u' then 'that it is UNLOGGED: a crash of the server would empty the table, '
        || 'and not the ledger that tells of its rows' end,
      case when c.relkind = 'p' then 'its partitions: the table is made as a plain one' end,
      case when c.relkind <> 'p' and exists (select from pg_inherits where inhparent = c.oid)
        then 'its keys and its heirs, whose rows are read with its own and have keys of their own'
        end,
      case when exists (select from pg_inherits where inhrelid = c.oid)
        then 'its place in a partitioned table, or its inheritance' end,
      (select 'its triggers: ' || string_agg(tgname, ', ' order by tgname) from pg_trigger
        where tgrelid = c.oid and not tgisinternal),
      (select 'its policies: ' || string_agg(polname, ', ' order by polname) from pg_policy
        where polrelid = c.oid),
      case when c.relrowsecurity then 'its row level security' end,
      (select 'its rules: ' || string_agg(rulename, ', ' order by rulename) from pg_rewrite
        where ev_class = c.oid and rulename <> '_RETURN'),
      (select 'its extended statistics: ' || string_agg(stxname, ', ' order by stxname)
        from pg_statistic_ext where stxrelid = c.oid),
      (select 'its foreign keys: ' || string_agg(conname, ', ' order by conname)
        from pg_constraint where conrelid = c.oid and contype = 'f'),
      case when c.relacl is not null then 'its grants' end], null) as untold
  from pg_class c where c.oid = $1::int8::oid and c.relkind in ('r', 'p')";

/// What a table is made of; `None` of what is no table with rows of its own, and of a definition
/// that is too large to be kept.
pub(in super::super) async fn read_definition(
    conn: &mut PgConnection,
    table: &Table,
) -> Result<Option<TableDefinition>, sqlx::Error> {
    let Some(row) = sqlx::query(TABLE)
        .bind(table.oid)
        .fetch_optional(&mut *conn)
        .await?
    else {
        return Ok(None);
    };
    let columns = sqlx::query(COLUMNS)
        .bind(table.oid)
        .fetch_all(&mut *conn)
        .await?;
    let parts = sqlx::query(PARTS)
        .bind(table.oid)
        .fetch_all(&mut *conn)
        .await?;
    let definition = TableDefinition {
        columns: columns
            .iter()
            .map(|row| column(row, table))
            .collect::<Result<_, _>>()?,
        parts: parts
            .iter()
            .filter_map(|row| part(row).transpose())
            .collect::<Result<_, _>>()?,
        body: None,
        settings: row.try_get("settings")?,
        comment: row.try_get("comment")?,
        untold: row.try_get("untold")?,
    };
    Ok(Some(within_bounds(definition)))
}

/// The definition, or what there is room for of it.
fn within_bounds(mut definition: TableDefinition) -> TableDefinition {
    let is_large = |definition: &TableDefinition| {
        serde_json::to_vec(definition).map_or(true, |json| json.len() > BYTES_MAX)
    };
    if is_large(&definition) {
        definition.parts.clear();
        let untold = "its keys, checks and indexes: their definitions are too large";
        definition.untold.push(untold.to_owned());
    }
    if is_large(&definition) {
        definition.columns.clear();
        definition.untold = vec!["more than its columns: its definition is too large".to_owned()];
    }
    definition
}

fn column(row: &PgRow, table: &Table) -> Result<ColumnDefinition, sqlx::Error> {
    let name: String = row.try_get("name")?;
    let expression: Option<String> = row.try_get("expression")?;
    let (generated, identity): (String, String) =
        (row.try_get("generated")?, row.try_get("identity")?);
    let is_fed: bool = row.try_get("is_fed")?;
    let feeds = match identity.as_str() {
        "a" => Feeds::IdentityAlways,
        "d" => Feeds::IdentityByDefault,
        _ if is_fed => Feeds::Default,
        _ => Feeds::Nothing,
    };
    let sequence = match row.try_get::<Option<String>, _>("sequence")? {
        Some(name) => Some(OwnedSequence {
            name,
            feeds,
            type_name: row.try_get("sequence_type")?,
            options: row.try_get("sequence_options")?,
        }),
        None => None,
    };
    let computed = match (generated.as_str(), table.column(&name)) {
        ("", _) | (_, None) => None,
        (how, Some(own)) => Some(Generated {
            column: own.facts.clone(),
            expression: expression.clone().unwrap_or_default(),
            reads: row.try_get("reads")?,
            stored: how == "s",
        }),
    };
    Ok(ColumnDefinition {
        default: expression.filter(|_| computed.is_none() && !is_fed),
        name,
        generated: computed,
        sequence,
        collation: row.try_get("collation")?,
        settings: row.try_get("settings")?,
        comment: row.try_get("comment")?,
    })
}

fn part(row: &PgRow) -> Result<Option<DefinedPart>, sqlx::Error> {
    let kind = match row.try_get::<String, _>("kind")?.as_str() {
        "c" => PartKind::Check,
        "p" => PartKind::PrimaryKey,
        "u" => PartKind::Unique,
        "x" => PartKind::Exclusion,
        "index" => PartKind::Index,
        "unique index" => PartKind::UniqueIndex,
        _ => return Ok(None),
    };
    let keys: Vec<String> = row.try_get("key_columns")?;
    let leads = keys
        .first()
        .filter(|_| row.try_get("is_ordered").unwrap_or(false))
        .cloned();
    let name: String = row.try_get("name")?;
    Ok(Some(DefinedPart {
        reads: row.try_get("reads")?,
        definition: row.try_get("definition")?,
        deferring: row.try_get("deferring")?,
        leads,
        unique: match row.try_get("is_key")? {
            true => keys,
            false => Vec::new(),
        },
        is_replica_identity: row.try_get("is_replica_identity")?,
        is_clustered: row.try_get("is_clustered")?,
        index_comment: row.try_get("index_comment")?,
        constraint_comment: row.try_get("constraint_comment")?,
        ..DefinedPart::new(kind, &name)
    }))
}
