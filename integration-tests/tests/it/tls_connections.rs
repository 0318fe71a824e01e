//! A TLS connection between two ends: what makes one, what is said when it fails, and files that
//! change.

use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use highwater_integration_tests::Authority;
use highwater_net::{ClientTls, ConnectFailure, Dialer, Identity, ServerTls, incoming};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

fn trusted(authority: &Authority) -> ClientTls {
    ClientTls {
        authority: authority.file(),
        identity: None,
        server_name: None,
    }
}

fn signed(authority: &Authority, host: &str) -> Identity {
    let (certificate, key) = authority.sign(host).unwrap();
    Identity { certificate, key }
}

async fn serve(
    tls: Option<ServerTls>,
) -> (SocketAddr, JoinHandle<Result<(), tonic::transport::Error>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (_, health) = tonic_health::server::health_reporter();
    let callers = incoming(listener, tls).expect("files that can be used");
    let served = Server::builder()
        .add_service(health)
        .serve_with_incoming(callers);
    let serving = tokio::spawn(served.into_future());
    (address, serving)
}

async fn call(
    address: SocketAddr,
    tls: Option<ClientTls>,
) -> (Result<(), Status>, Option<ConnectFailure>) {
    let connection = Dialer::new(tls)
        .connect_lazy(&format!("localhost:{}", address.port()))
        .expect("an address");
    let answered = HealthClient::new(connection.channel.clone())
        .check(HealthCheckRequest::default())
        .await;
    (answered.map(drop), connection.failure())
}

#[tokio::test]
async fn calls_go_in_the_clear_over_tls_and_with_certificates_on_both_sides() {
    let authority = Authority::new("ours").unwrap();
    let (clear, _) = serve(None).await;
    assert!(call(clear, None).await.0.is_ok());
    let identity = signed(&authority, "localhost");
    let (tls, _) = serve(Some(ServerTls {
        identity: identity.clone(),
        client_authority: None,
        is_certificate_optional: false,
    }))
    .await;
    assert!(call(tls, Some(trusted(&authority))).await.0.is_ok());
    let (mutual, _) = serve(Some(ServerTls {
        identity,
        client_authority: Some(authority.file()),
        is_certificate_optional: false,
    }))
    .await;
    let known = ClientTls {
        identity: Some(signed(&authority, "w1")),
        ..trusted(&authority)
    };
    let (answered, failure) = call(mutual, Some(known)).await;
    assert!(
        answered.is_ok() && failure.is_none(),
        "{answered:?} {failure:?}"
    );
}

#[tokio::test]
async fn whatever_is_wrong_with_a_certificate_is_said_in_words() {
    let (authority, stranger) = (
        Authority::new("ours").unwrap(),
        Authority::new("a stranger").unwrap(),
    );
    let identity = signed(&authority, "localhost");
    let (server, _) = serve(Some(ServerTls {
        identity,
        client_authority: Some(authority.file()),
        is_certificate_optional: false,
    }))
    .await;
    let (clear, _) = serve(None).await;
    let named = ClientTls {
        server_name: Some("db.example".to_owned()),
        ..trusted(&authority)
    };
    let strange = ClientTls {
        identity: Some(signed(&stranger, "w1")),
        ..trusted(&authority)
    };
    let nowhere = ClientTls {
        authority: "/nowhere/ca.pem".into(),
        ..trusted(&authority)
    };
    for (address, tls, words) in [
        (server, trusted(&stranger), "not signed by the authority in"),
        (server, named, "not for the name db.example"),
        (
            server,
            trusted(&authority),
            "lets nobody in without a certificate",
        ),
        (server, strange, "does not accept the certificate in"),
        (server, nowhere, "/nowhere/ca.pem"),
        (clear, trusted(&authority), "does not speak TLS"),
    ] {
        let (answered, failure) = call(address, Some(tls)).await;
        assert_eq!(
            answered.expect_err(words).code(),
            Code::Unavailable,
            "{words}"
        );
        let failure = failure.expect(words);
        assert!(
            failure.to_string().contains(words) && failure.is_distrust,
            "{words}: {failure:?}"
        );
    }
    let (answered, failure) = call(server, None).await;
    assert!(answered.is_err());
    assert!(failure.expect("told").to_string().contains("https://"));
}

#[tokio::test]
async fn changed_files_are_read_again_and_files_that_cannot_be_used_change_nothing() {
    let (former, later) = (
        Authority::new("former").unwrap(),
        Authority::new("later").unwrap(),
    );
    let identity = signed(&former, "localhost");
    let (server, _) = serve(Some(ServerTls {
        identity: identity.clone(),
        client_authority: None,
        is_certificate_optional: false,
    }))
    .await;
    assert!(call(server, Some(trusted(&former))).await.0.is_ok());
    // WHEN the certificate's file is half written, THEN the former one goes on to hold
    std::fs::write(&identity.certificate, "-----BEGIN CERTIFICATE-----\nMIIB").expect("written");
    assert!(call(server, Some(trusted(&former))).await.0.is_ok());
    // WHEN both files are another authority's, THEN new callers meet that one
    later
        .sign_into("localhost", &identity.certificate, &identity.key)
        .unwrap();
    assert!(call(server, Some(trusted(&later))).await.0.is_ok());
    assert!(call(server, Some(trusted(&former))).await.0.is_err());
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let authority = Authority::new("ours").unwrap();
    let (one, other) = (signed(&authority, "one"), signed(&authority, "other"));
    let said = |identity: Identity, client_authority: Option<PathBuf>| {
        let error = ServerTls {
            identity,
            client_authority,
            is_certificate_optional: false,
        }
        .read()
        .expect_err("refused");
        error.to_string()
    };
    let mixed = Identity {
        key: other.key,
        ..one.clone()
    };
    assert!(said(mixed, None).contains("cannot be used with the key in"));
    let empty = Identity {
        key: one.certificate.clone(),
        ..one.clone()
    };
    assert!(said(empty, None).starts_with("there is no private key in"));
    let missing = Identity {
        certificate: "/nowhere/cert.pem".into(),
        ..one.clone()
    };
    assert_eq!(
        said(missing, None),
        "cannot read certificates in /nowhere/cert.pem"
    );
    assert!(said(one.clone(), Some(one.key.clone())).starts_with("there is no certificate in"));
}
