//! Finds the word that was probably meant.

/// The most edits at which one word is taken for another.
const EDITS_MAX: usize = 2;

/// The candidate nearest to `word`, at most two edits away; an edit that replaces the whole word
/// suggests nothing.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let length = word.chars().count();
    candidates
        .into_iter()
        .map(|candidate| (edits(word, candidate), candidate))
        .filter(|(edits, candidate)| {
            *edits <= EDITS_MAX && *edits < length.max(candidate.chars().count()).min(length)
        })
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and exchanges of neighbours that turn one word into the
/// other. Words whose lengths differ by more than [`EDITS_MAX`] are told apart without looking at
/// them.
#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "there are three rows, each one longer than the second word, and counts of edits are \
              no longer than the words"
)]
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    if from.len().abs_diff(to.len()) > EDITS_MAX {
        return usize::MAX;
    }
    let mut rows: [Vec<usize>; 3] = [
        vec![0; to.len() + 1],
        (0..=to.len()).collect(),
        vec![0; to.len() + 1],
    ];
    for (i, a) in from.iter().enumerate() {
        rows[2][0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = rows[1][j] + usize::from(a != b);
            let mut least = replaced.min(rows[1][j + 1] + 1).min(rows[2][j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                least = least.min(rows[0][j - 1] + 1);
            }
            rows[2][j + 1] = least;
        }
        rows.rotate_left(1);
    }
    rows[1][to.len()]
}

/// Joins words for a sentence: `a`, `b` and `c`.
pub(super) fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        None => "nothing".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        assert_eq!(nearest("tabel", ["table", "connection"]), Some("table"));
        assert_eq!(nearest("stpes", ["steps", "name"]), Some("steps"));
        assert_eq!(nearest("retry", ["retries"]), None);
        assert_eq!(nearest("x", ["by", "tz"]), None);
        assert_eq!(nearest("bye", ["by"]), Some("by"));
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(listed(["a", "b", "c"]), "`a`, `b` and `c`");
    }
}
