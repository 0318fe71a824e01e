//! What the databases of a file have answered.

use serde::Serialize;

use super::look::{Look, tame};

/// What a database has answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tested {
    /// The connection.
    pub connection: String,
    /// Whether it has answered.
    pub reached: bool,
    /// The version of its server.
    pub version: String,
    /// The role; empty where there are none.
    pub role: String,
    /// What there is to know of it.
    pub says: Vec<String>,
    /// What does not work as things stand, and what to do.
    pub lacks: Vec<String>,
    /// Why it has not answered.
    pub why: String,
}

/// A line for each connection, and below it what is lacking.
#[must_use]
pub(crate) fn tested(all: &[Tested], look: &Look) -> String {
    let width = all
        .iter()
        .map(|one| one.connection.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for one in all {
        let name = format!("{:<width$}", one.connection);
        if !one.reached {
            let word = look.bad("unreachable:");
            text.push_str(&format!("{name}  {word} {}\n", tame(&one.why)));
            continue;
        }
        let mut words = vec![tame(&one.version)];
        words.extend(one.says.iter().map(|word| tame(word)));
        if !one.role.is_empty() {
            words.push(format!("role {}", tame(&one.role)));
        }
        text.push_str(&format!(
            "{name}  {} {}\n",
            look.good("ok:"),
            words.join(", ")
        ));
        for lack in &one.lacks {
            text.push_str(&format!("  {} {}\n", look.warn("lacks"), tame(lack)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_database_has_a_line_and_what_it_lacks_below() {
        let ok = Tested {
            connection: "legacy".to_owned(),
            reached: true,
            version: "15.18".to_owned(),
            role: "reader".to_owned(),
            says: vec!["wal logical".to_owned(), "9 of 10 slots free".to_owned()],
            lacks: vec!["the role reader may not read the log".to_owned()],
            why: String::new(),
        };
        let away = Tested {
            connection: "wh".to_owned(),
            why: "connection\nrefused".to_owned(),
            ..Tested::default()
        };
        assert_eq!(
            tested(&[ok, away], &Look::plain()),
            "legacy  ok: 15.18, wal logical, 9 of 10 slots free, role reader\n  lacks the role \
             reader may not read the log\nwh      unreachable: connection refused\n"
        );
    }
}
