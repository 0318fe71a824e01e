use proptest::prelude::*;

use super::*;
use crate::id::{DocumentDigest, PipelineName};

fn config(text: &str) -> RolesConfig {
    crate::config::parse(&format!("coordinator: {{roles: {text}}}"))
        .expect("read")
        .coordinator
        .roles
        .expect("roles")
}

fn principal(role: Role) -> Principal {
    Principal {
        who: "ann (certificate)".to_owned(),
        grants: vec![Grant::everywhere(role)],
    }
}

const CANCEL: &str = "/highwater.v1.ControlService/Cancel";
const PULL: &str = "/highwater.v1.WorkerService/Pull";

#[test]
fn each_role_makes_its_calls_and_no_other() {
    for (call, need) in CALLS {
        let needs = need.least().expect("no call of ours is for everybody");
        for role in Role::ALL {
            let expected = matches!(
                (role, needs),
                (Role::Viewer, Role::Viewer)
                    | (Role::Operator, Role::Viewer | Role::Operator)
                    | (Role::Admin, Role::Viewer | Role::Operator | Role::Admin)
                    | (Role::Worker, Role::Worker)
            );
            let said = principal(role).may_call(call);
            assert_eq!(said.is_ok(), expected, "{role} {call}: {said:?}");
        }
        // AND who has no role makes none of them
        let nobody = Principal {
            who: "x".to_owned(),
            grants: Vec::new(),
        };
        assert!(nobody.may_call(call).is_err(), "{call}");
    }
}

#[test]
fn a_call_that_nobody_has_thought_of_is_refused_also_to_an_admin() {
    for path in [
        "/highwater.v1.ControlService/DropEverything",
        "/highwater.v1.ControlService/cancel",
        "/highwater.v1.ControlService/Cancel/",
        "//highwater.v1.ControlService/Cancel",
        "/other.v1.Service/Cancel",
        "",
    ] {
        assert!(principal(Role::Admin).may_call(path).is_err(), "{path}");
    }
}

#[test]
fn a_refusal_says_who_asks_what_he_is_and_what_it_takes() {
    let refusal = principal(Role::Viewer)
        .may_call(CANCEL)
        .expect_err("refused");
    insta::assert_snapshot!(refusal, @"ann (certificate) is a viewer here, and Cancel needs the role operator: ask for it whoever keeps the coordinators' `roles`");
    let refusal = principal(Role::Admin).may_call(PULL).expect_err("refused");
    assert!(refusal.to_string().contains("the role worker"), "{refusal}");
}

#[test]
fn a_certificate_that_two_patterns_fit_has_both_roles_unless_one_is_a_programs() {
    let roles = config(
        "{viewer: ['*'], operator: [{certificate: 'ops-*', pipelines: [shop, 'shop_*']}], admin: \
         [ops-root], worker: ['w-*', 'ops-worker'], coordinator: [c1]}",
    );
    // every certificate is a viewer's: then no worker is left, which is told and not guessed
    let refused = roles.of_certificate("w-1").expect_err("two roles");
    insta::assert_snapshot!(refused, @"the certificate `w-1` has two roles here, worker and viewer, and no worker may be anything else: mend the coordinators' `roles`");
    assert!(roles.of_certificate("c1").is_err());
    let shop: PipelineName = "shop_eu".parse().expect("a name");
    let other: PipelineName = "stock".parse().expect("a name");
    // an operator of some pipelines looks at all of them, and acts on his own
    let ops = roles.of_certificate("ops-1").expect("a role");
    assert_eq!(ops.to_string(), "an operator of shop, shop_* and a viewer");
    assert!(ops.may_call(CANCEL).is_ok());
    assert!(ops.may_touch("Cancel", Role::Operator, Some(&shop)).is_ok());
    let refused = ops
        .may_touch("Cancel", Role::Operator, Some(&other))
        .expect_err("not his");
    insta::assert_snapshot!(refused, @"ops-1 (certificate) is an operator of shop, shop_* and a viewer here, and Cancel needs the role operator of pipeline stock: ask for it whoever keeps the coordinators' `roles`");
    assert!(ops.may_touch("SetWorker", Role::Operator, None).is_err());
    // the higher of two roles holds
    let root = roles.of_certificate("ops-root").expect("a role");
    assert!(root.may_touch("SetWorker", Role::Admin, None).is_ok());
    assert!(
        root.may_touch("Cancel", Role::Operator, Some(&other))
            .is_ok()
    );
}

#[test]
fn a_certificate_that_no_pattern_fits_has_no_role() {
    let roles = config("{operator: [ann], worker: ['w-*.cluster']}");
    for name in ["bob", "ANN", "ann ", "xw-1.cluster", "w-1.cluster.evil", ""] {
        assert!(roles.of_certificate(name).is_err(), "{name}");
    }
    assert!(
        roles
            .of_certificate("w-1.cluster")
            .expect("a role")
            .is(Role::Worker)
    );
}

