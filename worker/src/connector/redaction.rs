//! What may be repeated of a server's words: never a value of a row, which is somebody's data and
//! would lie in store and logs. Kept are SQLSTATE, column, table, constraint and type; pure, and
//! held to it by properties.
//!
//! Words are kept only where none of their kind quotes a value. Everything else is told in our own,
//! by its code: no pattern finds the values in a text that may be in any language, and that a
//! trigger may have written.

/// What a PostgreSQL server said.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PostgresSaid<'a> {
    pub(super) state: &'a str,
    pub(super) message: &'a str,
    pub(super) table: Option<&'a str>,
    pub(super) column: Option<&'a str>,
    pub(super) constraint: Option<&'a str>,
    /// Where it happened: a line of a COPY, a function, both.
    pub(super) context: Option<&'a str>,
}

/// The words for a person.
pub(super) fn postgres_words(said: &PostgresSaid<'_>) -> String {
    let mut words = if keeps_words(said) {
        said.message.to_owned()
    } else {
        own_words(said)
    };
    let column = said
        .column
        .map(str::to_owned)
        .or_else(|| said.context.and_then(column_of_copy));
    if let Some(column) = column {
        words.push_str(&format!(", in column {column}"));
    }
    if let (Some(table), false) = (said.table, keeps_words(said)) {
        words.push_str(&format!(", table {table}"));
    }
    if let Some(constraint) = said.constraint {
        words.push_str(&format!(", constraint {constraint}"));
    }
    words
}

/// Whether no error of the kind quotes what is in a row. Within a COPY even a name may be a value:
/// of a column of type `regclass`, say. What a function of the user's own says may be anything.
fn keeps_words(said: &PostgresSaid<'_>) -> bool {
    let class = said.state.get(..2).unwrap_or_default();
    let about_the_server = matches!(class, "08" | "25" | "40" | "53" | "55" | "57" | "58")
        || matches!(said.state, "54000" | "54001" | "54011" | "XX001" | "XX002");
    let about_statements = matches!(
        class,
        "0A" | "26" | "28" | "2D" | "34" | "3B" | "3D" | "3F" | "42" | "54" | "XX"
    );
    match said.context {
        None => about_the_server || about_statements,
        Some(context) => context.starts_with("COPY ") && about_the_server,
    }
}

fn own_words(said: &PostgresSaid<'_>) -> String {
    let words = match said.state {
        "22001" => "a value is too long for its column",
        "22003" => "a number is out of its type's range",
        "22007" | "22008" => "a value is no date or time of its column's type",
        "22012" => "a division by zero",
        "22021" => "a text has bytes that are no text in the server's encoding",
        "22P02" | "22P03" => "a value is none of its column's type",
        "2200M" | "2200N" | "2200S" | "2200T" => "a value is no XML",
        "23001" | "23503" => {
            "a foreign key does not hold: a row refers to one that is not there, or is referred to"
        }
        "23502" => "a value is NULL where none may be",
        "23505" => "two rows have one key that has to be unique",
        "23514" => "a row does not keep a check",
        "23P01" => "two rows exclude each other",
        "44000" => "a row is none that its view shows",
        "P0001" => "a trigger or function raised an error",
        state => match state.get(..2) {
            Some("22") => "a value is not one that its type takes",
            Some("23") => "a row does not keep a constraint",
            _ => "the server refused it",
        },
    };
    match type_of(said.message) {
        Some(type_name) => format!("{words} (type {type_name})"),
        None => format!("{words} (the server's log has its words, which may hold values)"),
    }
}

/// Types whose name in a message is the type's, whoever wrote it.
const TYPES: [&str; 28] = [
    "smallint",
    "integer",
    "bigint",
    "numeric",
    "real",
    "double precision",
    "money",
    "boolean",
    "bytea",
    "uuid",
    "jsonb",
    "json",
    "xml",
    "date",
    "time without time zone",
    "time with time zone",
    "time",
    "timestamp without time zone",
    "timestamp with time zone",
    "timestamp",
    "interval",
    "inet",
    "cidr",
    "macaddr",
    "character varying",
    "character",
    "bit varying",
    "bit",
];

/// The type that the message is about, if it is a built-in one and stands where the server writes
/// it.
fn type_of(message: &str) -> Option<String> {
    let named = ["invalid input syntax for type ", "value too long for type "];
    let rest = match named.iter().find_map(|start| message.strip_prefix(start)) {
        Some(rest) => rest.split_once(':').map_or(rest, |(name, _)| name),
        None => message.rsplit_once(" is out of range for type ")?.1,
    };
    let (name, modifier) = rest.split_once('(').unwrap_or((rest, ""));
    let is_number = |text: &str| text.len() <= 6 && text.bytes().all(|byte| byte.is_ascii_digit());
    let modifier = modifier
        .strip_suffix(')')
        .filter(|modifier| is_number(modifier));
    TYPES.contains(&name).then(|| match modifier {
        Some(modifier) => format!("{name}({modifier})"),
        None => name.to_owned(),
    })
}

/// The column of a context such as `COPY orders, line 3, column amount: "x"`. A line that is quoted
/// may look like one, too.
fn column_of_copy(context: &str) -> Option<String> {
    let (_, rest) = context.strip_prefix("COPY ")?.split_once(", line ")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (column, _) = rest
        .get(digits..)
        .filter(|_| digits > 0)?
        .strip_prefix(", column ")?
        .split_once(": ")?;
    Some(column.to_owned())
}

