//! How long quoted texts and names are.

pub(super) fn is_word_start(c: char) -> bool {
    c.is_alphabetic() || c == '_' || !c.is_ascii()
}

/// How long a text is up to its closing quote, that included; the opening one is before it. A
/// doubled quote is one of the text.
pub(super) fn single_quoted(text: &str, is_escaped: bool) -> Option<usize> {
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' if is_escaped => {
                letters.next();
            }
            '\'' if letters.peek().is_some_and(|(_, next)| *next == '\'') => {
                letters.next();
            }
            '\'' => return Some(at.saturating_add(1)),
            _ => {}
        }
    }
    None
}

/// How long a text is from behind its first letter to the next mark, that included. A doubled mark
/// is two of them, one after the other.
pub(super) fn until_mark(rest: &str, mark: &str) -> Option<usize> {
    let found = rest.get(1..)?.find(mark)?;
    Some(found.saturating_add(mark.len()))
}

/// `$tag$`, if the text begins with one.
pub(super) fn dollar_mark(rest: &str) -> Option<&str> {
    let (tag, _) = rest.get(1..)?.split_once('$')?;
    let is_tag = tag.chars().all(|c| is_word_start(c) || c.is_ascii_digit())
        && !tag.starts_with(|c: char| c.is_ascii_digit());
    rest.get(..tag.len().saturating_add(2)).filter(|_| is_tag)
}
