//! Comes to a server: the first of several that answers and is the one that is meant, with the
//! password in the form it takes. Never tries a password at a second server that the first one
//! refused, never shows one.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use highwater_common::error_code::ErrorCode;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, PgConnection, Row};

use super::errors::{classify, connect_error, permanent, unreachable};
use super::session::Endpoint;
use super::url::{Destination, Host, Tls, Wanted, destination};
use crate::connector::ConnectorError;

/// The text of a URL in the forms that it may mean, to be tried in their order.
#[derive(Clone)]
pub struct Urls(Vec<String>);

impl Urls {
    /// What tells sessions of one URL from those of another.
    pub(super) fn key(&self) -> String {
        self.0.join("\n")
    }
}

impl From<Vec<String>> for Urls {
    fn from(forms: Vec<String>) -> Self {
        Self(forms)
    }
}

impl From<&str> for Urls {
    fn from(url: &str) -> Self {
        Self(vec![url.to_owned()])
    }
}

impl From<&String> for Urls {
    fn from(url: &String) -> Self {
        Self(vec![url.clone()])
    }
}

/// Servers, and how to be let in by them.
pub(super) struct Route {
    /// The same destination, its values read in one way or another.
    forms: Vec<Form>,
    first: Destination,
}

struct Form {
    servers: Vec<PgConnectOptions>,
}

impl Route {
    pub(super) fn new(urls: &Urls) -> Result<Self, String> {
        let mut malformed = "it is empty".to_owned();
        let mut read = Vec::new();
        for url in &urls.0 {
            match destination(url) {
                Ok(destination) => read.push(destination),
                Err(why) => malformed = why,
            }
        }
        let forms = read.iter().map(Form::new).collect::<Result<_, _>>()?;
        Ok(Self {
            forms,
            first: read.into_iter().next().ok_or(malformed)?,
        })
    }

    /// Whether every session is of one server, or of the one that writes.
    pub(super) fn is_one_server(&self) -> bool {
        self.first.is_one_server()
    }

    /// The user that sessions are opened for.
    pub(super) fn user(&self) -> &str {
        self.server().map_or("", PgConnectOptions::get_username)
    }

    fn server(&self) -> Option<&PgConnectOptions> {
        self.forms.first()?.servers.first()
    }
}

impl fmt::Display for Route {
    /// `host:port/database`, all hosts of several; a folder of sockets without its port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(form) = self.forms.first() else {
            return Ok(());
        };
        for (at, server) in form.servers.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            match (server.get_socket(), server.get_host()) {
                (Some(socket), _) => write!(f, "{comma}{}", socket.display())?,
                (None, host) => write!(f, "{comma}{host}:{}", server.get_port())?,
            }
        }
        let database = self
            .server()
            .and_then(PgConnectOptions::get_database)
            .unwrap_or_else(|| self.user());
        write!(f, "/{database}")
    }
}

