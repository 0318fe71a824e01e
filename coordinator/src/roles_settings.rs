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
    if let Some(path) = &roles.tokens_file {
        read_tokens(path)?;
        tls.is_certificate_optional = true;
    }
    Ok(())
}

/// The file is read again at each call that sends a token; a mistake in it is told at the start.
fn read_tokens(path: &Path) -> Result<(), Ending> {
    let wrong = |why: String| {
        let path = path.display();
        Ending::usage(format!("the tokens_file {path} cannot be used: {why}"))
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let tokens = TokenFile::parse(&text).map_err(|error| wrong(error.to_string()))?;
    tracing::info!(tokens = tokens.len(), path = %path.display(), "people may send tokens");
    Ok(())
}
