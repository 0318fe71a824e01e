use proptest::prelude::*;

use super::*;

fn texts(script: &str, engine: Engine) -> Vec<String> {
    let found = statements(script, engine).unwrap_or_else(|error| panic!("{script}: {error}"));
    found.into_iter().map(|one| one.text).collect()
}

fn refused(script: &str, engine: Engine) -> ScriptError {
    statements(script, engine).expect_err(script)
}

#[test]
fn a_semicolon_parts_statements_and_nothing_in_a_quote_or_a_body() {
    let postgres = |script: &str| texts(script, Engine::Postgres);
    assert_eq!(postgres("select 1; select 2 ;\n"), ["select 1", "select 2"]);
    assert_eq!(
        postgres(";; select ';' -- a; b\n, 2;"),
        ["select ';' -- a; b\n, 2"]
    );
    assert_eq!(postgres("/* ; /* ; */ ; */ select 1;"), ["select 1"]);
    for whole in [
        "do $$ begin perform 1; end $$",
        "do $a$ select $$;$$; $a$",
        "select E'\\';', e'a'';'",
        "select 'a\\' , ';'",
        "select \"a;b\"\"c;\"",
        "create rule r as on insert to t do (delete from a; delete from b)",
        "create or replace function f() returns int begin atomic select case when true then 1 end; select 2; end",
        "select array[1]; ".trim_end_matches("; "),
    ] {
        assert_eq!(
            postgres(&format!("{whole}; select 2")),
            [whole, "select 2"],
            "{whole}"
        );
    }
    let sqlite = |script: &str| texts(script, Engine::Sqlite);
    for whole in [
        "create temp trigger t after insert on a begin update b set c = case 1 when 1 then 2 end; select 1; end",
        "select `a;`, [b;], \"c;\", 'd;'",
        "select 1 /* /* ; */",
    ] {
        assert_eq!(
            sqlite(&format!("{whole}; select 2")),
            [whole, "select 2"],
            "{whole}"
        );
    }
}

#[test]
fn a_placeholder_becomes_a_parameter_of_its_type() {
    let script = format!(
        "insert into t values ({{run.id}}, {{run.reference_time}}, {{step}}, {{run.id}});\n\
         select '{{\"a\": 1}}', {}, {} where {{{{}}}}",
        literal("it's", LiteralKind::Text),
        literal("2024-01-01", LiteralKind::Date)
    );
    let found = statements(&script, Engine::Postgres).expect("a script");
    let [insert, select] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(
        insert.text,
        "insert into t values ($1::text, $2::timestamptz, $3::text, $1::text)"
    );
    assert_eq!(
        insert.parameters,
        [Parameter::RunId, Parameter::ReferenceTime, Parameter::Step]
    );
    assert_eq!(
        (select.text.as_str(), select.line),
        ("select '{\"a\": 1}', $1::text, $2::date where {}", 2)
    );
    let literal = |value: &str, of| Parameter::Literal {
        value: value.to_owned(),
        of,
    };
    let values = [
        literal("it's", LiteralKind::Text),
        literal("2024-01-01", LiteralKind::Date),
    ];
    assert_eq!(select.parameters, values);
    assert_eq!(
        texts("select {pipeline}, {pipeline}", Engine::Sqlite),
        ["select ?1, ?1"]
    );
}

