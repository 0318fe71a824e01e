//! What keys of the pipeline file mean.

use highwater_common::spec::Explained;

use super::look::Look;

/// Each key with what it means, what it takes, and what is under it.
#[must_use]
pub(crate) fn explanation(told: &[Explained], look: &Look) -> String {
    let told: Vec<String> = told.iter().map(|one| key(one, look)).collect();
    told.join("\n")
}

fn key(one: &Explained, look: &Look) -> String {
    let mut text = format!("{}\n  {}\n", look.bold(&one.path), one.meaning);
    let must = if one.required { ", required" } else { "" };
    let mut lines = vec![("value", format!("{}{must}", one.value))];
    if let Some(with) = &one.only_with {
        lines.push(("with", with.clone()));
    }
    if !one.example.is_empty() {
        lines.push(("example", one.example.clone()));
    }
    for (name, value) in lines {
        text.push_str(&format!("  {}{value}\n", look.dim(&format!("{name:<9}"))));
    }
    let width = one.keys.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    if !one.keys.is_empty() {
        text.push_str(&format!("  {}\n", look.dim("keys")));
    }
    for (key, meaning) in &one.keys {
        text.push_str(&format!("    {key:<width$}  {meaning}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use highwater_common::spec::explain;

    use super::*;

    #[test]
    fn a_key_says_what_it_means_and_what_it_takes() {
        let told = explain("steps.retries").unwrap();
        insta::assert_snapshot!(explanation(&told, &Look::plain()), @r"
        steps.<step>.retries
          What happens when an attempt fails: waits double, with full jitter.
          value    a map
          example  retries: {max_attempts: 8}
          keys
            max_attempts  Attempts in all; 5.
            initial       The first wait's ceiling; 1s.
            max           Every wait's ceiling; 5m.
            unreachable   How long a connection may be away before the tasks that need it are given up; 1h.
        ");
    }
}
