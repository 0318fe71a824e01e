//! Specs that come with a call.

use highwater_common::capability::Capabilities;
use highwater_common::spec::{self, Spec};
use highwater_proto::convert::FieldError;

use crate::coordinator::CoordinatorHandle;
use crate::error::ServiceError;
use crate::leader::listed;

/// The longest folder that a pipeline may lie in, in bytes: it stands in a record.
const BASE_DIR_BYTES_MAX: usize = 2048;

/// The spec of a call, held to every rule, and to what this coordinator allows.
pub(super) fn spec_of(
    handle: &CoordinatorHandle,
    canonical: &[u8],
    base_dir: &str,
) -> Result<Spec, ServiceError> {
    let spec = spec::from_canonical(canonical)
        .map_err(|problems| ServiceError::InvalidSpec(listed(&problems)))?;
    if !handle.options().allow_noop
        && let Some((name, _)) = spec
            .steps
            .iter()
            .find(|(_, step)| step.strategy.load().needs().hold(Capabilities::NOOP))
    {
        return Err(ServiceError::NoopRefused(name.clone()));
    }
    if base_dir.len() > BASE_DIR_BYTES_MAX {
        let problem = format!("{} bytes, at most {BASE_DIR_BYTES_MAX}", base_dir.len());
        return Err(FieldError::new("base_dir", problem).into());
    }
    Ok(spec)
}
