//! What a key of the pipeline file means, from the table that the file is read by.

use serde::Serialize;

use super::keys::FILE;
use super::shape::{Fields, Form, Key, Shape, Word};
use super::suggest::{listed, nearest};

/// Keys told at the most; a name that is one of more of them has to be told apart by what it is
/// under.
const TOLD_MAX: usize = 12;

/// A key, and what may be said there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// Where it stands: `steps.<step>.retries.max_attempts`.
    pub path: String,
    /// What it means; behind a semicolon, what holds without it.
    pub meaning: String,
    /// Whether it has to be there.
    pub required: bool,
    /// What it takes, in words.
    pub value: String,
    /// What the other keys beside it have to say for it to be legal: `strategy: backfill or swap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only_with: Option<String>,
    /// How it is written.
    pub example: String,
    /// The keys under it, each with its meaning.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<(String, String)>,
}

/// The keys that `asked` names: a path such as `steps.orders.write.mode`, or the end of one, such as
/// `write.mode` or `mode`. Empty text asks for the file.
///
/// # Errors
/// Why it names none, with what was probably meant.
pub fn explain(asked: &str) -> Result<Vec<Explained>, String> {
    let asked: Vec<&str> = asked.split('.').filter(|part| !part.is_empty()).collect();
    let mut all = Vec::new();
    walk(&FILE, &mut Vec::new(), &mut all);
    if asked.is_empty() {
        let keys = FILE.keys.iter().filter(|key| key.is_now());
        return Ok(vec![Explained {
            path: "the file".to_owned(),
            meaning: "A pipeline.".to_owned(),
            required: true,
            value: "a map".to_owned(),
            only_with: None,
            example: "see docs/pipeline.md".to_owned(),
            keys: keys.map(named).collect(),
        }]);
    }
    let mut found: Vec<&Known> = all.iter().filter(|known| known.ends_with(&asked)).collect();
    // Whoever says all of a path means that one.
    if found.iter().any(|known| known.is(&asked)) {
        found.retain(|known| known.is(&asked));
    }
    let last = asked.last().copied().unwrap_or_default();
    match found.as_slice() {
        [] => {
            let names = all.iter().map(|known| known.key.name);
            Err(match nearest(last, names) {
                Some(meant) => format!("no key is named `{last}`; did you mean `{meant}`?"),
                None => {
                    let keys = FILE.keys.iter().filter(|key| key.is_now());
                    format!(
                        "no key is named `{}`; at the top there is {}",
                        asked.join("."),
                        listed(keys.map(|key| key.name))
                    )
                }
            })
        }
        found => Ok(found.iter().take(TOLD_MAX).map(|one| one.told()).collect()),
    }
}

/// A key of the table, and where it stands.
struct Known {
    key: &'static Key,
    fields: &'static Fields,
    /// The path; what a user names himself stands in angle brackets.
    path: Vec<&'static str>,
}

impl Known {
    /// Whether the path ends with these keys; a name of the user's own may be there or not.
    fn ends_with(&self, asked: &[&str]) -> bool {
        fn matches(path: &[&str], asked: &[&str]) -> Option<bool> {
            let Some((last_asked, before_asked)) = asked.split_last() else {
                return Some(path.iter().all(|part| is_own(part)));
            };
            let (last, before) = path.split_last()?;
            if is_own(last) {
                return matches(before, before_asked).or_else(|| matches(before, asked));
            }
            match last == last_asked {
                true => matches(before, before_asked).or(before_asked.is_empty().then_some(false)),
                false => None,
            }
        }
        matches(&self.path, asked).is_some()
    }

    /// Whether that is the whole path.
    fn is(&self, asked: &[&str]) -> bool {
        let own: Vec<&str> = self
            .path
            .iter()
            .copied()
            .filter(|part| !is_own(part))
            .collect();
        let whole = self.path.len() == asked.len()
            && self
                .path
                .iter()
                .zip(asked)
                .all(|(part, asked)| is_own(part) || part == asked);
        whole || own == asked
    }

    fn told(&self) -> Explained {
        let Form::Now(shape) = &self.key.form else {
            return self.later();
        };
        let tag = self.fields.tag.unwrap_or_default();
        Explained {
            path: self.path.join("."),
            meaning: self.key.doc.to_owned(),
            required: self.key.is_required,
            value: value(shape),
            only_with: match self.key.only {
                [] => None,
                words => Some(format!("{tag}: {}", words.join(" or "))),
            },
            example: example(self.key.name, shape),
            keys: below(shape),
        }
    }

