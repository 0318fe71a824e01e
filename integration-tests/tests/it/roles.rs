//! Who may do what on a cluster: over real TLS, by certificates and by tokens, asked of the leader and
//! of whoever follows it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use highwater_common::id::DocumentDigest;
use highwater_common::roles::{CALLS, Need, Role};
use highwater_integration_tests::cluster::{ClusterOptions, Daemons};
use highwater_integration_tests::{Authority, Binary, Etcd, Finished};
use highwater_net::{ClientTls, Dialer, Identity};
use serde_json::Value;
use tempfile::TempDir;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

const LIMIT: Duration = Duration::from_secs(60);
const NOOP: &str =
    "version: 1\nname: shop\nsteps: {wait: {strategy: {type: noop, tasks: 2, hold: 10ms}}}\n";

/// Two coordinators with roles. `client`, which the harness shows, is an admin.
struct Site {
    daemons: Daemons,
    authority: Arc<Authority>,
    tokens: PathBuf,
    _folder: TempDir,
    _etcd: Etcd,
}

/// Who calls.
#[derive(Debug, Clone, Copy)]
struct By<'a> {
    certificate: Option<&'a str>,
    token: Option<&'a str>,
    metadata: &'a [(&'static str, &'static str)],
}

fn certificate(name: &str) -> By<'_> {
    By {
        certificate: Some(name),
        token: None,
        metadata: &[],
    }
}

fn token(token: &str) -> By<'_> {
    By {
        certificate: None,
        token: Some(token),
        metadata: &[],
    }
}

fn line(name: &str, role: &str, token: &str, more: &str) -> String {
    let digest = DocumentDigest::of(token.as_bytes());
    format!("{name} {role} sha256:{digest} {more}\n")
}

impl Site {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("tokens");
        let lines = [
            line("grafana", "viewer", "see", ""),
            line("ci", "operator", "act", "pipelines=shop"),
            line("other", "operator", "elsewhere", "pipelines=stock_*"),
            line("boss", "admin", "all", ""),
            line("gone", "admin", "old", "until=2001-01-01"),
        ];
        std::fs::write(&tokens, lines.concat()).unwrap();
        let authority = Arc::new(Authority::new("the cluster's").unwrap());
        let roles = format!(
            "{{viewer: ['look*', double], operator: ['ops*', double], admin: [client], worker: \
             [worker], coordinator: ['127.0.0.1'], tokens_file: {}}}",
            tokens.display()
        );
        let options = ClusterOptions {
            authority: Some(Arc::clone(&authority)),
            roles: Some(roles),
            ..ClusterOptions::default()
        };
        let etcd = Etcd::start_secure(&authority).await.unwrap();
        let mut daemons = Daemons::new(options, etcd.endpoint()).unwrap();
        daemons.add_coordinator("test").await.unwrap();
        daemons.add_coordinator("test").await.unwrap();
        daemons.leader().await.unwrap();
        Self {
            daemons,
            authority,
            tokens,
            _folder: folder,
            _etcd: etcd,
        }
    }

    /// Calls `path` with an empty message, which says nothing, but as a caller who means it.
    async fn call(&self, coordinator: usize, path: &'static str, by: By<'_>) -> Result<(), Status> {
        let identity = by.certificate.map(|name| {
            let (certificate, key) = self.authority.sign(name).unwrap();
            Identity { certificate, key }
        });
        let tls = ClientTls {
            authority: self.authority.file(),
            identity,
            server_name: None,
        };
        let connection = Dialer::new(Some(tls))
            .connect(self.daemons.address(coordinator))
            .await
            .unwrap();
        let mut request = Request::new(());
        if let Some(token) = by.token {
            let header = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", header);
        }
        for (name, value) in by.metadata {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        let mut grpc = tonic::client::Grpc::new(connection.channel);
        grpc.ready().await.unwrap();
        let codec = ProstCodec::<(), ()>::default();
        let path_and_query = PathAndQuery::from_static(path);
        if path.ends_with("/WatchRun") {
            let answered = grpc.server_streaming(request, path_and_query, codec).await;
            return answered.map(drop);
        }
        let asked = grpc.unary(request, path_and_query, codec);
        // A worker's pull waits for work.
        match tokio::time::timeout(Duration::from_secs(10), asked).await {
            Ok(answered) => answered.map(drop),
            Err(_) => Ok(()),
        }
    }

    async fn command(&self, coordinator: usize, args: &[&str], by: By<'_>) -> Finished {
        let mut binary = Binary::highwater().await.unwrap().args(args).args([
            "--coordinator",
            self.daemons.address(coordinator),
            "--color",
            "never",
        ]);
        match by.certificate {
            Some(name) => binary = binary.args(self.daemons.tls_flags_of(name)),
            None => {
                let authority = self.authority.file();
                binary = binary.args([OsString::from("--tls-ca"), authority.into_os_string()]);
            }
        }
        if let Some(token) = by.token {
            binary = binary.env("HIGHWATER_TOKEN", token);
        }
        binary.run(LIMIT).await.unwrap()
    }

    async fn run_status(&self) -> Value {
        let status = self.daemons.status().await.unwrap();
        status["status"].clone()
    }

    async fn audit(&self) -> Vec<Value> {
        let args = ["cluster", "audit", "--output=json"];
        let finished = self.command(0, &args, certificate("client")).await;
        let document: Value = serde_json::from_str(&finished.stdout).expect("a document");
        document["actions"].as_array().unwrap().clone()
    }
}

