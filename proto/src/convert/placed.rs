//! A number that a source gives a row, with the rule that it does so by.

use highwater_common::placing::{NoPlacingId, PlacingId};

use super::FieldError;
use crate::v1 as pb;

impl From<(PlacingId, i64)> for pb::Placed {
    fn from((rule, at): (PlacingId, i64)) -> Self {
        let rule = rule.to_string();
        Self { rule, at }
    }
}

impl TryFrom<pb::Placed> for (PlacingId, i64) {
    type Error = FieldError;

    fn try_from(pb::Placed { rule, at }: pb::Placed) -> Result<Self, FieldError> {
        let refused = |error: NoPlacingId| FieldError::new("rule", error.to_string());
        Ok((rule.parse().map_err(refused)?, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_travels_whole_or_is_refused_by_name() {
        let id: PlacingId = "00c0ffee00c0ffee".parse().expect("an id");
        let sent = pb::Placed::from((id, -7));
        assert_eq!(<(PlacingId, i64)>::try_from(sent.clone()), Ok((id, -7)));
        let damaged = pb::Placed {
            rule: "coffee".to_owned(),
            ..sent
        };
        let error = <(PlacingId, i64)>::try_from(damaged).expect_err("no rule");
        assert!(error.to_string().contains("rule"), "{error}");
    }
}