    fn later(&self) -> Explained {
        Explained {
            path: self.path.join("."),
            meaning: format!("It is not supported yet: {}.", self.key.doc),
            required: false,
            value: "nothing".to_owned(),
            only_with: None,
            example: String::new(),
            keys: Vec::new(),
        }
    }
}

fn is_own(part: &str) -> bool {
    part.starts_with('<') || part == "[]"
}

fn named(key: &Key) -> (String, String) {
    (key.name.to_owned(), key.doc.to_owned())
}

/// All keys, each where it stands first: what is laid under or over another part has the same keys.
fn walk(fields: &'static Fields, path: &mut Vec<&'static str>, all: &mut Vec<Known>) {
    for key in fields.keys {
        path.push(key.name);
        all.push(Known {
            key,
            fields,
            path: path.clone(),
        });
        if let Form::Now(shape) = &key.form {
            descend(shape, path, all);
        }
        path.pop();
    }
}

fn descend(shape: &'static Shape, path: &mut Vec<&'static str>, all: &mut Vec<Known>) {
    if let Shape::Fields(fields) = shape {
        walk(fields, path, all);
    } else if let Shape::Named(named) = shape {
        path.push(named.placeholder);
        descend(&named.each, path, all);
        path.pop();
    } else if let Shape::List(list) = shape {
        path.push("[]");
        descend(&list.each, path, all);
        path.pop();
    }
}

fn below(shape: &Shape) -> Vec<(String, String)> {
    if let Shape::Fields(fields) | Shape::Partial(fields) = shape {
        let keys = fields.keys.iter().filter(|key| key.is_now());
        return keys.map(named).collect();
    }
    if let Shape::Named(named) = shape {
        return below(&named.each);
    }
    if let Shape::List(list) = shape {
        return below(&list.each);
    }
    Vec::new()
}

fn words(words: &[Word]) -> String {
    let now = words.iter().filter(|word| word.later.is_none());
    let words: Vec<&str> = now.map(|word| word.text).collect();
    words.join(", ")
}

/// What a value may be, in words.
fn value(shape: &Shape) -> String {
    match shape {
        Shape::Text => "text".to_owned(),
        Shape::File => "the path of a file".to_owned(),
        Shape::Name => "a name: a-z, then at most 62 of a-z, 0-9 and _".to_owned(),
        Shape::Table => "a table: table or schema.table".to_owned(),
        Shape::Target => {
            "a table, in whose name {source.table} and {source.schema} may stand".to_owned()
        }
        Shape::Tables => {
            "schema.table, where * and ? stand for letters, or a list of such".to_owned()
        }
        Shape::Type => "the name of a type of the source's server".to_owned(),
        Shape::Query => "the text of one SELECT".to_owned(),
        Shape::Script => "the text of statements".to_owned(),
        Shape::Url => "a URL, its password a reference: ${env:NAME} or ${file:/path}".to_owned(),
        Shape::Bound => "a date, a time or a whole number".to_owned(),
        Shape::Written => "a value".to_owned(),
        Shape::Whole(min, max) if min == max => min.to_string(),
        Shape::Whole(min, max) => format!("a whole number, {min} – {max}"),
        Shape::Bool => "true, false".to_owned(),
        Shape::Duration => "a duration: 10s, 45m, 1h30m".to_owned(),
        Shape::Lag => "auto, or a duration: 10m".to_owned(),
        Shape::Bytes => "a number of bytes: 512KiB, 64MiB".to_owned(),
        Shape::Zone => "a time zone: UTC, Europe/Berlin".to_owned(),
        Shape::Words(all) => words(all),
        Shape::Fields(fields) | Shape::Partial(fields) => match fields.shorthand {
            Some(short) => format!("a map, or its `{short}` alone"),
            None => "a map".to_owned(),
        },
        Shape::Named(named) => format!(
            "a map from names of your own, at most {}; each is {}",
            named.entries_max, named.what
        ),
        Shape::List(list) => {
            let word = list
                .word
                .map_or_else(String::new, |word| format!("{word}, or "));
            format!("{word}a list of at most {}", list.items_max)
        }
    }
}

/// A key as it could be written.
fn example(name: &str, shape: &Shape) -> String {
    format!("{name}: {}", sample(shape, 0))
}

