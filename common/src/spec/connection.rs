//! How to reach a database: all that a pipeline file can say of a connection, but for its table of
//! keys.

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::fields::{boolean, insert, or, whole};
use super::node::Node;
use super::secret::{SecretText, UrlFault, judge_url};
use super::value::TableName;
use crate::facts::Engine;

/// How to reach a database. Secrets are references, resolved only by the worker that connects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Connection {
    /// A PostgreSQL server.
    Postgres {
        /// The URL, with references in it.
        url: SecretText,
        /// Connections at once over all workers of a run.
        max_connections: Option<u32>,
        /// Refuse to write through this connection.
        read_only: bool,
    },
    /// A SQLite file.
    Sqlite {
        /// The file, relative to the pipeline file's folder.
        path: String,
        /// Refuse to write through this connection.
        read_only: bool,
    },
}

impl Connection {
    /// The connection that a text alone names: `sqlite:shop.db`, or the URL of a PostgreSQL server.
    /// It is not written through.
    ///
    /// # Errors
    /// Why it names none; never repeats a part of it.
    pub fn of_text(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return Ok(Self::Sqlite {
                path: path.to_owned(),
                read_only: true,
            });
        }
        let url = SecretText::new(text);
        match judge_url(text) {
            Ok(()) => Ok(Self::Postgres {
                url,
                max_connections: None,
                read_only: true,
            }),
            Err(UrlFault::Reference(error)) => Err(error.to_string()),
            Err(UrlFault::Password) => Err(
                "it holds a password: write `${env:NAME}` in its place, which is read from the \
                 environment"
                    .to_owned(),
            ),
            Err(UrlFault::Scheme) => Err(
                "it is neither `postgres://…`, `sqlite:…` nor a reference such as `${env:NAME}`"
                    .to_owned(),
            ),
        }
    }

    /// The database behind it.
    #[must_use]
    pub const fn engine(&self) -> Engine {
        match self {
            Self::Postgres { .. } => Engine::Postgres,
            Self::Sqlite { .. } => Engine::Sqlite,
        }
    }

    /// Whether writing through it is refused.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        match self {
            Self::Postgres { read_only, .. } | Self::Sqlite { read_only, .. } => *read_only,
        }
    }

    /// Connections at once over all workers of a run, where they are counted.
    #[must_use]
    pub const fn max_connections(&self) -> Option<u32> {
        match self {
            Self::Postgres {
                max_connections, ..
            } => *max_connections,
            Self::Sqlite { .. } => None,
        }
    }

    /// Which table of which database is meant by a name: the same for two connections that are
    /// written alike. A name without a schema is that of the usual one.
    pub(super) fn table_id(&self, table: &TableName) -> (String, String, String) {
        match self {
            Self::Postgres { url, .. } => (
                format!("url {}", url.as_written()),
                table.schema.clone().unwrap_or("public".to_owned()),
                table.name.clone(),
            ),
            Self::Sqlite { path, .. } => (
                format!("path {}", path.trim_start_matches("./")),
                table
                    .schema
                    .as_deref()
                    .unwrap_or("main")
                    .to_ascii_lowercase(),
                table.name.to_ascii_lowercase(),
            ),
        }
    }

    /// Reads one whose keys have been checked.
    pub(super) fn decode(node: &Node) -> Option<Self> {
        let read_only = or(node.get("read_only"), false, boolean)?;
        match node.get("type")?.as_text()? {
            "postgres" => Some(Self::Postgres {
                url: SecretText::new(node.get("url")?.as_text()?),
                max_connections: or(node.get("max_connections"), None, |node| {
                    whole(node).map(Some)
                })?,
                read_only,
            }),
            "sqlite" => Some(Self::Sqlite {
                path: node.get("path")?.as_text()?.to_owned(),
                read_only,
            }),
            _ => None,
        }
    }

    /// The keys written out again.
    pub(crate) fn document(&self) -> Json {
        match self {
            Self::Postgres {
                url,
                max_connections,
                read_only,
            } => {
                let mut document = json!({"type": "postgres", "url": url, "read_only": read_only});
                insert(&mut document, "max_connections", *max_connections);
                document
            }
            Self::Sqlite { path, read_only } => {
                json!({"type": "sqlite", "path": path, "read_only": read_only})
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Connection;
    use crate::engine::Engine;

    #[test]
    fn a_text_alone_names_a_connection_and_a_password_in_it_is_refused() {
        let engine = |text: &str| Connection::of_text(text).map(|found| found.engine());
        assert_eq!(engine("sqlite:shop.db"), Ok(Engine::Sqlite));
        assert_eq!(engine("sqlite:///x/shop.db"), Ok(Engine::Sqlite));
        for url in [
            "postgres://u:${env:P}@h/db",
            "${env:URL}",
            "host=h dbname=d",
        ] {
            assert_eq!(engine(url), Ok(Engine::Postgres), "{url}");
        }
        let refused = engine("postgres://u:s3cret@h/db").expect_err("a password");
        assert!(refused.contains("${env:NAME}") && !refused.contains("s3cret"));
        assert!(engine("mysql://h/db").is_err());
    }
}
