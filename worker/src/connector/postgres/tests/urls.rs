//! Where a URL leads, and through what: as libpq reads it, through a pooler, with files for TLS.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use highwater_common::spec::{ColumnRules, SecretText};
use highwater_common::stream::PlanMark;

use super::server::PASSWORD;
use super::*;
use crate::connector::postgres::Urls;
use crate::secrets::resolve;

async fn probed(world: &World, urls: impl Into<Urls>) -> Result<u64, ConnectorError> {
    let source = PostgresSource::new(
        urls,
        "legacy".parse().expect("a name"),
        world.supervisor.clone(),
    )?;
    let probe = SourceProbe {
        defined: false,
        relation: table_name("orders").into(),
        columns: ColumnRules::default(),
        bounds_declared: false,
        placing: None,
        partition_column: None,
    };
    source.probe(&probe).await.map(|facts| facts.rows)
}

#[tokio::test]
async fn a_url_leads_where_libpq_goes() {
    let world = World::with_orders(10).await;
    let (port, folder) = (world.server.port(), world.server.folder());
    let encoded = folder.replace('/', "%2F");
    for url in [
        format!("postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/legacy"),
        format!("postgres:///legacy?host={folder}&port={port}&user=postgres&password={PASSWORD}"),
        format!("postgres://postgres:{PASSWORD}@{encoded}:{port}/legacy"),
        format!("postgres://postgres:{PASSWORD}@127.0.0.1:1,127.0.0.1:{port}/legacy"),
        format!(
            "postgres://postgres:{PASSWORD}@127.0.0.1:{port}/legacy?sslmode=prefer&connect_timeout=10&keepalives=1"
        ),
        format!(
            "postgres://postgres:{PASSWORD}@127.0.0.1:1,127.0.0.1:{port}/legacy?target_session_attrs=read-write"
        ),
        format!(
            "postgres://postgres:{PASSWORD}@127.0.0.1:{port}/legacy?target_session_attrs=prefer-standby"
        ),
        format!(
            "postgres://postgres:{PASSWORD}@127.0.0.1:{port}/legacy?options=-c%20search_path%3Dpublic"
        ),
        format!("host=127.0.0.1 port={port} user=postgres password='{PASSWORD}' dbname = legacy"),
    ] {
        assert_eq!(
            probed(&world, &url)
                .await
                .map_err(|error| error.to_string()),
            Ok(10),
            "{url}"
        );
    }
    // No standby is there, and it says so; a server that refuses the password is not the next one's
    // turn.
    let url = format!(
        "postgres://postgres:{PASSWORD}@127.0.0.1:{port}/legacy?target_session_attrs=standby"
    );
    let message = refused(
        probed(&world, &url).await,
        ErrorClass::Unreachable,
        "unreachable",
    );
    assert!(message.contains("target_session_attrs"), "{message}");
    let url = format!("postgres://postgres:wrong@127.0.0.1:{port},127.0.0.1:1/legacy");
    refused(
        probed(&world, &url).await,
        ErrorClass::Permanent,
        "wrong_password",
    );
    // A path that is another table's: the option is the session's.
    let url = format!(
        "postgres://postgres:{PASSWORD}@127.0.0.1:{port}/legacy?options=-c%20search_path%3Dnowhere"
    );
    refused(
        probed(&world, &url).await,
        ErrorClass::Permanent,
        "unknown_table",
    );
}

#[tokio::test]
async fn a_password_by_reference_works_as_it_is_and_encoded() {
    // GIVEN passwords with the letters that mean something in a URL
    let mut world = World::with_orders(10).await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    let port = world.server.port();
    for password in [
        "plain",
        "p@ss",
        "a/b",
        "a#b",
        "a?b=c",
        "a%b",
        "100%41sure",
        "a:b",
        "a b",
        "ü€",
        "]S\\|^[P-{t.*G",
        "x&y=z",
        "it''s",
    ] {
        world.wh("drop role if exists reader").await;
        world
            .wh(&format!(
                "create role reader login superuser password '{password}'"
            ))
            .await;
        let password = password.replace("''", "'");
        let encoded: String = password
            .bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect();
        for content in [&password, &encoded] {
            std::fs::write(file.path(), content).expect("written");
            let reference = format!("${{file:{}}}", file.path().display());
            for text in [
                format!("postgres://reader:{reference}@127.0.0.1:{port}/legacy"),
                format!("postgres://127.0.0.1:{port}/legacy?user=reader&password={reference}"),
            ] {
                // WHEN the URL refers to one, as it is or percent-encoded THEN it is let in
                let urls = resolve(&SecretText::new(text), "w-1").expect("resolved");
                assert_eq!(
                    probed(&world, urls)
                        .await
                        .map_err(|error| error.to_string()),
                    Ok(10),
                    "{content}"
                );
            }
        }
        std::fs::write(file.path(), &password).expect("written");
        let text = format!(
            "host=127.0.0.1 port={port} dbname=legacy user=reader password=${{file:{}}}",
            file.path().display()
        );
        let urls = resolve(&SecretText::new(text), "w-1").expect("resolved");
        assert_eq!(
            probed(&world, urls)
                .await
                .map_err(|error| error.to_string()),
            Ok(10),
            "{password}"
        );
    }
}

