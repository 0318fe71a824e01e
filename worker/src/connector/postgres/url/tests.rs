use proptest::prelude::*;

use super::*;

fn at(name: &str, port: u16) -> Host {
    Host {
        name: name.to_owned(),
        port,
    }
}

fn read(text: &str) -> Destination {
    destination(text).unwrap_or_else(|why| panic!("{text}: {why}"))
}

#[test]
fn a_url_is_read_as_libpq_reads_it() {
    let to = read(
        "postgresql://me:p%40ss@db:6543/shop?sslmode=require&connect_timeout=5&application_name=x",
    );
    assert_eq!(to.hosts, [at("db", 6543)]);
    assert_eq!(
        (
            to.user.as_deref(),
            to.password.as_deref(),
            to.database.as_deref()
        ),
        (Some("me"), Some("p@ss"), Some("shop"))
    );
    assert_eq!(
        (to.tls.mode.as_deref(), to.application_name.as_deref()),
        (Some("require"), Some("x"))
    );
    assert_eq!(to.connect_timeout, Some(Duration::from_secs(5)));
    // Sockets: as a parameter, as a host, with a user and without.
    for text in [
        "postgres:///shop?host=/run/pg&port=6000&user=me",
        "postgres://me@%2Frun%2Fpg:6000/shop",
        "postgres://me@/shop?host=/run/pg&port=6000",
        "host=/run/pg port=6000 user=me dbname=shop",
        "host = '/run/pg' port= 6000 user =me dbname='shop'",
    ] {
        let to = read(text);
        assert_eq!(
            (to.hosts, to.user.as_deref(), to.database.as_deref()),
            (vec![at("/run/pg", 6000)], Some("me"), Some("shop"))
        );
    }
    assert_eq!(
        read("postgres://a:1,b,[::1]:3/x").hosts,
        [at("a", 1), at("b", 5432), at("::1", 3)]
    );
    assert_eq!(
        read("host=a,b port=7 dbname=x").hosts,
        [at("a", 7), at("b", 7)]
    );
    assert_eq!(
        read("postgres://h/x?hostaddr=10.0.0.1").hosts,
        [at("10.0.0.1", 5432)]
    );
    assert_eq!(read("postgres://").hosts, [at("", 5432)]);
    assert_eq!(
        read("postgres://h/x?target_session_attrs=read-write&keepalives=1&channel_binding=prefer")
            .wanted,
        Wanted::ReadWrite
    );
    for (url, is_one) in [
        ("postgres://h/x", true),
        ("postgres://a,b/x", false),
        ("postgres://a,b/x?target_session_attrs=standby", false),
        ("postgres://a,b/x?target_session_attrs=read-write", true),
        ("postgres://a,b/x?target_session_attrs=primary", true),
    ] {
        assert_eq!(read(url).is_one_server(), is_one, "{url}");
    }
    let set = |text: &str| read(text).settings;
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        set("postgres://h/x?options=-c%20search_path%3Ds2"),
        [pair("search_path", "s2")]
    );
    assert_eq!(
        set("postgres://h/x?options=-ca=1%20--work-mem=2MB"),
        [pair("a", "1"), pair("work_mem", "2MB")]
    );
    assert_eq!(
        set(r"host=h options='-c search_path=a,\\ b'"),
        [pair("search_path", "a, b")]
    );
    assert_eq!(
        read(r"host=h password='it\'s \\ me'").password.as_deref(),
        Some(r"it's \ me")
    );
}

#[test]
fn what_cannot_be_read_is_told_without_the_text() {
    for (text, why) in [
        ("postgres://me:hun/ter2@db/shop", "percent-encoded"),
        ("postgres://me:hun#ter2@db/shop", "percent-encoded"),
        ("postgres://me:hun?ter2@db/shop", "percent-encoded"),
        ("postgres://me:hun%ter2@db/shop", "percent-encoded"),
        ("postgres://db:hunter2/shop", "percent-encoded"),
        (
            "postgres://me:hunter2@db/shop?sslmode=hunter2",
            "sslmode is one of",
        ),
        (
            "postgres://me:hunter2@db/shop?pgbouncer=true",
            "`pgbouncer`",
        ),
        (
            "postgres://me:hunter2@db/shop?passfile=/x",
            "passfile is not supported",
        ),
        (
            "postgres://me:hunter2@db/shop?channel_binding=require",
            "channel_binding",
        ),
        (
            "postgres://me:hunter2@db/shop?require_auth=scram-sha-256",
            "require_auth",
        ),
        (
            "postgres://me:hunter2@db:1,db:2,c/shop?port=1,2",
            "3 hosts and 2 ports",
        ),
        (
            "postgres://me:hunter2@db/shop?target_session_attrs=hunter2",
            "target_session_attrs is one of",
        ),
        ("postgres://me:hunter2@db/shop?sslcert=/x", "sslkey"),
        (
            "postgres://me:hunter2@db/shop?options=hunter2",
            "-c name=value",
        ),
        ("host=db password='hunter2", "not closed"),
        ("host=db hunter2", "no ="),
        ("mysql://me:hunter2@db", "postgres://"),
    ] {
        let said = destination(text).expect_err(text);
        assert!(said.contains(why), "{text}: {said}");
        assert!(!said.contains("ter2"), "{text}: {said}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,60}", tail in "[a-z%/?#@:=&' \\\\\\[\\],0-9]{0,40}") {
        let _ = destination(&text);
        let _ = destination(&format!("postgres://{tail}"));
        let _ = destination(&format!("host={tail}"));
    }

    #[test]
    fn an_encoded_password_is_read_back(password in "\\PC{1,20}") {
        let encoded: String = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let to = destination(&format!("postgres://u:{encoded}@h/x")).expect("read");
        prop_assert_eq!(to.password, Some(password));
    }
}
