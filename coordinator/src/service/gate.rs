//! Stands before every call of the port: finds out who calls, and refuses whoever may not. Decides
//! nothing: `highwater_common::roles` says what each role may do.
//!
//! Without roles everybody passes, as far as the port lets him in.

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use highwater_common::id::PipelineName;
use highwater_common::roles::{
    CertificateRefused, Need, Principal, Role, RolesConfig, TokenFile, need_of,
};
use highwater_net::Caller;
use highwater_proto::{OPERATOR_METADATA, RELAYED_METADATA, VOUCHED_METADATA};
use tonic::body::Body;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::{Extensions, Status};
use tower::Service;
use tower::layer::Layer;

use super::operator::printable;
use crate::clock::Clock;

/// Finds out who calls, and refuses whoever may not.
#[derive(Debug, Clone)]
pub struct Gate {
    roles: Option<Arc<RolesConfig>>,
    clock: Clock,
}

impl Gate {
    pub(super) fn new(roles: Option<RolesConfig>) -> Self {
        Self {
            roles: roles.map(Arc::new),
            clock: Clock::default(),
        }
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated {
            inner,
            gate: self.clone(),
        }
    }
}

/// A service behind the gate.
#[derive(Debug, Clone)]
pub struct Gated<S> {
    inner: S,
    gate: Gate,
}

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Some(roles) = self.gate.roles.clone() else {
            return Box::pin(self.inner.call(request));
        };
        let clock = self.gate.clock;
        // The one that is ready makes the call; its copy is made ready for the next.
        let copy = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, copy);
        Box::pin(async move {
            match admit(&roles, clock, &mut request).await {
                Ok(()) => ready.call(request).await,
                Err(refused) => {
                    tracing::warn!(
                        call = request.uri().path(),
                        "refused: {}",
                        refused.message()
                    );
                    Ok(refused.into_http())
                }
            }
        })
    }
}

/// Leaves with the call who makes it, and takes away what only the gate reads.
async fn admit(
    roles: &RolesConfig,
    clock: Clock,
    request: &mut Request<Body>,
) -> Result<(), Status> {
    let path = request.uri().path().to_owned();
    if need_of(&path) == Some(Need::Nothing) {
        return Ok(());
    }
    let caller = request.extensions().get::<Caller>();
    let name = caller.and_then(|caller| caller.certificate.clone());
    if name
        .as_deref()
        .is_some_and(|name| is_misleading(&without_controls(name)))
    {
        return Err(Status::permission_denied(
            "the name in the certificate reads like what is said of a caller; use one without \
             `(certificate)`, `(token)` and `passed on by`",
        ));
    }
    let by_certificate = name.map(|name| roles.of_certificate(&name).map(with_printable_name));
    let principal = match by_certificate {
        // A program is what its certificate says, whatever it sends beside.
        Some(Ok(program)) if program.is(Role::Worker) => program,
        Some(Ok(program)) if program.is(Role::Coordinator) => {
            passed_on(program, request.headers())?
        }
        Some(Err(error @ CertificateRefused::Ambiguous { .. })) => {
            return Err(Status::permission_denied(error.to_string()));
        }
        person if request.headers().contains_key(RELAYED_METADATA) => {
            return Err(Status::permission_denied(no_coordinator(person)));
        }
        person => match (token(request.headers())?, person) {
            (Some(token), _) => of_token(roles, clock, &token).await?,
            (None, Some(person)) => {
                person.map_err(|error| Status::permission_denied(error.to_string()))?
            }
            (None, None) => {
                return Err(Status::unauthenticated(
                    "nobody knows who you are: show a certificate by --tls-cert and --tls-key, or send a \
                     token by --token-file or HIGHWATER_TOKEN",
                ));
            }
        },
    };
    principal
        .may_call(&path)
        .map_err(|refusal| Status::permission_denied(refusal.to_string()))?;
    request.headers_mut().remove(AUTHORIZATION);
    request.headers_mut().remove(VOUCHED_METADATA);
    request.extensions_mut().insert(Arc::new(principal));
    Ok(())
}

/// Whether an audit record would take the name for more than it is.
fn is_misleading(name: &str) -> bool {
    ["(certificate)", "(token)", "passed on by"]
        .iter()
        .any(|words| name.contains(words))
}

