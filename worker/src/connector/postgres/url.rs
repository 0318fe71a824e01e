//! Reads where a connection leads to, as libpq reads it: a URL, or a keyword string. Pure: nothing
//! is looked up here. Never repeats a part of the text in an error but the names of parameters and
//! what cannot be a password.

use std::time::Duration;

/// What libpq takes when nothing is said.
const DEFAULT_PORT: u16 = 5432;
/// How a character that means something in a URL is written in a value.
const ENCODE: &str = "a character of user or password that a URL gives a meaning (/ ? # [ ] @ : %) \
     has to be percent-encoded, such as %2F for /, %23 for #, %25 for %";

/// Where a connection leads to, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Destination {
    /// To be tried in this order; an empty name is the driver's default.
    pub(super) hosts: Vec<Host>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: Option<String>,
    pub(super) wanted: Wanted,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) application_name: Option<String>,
    /// Settings at start-up, by `options`.
    pub(super) settings: Vec<(String, String)>,
    pub(super) tls: Tls,
}

/// A server's name, address or folder of sockets, and its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) port: u16,
}

/// `sslmode` and the files that go with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Tls {
    pub(super) mode: Option<String>,
    pub(super) root: Option<String>,
    pub(super) certificate: Option<String>,
    pub(super) key: Option<String>,
}

/// Which of several servers is meant: `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Wanted {
    #[default]
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    /// A standby, or any if there is none.
    PreferStandby,
}

impl Destination {
    /// Whether every session is of one server, or of the one that writes.
    pub(super) fn is_one_server(&self) -> bool {
        self.hosts.len() <= 1 || matches!(self.wanted, Wanted::ReadWrite | Wanted::Primary)
    }
}

impl Wanted {
    /// Whether a server that is in recovery, and whose transactions may write, is one of these.
    pub(super) const fn is(self, in_recovery: bool, writable: bool) -> bool {
        match self {
            Self::Any => true,
            Self::ReadWrite => writable && !in_recovery,
            Self::ReadOnly => !writable || in_recovery,
            Self::Primary => !in_recovery,
            Self::Standby | Self::PreferStandby => in_recovery,
        }
    }
}

/// Reads a URL `postgres://…` or `postgresql://…`, or a keyword string `host=… dbname=…`.
///
/// # Errors
/// What is wrong, without the text.
pub(super) fn destination(text: &str) -> Result<Destination, String> {
    let text = text.trim();
    let pairs = match text.split_once("://") {
        Some((scheme, rest))
            if scheme.eq_ignore_ascii_case("postgres")
                || scheme.eq_ignore_ascii_case("postgresql") =>
        {
            of_url(rest)?
        }
        _ if text.contains('=') => of_keywords(text)?,
        _ => {
            return Err(
                "it begins neither with postgres:// nor with a keyword such as host=".to_owned(),
            );
        }
    };
    of_pairs(pairs)
}

type Pairs = Vec<(String, String)>;

fn of_url(rest: &str) -> Result<Pairs, String> {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    if rest.contains('#')
        || (!authority.contains('@')
            && rest
                .split(['?', '&'])
                .next()
                .is_some_and(|path| path.contains('@')))
    {
        return Err(ENCODE.to_owned());
    }
    let (credentials, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut pairs = Pairs::new();
    for (key, value) in [
        ("user", user),
        ("password", password),
        ("dbname", path.trim_start_matches('/')),
    ] {
        if !value.is_empty() {
            pairs.push((key.to_owned(), decoded(value)?));
        }
    }
    if !hosts.is_empty() {
        let split: Vec<_> = hosts
            .split(',')
            .map(host_and_port)
            .collect::<Result<_, _>>()?;
        pairs.push((
            "host".to_owned(),
            split
                .iter()
                .map(|(host, _)| host.as_str())
                .collect::<Vec<_>>()
                .join(","),
        ));
        pairs.push((
            "port".to_owned(),
            split
                .iter()
                .map(|(_, port)| port.as_str())
                .collect::<Vec<_>>()
                .join(","),
        ));
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((key, value)) = pair.split_once('=') else {
            return Err("a parameter behind the ? has no =".to_owned());
        };
        pairs.push((decoded(key)?, decoded(value)?));
    }
    Ok(pairs)
}

fn host_and_port(text: &str) -> Result<(String, String), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((host, after)) = rest.split_once(']') else {
                return Err("an address in brackets has no ]".to_owned());
            };
            (host, after.strip_prefix(':').unwrap_or(after))
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        // It may be the rest of a password.
        return Err(format!("the port is no number; {ENCODE}"));
    }
    Ok((decoded(host)?, port.to_owned()))
}

