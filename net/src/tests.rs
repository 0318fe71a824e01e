use super::*;

#[test]
fn addresses_are_all_alike_and_https_knows_whom_to_trust() {
    let tls = || {
        Some(ClientTls {
            authority: "ca.pem".into(),
            identity: None,
            server_name: None,
        })
    };
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
    assert!(matches!(
        dial(&["https://a:1"], None),
        Err(AddressError::NoAuthority { .. })
    ));
    assert!(matches!(
        dial(&["https://a:1", "http://b:1"], tls()),
        Err(AddressError::Mixed { .. })
    ));
    assert!(matches!(dial(&[], None), Err(AddressError::None)));
    for url in [
        "postgres://db",
        "http://",
        "http://a",
        "http://a:x",
        "http://u@a:1",
        "http://a:1/x",
    ] {
        assert!(
            matches!(dial(&[url], None), Err(AddressError::Malformed { .. })),
            "{url}"
        );
    }
}
