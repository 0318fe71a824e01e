//! Pages of the documentation whose tables are made of what the code says, so that they agree.

use std::path::PathBuf;

const UPDATE: &str = "HIGHWATER_UPDATE_DOCS";

/// The folder that holds all crates.
pub(crate) fn repository() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Asserts that the page holds each table between the two comments that name it, or writes it.
#[expect(clippy::disallowed_methods, reason = "a test's own switch")]
pub(crate) fn shows(name: &str, tables: impl IntoIterator<Item = (&'static str, String)>) {
    let path = repository().join("docs").join(name);
    let page = std::fs::read_to_string(&path).expect("the page");
    let made = tables
        .into_iter()
        .fold(page.clone(), |page, (table_name, table)| {
            let (start, end) = (format!("<!-- rule: {table_name} -->\n"), "<!-- /rule -->");
            let at = page
                .find(&start)
                .unwrap_or_else(|| panic!("no table {table_name}"))
                + start.len();
            let to = at
                + page[at..]
                    .find(end)
                    .unwrap_or_else(|| panic!("no end of {table_name}"));
            format!("{}{table}{}", &page[..at], &page[to..])
        });
    if std::env::var(UPDATE).is_ok() {
        std::fs::write(&path, made).expect("written");
    } else {
        assert!(
            made == page,
            "docs/{name} is not what the code says; make it anew: \
             {UPDATE}=1 cargo test -p highwater-common the_page_of"
        );
    }
}