/// The text with its percent escapes read.
fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let escape = tail
            .split_at_checked(2)
            .filter(|(hex, _)| hex.iter().all(u8::is_ascii_hexdigit));
        let byte = escape.and_then(|(hex, after)| {
            let byte = u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?;
            Some((byte, after))
        });
        match byte {
            Some((0, _)) => return Err("%00 is no character of any value".to_owned()),
            Some((byte, after)) => (bytes.push(byte), rest = after).1,
            None => {
                return Err(format!(
                    "a % is followed by no two hexadecimal digits; {ENCODE}"
                ));
            }
        }
    }
    String::from_utf8(bytes)
        .map_err(|_| "a value is not UTF-8 once its percent escapes are read".to_owned())
}

/// `key = value` and so on; a value with spaces stands in single quotes, and a backslash takes the
/// next character as it is.
fn of_keywords(text: &str) -> Result<Pairs, String> {
    let mut pairs = Pairs::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.peek().is_none() {
            return Ok(pairs);
        }
        let mut key = String::new();
        while let Some(c) = rest.next_if(|c| *c != '=' && !c.is_whitespace()) {
            key.push(c);
        }
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.next() != Some('=') {
            return Err(
                "a keyword is followed by no =; a value with spaces stands in single quotes"
                    .to_owned(),
            );
        }
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = rest.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match rest.next() {
                Some('\\') => value.extend(rest.next()),
                Some('\'') if quoted => break,
                Some(c) if !quoted && c.is_whitespace() => break,
                Some(c) => value.push(c),
                None if quoted => return Err("a value's single quote is not closed".to_owned()),
                None => break,
            }
        }
        pairs.push((key, value));
    }
}

/// Parameters that change nothing here: what they ask for is so anyway, or is the driver's own
/// business.
const WITHOUT_EFFECT: [&str; 12] = [
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "fallback_application_name",
    "sslcompression",
    "sslsni",
    "gsslib",
    "krbsrvname",
    "ssl_min_protocol_version",
    "gssdelegation",
];

/// Parameters of which some values are what happens anyway; any other is refused.
const HARMLESS: [(&str, &[&str]); 8] = [
    ("gssencmode", &["disable", "prefer"]),
    ("channel_binding", &["disable", "prefer"]),
    ("sslnegotiation", &["postgres"]),
    ("sslcertmode", &["allow", "disable"]),
    ("load_balance_hosts", &["disable"]),
    (
        "client_encoding",
        &["UTF8", "utf8", "UTF-8", "utf-8", "auto"],
    ),
    ("replication", &["false", "off", "no", "0"]),
    ("require_auth", &[""]),
];

const SSL_MODES: [&str; 6] = [
    "disable",
    "allow",
    "prefer",
    "require",
    "verify-ca",
    "verify-full",
];

fn of_pairs(pairs: Pairs) -> Result<Destination, String> {
    let mut to = Destination::default();
    let (mut names, mut addresses, mut ports) = (String::new(), String::new(), String::new());
    for (key, value) in pairs {
        match key.as_str() {
            "host" => names = value,
            "hostaddr" => addresses = value,
            "port" => ports = value,
            "user" => to.user = Some(value),
            "password" => to.password = Some(value).filter(|value| !value.is_empty()),
            "dbname" => to.database = Some(value),
            "application_name" => to.application_name = Some(value),
            "connect_timeout" => to.connect_timeout = timeout(&value)?,
            "target_session_attrs" => to.wanted = wanted(&value)?,
            "options" => to.settings.extend(settings(&value)?),
            "sslmode" | "ssl-mode" if SSL_MODES.contains(&value.as_str()) => {
                to.tls.mode = Some(value)
            }
            "sslmode" | "ssl-mode" => {
                return Err(format!("sslmode is one of {}", SSL_MODES.join(", ")));
            }
            "ssl" if value == "true" => to.tls.mode = Some("require".to_owned()),
            // The roots that the driver brings along.
            "sslrootcert" if value == "system" => to.tls.root = None,
            "sslrootcert" | "ssl-root-cert" | "ssl-ca" => to.tls.root = Some(value),
            "sslcert" | "ssl-cert" => to.tls.certificate = Some(value),
            "sslkey" | "ssl-key" => to.tls.key = Some(value),
            "passfile" => {
                return Err(
                    "passfile is not supported: put a reference to the password into the URL; \
                     ~/.pgpass of the worker is read when it holds none"
                        .to_owned(),
                );
            }
            key if WITHOUT_EFFECT.contains(&key) => {}
            key => match HARMLESS.iter().find(|(name, _)| *name == key) {
                Some((_, values)) if values.contains(&value.as_str()) => {}
                Some((_, values)) => {
                    return Err(format!(
                        "{key} with another value than {} is not supported",
                        values.join(" or ")
                    ));
                }
                None => {
                    return Err(format!(
                        "its parameter {} is unknown or not supported; take it out",
                        shown(key)
                    ));
                }
            },
        }
    }
    if to.tls.certificate.is_some() != to.tls.key.is_some() {
        return Err("sslcert and sslkey go together, and one of them is missing".to_owned());
    }
    to.hosts = hosts(&names, &addresses, &ports)?;
    Ok(to)
}

