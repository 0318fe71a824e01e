//! The type that a column of a created table gets. Never makes a type: one of the source's own
//! making is used if the target has it, made alike, else the column is text, and that is told.

use highwater_common::facts::{ColumnFacts, ColumnKind, CreatedAs, Engine};
use highwater_common::plan::definition_differs;
use highwater_common::type_definition::{TypeDefinition, TypeName};
use sqlx::PgConnection;

use super::definitions::named;
use crate::connector::sql_text::{Sql, is_plain_type};

/// A type as a statement names it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Written {
    /// The server's own, as its catalog writes it.
    BuiltIn(String),
    /// One that somebody made.
    Own {
        name: TypeName,
        modifiers: String,
        is_array: bool,
    },
}

/// What a created column becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CreatedType {
    written: Written,
    /// Why it is not the source's type, where it is another one's.
    told: Option<CreatedAs>,
}

impl CreatedType {
    fn built_in(name: &str) -> Self {
        Self {
            written: Written::BuiltIn(name.to_owned()),
            told: None,
        }
    }

    /// Another type than the source's, and why.
    fn instead(column: &ColumnFacts, name: &str, reason: String) -> Self {
        let told = CreatedAs {
            column: column.name.clone(),
            type_name: name.to_owned(),
            reason,
        };
        Self {
            written: Written::BuiltIn(name.to_owned()),
            told: Some(told),
        }
    }

    pub(super) fn is_text(&self) -> bool {
        self.written == Written::BuiltIn("text".to_owned())
    }

    pub(super) fn told(&self) -> Option<&CreatedAs> {
        self.told.as_ref()
    }

    /// Appends the type to a statement.
    pub(super) fn write(&self, sql: Sql) -> Sql {
        match &self.written {
            Written::BuiltIn(name) => sql.type_name(name),
            Written::Own {
                name,
                modifiers,
                is_array,
            } => {
                let sql = sql.name(&name.schema).text(".").name(&name.name);
                let sql = if modifiers.is_empty() {
                    sql
                } else {
                    sql.text("(").type_name(modifiers).text(")")
                };
                if *is_array { sql.text("[]") } else { sql }
            }
        }
    }
}

/// The type of a created column. Positions of the partition column must stay comparable, so a
/// domain that the target lacks becomes the type below it there.
pub(super) async fn created_type(
    conn: &mut PgConnection,
    engine: Engine,
    column: &ColumnFacts,
    partition_column: Option<&str>,
) -> Result<CreatedType, sqlx::Error> {
    let definition = match &column.definition {
        _ if engine != Engine::Postgres => {
            return Ok(CreatedType::built_in(type_for(column.kind)));
        }
        None => return built_in(conn, column).await,
        Some(definition) => definition.as_ref(),
    };
    let reason = match own(conn, definition).await? {
        Ok(written) => {
            return Ok(CreatedType {
                written,
                told: None,
            });
        }
        Err(reason) => reason,
    };
    match definition.without_domains() {
        TypeDefinition::Base { name, modifiers }
            if name.is_built_in() && Some(column.name.as_str()) == partition_column =>
        {
            let below = if modifiers.is_empty() {
                name.name.clone()
            } else {
                written_with(&name.name, modifiers)
            };
            Ok(CreatedType::instead(column, &below, reason))
        }
        _ => Ok(CreatedType::instead(column, "text", reason)),
    }
}

/// A type with its modifiers where SQL wants them: `timestamp(3) with time zone`.
fn written_with(name: &str, modifiers: &str) -> String {
    match name.split_once(' ') {
        Some((first, rest)) if first.starts_with("time") => format!("{first}({modifiers}) {rest}"),
        Some(_) | None => format!("{name}({modifiers})"),
    }
}

