//! The client of the control service, and what the embedded mode is asked for.

use highwater_net::trace::CallTraced;
use highwater_proto::v1::control_service_client::ControlServiceClient;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::token::Token;

const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// The client of the control service.
pub(crate) type ControlClient =
    ControlServiceClient<InterceptedService<CallTraced<Channel>, Token>>;

/// The socket of the embedded process, within its folder.
pub(crate) const CONTROL_SOCKET: &str = "control.sock";

/// What a command needs of the embedded mode. A cluster gives everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// To read: a live process answers, else the store is opened without leading it, and only if
    /// there is one.
    Read,
    /// To change something: a live process does it, else one is started with workers and without a
    /// run of its own.
    Act,
    /// To run: a process of its own, which nobody else's may be beside.
    Own,
}

/// A client whose answers may be as large as documents are, and whose calls send this token.
#[must_use]
pub(crate) fn client(channel: Channel, token: Token) -> ControlClient {
    ControlServiceClient::with_interceptor(CallTraced::over(channel), token)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
}
