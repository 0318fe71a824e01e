//! Whether roles can be told from each other as the daemon is set.

use std::path::Path;

use highwater_common::roles::{RolesConfig, TokenFile};
use highwater_net::ServerTls;
use highwater_runtime::daemon::Ending;

/// Roles need callers that prove who they are. Where people have tokens, they need no certificate.
pub(crate) fn check(roles: &RolesConfig, tls: Option<&mut ServerTls>) -> Result<(), Ending> {
    let Some(tls) = tls.filter(|tls| tls.client_authority.is_some()) else {
        return Err(Ending::usage(
            "roles are told by certificates, and by tokens that nobody may overhear: use --tls-cert, \
             --tls-key and --tls-client-ca, or leave `roles` out",
        ));
    };
    let problems = roles.problems();
    if !problems.is_empty() {
        return Err(Ending::usage(problems.join("; ")));
    }
    if roles.coordinator.is_empty() {
        tracing::warn!(
            "no certificate stands under `coordinator` in `roles`: one coordinator cannot pass a call \
             on to another one"
        );
    }
    if let Some(path) = &roles.tokens_file {
        look_at_tokens(path);
        tls.is_certificate_optional = true;
    }
    Ok(())
}

/// The file is read again at each call that sends a token. A mistake in it is told at the start, and
/// keeps out nobody but those who send one.
fn look_at_tokens(path: &Path) {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    let tokens = text.and_then(|text| TokenFile::parse(&text).map_err(|error| error.to_string()));
    let path = path.display();
    match tokens {
        Ok(tokens) => tracing::info!(tokens = tokens.len(), %path, "people may send tokens"),
        Err(why) => tracing::error!(%path, "no token lets anybody in: {why}"),
    }
}