fn sample(shape: &Shape, depth: usize) -> String {
    match shape {
        Shape::Text => "created_at".to_owned(),
        Shape::File => "out/shop.db".to_owned(),
        Shape::Name => "orders".to_owned(),
        Shape::Table => "public.orders".to_owned(),
        Shape::Target => "\"analytics.{source.table}\"".to_owned(),
        Shape::Tables => "\"public.*\"".to_owned(),
        Shape::Type => "\"numeric(12,2)\"".to_owned(),
        Shape::Query => "\"select code, rate from rates\"".to_owned(),
        Shape::Script => "\"delete from kpis;\"".to_owned(),
        Shape::Url => "\"postgres://reader:${env:SHOP_PASSWORD}@db1/shop\"".to_owned(),
        Shape::Bound | Shape::Written => "2025-01-01".to_owned(),
        Shape::Whole(min, max) => (*min).max((*max).min(8)).to_string(),
        Shape::Bool => "true".to_owned(),
        Shape::Duration => "45m".to_owned(),
        Shape::Lag => "10m".to_owned(),
        Shape::Bytes => "64MiB".to_owned(),
        Shape::Zone => "Europe/Berlin".to_owned(),
        Shape::Words(all) => {
            let mut now = all.iter().filter(|word| word.later.is_none());
            now.next()
                .map_or_else(String::new, |word| word.text.to_owned())
        }
        Shape::Fields(fields) | Shape::Partial(fields) if depth < 3 => {
            let word = fields.variants().first().copied();
            let mut keys: Vec<&Key> = fields
                .keys
                .iter()
                .filter(|key| key.is_required && key.goes_with(word))
                .collect();
            if keys.is_empty() {
                keys.extend(fields.keys.iter().filter(|key| key.is_now()).take(1));
            }
            let entries = keys.iter().filter_map(|key| match &key.form {
                Form::Now(shape) => Some(format!(
                    "{}: {}",
                    key.name,
                    sample(shape, depth.saturating_add(1))
                )),
                Form::Later => None,
            });
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        Shape::Fields(_) | Shape::Partial(_) => "{}".to_owned(),
        Shape::Named(named) => {
            let name = named.placeholder.trim_matches(['<', '>']);
            format!(
                "{{{name}_1: {}}}",
                sample(&named.each, depth.saturating_add(1))
            )
        }
        Shape::List(list) => format!("[{}]", sample(&list.each, depth.saturating_add(1))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(asked: &str) -> Vec<String> {
        let told = explain(asked).unwrap_or_else(|why| panic!("{why}"));
        told.into_iter().map(|one| one.path).collect()
    }

    #[test]
    fn a_key_is_found_by_its_path_or_by_the_end_of_it() {
        let attempts = ["steps.<step>.retries.max_attempts"];
        for asked in [
            "max_attempts",
            "retries.max_attempts",
            "steps.retries.max_attempts",
            "steps.orders.retries.max_attempts",
        ] {
            assert_eq!(paths(asked), attempts, "{asked}");
        }
        assert_eq!(paths("steps"), ["steps"]);
        assert_eq!(paths("limits"), ["limits"]);
        assert_eq!(paths("steps.limits"), ["steps.<step>.limits"]);
        assert_eq!(
            paths("depends_on.when"),
            ["steps.<step>.depends_on.[].when"]
        );
        assert!(paths("tasks").len() > 2);
        assert_eq!(explain("").map(|told| told.len()), Ok(1));
    }

    #[test]
    fn it_says_what_is_legal_there_and_what_was_meant() {
        let mode = explain("write.mode").unwrap_or_default();
        assert_eq!(mode[0].value, "append, replace_partition, merge");
        assert_eq!(mode[0].example, "mode: append");
        let attempts = explain("max_attempts").unwrap_or_default();
        assert_eq!(attempts[0].value, "a whole number, 1 – 100");
        let partition = explain("steps.partition").unwrap_or_default();
        assert_eq!(
            partition[0].only_with.as_deref(),
            Some("strategy: backfill or swap or sql")
        );
        assert!(partition[0].keys.iter().any(|(key, _)| key == "grain"));
        assert_eq!(
            explain("retrys"),
            Err("no key is named `retrys`; did you mean `retries`?".to_owned())
        );
        let later = explain("throttle").unwrap_or_default();
        assert!(later[0].meaning.contains("not supported yet"));
    }

    #[test]
    fn every_key_of_the_schema_has_a_meaning_and_an_example() {
        let mut all = Vec::new();
        walk(&FILE, &mut Vec::new(), &mut all);
        for known in all.iter().filter(|known| known.key.is_now()) {
            let told = known.told();
            assert!(
                !told.meaning.is_empty() && !told.value.is_empty(),
                "{}",
                told.path
            );
            let read: Result<serde_json::Value, _> = serde_saphyr::from_str(&told.example);
            assert!(read.is_ok(), "{}: {}", told.path, told.example);
        }
    }
}
