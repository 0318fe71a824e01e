//! What operators ask and have said of a run, from its JSON.

use highwater_common::controls::Controls;
use highwater_common::errand::Errand;

use crate::convert::FieldError;

/// What operators have said of a run, as it is stored; nothing means nothing.
pub(super) fn controls_from(json: &[u8]) -> Result<Controls, FieldError> {
    if json.is_empty() {
        return Ok(Controls::default());
    }
    Controls::from_json(json).map_err(|error| FieldError::new("controls", error))
}

/// The errand of a run, as it is stored and sent; nothing means none.
///
/// # Errors
/// [`FieldError`] when it cannot be read.
pub fn errand_from(json: &[u8]) -> Result<Option<Errand>, FieldError> {
    if json.is_empty() {
        return Ok(None);
    }
    Errand::from_json(json)
        .map(Some)
        .map_err(|error| FieldError::new("errand", error))
}
