//! Names of tables in which `*` stands for any letters, and `?` for one.

use std::collections::BTreeSet;

use super::value::TableName;

/// Whether a pattern means a table: `*` stands for any letters, `?` for one.
pub(super) fn matches(pattern: &TableName, table: &TableName) -> bool {
    let schema = match (&pattern.schema, &table.schema) {
        (Some(pattern), Some(schema)) => is_like(pattern, schema),
        (None, None) => true,
        // excluded by its name alone
        (None, Some(_)) => true,
        (Some(_), None) => false,
    };
    schema && is_like(&pattern.name, &table.name)
}

fn is_like(pattern: &str, text: &str) -> bool {
    // The places of the pattern that the text read so far may have come to.
    let pattern: Vec<char> = pattern.chars().collect();
    let skip = |mut places: BTreeSet<usize>| {
        for (at, c) in pattern.iter().enumerate() {
            if *c == '*' && places.contains(&at) {
                places.insert(at.saturating_add(1));
            }
        }
        places
    };
    let mut places = skip(BTreeSet::from([0]));
    for c in text.chars() {
        let next = places.iter().filter_map(|at| match pattern.get(*at)? {
            '*' => Some(*at),
            '?' => Some(at.saturating_add(1)),
            own => (*own == c).then(|| at.saturating_add(1)),
        });
        places = skip(next.collect());
    }
    places.contains(&pattern.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_whole_names() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*", "abc", true),
            ("a*c", "abcbc", true),
            ("a*c", "abcb", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("**", "x", true),
            ("abc", "abcd", false),
        ] {
            assert_eq!(is_like(pattern, text), expected, "{pattern} {text}");
        }
    }
}
