//! The end of a prefix in byte order.

/// The first bytes after everything that starts with `prefix`, or `None` when nothing lies after.
pub(super) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_end_parts_what_starts_with_the_prefix_from_what_follows(
            prefix: Vec<u8>,
            key: Vec<u8>,
        ) {
            let inside = key >= prefix && prefix_end(&prefix).is_none_or(|end| key < end);
            prop_assert_eq!(inside, key.starts_with(&prefix));
        }

        #[test]
        fn whatever_is_appended_stays_inside(prefix: Vec<u8>, tail: Vec<u8>) {
            let key = [prefix.clone(), tail].concat();
            prop_assert!(key >= prefix && prefix_end(&prefix).is_none_or(|end| key < end));
        }
    }
}