async fn built_in(
    conn: &mut PgConnection,
    column: &ColumnFacts,
) -> Result<CreatedType, sqlx::Error> {
    let name = &column.type_name;
    let known: bool = sqlx::query_scalar("select to_regtype($1) is not null")
        .bind(name)
        .fetch_one(&mut *conn)
        .await?;
    // A server of an older version lacks types of a newer one.
    Ok(match known && is_plain_type(name) {
        true => CreatedType::built_in(name),
        false => CreatedType::instead(column, "text", format!("the target has no type {name}")),
    })
}

/// The target's own type of that name, made alike; else why there is none.
async fn own(
    conn: &mut PgConnection,
    definition: &TypeDefinition,
) -> Result<Result<Written, String>, sqlx::Error> {
    use TypeDefinition as T;
    let (element, is_array) = match definition {
        T::Array(element) => (element.as_ref(), true),
        other => (other, false),
    };
    let (name, modifiers) = match element {
        T::Base { name, modifiers } => (name, modifiers.clone()),
        T::Domain { name, .. }
        | T::Enum { name, .. }
        | T::Composite { name, .. }
        | T::Range { name, .. } => (name, String::new()),
        T::Array(_) => return Ok(Err("an array of arrays has no name".to_owned())),
        T::TooLarge { name } => {
            return Ok(Err(format!(
                "the definition of {}.{} is too large to be compared",
                name.schema, name.name
            )));
        }
    };
    let shown = match &name.extension {
        Some(extension) => format!("{} of the extension {extension}", name.name),
        None => format!("{}.{}", name.schema, name.name),
    };
    let Some(found) = named(conn, name).await? else {
        return Ok(Err(format!("the target has no type {shown}")));
    };
    let differs = match (element, &found) {
        // found by its name, which is all that there is to it
        (T::Base { .. }, T::Base { .. }) => None,
        (one, two) => definition_differs(one, two),
    };
    let (T::Base { name, .. }
    | T::Domain { name, .. }
    | T::Enum { name, .. }
    | T::Composite { name, .. }
    | T::Range { name, .. }) = found
    else {
        return Ok(Err(format!("the target's type {shown} cannot be compared")));
    };
    Ok(match differs {
        None => Ok(Written::Own {
            name,
            modifiers,
            is_array,
        }),
        Some(reason) => Err(format!(
            "the target's type {shown} is made otherwise: {reason}"
        )),
    })
}

/// The type that loses nothing of what another engine keeps in such a column.
const fn type_for(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Bool => "boolean",
        ColumnKind::Int16 => "smallint",
        ColumnKind::Int32 => "integer",
        ColumnKind::Int64 => "bigint",
        ColumnKind::Float32 => "real",
        ColumnKind::Float64 => "double precision",
        ColumnKind::Numeric => "numeric",
        ColumnKind::Bytes => "bytea",
        ColumnKind::Date => "date",
        ColumnKind::Civil => "timestamp without time zone",
        ColumnKind::Instant => "timestamp with time zone",
        ColumnKind::Uuid => "uuid",
        ColumnKind::Json => "json",
        ColumnKind::Text | ColumnKind::Time | ColumnKind::Other | ColumnKind::Any => "text",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::sql_text::Dialect;

    #[test]
    fn a_types_modifiers_stand_where_sql_wants_them() {
        assert_eq!(
            written_with("timestamp with time zone", "3"),
            "timestamp(3) with time zone"
        );
        assert_eq!(written_with("numeric", "12,2"), "numeric(12,2)");
        assert_eq!(
            written_with("character varying", "5"),
            "character varying(5)"
        );
    }

    #[test]
    fn a_type_of_ones_own_is_named_with_its_schema_and_quoted() {
        let name = TypeName {
            schema: "sh\"op".to_owned(),
            name: "OrderKind".to_owned(),
            extension: None,
        };
        let own = Written::Own {
            name,
            modifiers: "Point,4326".to_owned(),
            is_array: true,
        };
        let sql = CreatedType {
            written: own,
            told: None,
        }
        .write(Sql::new(Dialect::Postgres, ""));
        assert_eq!(sql.as_str(), "\"sh\"\"op\".\"OrderKind\"(Point,4326)[]");
    }
}