/// The name of a parameter, unless it looks like something else.
fn shown(key: &str) -> String {
    let is_name = key.len() <= 40
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if is_name {
        format!("`{key}`")
    } else {
        "(of no readable name)".to_owned()
    }
}

fn hosts(names: &str, addresses: &str, ports: &str) -> Result<Vec<Host>, String> {
    let list = if addresses.is_empty() {
        names
    } else {
        addresses
    };
    let ports = ports
        .split(',')
        .map(|port| match port.trim() {
            "" => Ok(DEFAULT_PORT),
            port => port
                .parse::<u16>()
                .ok()
                .filter(|port| *port > 0)
                .ok_or("a port is a number from 1 to 65535".to_owned()),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let names: Vec<&str> = list.split(',').map(str::trim).collect();
    if ports.len() != 1 && ports.len() != names.len() {
        return Err(format!(
            "it names {} hosts and {} ports",
            names.len(),
            ports.len()
        ));
    }
    let port_of = |at: usize| {
        ports
            .get(at)
            .or(ports.first())
            .copied()
            .unwrap_or(DEFAULT_PORT)
    };
    Ok(names
        .iter()
        .enumerate()
        .map(|(at, name)| Host {
            name: (*name).to_owned(),
            port: port_of(at),
        })
        .collect())
}

fn timeout(text: &str) -> Result<Option<Duration>, String> {
    let seconds: i64 = text
        .trim()
        .parse()
        .map_err(|_| "connect_timeout is a number of seconds".to_owned())?;
    // As libpq takes it: none at 0, which here is the default, and never less than 2.
    Ok(u64::try_from(seconds)
        .ok()
        .filter(|seconds| *seconds > 0)
        .map(|seconds| Duration::from_secs(seconds.max(2))))
}

fn wanted(text: &str) -> Result<Wanted, String> {
    Ok(match text {
        "any" => Wanted::Any,
        "read-write" => Wanted::ReadWrite,
        "read-only" => Wanted::ReadOnly,
        "primary" => Wanted::Primary,
        "standby" => Wanted::Standby,
        "prefer-standby" => Wanted::PreferStandby,
        _ => {
            return Err(
                "target_session_attrs is one of any, read-write, read-only, primary, \
                        standby, prefer-standby"
                    .to_owned(),
            );
        }
    })
}

/// `-c name=value` and `--name=value`, with spaces between them; a backslash takes the next
/// character as it is.
fn settings(text: &str) -> Result<Pairs, String> {
    let mut words = vec![String::new()];
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => words
                .last_mut()
                .into_iter()
                .for_each(|word| word.extend(rest.next())),
            c if c.is_whitespace() => words.push(String::new()),
            c => words.last_mut().into_iter().for_each(|word| word.push(c)),
        }
    }
    let mut pairs = Pairs::new();
    let mut words = words.into_iter().filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let setting = match (word.strip_prefix("--"), word.strip_prefix("-c")) {
            (Some(setting), _) => setting.to_owned(),
            (None, Some("")) => words.next().unwrap_or_default(),
            (None, Some(setting)) => setting.to_owned(),
            (None, None) => String::new(),
        };
        let Some((name, value)) = setting.split_once('=') else {
            return Err("options holds something else than -c name=value".to_owned());
        };
        pairs.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests;
