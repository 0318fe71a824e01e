use std::collections::BTreeSet;
use std::convert::Infallible;

use highwater_common::id::DocumentDigest;
use highwater_common::roles::CALLS;
use prost::Message as _;
use tonic::Code;

use super::*;

const CANCEL: &str = "/highwater.v1.ControlService/Cancel";
const GET_RUN: &str = "/highwater.v1.ControlService/GetRun";
const PULL: &str = "/highwater.v1.WorkerService/Pull";

#[test]
fn every_call_of_the_services_stands_in_the_table_of_roles() {
    let files =
        prost_types::FileDescriptorSet::decode(highwater_proto::DESCRIPTORS).expect("descriptors");
    let mut served = BTreeSet::new();
    for file in &files.file {
        for service in &file.service {
            for method in &service.method {
                served.insert(format!(
                    "/{}.{}/{}",
                    file.package(),
                    service.name(),
                    method.name()
                ));
            }
        }
    }
    let known: BTreeSet<String> = CALLS.iter().map(|(call, _)| (*call).to_owned()).collect();
    assert_eq!(served, known);
    assert_eq!(known.len(), CALLS.len(), "one stands there twice");
}

/// Roles with a file of tokens: `see` is a viewer's, `act` an operator's, `old` has ended.
fn roles(folder: &Path) -> RolesConfig {
    let digest = |token: &str| DocumentDigest::of(token.as_bytes());
    let lines = [
        format!("grafana viewer sha256:{}\n", digest("see")),
        format!("ci operator sha256:{} pipelines=shop\n", digest("act")),
        format!("gone admin sha256:{} until=2001-01-01\n", digest("old")),
    ];
    let path = folder.join("tokens");
    std::fs::write(&path, lines.concat()).expect("written");
    let text = format!(
        "coordinator: {{roles: {{viewer: [look], admin: [root, both], worker: ['w*', both], \
         coordinator: ['c*'], tokens_file: {}}}}}",
        path.display()
    );
    let config = highwater_common::config::parse(&text).expect("read");
    config.coordinator.roles.expect("roles")
}

struct Call<'a> {
    certificate: Option<&'a str>,
    headers: &'a [(&'static str, &'a str)],
}

/// What comes of a call: who makes it in the eyes of the service, or the refusal.
async fn ask(roles: &RolesConfig, path: &str, call: Call<'_>) -> Result<String, Status> {
    let served = tower::service_fn(|request: Request<Body>| async move {
        let headers = request.headers();
        let leaks = headers.contains_key(AUTHORIZATION) || headers.contains_key(VOUCHED_METADATA);
        let who = request.extensions().get::<Arc<Principal>>();
        let who = who.map_or_else(String::new, |of| format!("{} = {}", of.who, of.vouched()));
        let response = Response::builder()
            .header("who", who)
            .header("leaks", leaks.to_string());
        Ok::<_, Infallible>(response.body(Body::empty()).expect("a response"))
    });
    let mut gated = Gate::new(Some(roles.clone())).layer(served);
    let mut request = Request::builder().uri(path);
    for (name, value) in call.headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::empty()).expect("a request");
    request.extensions_mut().insert(Caller {
        certificate: call.certificate.map(str::to_owned),
    });
    let answer = gated.call(request).await.expect("an answer");
    if let Some(status) = Status::from_header_map(answer.headers()) {
        return Err(status);
    }
    let said = |name: &str| answer.headers()[name].to_str().expect("text").to_owned();
    assert_eq!(said("leaks"), "false");
    Ok(said("who"))
}

const fn by(certificate: &str) -> Call<'_> {
    Call {
        certificate: Some(certificate),
        headers: &[],
    }
}