#[tokio::test]
async fn a_file_for_tls_is_named_with_what_is_wrong_with_it() {
    let world = World::with_orders(1).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (missing, empty) = (
        folder.path().join("missing.pem"),
        folder.path().join("empty.pem"),
    );
    std::fs::write(&empty, "no certificate").expect("written");
    let url = |more: String| format!("{}?sslmode=verify-full&{more}", world.server.url("legacy"));
    for (more, file, why) in [
        (
            format!("sslrootcert={}", missing.display()),
            &missing,
            "cannot be read",
        ),
        (
            format!("sslrootcert={}", empty.display()),
            &empty,
            "-----BEGIN CERTIFICATE",
        ),
        (
            format!("sslcert={}&sslkey={}", empty.display(), empty.display()),
            &empty,
            "sslcert",
        ),
    ] {
        let message = refused(
            probed(&world, &url(more)).await,
            ErrorClass::Permanent,
            "tls_file",
        );
        assert!(
            message.contains(&file.display().to_string()) && message.contains(why),
            "{message}"
        );
        assert!(!message.contains("is the server up"), "{message}");
    }
}

/// A pgbouncer in front of the world's databases, gone with the test.
struct Pooler {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Pooler {
    async fn start(world: &World, mode: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("highwater-pgb-")
            .tempdir()
            .expect("a folder");
        let (port, server) = (server::free_port(), world.server.port());
        let file = folder.path().join("pgbouncer.ini");
        let mut config = std::fs::File::create(&file).expect("a file");
        for database in ["legacy", "wh"] {
            writeln!(
                config,
                "{}{database} = host=127.0.0.1 port={server} user=postgres password={PASSWORD}",
                if database == "legacy" {
                    "[databases]\n"
                } else {
                    ""
                }
            )
            .expect("written");
        }
        writeln!(
            config,
            "[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = \
                          any\nunix_socket_dir =\npool_mode = {mode}"
        )
        .expect("written");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if server::is_root() {
            server::run(
                Command::new("chown")
                    .args(["-R", "postgres"])
                    .arg(folder.path()),
            );
            command.args([
                "--reuid",
                "postgres",
                "--regid",
                "postgres",
                "--clear-groups",
            ]);
        }
        let child = command
            .arg("pgbouncer")
            .arg("-q")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let pooler = Self {
            child: child.expect("pgbouncer starts"),
            port,
            _folder: folder,
        };
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                tokio::time::Instant::now() < deadline,
                "pgbouncer does not listen"
            );
            tokio::task::yield_now().await;
        }
        pooler
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The world, reached through a pooler, on databases that bring settings along.
async fn through(mode: &str) -> (World, Pooler) {
    let mut world = World::with_orders(2_000).await;
    for setting in [
        "datestyle = 'SQL, DMY'",
        "array_nulls = off",
        "intervalstyle = postgres_verbose",
    ] {
        world
            .wh(&format!(
                "alter database wh set {setting}; alter database legacy set {setting}"
            ))
            .await;
    }
    world
        .legacy(
            "alter table orders add day date default '2024-02-03', add tags text[] default \
                 array['a', null]",
        )
        .await;
    world
        .wh("alter table orders add day date, add tags text[]")
        .await;
    let pooler = Pooler::start(&world, mode).await;
    let legacy = PostgresSource::new(
        &pooler.url("legacy"),
        "legacy".parse().expect("a name"),
        world.supervisor.clone(),
    );
    let wh = PostgresTarget::new(
        &pooler.url("wh"),
        "wh".parse().expect("a name"),
        world.supervisor.clone(),
    );
    (world.source, world.target) = (legacy.expect("a good url"), wh.expect("a good url"));
    (world, pooler)
}

/// A task of its own, to its end.
async fn load(world: &World, task: u8, slice: Slice) -> Result<CommitOutcome, ConnectorError> {
    let columns = world.facts("orders", "id").await?.columns;
    world
        .target
        .prepare(&prepare_request(columns.clone()))
        .await?;
    let probe = TargetProbe {
        twin: None,
        cluster: CLUSTER,
        table: table_name("orders"),
        source_engine: Engine::Postgres,
        columns: Vec::new(),
        partition: None,
        stream: STREAM.into(),
        triggers: Triggers::Fire,
        exchange: false,
    };
    let fingerprint = world.target.probe(&probe).await?.fingerprint;
    let claim = Claim {
        cluster: CLUSTER,
        run: RUN,
        task: TaskId::from_bytes([task; 16]),
        generation: 1,
        phase: 1,
        ordinal: 0,
        plan: PlanMark::of(1, &DocumentDigest::of(b"cut")),
        step: "orders".parse().expect("a name"),
        stream: STREAM.into(),
        slice: Some(slice),
        runs_alone: false,
        attempt: AttemptNo::new(1),
        fence: fence(1),
        spec_digest: DocumentDigest::of(b"spec"),
        fingerprint,
    };
    let ClaimOutcome::Held(held) = world.target.claim(&claim).await? else {
        panic!("the claim stands")
    };
    let read = ReadRequest {
        relation: table_name("orders").into(),
        columns: columns.clone(),
        rows: Rows::Slice(SliceRows {
            column: "id".into(),
            form: CursorForm::Native,
            slice,
        }),
        format: RowFormat::CopyText,
    };
    let mut rows = world.source.read(&read).await?;
    let write = WriteRequest {
        table: table_name("orders"),
        columns,
        rows: Rows::Slice(SliceRows {
            column: "id".into(),
            form: CursorForm::Native,
            slice,
        }),
        mode: WriteMode::ReplacePartition,
        merge_by: MergeBy::default(),
        triggers: Triggers::Fire,
        resident: ExistingRows::Fail,
        shrinking: highwater_common::spec::Shrinking::default(),
        format: RowFormat::CopyText,
        stream: STREAM.into(),
    };
    let (tx, receipt) = held.begin().await?.write(&write, rows.as_mut()).await?;
    let GuardOutcome::Holds(guarded) = tx.guard(&GuardStep::last(receipt)).await? else {
        panic!("the guard holds")
    };
    Ok(guarded.commit().await)
}

#[tokio::test]
async fn a_pooler_of_sessions_is_as_good_as_the_server() {
    // GIVEN source and target behind a pgbouncer as it comes, on databases with settings that
    // change values
    let (mut world, pooler) = through("session").await;
    // WHEN tasks are loaded one after the other, on sessions that the pooler hands on
    for (task, slice) in [
        (1, ids(None, Some(700))),
        (2, ids(Some(700), Some(1_400))),
        (3, ids(Some(1_400), None)),
    ] {
        let outcome = load(&world, task, slice).await.expect("no fault");
        assert!(
            matches!(outcome, CommitOutcome::Committed(_)),
            "{outcome:?}"
        );
    }
    // THEN every row is there, as it was
    let whole = "select count(*) from orders where day = '2024-02-03' and tags[2] is null and note \
                 = 'note ' || id";
    assert_eq!(world.count(whole).await, 2_000);
    drop(pooler);
}

#[tokio::test]
async fn a_pooler_of_transactions_is_refused_in_words() {
    for mode in ["transaction", "statement"] {
        // GIVEN source and target behind a pgbouncer that gives each transaction another session
        let (mut world, pooler) = through(mode).await;
        // WHEN tasks are loaded
        let mut refusals = Vec::new();
        for task in 1..=3 {
            if let Err(error) = load(&world, task, ids(None, Some(10))).await {
                refusals.push(error);
            }
        }
        // THEN that is refused, and told by what it is and what to do
        let refusal = refusals.first().expect("it is recognised");
        assert_eq!(refusal.report.class, ErrorClass::Permanent, "{refusal}");
        assert_eq!(refusal.report.code, "transaction_pooling", "{refusal}");
        assert!(
            refusal.report.message.contains("use session pooling"),
            "{refusal}"
        );
        assert_eq!(world.orders().await, 0);
        drop(pooler);
    }
}
