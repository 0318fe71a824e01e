//! The settings of the command.

use super::{Look, borderless, tame};
use crate::setting::Setting;

pub(crate) fn settings(settings: &[Setting], with_origin: bool, look: &Look) -> String {
    let row = |setting: &Setting| {
        let value = setting.value.as_deref().filter(|value| !value.is_empty());
        let mut row = vec![setting.name.clone(), value.map_or("-".to_owned(), tame)];
        if with_origin {
            row.push(match setting.whence.place() {
                Some(place) => tame(&place),
                None => "default".to_owned(),
            });
        }
        row
    };
    let header: &[&str] = match with_origin {
        true => &["setting", "value", "from"],
        false => &["setting", "value"],
    };
    borderless(look, header, &[], settings.iter().map(row).collect())
}