#[tokio::test]
async fn who_calls_is_told_by_certificate_or_token_and_nobody_else_passes() {
    let folder = tempfile::tempdir().expect("a folder");
    let roles = roles(folder.path());
    let with = |certificate, headers| Call {
        certificate,
        headers,
    };
    let code = |said: Result<String, Status>| said.expect_err("refused").code();
    // certificates
    let root = ask(&roles, CANCEL, by("root")).await.expect("an admin");
    assert_eq!(root, "root (certificate) = admin");
    assert!(ask(&roles, GET_RUN, by("look")).await.is_ok());
    for refused in ["look", "w1", "c1", "nobody", "both", ""] {
        let said = ask(&roles, CANCEL, by(refused)).await;
        assert_eq!(code(said), Code::PermissionDenied, "{refused}");
    }
    assert!(ask(&roles, PULL, by("w1")).await.is_ok());
    for refused in ["root", "look", "c1", "both", "nobody"] {
        let said = ask(&roles, PULL, by(refused)).await;
        assert_eq!(code(said), Code::PermissionDenied, "{refused}");
    }
    // tokens: instead of a certificate, and beside one of a person's
    for certificate in [None, Some("nobody"), Some("root")] {
        let see = with(certificate, &[("authorization", "Bearer see")]);
        let who = ask(&roles, GET_RUN, see).await.expect("a viewer");
        assert_eq!(who, "grafana (token) = viewer");
        let see = with(certificate, &[("authorization", "Bearer see")]);
        assert_eq!(code(ask(&roles, CANCEL, see).await), Code::PermissionDenied);
    }
    let act = with(None, &[("authorization", "bearer act")]);
    let who = ask(&roles, CANCEL, act).await.expect("an operator");
    assert_eq!(who, "ci (token) = operator shop");
    // a worker stays a worker, whatever token somebody has put beside its certificate
    let act = with(Some("w1"), &[("authorization", "Bearer act")]);
    assert_eq!(code(ask(&roles, CANCEL, act).await), Code::PermissionDenied);
    let act = with(None, &[("authorization", "Bearer act")]);
    assert_eq!(code(ask(&roles, PULL, act).await), Code::PermissionDenied);
    // who is nobody, and what is no token
    for headers in [
        &[][..],
        &[("authorization", "Bearer old")],
        &[("authorization", "Bearer other")],
        &[("authorization", "Bearer ")],
        &[("authorization", "Basic see")],
        &[("authorization", "see")],
        &[
            ("authorization", "Bearer see"),
            ("authorization", "Bearer act"),
        ],
    ] {
        let said = ask(&roles, GET_RUN, with(None, headers)).await;
        assert_eq!(code(said), Code::Unauthenticated, "{headers:?}");
    }
    // a token that is wrong is not made good by a certificate
    let wrong = with(Some("root"), &[("authorization", "Bearer other")]);
    assert_eq!(
        code(ask(&roles, GET_RUN, wrong).await),
        Code::Unauthenticated
    );
    // whether it serves is for everybody
    let nobody = with(None, &[]);
    assert!(
        ask(&roles, "/grpc.health.v1.Health/Check", nobody)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn only_a_coordinator_vouches_for_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let roles = roles(folder.path());
    let forged = [
        (RELAYED_METADATA, "1"),
        (VOUCHED_METADATA, "admin"),
        (OPERATOR_METADATA, "ann (certificate)"),
    ];
    // GIVEN a coordinator that passes a call on, THEN it is its caller's
    let call = Call {
        certificate: Some("c1"),
        headers: &forged,
    };
    let who = ask(&roles, CANCEL, call).await.expect("an admin");
    assert_eq!(
        who,
        "ann (certificate), passed on by c1 (certificate) = admin"
    );
    // WHEN anybody else says the same, THEN it says nothing
    for certificate in [Some("look"), Some("w1"), Some("nobody"), None] {
        let call = Call {
            certificate,
            headers: &forged,
        };
        let refused = ask(&roles, CANCEL, call).await.expect_err("refused");
        assert!(
            matches!(
                refused.code(),
                Code::PermissionDenied | Code::Unauthenticated
            ),
            "{certificate:?}: {refused}"
        );
    }
    // AND not even what the caller itself may do counts: it may be a coordinator that was forgotten
    for (certificate, told) in [
        (
            Some("look"),
            "look (certificate) passes a call on and is no coordinator here",
        ),
        (None, "somebody without a certificate passes a call on"),
    ] {
        let call = Call {
            certificate,
            headers: &forged,
        };
        let refused = ask(&roles, GET_RUN, call).await.expect_err("refused");
        assert!(refused.message().starts_with(told), "{refused}");
    }
    // AND no name is taken for what is said of one
    let call = Call {
        certificate: Some("ann (certificate), passed on by c1"),
        headers: &[],
    };
    let refused = ask(&roles, GET_RUN, call).await.expect_err("refused");
    assert!(refused.message().contains("reads like"), "{refused}");
    // AND a coordinator that says nothing, or of a program, passes nothing on
    for headers in [
        &[(RELAYED_METADATA, "1")][..],
        &[(RELAYED_METADATA, "1"), (VOUCHED_METADATA, "worker")],
        &[(RELAYED_METADATA, "1"), (VOUCHED_METADATA, "")],
        &[(VOUCHED_METADATA, "admin")],
    ] {
        for path in [CANCEL, PULL] {
            let call = Call {
                certificate: Some("c1"),
                headers,
            };
            let refused = ask(&roles, path, call).await.expect_err("refused");
            assert_eq!(
                refused.code(),
                Code::PermissionDenied,
                "{headers:?} {refused}"
            );
        }
    }
}

#[tokio::test]
async fn a_file_of_tokens_that_changes_is_read_and_one_that_is_gone_lets_nobody_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let roles = roles(folder.path());
    let path = folder.path().join("tokens");
    let see = || Call {
        certificate: None,
        headers: &[("authorization", "Bearer see")],
    };
    assert!(ask(&roles, GET_RUN, see()).await.is_ok());
    // WHEN its line is taken away, the file is wrong, or gone, THEN it lets nobody in
    let former = std::fs::read_to_string(&path).expect("read");
    std::fs::write(&path, "").expect("written");
    assert!(ask(&roles, GET_RUN, see()).await.is_err());
    std::fs::write(&path, format!("{former}nonsense")).expect("written");
    let refused = ask(&roles, GET_RUN, see()).await.expect_err("refused");
    assert!(refused.message().contains("its log says why"), "{refused}");
    std::fs::remove_file(&path).expect("removed");
    assert!(ask(&roles, GET_RUN, see()).await.is_err());
    // AND WHEN it is there again, THEN it does
    std::fs::write(&path, former).expect("written");
    assert!(ask(&roles, GET_RUN, see()).await.is_ok());
}

#[tokio::test]
async fn without_roles_everybody_passes() {
    let served = tower::service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(Response::new(Body::empty()))
    });
    let mut gated = Gate::new(None).layer(served);
    let request = Request::builder().uri(CANCEL).body(Body::empty());
    let answer = gated
        .call(request.expect("a request"))
        .await
        .expect("an answer");
    assert!(Status::from_header_map(answer.headers()).is_none());
}
