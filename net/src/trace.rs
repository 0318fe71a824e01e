//! Carries a trace from whoever makes a call to whoever answers it: W3C's context in the metadata,
//! and a span on either side that is named as OpenTelemetry names calls.
//!
//! A call has spans where it belongs to a trace, and none otherwise: heartbeats and pulls, which go
//! on for as long as a worker lives, belong to none. Never decides whether anything is recorded.

use std::pin::Pin;
use std::task::{Context, Poll};

use highwater_common::trace::TraceParent;
use opentelemetry::trace::{
    SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use tonic::Code;
use tonic::body::Body;
use tonic::codegen::http::{Extensions, HeaderMap, HeaderValue, Request, Response};
use tower::{Layer, Service};
use tracing::{Instrument as _, Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The metadata that names the caller's span.
const TRACEPARENT: &str = "traceparent";
/// How a call ended, if it did not end well.
const GRPC_STATUS: &str = "grpc-status";

/// The span that this code runs in, for whoever goes on elsewhere; `None` where nothing is traced.
#[must_use]
pub fn current() -> Option<TraceParent> {
    of(&Span::current())
}

/// A span, for whoever goes on elsewhere; `None` where nothing is traced.
#[must_use]
pub fn of(span: &Span) -> Option<TraceParent> {
    let context = span.context();
    let context = context.span().span_context().clone();
    let (trace, span) = (context.trace_id(), context.span_id());
    TraceParent::new(
        u128::from_be_bytes(trace.to_bytes()),
        u64::from_be_bytes(span.to_bytes()),
        context.is_sampled(),
    )
}

/// Puts a span that is not yet entered under one of another time or process.
pub fn put_under(span: &Span, parent: &TraceParent) {
    let context = opentelemetry::Context::new().with_remote_span_context(remote(parent));
    // Only a span that nobody records has no parent.
    span.set_parent(context).ok();
}

/// Says of a span that it goes on with what another one began, in a trace of its own.
pub fn link(span: &Span, to: &TraceParent) {
    span.add_link(remote(to));
}

/// Says of a span that what it stands for has failed, and how.
pub fn failed(span: &Span, why: impl Into<std::borrow::Cow<'static, str>>) {
    span.set_status(Status::error(why));
}

/// The span that a call belongs to, as [`ServeTraced`] has noted it; the caller's own where nobody
/// records here.
#[must_use]
pub fn of_call(extensions: &Extensions) -> Option<TraceParent> {
    extensions.get::<Belongs>().map(|belongs| belongs.0)
}

fn remote(parent: &TraceParent) -> SpanContext {
    let flags = match parent.is_sampled() {
        true => TraceFlags::SAMPLED,
        false => TraceFlags::NOT_SAMPLED,
    };
    SpanContext::new(
        TraceId::from_bytes(parent.trace().to_be_bytes()),
        SpanId::from_bytes(parent.span().to_be_bytes()),
        flags,
        true,
        TraceState::NONE,
    )
}

#[derive(Debug, Clone, Copy)]
struct Belongs(TraceParent);

/// A client's way to a service, whose calls carry the trace that they are made in.
#[derive(Debug, Clone)]
pub struct CallTraced<S>(S);

impl<S> CallTraced<S> {
    /// The same way, with traces.
    pub const fn over(inner: S) -> Self {
        Self(inner)
    }
}

/// An answer on its way.
type Answering<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<S> Service<Request<Body>> for CallTraced<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answering<S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Some(caller) = current() else {
            return Box::pin(self.0.call(request));
        };
        if !caller.is_sampled() {
            // whoever answers is not to record it either
            put_into(&mut request, &caller);
            return Box::pin(self.0.call(request));
        }
        let method = method_of(&request);
        let span = tracing::info_span!(
            "rpc",
            otel.name = method,
            otel.kind = "client",
            rpc.system.name = "grpc",
            rpc.method = method,
            rpc.response.status_code = field::Empty,
        );
        if let Some(own) = of(&span) {
            put_into(&mut request, &own);
        }
        let answer = span.in_scope(|| self.0.call(request));
        let told = span.clone();
        let answering = async move {
            let answered = answer.await;
            match &answered {
                Ok(response) => tell(&told, response.headers(), Side::Caller),
                Err(_) => {
                    told.record("rpc.response.status_code", "UNAVAILABLE");
                    failed(&told, "no answer");
                }
            }
            answered
        };
        Box::pin(answering.instrument(span))
    }
}

/// Gives each call that says which trace it belongs to a span of that trace.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServeTraced;

impl<S> Layer<S> for ServeTraced {
    type Service = ServedTraced<S>;

    fn layer(&self, inner: S) -> ServedTraced<S> {
        ServedTraced(inner)
    }
}

/// A service whose calls belong to their callers' traces.
#[derive(Debug, Clone)]
pub struct ServedTraced<S>(S);

impl<S> Service<Request<Body>> for ServedTraced<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answering<S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Some(caller) = caller(request.headers()) else {
            return Box::pin(self.0.call(request));
        };
        if !caller.is_sampled() {
            request.extensions_mut().insert(Belongs(caller));
            return Box::pin(self.0.call(request));
        }
        let method = method_of(&request);
        let span = tracing::info_span!(
            parent: None,
            "rpc",
            otel.name = method,
            otel.kind = "server",
            rpc.system.name = "grpc",
            rpc.method = method,
            rpc.response.status_code = field::Empty,
        );
        put_under(&span, &caller);
        let own = of(&span).unwrap_or(caller);
        request.extensions_mut().insert(Belongs(own));
        let answer = span.in_scope(|| self.0.call(request));
        let told = span.clone();
        let answering = async move {
            let answered = answer.await;
            if let Ok(response) = &answered {
                tell(&told, response.headers(), Side::Server);
            }
            answered
        };
        Box::pin(answering.instrument(span))
    }
}

fn put_into(request: &mut Request<Body>, caller: &TraceParent) {
    if let Ok(value) = HeaderValue::try_from(caller.to_string()) {
        request.headers_mut().insert(TRACEPARENT, value);
    }
}

fn caller(headers: &HeaderMap) -> Option<TraceParent> {
    headers.get(TRACEPARENT)?.to_str().ok()?.parse().ok()
}

/// The service and the method: a path of gRPC without its first slash. Only what is one of ours names
/// a span: whoever calls might write anything.
fn method_of(request: &Request<Body>) -> String {
    let path = request.uri().path().trim_start_matches('/');
    let is_ours = path.starts_with("highwater.") && path.len() <= 100;
    match is_ours {
        true => path.to_owned(),
        false => "other".to_owned(),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Caller,
    Server,
}

/// Notes how a call ended. An answer that tells nothing yet has begun well.
fn tell(span: &Span, headers: &HeaderMap, side: Side) {
    let code = headers.get(GRPC_STATUS);
    let code = code.map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()));
    span.record("rpc.response.status_code", name_of(code));
    if is_error(code, side) {
        failed(span, name_of(code));
    }
}

/// Whether a call that ended so has failed on this side: to a server, what a caller did wrong is no
/// failure.
const fn is_error(code: Code, side: Side) -> bool {
    match side {
        Side::Caller => !matches!(code, Code::Ok),
        Side::Server => matches!(
            code,
            Code::Unknown
                | Code::DeadlineExceeded
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss
        ),
    }
}

/// A code as OpenTelemetry writes it.
const fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