fn is_refused(said: &Result<(), Status>) -> bool {
    matches!(said, Err(status) if status.code() == Code::PermissionDenied
        && status.message().contains("needs the role"))
}

fn is_let_in(said: &Result<(), Status>) -> bool {
    !matches!(said, Err(status) if matches!(
        status.code(),
        Code::PermissionDenied | Code::Unauthenticated | Code::Unavailable
    ))
}

#[tokio::test]
async fn a_viewer_changes_nothing() {
    // GIVEN a run, and viewers by certificate and by token
    let site = Site::start().await;
    let run = site.daemons.submit(NOOP).await.unwrap();
    let (before, actions) = (site.run_status().await, site.audit().await);
    assert_eq!(actions.len(), 1, "{actions:?}");
    for by in [certificate("look"), token("see")] {
        for coordinator in [0, 1] {
            for (path, need) in CALLS {
                // WHEN they call, THEN they may look, and nothing else
                let said = site.call(coordinator, path, by).await;
                if *need == Need::Least(Role::Viewer) {
                    assert!(is_let_in(&said), "{by:?} {coordinator} {path}: {said:?}");
                } else {
                    assert!(is_refused(&said), "{by:?} {coordinator} {path}: {said:?}");
                }
            }
            let args = ["cancel", run.as_str(), "--reason", "x", "-y"];
            let finished = site.command(coordinator, &args, by).await;
            assert_eq!(finished.status.code(), Some(5), "{finished:?}");
            let told = "is a viewer here, and Cancel needs the role operator";
            assert!(finished.stderr.contains(told), "{finished:?}");
            let finished = site.command(coordinator, &["status", &run], by).await;
            assert_eq!(finished.status.code(), Some(0), "{finished:?}");
        }
    }
    // AND nothing has changed
    assert_eq!(site.run_status().await, before);
    assert_eq!(site.audit().await, actions);
    // WHEN an operator makes the same calls, THEN it is their content that is refused, if anything
    for by in [certificate("ops-1"), certificate("double")] {
        for coordinator in [0, 1] {
            for (path, need) in CALLS {
                let said = site.call(coordinator, path, by).await;
                match need.least().unwrap() {
                    // An empty cancel means the latest run: it is tried last.
                    _ if path.ends_with("/Cancel") => {}
                    Role::Viewer | Role::Operator => {
                        assert!(is_let_in(&said), "{by:?} {coordinator} {path}: {said:?}");
                    }
                    Role::Admin | Role::Worker | Role::Coordinator => {
                        assert!(is_refused(&said), "{by:?} {coordinator} {path}: {said:?}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_worker_certificate_cannot_cancel() {
    // GIVEN a run, and a worker's certificate in the wrong hands, with all that can be put beside it
    let mut site = Site::start().await;
    let run = site.daemons.submit(NOOP).await.unwrap();
    let forged = [
        ("highwater-relayed", "1"),
        ("highwater-vouched", "admin"),
        ("highwater-operator", "client (certificate)"),
    ];
    let hands = [
        certificate("worker"),
        By {
            token: Some("all"),
            ..certificate("worker")
        },
        By {
            metadata: &forged,
            ..certificate("worker")
        },
    ];
    for by in hands {
        for coordinator in [0, 1] {
            for (path, need) in CALLS {
                if *need != Need::Least(Role::Worker) {
                    let said = site.call(coordinator, path, by).await;
                    assert!(is_refused(&said), "{by:?} {coordinator} {path}: {said:?}");
                }
            }
        }
    }
    let args = ["cancel", run.as_str(), "--reason", "x", "-y"];
    let finished = site.command(0, &args, certificate("worker")).await;
    assert_eq!(finished.status.code(), Some(5), "{finished:?}");
    let told = "worker (certificate) is a worker here";
    assert!(finished.stderr.contains(told), "{finished:?}");
    // AND neither people nor coordinators are workers
    for by in [
        certificate("client"),
        certificate("ops-1"),
        certificate("127.0.0.1"),
        certificate("stranger"),
        token("all"),
        By {
            metadata: &forged,
            ..certificate("127.0.0.1")
        },
    ] {
        for (path, need) in CALLS {
            if *need == Need::Least(Role::Worker) {
                let said = site.call(0, path, by).await.expect_err("refused");
                assert_eq!(said.code(), Code::PermissionDenied, "{by:?} {path}");
            }
        }
    }
    // WHEN a worker with that certificate does its work, THEN the run comes to its end
    let addresses = [site.daemons.address(0), site.daemons.address(1)].join(",");
    let worker = site.daemons.prepare("w1", 2, &addresses, &[]);
    worker.start().await.unwrap();
    let finished = site.command(1, &["wait", &run], token("see")).await;
    assert_eq!(
        finished.status.code(),
        Some(0),
        "{finished:?}\n{}",
        site.daemons.logs()
    );
}

#[tokio::test]
async fn a_token_acts_on_its_pipelines_alone_and_is_named_in_the_audit() {
    let mut site = Site::start().await;
    let follower = 1 - site.daemons.leader().await.unwrap();
    let file = site.daemons.file("shop.yaml", NOOP).unwrap();
    let file = file.to_str().unwrap().to_owned();
    let submit = ["run", file.as_str(), "--detach", "--output=name"];
    // GIVEN an operator of other pipelines: he may neither begin a run nor hold one back
    let finished = site.command(follower, &submit, token("elsewhere")).await;
    assert_eq!(finished.status.code(), Some(5), "{finished:?}");
    let told = "other (token)";
    assert!(
        finished.stderr.contains(told) && finished.stderr.contains("operator of pipeline shop"),
        "{finished:?}"
    );
    let finished = site.command(follower, &submit, token("act")).await;
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    for coordinator in [0, 1] {
        for args in [
            &["pause", "shop", "--reason", "x"][..],
            &["cancel", "shop", "-y", "--reason", "x"],
            &["retry", "shop"],
        ] {
            let finished = site.command(coordinator, args, token("elsewhere")).await;
            assert_eq!(finished.status.code(), Some(5), "{args:?} {finished:?}");
        }
    }
    // WHEN the operator of this one does, THEN it is done, and the record says who
    let args = ["pause", "shop", "--reason", "because"];
    let finished = site.command(follower, &args, token("act")).await;
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    let audit = site.audit().await;
    assert_eq!(audit.len(), 2, "{audit:?}");
    let by = audit[0]["by"].as_str().unwrap();
    assert_eq!(by, "ci (token), passed on by 127.0.0.1 (certificate)");
    // AND what takes back what was loaded, or is the cluster's, needs more
    for args in [
        &["workers", "cordon", "w1"][..],
        &["cluster", "adopt", &file, "-y"],
    ] {
        let finished = site.command(follower, args, token("act")).await;
        assert_eq!(finished.status.code(), Some(5), "{args:?} {finished:?}");
        assert!(
            finished.stderr.contains("the role admin"),
            "{args:?} {finished:?}"
        );
    }
}

#[tokio::test]
async fn a_token_that_is_changed_or_over_lets_nobody_in_from_the_next_call_on() {
    let site = Site::start().await;
    let ls = ["ls"];
    // GIVEN tokens that are known, over, and never heard of
    assert_eq!(
        site.command(0, &ls, token("see")).await.status.code(),
        Some(0)
    );
    for (wrong, told) in [
        ("old", "the token `gone` has ended"),
        ("guessed", "is not known here"),
    ] {
        let finished = site.command(0, &ls, token(wrong)).await;
        assert_eq!(finished.status.code(), Some(5), "{finished:?}");
        let is_told = finished.stderr.contains(told) && !finished.stderr.contains(wrong);
        assert!(is_told || wrong == "old", "{finished:?}");
    }
    let finished = site
        .command(
            0,
            &ls,
            By {
                certificate: None,
                token: None,
                metadata: &[],
            },
        )
        .await;
    assert_eq!(finished.status.code(), Some(5), "{finished:?}");
    assert!(
        finished.stderr.contains("nobody knows who you are"),
        "{finished:?}"
    );
    // WHEN one is exchanged for another, THEN the former is none from then on, and the latter is one
    std::fs::write(&site.tokens, line("grafana", "viewer", "new", "")).unwrap();
    assert_eq!(
        site.command(0, &ls, token("see")).await.status.code(),
        Some(5)
    );
    assert_eq!(
        site.command(1, &ls, token("new")).await.status.code(),
        Some(0)
    );
    // AND no log holds any of them
    let logs = site.daemons.logs();
    assert!(
        !logs.contains("guessed") && !logs.contains("Bearer"),
        "{logs}"
    );
    // AND WHEN a token would go in the clear, THEN the command keeps it
    let clear = format!("http://{}", site.daemons.address(0));
    let finished = Binary::highwater()
        .await
        .unwrap()
        .args(["ls", "--coordinator", &clear])
        .env("HIGHWATER_TOKEN", "new")
        .run(LIMIT)
        .await
        .unwrap();
    assert_eq!(finished.status.code(), Some(2), "{finished:?}");
    assert!(finished.stderr.contains("over TLS only"), "{finished:?}");
    // AND it shows nobody what it is
    let finished = site
        .command(0, &["config", "view", "--show-origin"], token("hunter2"))
        .await;
    let shown = finished.stdout + &finished.stderr;
    assert!(
        shown.contains("HIGHWATER_TOKEN") && !shown.contains("hunter2"),
        "{shown}"
    );
}

#[tokio::test]
async fn roles_that_nobody_could_prove_are_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("one").unwrap();
    let (cert, key) = authority.sign("127.0.0.1").unwrap();
    let ca = authority.file();
    let [cert, key, ca] = [cert, key, ca].map(|path| path.to_str().unwrap().to_owned());
    let tls = ["--tls-cert", cert.as_str(), "--tls-key", key.as_str()];
    let mutual = [&tls[..], &["--tls-client-ca", ca.as_str()]].concat();
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "ci operator hunter2\n").unwrap();
    let with_tokens = format!("{{worker: [w], tokens_file: {}}}", tokens.display());
    // A wrong file of tokens keeps out those who send one, and nobody else: it goes on, to an etcd
    // that is not there.
    const GOES_ON: i32 = 5;
    for (roles, flags, told) in [
        // what is written and says nothing is not what is left out
        ("", mutual.clone(), "roles"),
        ("{admin: [a], worker: [w]}", vec![], "--tls-client-ca"),
        ("{admin: [a], worker: [w]}", tls.to_vec(), "--tls-client-ca"),
        ("{}", mutual.clone(), "nobody could begin a run"),
        ("{admin: [a]}", mutual.clone(), "no worker could work"),
        ("{admins: [a]}", mutual.clone(), "admins"),
        (
            with_tokens.as_str(),
            mutual.clone(),
            "no token lets anybody in: line 1",
        ),
    ] {
        let config = folder.path().join("config.yaml");
        std::fs::write(&config, format!("coordinator: {{roles: {roles}}}")).unwrap();
        let config = config.to_str().unwrap();
        let etcd = [
            "--etcd",
            "http://127.0.0.1:9",
            "--cluster",
            "test",
            "--config",
            config,
        ];
        let finished = Binary::coordinator()
            .await
            .unwrap()
            .args([&etcd[..], &["--listen", "127.0.0.1:0"], &flags].concat())
            .run(LIMIT)
            .await
            .unwrap();
        let code = if told.starts_with("no token") {
            GOES_ON
        } else {
            2
        };
        assert_eq!(finished.status.code(), Some(code), "{roles} {finished:?}");
        assert!(
            finished.stderr.contains(told) && !finished.stderr.contains("hunter2"),
            "{roles} {finished:?}"
        );
    }
}