#[test]
fn what_is_no_script_says_why_and_on_which_line() {
    for (script, line, why) in [
        ("", 1, "no statement"),
        (" ; -- nothing\n", 1, "no statement"),
        ("select 1;\nselect 'a", 2, "a quote is not closed"),
        ("select \"a", 1, "a quote is not closed"),
        ("do $a$ begin $b$", 1, "a quote is not closed"),
        ("select 1 /* /* */", 1, "a comment is not closed"),
        ("select {run.no}", 1, "`{run.no}` is not known"),
        ("select {run", 1, "a brace is not closed"),
        ("select }", 1, "a brace is closed"),
        ("select {json:61}", 1, "is not known"),
        ("select {text:6}", 1, "is not known"),
        ("select {text:zz}", 1, "is not known"),
        ("select {text:ff}", 1, "is not known"),
        ("select '{run.id}'", 1, "within quotes"),
        ("select $$ {step} $$", 1, "within quotes"),
        ("select $1", 1, "nothing is bound"),
        ("select 1;\n\ncommit", 3, "`commit` controls a transaction"),
        ("prepare transaction 'x'", 1, "controls a transaction"),
        ("vacuum t", 1, "cannot be part"),
        (
            "create unique index concurrently on t (a)",
            1,
            "concurrently",
        ),
        ("copy t from stdin", 1, "nobody sends the rows"),
    ] {
        let error = refused(script, Engine::Postgres);
        assert!(error.message.contains(why), "{script}: {error}");
        assert_eq!(error.line, line, "{script}: {error}");
    }
    for script in [
        "select ?",
        "select :a",
        "select $1",
        "select @1",
        "create temp table _Highwater_task (a)",
        "create temp table procedure (begin int); commit; select 1",
        "pragma foreign_keys = on",
        "attach 'a' as b",
    ] {
        refused(script, Engine::Sqlite);
    }
    assert_eq!(texts("prepare a as select 1", Engine::Postgres).len(), 1);
    assert_eq!(
        texts("select a ? 'b', 1::int, x[1]", Engine::Postgres).len(),
        1
    );
}

#[test]
fn a_statement_is_told_by_its_first_words() {
    let found = statements(
        "insert  into\n mart.kpis select day, count(*) from raw.orders",
        Engine::Postgres,
    );
    let told = found.expect("one").first().map(ToString::to_string);
    assert_eq!(
        told.as_deref(),
        Some("`insert into mart.kpis select day, count(…`")
    );
}

proptest! {
    /// A value is data, whatever it holds.
    #[test]
    fn a_value_comes_back_as_it_was(value in "\\PC{0,12}|.{0,6}") {
        for engine in [Engine::Postgres, Engine::Sqlite] {
            let script = format!("select {}, 1", literal(&value, LiteralKind::Text));
            let found = statements(&script, engine).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(found.len(), 1);
            let expected = Parameter::Literal { value: value.clone(), of: LiteralKind::Text };
            prop_assert_eq!(&found[0].parameters, &vec![expected]);
            let dialect = if engine == Engine::Postgres { "select $1::text, 1" } else { "select ?1, 1" };
            prop_assert_eq!(found[0].text.as_str(), dialect);
        }
    }

    /// Nor does it leave the quote or the comment that it was put into.
    #[test]
    fn a_value_ends_neither_quote_nor_comment(value in "['\"$/*;\\-\n}{a ]{0,12}|\\PC{0,6}") {
        let put = literal(&value, LiteralKind::Text);
        for engine in [Engine::Postgres, Engine::Sqlite] {
            for script in [format!("-- {put}\nselect 1"), format!("/* {put} */ select 1")] {
                prop_assert_eq!(texts(&script, engine), vec!["select 1".to_owned()]);
            }
            for script in [format!("select '{put}'"), format!("select \"{put}\"")] {
                prop_assert!(statements(&script, engine).is_err(), "{}", script);
            }
        }
        for script in [format!("select $$ {put} $$"), format!("select E'{put}'")] {
            prop_assert!(statements(&script, Engine::Postgres).is_err(), "{}", script);
        }
    }

    /// Nothing panics, and what is kept of a text without braces is its own text.
    #[test]
    fn any_text_is_a_script_or_says_why(script in "[a-z;'\"$/*\\-\\[\\]()\\\\ \n?:`]{0,40}|\\PC{0,20}") {
        for engine in [Engine::Postgres, Engine::Sqlite] {
            if let Ok(found) = statements(&script, engine)
                && !script.contains(['{', '}'])
            {
                for one in found {
                    prop_assert!(script.contains(&one.text), "{:?}", one);
                }
            }
        }
    }
}