fn with_printable_name(principal: Principal) -> Principal {
    Principal {
        who: without_controls(&principal.who),
        ..principal
    }
}

fn without_controls(name: &str) -> String {
    name.chars().filter(|one| !one.is_control()).collect()
}

/// What is said of a call that somebody passes on who is no coordinator here: it would count as his.
fn no_coordinator(person: Option<Result<Principal, CertificateRefused>>) -> String {
    let who = match person {
        Some(Ok(person)) => person.who,
        Some(Err(error)) => return error.to_string(),
        None => "somebody without a certificate".to_owned(),
    };
    format!(
        "{who} passes a call on and is no coordinator here: name the certificates of all coordinators \
         under `coordinator` in `roles`"
    )
}

/// Whose call a coordinator passes on, as it says; or the coordinator itself, which may call nothing.
fn passed_on(coordinator: Principal, headers: &HeaderMap) -> Result<Principal, Status> {
    if !headers.contains_key(RELAYED_METADATA) {
        return Ok(coordinator);
    }
    let said = |name: &str| {
        let said = headers.get(name)?;
        std::str::from_utf8(said.as_bytes()).ok()
    };
    let who = said(OPERATOR_METADATA).map_or_else(|| "somebody".to_owned(), printable);
    let who = format!("{who}, passed on by {}", coordinator.who);
    let vouched = said(VOUCHED_METADATA).map(|vouched| Principal::of_vouched(who, vouched));
    match vouched {
        Some(Ok(principal)) => Ok(principal),
        Some(Err(_)) | None => Err(Status::permission_denied(format!(
            "{} passes a call on and does not say what its caller may do: give all coordinators the \
             same `roles`, and the same version",
            coordinator.who
        ))),
    }
}

/// The token of a call.
fn token(headers: &HeaderMap) -> Result<Option<String>, Status> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(given), None) = (all.next(), all.next()) else {
        return match headers.contains_key(AUTHORIZATION) {
            true => Err(Status::unauthenticated("a call sends one token")),
            false => Ok(None),
        };
    };
    let token = given.to_str().ok().and_then(|given| {
        let (scheme, token) = given.split_once(' ')?;
        let token = token.trim();
        (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
    });
    match token {
        Some(token) => Ok(Some(token.to_owned())),
        None => Err(Status::unauthenticated(
            "what is sent as authorization is no bearer token",
        )),
    }
}

/// Who sends this token, as the file says now. A file that cannot be read lets nobody in: it may
/// have been taken away for that.
async fn of_token(roles: &RolesConfig, clock: Clock, token: &str) -> Result<Principal, Status> {
    let Some(path) = &roles.tokens_file else {
        return Err(Status::unauthenticated(
            "a token was sent, and there are none here: the coordinators' `roles` have no tokens_file",
        ));
    };
    let tokens = read(path).await.map_err(|why| {
        tracing::error!(path = %path.display(), "no token lets anybody in: {why}");
        Status::unauthenticated(
            "the coordinator cannot read its tokens_file, and lets nobody in by a token; its log \
             says why",
        )
    })?;
    tokens
        .find(token, clock.wall_micros())
        .map_err(|refused| Status::unauthenticated(refused.to_string()))
}

async fn read(path: &Path) -> Result<TokenFile, String> {
    let text = tokio::fs::read_to_string(path).await;
    let text = text.map_err(|error| error.to_string())?;
    TokenFile::parse(&text).map_err(|error| error.to_string())
}

/// What the caller may do to what his call touches.
#[derive(Debug, Clone)]
pub(super) struct Permit(Option<Arc<Principal>>);

impl Permit {
    /// Of whoever makes the call; everything where there are no roles.
    pub(super) fn of(extensions: &Extensions) -> Self {
        Self(extensions.get::<Arc<Principal>>().cloned())
    }

    /// Refuses unless he has this role of the pipeline, or of the cluster where none is named.
    pub(super) fn check(
        &self,
        what: &str,
        needs: Role,
        pipeline: Option<&PipelineName>,
    ) -> Result<(), Status> {
        let Some(principal) = &self.0 else {
            return Ok(());
        };
        let said = principal.may_touch(what, needs, pipeline);
        said.map_err(|refusal| {
            tracing::warn!("refused: {refusal}");
            Status::permission_denied(refusal.to_string())
        })
    }
}