/// A constraint that a trigger's `raise` stands behind: its words are the trigger's own.
const SQLITE_TRIGGER: i32 = 1811;

/// Beginnings of SQLite's words behind which stand names, and never a value.
const SQLITE_NAMES: [&str; 13] = [
    "UNIQUE constraint failed: ",
    "NOT NULL constraint failed: ",
    "CHECK constraint failed: ",
    "FOREIGN KEY constraint failed",
    "cannot store ",
    "no such table: ",
    "no such column: ",
    "no such index: ",
    "no such module: ",
    "no such collation sequence: ",
    "table ",
    "too many ",
    "near ",
];

/// The words for a person of an error of SQLite's with this extended result code.
pub(super) fn sqlite_words(code: Option<i32>, message: &str) -> String {
    let keeps = match code {
        Some(SQLITE_TRIGGER) | None => false,
        // An error of statements, and a constraint: of the first kind functions write some, with
        // what they were given.
        Some(code) if matches!(code & 0xff, 1 | 19) => {
            SQLITE_NAMES.iter().any(|start| message.starts_with(start))
        }
        // For any other code SQLite has one text of its own.
        Some(_) => true,
    };
    match (keeps, code) {
        (true, _) => message.to_owned(),
        (false, Some(SQLITE_TRIGGER)) => {
            "a trigger raised an error, whose words may hold values".to_owned()
        }
        (false, _) => "SQLite refused it, in words that may hold values".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said<'a>(state: &'a str, message: &'a str, context: Option<&'a str>) -> PostgresSaid<'a> {
        PostgresSaid {
            state,
            message,
            context,
            ..PostgresSaid::default()
        }
    }

    #[test]
    fn what_says_where_and_why_stays() {
        let context = Some("COPY orders, line 3, column amount: \"4111 1111\"");
        let words = postgres_words(&said(
            "22P02",
            "invalid input syntax for type integer: \"4111 1111\"",
            context,
        ));
        assert_eq!(
            words,
            "a value is none of its column's type (type integer), in column amount"
        );
        let words = postgres_words(&PostgresSaid {
            table: Some("orders"),
            constraint: Some("orders_email_key"),
            ..said(
                "23505",
                "duplicate key value violates unique constraint \"orders_email_key\"",
                None,
            )
        });
        assert!(
            words.ends_with(", table orders, constraint orders_email_key"),
            "{words}"
        );
        let words = postgres_words(&said(
            "22001",
            "value too long for type character varying(5)",
            None,
        ));
        assert_eq!(
            words,
            "a value is too long for its column (type character varying(5))"
        );
        let missing = "relation \"orders\" does not exist";
        assert_eq!(postgres_words(&said("42P01", missing, None)), missing);
        let full = "could not extend file \"base/5/16384\": No space left on device";
        assert_eq!(
            postgres_words(&said(
                "53100",
                full,
                Some("COPY orders, line 3: \"secret\"")
            )),
            full
        );
    }

    proptest! {
        #[test]
        fn no_value_is_repeated(
            value in "[j-z]{9,14}[\"':, ]{0,2}[0-9]{0,3}",
            state in prop::sample::select(vec![
                "22P02", "22007", "22003", "22001", "22021", "2200M", "22P04", "23505", "23503", "23514", "23502", "23P01", "44000",
                "P0001", "P0004", "42P01", "42704", "42602", "XX000", "0A000", "57014", "53100", "40001", "99999", "",
            ]),
            shape in 0_usize..9,
            place in 0_usize..6,
        ) {
            let secret = value.split(['"', '\'', ':', ',', ' ']).next().unwrap_or_default();
            let messages = [
                format!("invalid input syntax for type integer: \"{value}\""),
                format!("invalid input syntax for type {value}"),
                format!("value \"{value}\" is out of range for type integer"),
                format!("{value} is out of range for type {value}"),
                format!("relation \"{value}\" does not exist"),
                format!("invalid byte sequence for encoding \"UTF8\": {value}"),
                format!("value too long for type {value}(5)"),
                format!("ungültiger Wert «{value}»"),
                value.clone(),
            ];
            // What quotes rows: a line of a COPY, a function of the user's own.
            let contexts = [
                format!("COPY orders, line 3, column amount: \"{value}\""),
                format!("COPY orders, line 3: \"1, column {value}: x\""),
                format!("PL/pgSQL function check_it() line 3 at RAISE\nCOPY orders, line 3, column \
                         {value}: x"),
                format!("SQL function \"f\" statement 1: {value}"),
                format!("COPY orders, Zeile 3, Spalte amount: «{value}»"),
                "COPY orders, line 3".to_owned(),
            ];
            let about_the_server = matches!(state.get(..2), Some("57" | "53" | "40"));
            if about_the_server && contexts[place].starts_with("COPY ") {
                return Ok(());
            }
            let words = postgres_words(&said(state, &messages[shape], Some(&contexts[place])));
            prop_assert!(!words.contains(secret), "{}", words);
        }

        #[test]
        fn sqlite_repeats_no_value_either(value in "[j-z]{9,14}", code in prop::sample::select(vec![1_i32, 1811, 19, 275, 2067])) {
            for message in [value.clone(), format!("bad JSON path: '{value}'"), format!("{value}: \
                UNIQUE constraint failed: ")] {
                prop_assert!(!sqlite_words(Some(code), &message).contains(&value));
            }
        }
    }
}
