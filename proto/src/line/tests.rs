use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::*;

/// Who signs.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("written");
        Self { issuer, folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn identity(&self, name: &str) -> Identity {
        let path = |end: &str| self.folder.path().join(format!("{name}{end}"));
        let identity = Identity { certificate: path(".pem"), key: path(".key") };
        self.sign(name, &identity.certificate, &identity.key);
        identity
    }

    fn sign(&self, name: &str, certificate: &Path, key: &Path) {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("names");
        let own = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&own, &self.issuer).expect("signed");
        std::fs::write(certificate, signed.pem()).expect("written");
        std::fs::write(key, own.serialize_pem()).expect("written");
    }

    fn trusted(&self) -> ClientTls {
        ClientTls { authority: self.file(), identity: None, server_name: None }
    }
}

async fn serve(tls: Option<ServerTls>) -> (SocketAddr, JoinHandle<Result<(), tonic::transport::Error>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (_, health) = tonic_health::server::health_reporter();
    let callers = incoming(listener, tls).expect("files that can be used");
    let served = Server::builder().add_service(health).serve_with_incoming(callers);
    #[expect(clippy::disallowed_methods, reason = "the test owns it")]
    let serving = tokio::spawn(served.into_future());
    (address, serving)
}

async fn call(address: SocketAddr, tls: Option<ClientTls>) -> (Result<(), Status>, Option<Trouble>) {
    let line = Dialer::new(tls).line(&format!("localhost:{}", address.port())).expect("an address");
    let answered = HealthClient::new(line.channel.clone()).check(HealthCheckRequest::default()).await;
    (answered.map(drop), line.trouble())
}

#[tokio::test]
async fn calls_go_in_the_clear_over_tls_and_with_certificates_on_both_sides() {
    let authority = Authority::new("ours");
    let (clear, _) = serve(None).await;
    assert!(call(clear, None).await.0.is_ok());
    let identity = authority.identity("localhost");
    let (tls, _) = serve(Some(ServerTls { identity: identity.clone(), client_authority: None })).await;
    assert!(call(tls, Some(authority.trusted())).await.0.is_ok());
    let (mutual, _) = serve(Some(ServerTls { identity, client_authority: Some(authority.file()) })).await;
    let known = ClientTls { identity: Some(authority.identity("w1")), ..authority.trusted() };
    let (answered, trouble) = call(mutual, Some(known)).await;
    assert!(answered.is_ok() && trouble.is_none(), "{answered:?} {trouble:?}");
}

#[tokio::test]
async fn whatever_is_wrong_with_a_certificate_is_said_in_words() {
    let (authority, stranger) = (Authority::new("ours"), Authority::new("a stranger"));
    let identity = authority.identity("localhost");
    let (server, _) = serve(Some(ServerTls { identity, client_authority: Some(authority.file()) })).await;
    let (clear, _) = serve(None).await;
    let named = ClientTls { server_name: Some("db.example".to_owned()), ..authority.trusted() };
    let strange = ClientTls { identity: Some(stranger.identity("w1")), ..authority.trusted() };
    let nowhere = ClientTls { authority: "/nowhere/ca.pem".into(), ..authority.trusted() };
    for (address, tls, words) in [
        (server, stranger.trusted(), "not signed by the authority in"),
        (server, named, "not for the name db.example"),
        (server, authority.trusted(), "lets nobody in without a certificate"),
        (server, strange, "does not accept the certificate in"),
        (server, nowhere, "/nowhere/ca.pem"),
        (clear, authority.trusted(), "does not speak TLS"),
    ] {
        let (answered, trouble) = call(address, Some(tls)).await;
        assert_eq!(answered.expect_err(words).code(), Code::Unavailable, "{words}");
        let trouble = trouble.expect(words);
        assert!(trouble.to_string().contains(words) && trouble.is_distrust, "{words}: {trouble:?}");
    }
    let (answered, trouble) = call(server, None).await;
    assert!(answered.is_err());
    assert!(trouble.expect("told").to_string().contains("https://"));
}

#[tokio::test]
async fn changed_files_are_read_again_and_files_that_cannot_be_used_change_nothing() {
    let (former, later) = (Authority::new("former"), Authority::new("later"));
    let identity = former.identity("localhost");
    let (server, _) = serve(Some(ServerTls { identity: identity.clone(), client_authority: None })).await;
    assert!(call(server, Some(former.trusted())).await.0.is_ok());
    // WHEN the certificate's file is half written, THEN the former one goes on to hold
    std::fs::write(&identity.certificate, "-----BEGIN CERTIFICATE-----\nMIIB").expect("written");
    assert!(call(server, Some(former.trusted())).await.0.is_ok());
    // WHEN both files are another authority's, THEN new callers meet that one
    later.sign("localhost", &identity.certificate, &identity.key);
    assert!(call(server, Some(later.trusted())).await.0.is_ok());
    assert!(call(server, Some(former.trusted())).await.0.is_err());
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let authority = Authority::new("ours");
    let (one, other) = (authority.identity("one"), authority.identity("other"));
    let said = |identity: Identity, client_authority: Option<PathBuf>| {
        let error = ServerTls { identity, client_authority }.read().expect_err("refused");
        error.to_string()
    };
    let mixed = Identity { key: other.key, ..one.clone() };
    assert!(said(mixed, None).contains("cannot be used with the key in"));
    let empty = Identity { key: one.certificate.clone(), ..one.clone() };
    assert!(said(empty, None).starts_with("there is no private key in"));
    let missing = Identity { certificate: "/nowhere/cert.pem".into(), ..one.clone() };
    assert_eq!(said(missing, None), "cannot read certificates in /nowhere/cert.pem");
    assert!(said(one.clone(), Some(one.key.clone())).starts_with("there is no certificate in"));
}

#[test]
fn addresses_are_all_alike_and_https_knows_whom_to_trust() {
    let tls = || Some(ClientTls { authority: "ca.pem".into(), identity: None, server_name: None });
    let dial = |urls: &[&str], tls| {
        let urls: Vec<String> = urls.iter().map(ToString::to_string).collect();
        Dialer::for_addresses(&urls, tls).map(|(dialer, addresses)| (dialer.is_secure(), addresses))
    };
    let one = vec!["a:1".to_owned()];
    assert_eq!(dial(&["http://a:1/"], None), Ok((false, one.clone())));
    assert_eq!(dial(&["http://a:1"], tls()), Ok((false, one.clone())));
    assert_eq!(dial(&["a:1"], None), Ok((false, one.clone())));
    assert_eq!(dial(&["a:1"], tls()), Ok((true, one.clone())));
    assert_eq!(dial(&["https://a:1"], tls()), Ok((true, one)));
    assert!(matches!(dial(&["https://a:1"], None), Err(AddressError::NoAuthority { .. })));
    assert!(matches!(dial(&["https://a:1", "http://b:1"], tls()), Err(AddressError::Mixed { .. })));
    assert!(matches!(dial(&[], None), Err(AddressError::None)));
    for url in ["postgres://db", "http://", "http://a", "http://a:x", "http://u@a:1", "http://a:1/x"] {
        assert!(matches!(dial(&[url], None), Err(AddressError::Malformed { .. })), "{url}");
    }
}