impl Form {
    fn new(to: &Destination) -> Result<Self, String> {
        Ok(Self {
            servers: to
                .hosts
                .iter()
                .map(|host| options(to, host))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn options(to: &Destination, host: &Host) -> Result<PgConnectOptions, String> {
    // Only a URL makes the driver look into ~/.pgpass, for the host that it names.
    let mut base = String::from("postgres://");
    let user = to.user.as_deref().map(encoded);
    base.extend(user.iter().flat_map(|user| [user.as_str(), "@"]));
    base.push_str(&format!("{}:{}", encoded(&host.name), host.port));
    base.extend(
        to.database
            .iter()
            .flat_map(|database| ["/".to_owned(), encoded(database)]),
    );
    let base = if host.name.is_empty() {
        "postgres://"
    } else {
        base.as_str()
    };
    let mut options = PgConnectOptions::from_str(base)
        .map_err(|_| "the driver takes none such".to_owned())?
        .port(host.port);
    options = match host.name.as_str() {
        "" => options,
        folder if folder.starts_with('/') => options.socket(folder),
        name => options.host(name),
    };
    if let Some(user) = &to.user {
        options = options.username(user);
    }
    if let Some(password) = &to.password {
        options = options.password(password);
    }
    if let Some(database) = &to.database {
        options = options.database(database);
    }
    if let Some(mode) = &to.tls.mode {
        options = options.ssl_mode(
            PgSslMode::from_str(mode).map_err(|_| "the driver knows no such sslmode".to_owned())?,
        );
    }
    if let Some(root) = &to.tls.root {
        options = options.ssl_root_cert(root);
    }
    if let (Some(certificate), Some(key)) = (&to.tls.certificate, &to.tls.key) {
        options = options.ssl_client_cert(certificate).ssl_client_key(key);
    }
    if !to.settings.is_empty() {
        options = options.options(to.settings.iter().map(|(name, value)| (name, value)));
    }
    // A parameter at start-up is one that a pooler may refuse: everything else is set afterwards.
    let name = to.application_name.as_deref().unwrap_or("highwater");
    Ok(options
        .application_name(name)
        .extra_float_digits(None)
        .disable_statement_logging())
}

fn encoded(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    text.bytes()
        .map(|byte| {
            if is_plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// A session that nobody has set up yet.
pub(super) async fn connect(
    endpoint: &Endpoint,
    patience: Duration,
) -> Result<PgConnection, ConnectorError> {
    let route = endpoint.route();
    check_tls_files(endpoint, &route.first.tls).await?;
    let patience = route.first.connect_timeout.unwrap_or(patience);
    let mut refused = None;
    for form in &route.forms {
        match connect_to_one(endpoint, form, patience).await {
            Err(error)
                if error
                    .report
                    .is_of(&[ErrorCode::WrongPassword, ErrorCode::LoginRefused]) =>
            {
                refused.get_or_insert(error);
            }
            other => return other,
        }
    }
    Err(refused.unwrap_or_else(|| {
        permanent(
            ErrorCode::MalformedUrl,
            format!("the URL of {endpoint} names no server"),
        )
    }))
}

/// The first of the servers that answers and is the one that is meant.
async fn connect_to_one(
    endpoint: &Endpoint,
    form: &Form,
    patience: Duration,
) -> Result<PgConnection, ConnectorError> {
    let wanted = endpoint.route().first.wanted;
    let rounds = match wanted {
        Wanted::PreferStandby => vec![Wanted::PreferStandby, Wanted::Any],
        wanted => vec![wanted],
    };
    let mut failures = Vec::new();
    for wanted in rounds {
        for server in &form.servers {
            match connect_to(endpoint, server, patience).await {
                Ok(mut conn) => match is_wanted(endpoint, &mut conn, wanted).await? {
                    true => return Ok(conn),
                    false => {
                        conn.close().await.ok();
                        let message = format!(
                            "a server of {endpoint} is not the one that \
                                     target_session_attrs asks for"
                        );
                        failures.push(unreachable(endpoint, message));
                    }
                },
                Err(error)
                    if error.report.is_of(&[
                        ErrorCode::Unreachable,
                        ErrorCode::ConnectionLost,
                        ErrorCode::ServerStarting,
                        ErrorCode::TooManyConnections,
                    ]) =>
                {
                    failures.push(error);
                }
                Err(error) => return Err(error),
            }
        }
    }
    let last = failures.pop();
    Err(last.unwrap_or_else(|| {
        permanent(
            ErrorCode::MalformedUrl,
            format!("the URL of {endpoint} names no server"),
        )
    }))
}

async fn connect_to(
    endpoint: &Endpoint,
    server: &PgConnectOptions,
    patience: Duration,
) -> Result<PgConnection, ConnectorError> {
    match tokio::time::timeout(patience, PgConnection::connect_with(server)).await {
        Ok(connected) => connected.map_err(|error| connect_error(endpoint, error)),
        Err(_) => {
            let waited = patience.as_secs();
            let message = format!(
                "cannot reach {endpoint}: no answer within {waited} s; is this its address?"
            );
            Err(unreachable(endpoint, message))
        }
    }
}

async fn is_wanted(
    endpoint: &Endpoint,
    conn: &mut PgConnection,
    wanted: Wanted,
) -> Result<bool, ConnectorError> {
    if wanted == Wanted::Any {
        return Ok(true);
    }
    let failed = |error| classify(endpoint, "ask what kind of server it is", error);
    let asked = sqlx::raw_sql(
        "select pg_catalog.pg_is_in_recovery()::pg_catalog.text as recovering, \
                pg_catalog.current_setting('default_transaction_read_only') as read_only",
    );
    let row = asked.fetch_one(&mut *conn).await.map_err(failed)?;
    let (recovering, read_only): (String, String) = (
        row.try_get("recovering").map_err(failed)?,
        row.try_get("read_only").map_err(failed)?,
    );
    Ok(wanted.is(recovering == "true", read_only == "off"))
}

/// The driver takes a file that is not there for a server that is not there.
async fn check_tls_files(endpoint: &Endpoint, tls: &Tls) -> Result<(), ConnectorError> {
    for (parameter, file, wanted) in [
        ("sslrootcert", &tls.root, "CERTIFICATE-----"),
        ("sslcert", &tls.certificate, "CERTIFICATE-----"),
        ("sslkey", &tls.key, "PRIVATE KEY-----"),
    ] {
        let Some(file) = file else { continue };
        let wrong = match tokio::fs::read_to_string(file).await {
            Ok(text) if text.contains(wanted) => continue,
            Ok(_) => format!("holds no `-----BEGIN {wanted}` in PEM form"),
            Err(error) => format!("cannot be read by this worker: {error}"),
        };
        let message = format!(
            "cannot open a session on {endpoint}: the file {file}, which {parameter} names, {wrong}"
        );
        return Err(permanent(ErrorCode::TlsFile, message));
    }
    Ok(())
}