#[test]
fn roles_that_would_let_nobody_work_are_told() {
    assert_eq!(config("{}").problems().len(), 2);
    assert_eq!(
        config("{tokens_file: f, worker: ['*']}").problems(),
        [""; 0]
    );
    let none = config("{operator: [{certificate: a, pipelines: []}], worker: [w]}");
    assert!(none.problems()[0].contains("no pipeline"), "{none:?}");
    for wrong in [
        "{operators: [ann]}",
        "{operator: ['']}",
        "{operator: [{certificate: ann, pipeline: [x]}]}",
        "{operator: [{certificate: ann}]}",
        "{operator: [{certificate: ann, pipelines: ['shop;admin']}]}",
    ] {
        let text = format!("coordinator: {{roles: {wrong}}}");
        assert!(crate::config::parse(&text).is_err(), "{wrong}");
    }
}

const HOUR: i64 = 3_600_000_000;

fn line(name: &str, role: &str, token: &str, more: &str) -> String {
    format!(
        "{name} {role} sha256:{} {more}\n",
        DocumentDigest::of(token.as_bytes())
    )
}

#[test]
fn a_token_is_known_by_its_digest_until_its_end() {
    let text = [
        "# who may do what\n\n".to_owned(),
        line(
            "ci",
            "operator",
            "one",
            "pipelines=shop,shop_* until=1970-01-01T01:00:00Z",
        ),
        line("grafana", "viewer", "two", "until=1970-01-02"),
        line("root", "admin", "three", ""),
    ];
    let file = TokenFile::parse(&text.concat()).expect("read");
    assert_eq!(file.len(), 3);
    let ci = file.find("one", HOUR - 1).expect("a token");
    assert_eq!(
        (ci.who.as_str(), ci.vouched().as_str()),
        ("ci (token)", "operator shop,shop_*")
    );
    let ended = file.find("one", HOUR).expect_err("over");
    assert!(ended.to_string().contains("`ci` has ended"), "{ended}");
    assert!(file.find("two", 24 * HOUR - 1).is_ok() && file.find("two", 24 * HOUR).is_err());
    assert!(file.find("three", i64::MAX).is_ok());
    // what is no token: another's name, a digest, nothing
    let digest = DocumentDigest::of(b"one").to_string();
    for wrong in ["", "One", "one ", "ci", digest.as_str()] {
        assert_eq!(file.find(wrong, 0), Err(TokenRefused::Unknown), "{wrong}");
    }
}

#[test]
fn a_line_that_is_wrong_is_told_by_number_and_never_repeated() {
    let secret = "hunter2";
    for wrong in [
        "ci operator hunter2",
        "ci hunter2 operator",
        "ci operator",
        "ci operator sha256:hunter2",
        "hunter2! operator sha256:x",
        &line("ci", "worker", "x", ""),
        &line("ci", "operator", "x", "hunter2"),
        &line("ci", "operator", "x", "until=hunter2"),
        &line("ci", "operator", "x", "pipelines="),
        &line("ci", "operator", "x", "pipelines=shop;admin"),
        &(line("ci", "operator", "x", "") + &line("cd", "admin", "x", "")),
        &line("ci", "operator", "x", "pipelines=shop pipelines=*"),
        &line("ci", "operator", "x", "until=2027-01-31 until=2028-01-31"),
        // written half: what would limit it is missing
        line("ci", "operator", "x", "").trim_end(),
    ] {
        let error = TokenFile::parse(&format!("\n{wrong}"))
            .expect_err("wrong")
            .to_string();
        assert!(
            error.starts_with("line ") && !error.contains(secret),
            "{wrong}: {error}"
        );
    }
    assert_eq!(
        TokenFile::parse(&"#".repeat(300 << 10)),
        Err(TokenFileError::TooLong)
    );
}

proptest! {
    #[test]
    fn what_one_coordinator_vouches_another_one_understands(
        given in prop::collection::vec(
            (0_usize..3, prop::collection::vec("[a-z_*]{1,9}", 0..3)),
            1..4,
        ),
    ) {
        let roles = [Role::Viewer, Role::Operator, Role::Admin];
        let grants = given.into_iter().map(|(role, of)| Grant {
            role: roles[role],
            pipelines: of.into_iter().map(|name| PipelinePattern::try_from(name).expect("a pattern")).collect(),
        });
        let principal = Principal { who: "x".to_owned(), grants: grants.collect() };
        let read = Principal::of_vouched("x".to_owned(), &principal.vouched());
        prop_assert_eq!(read, Ok(principal));
    }

    #[test]
    fn no_text_vouches_for_a_program_or_ends_a_process(text in "(worker|coordinator|[a-z ,;*]{0,20})") {
        if let Ok(read) = Principal::of_vouched("x".to_owned(), &text) {
            prop_assert!(!read.is(Role::Worker) && !read.is(Role::Coordinator));
        }
        let _ = TokenFile::parse(&text);
    }
}
