//! Somebody, what he may call and what he may touch; and the words of a refusal.

use std::fmt;

use super::calls::need_of;
use super::grant::{Grant, patterns};
use super::role::{Role, may};
use crate::id::PipelineName;

/// Somebody, and what he may do. The text of its grants is what a coordinator says of a caller whose
/// call it passes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Who it is and what proves it, such as `ann (certificate)`.
    pub who: String,
    /// All of his roles.
    pub grants: Vec<Grant>,
}

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No role of his may make the call.
    #[error(
        "{who} is {is} here, and {call} needs the role {needs}: ask for it whoever keeps the \
         coordinators' `roles`"
    )]
    Role {
        /// Who calls.
        who: String,
        /// What he is.
        is: String,
        /// What he asked for.
        call: String,
        /// The role that could.
        needs: Role,
    },
    /// His role does not hold for what he touches.
    #[error(
        "{who} is {is} here, and {what} needs the role {needs} of {object}: ask for it whoever \
         keeps the coordinators' `roles`"
    )]
    Object {
        /// Who calls.
        who: String,
        /// What he is.
        is: String,
        /// What he asked for.
        what: String,
        /// The role that could.
        needs: Role,
        /// What is touched.
        object: String,
    },
    /// Nobody may make it.
    #[error("{call} is no call that any role may make: command and coordinator differ in version")]
    Unknown {
        /// What was asked for.
        call: String,
    },
}

impl Principal {
    /// Whether he may make this call, as far as it does not depend on what the call touches. Performs
    /// no I/O.
    ///
    /// # Errors
    /// Why not.
    pub fn may_call(&self, path: &str) -> Result<(), Refusal> {
        let call = path.rsplit('/').next().unwrap_or_default().to_owned();
        let Some(need) = need_of(path) else {
            return Err(Refusal::Unknown { call });
        };
        let Some(needs) = need.least() else {
            return Ok(());
        };
        if self.grants.iter().any(|grant| may(grant.role, needs)) {
            return Ok(());
        }
        Err(Refusal::Role {
            who: self.who.clone(),
            is: self.to_string(),
            call,
            needs,
        })
    }

    /// Whether he may do `what` to a pipeline, or to the cluster itself where none is named.
    ///
    /// # Errors
    /// Why not.
    pub fn may_touch(
        &self,
        what: &str,
        needs: Role,
        pipeline: Option<&PipelineName>,
    ) -> Result<(), Refusal> {
        let holds = |grant: &Grant| may(grant.role, needs) && grant.holds_for(pipeline);
        if self.grants.iter().any(holds) {
            return Ok(());
        }
        Err(Refusal::Object {
            who: self.who.clone(),
            is: self.to_string(),
            what: what.to_owned(),
            needs,
            object: pipeline.map_or_else(
                || "all pipelines".to_owned(),
                |pipeline| format!("pipeline {pipeline}"),
            ),
        })
    }

    /// Whether he has this role somewhere.
    #[must_use]
    pub fn is(&self, role: Role) -> bool {
        self.grants.iter().any(|grant| grant.role == role)
    }

    /// What a coordinator says of him to another one: `operator shop,shop_*;viewer`.
    #[must_use]
    pub fn vouched(&self) -> String {
        let one = |grant: &Grant| {
            let of: Vec<&str> = grant.pipelines.iter().map(|of| of.0.as_str()).collect();
            format!("{} {}", grant.role, of.join(","))
                .trim_end()
                .to_owned()
        };
        self.grants.iter().map(one).collect::<Vec<_>>().join(";")
    }

    /// Reads what a coordinator says of somebody.
    ///
    /// # Errors
    /// It says nothing of a person.
    pub fn of_vouched(who: String, text: &str) -> Result<Self, String> {
        let one = |text: &str| {
            let (role, of) = text.split_once(' ').unwrap_or((text, ""));
            let role: Role = role.parse()?;
            if !role.is_of_person() {
                return Err(format!("a {role} makes its calls itself"));
            }
            Ok(Grant {
                role,
                pipelines: patterns(of)?,
            })
        };
        let grants = text.split(';').map(one).collect::<Result<_, String>>()?;
        Ok(Self { who, grants })
    }
}

/// `an operator of shop, shop_* and a viewer`, for people.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.grants.is_empty() {
            return f.write_str("nobody");
        }
        for (at, grant) in self.grants.iter().enumerate() {
            let article = match grant.role {
                Role::Operator | Role::Admin => "an",
                Role::Viewer | Role::Worker | Role::Coordinator => "a",
            };
            let and = if at == 0 { "" } else { " and " };
            write!(f, "{and}{article} {}", grant.role)?;
            let of: Vec<&str> = grant.pipelines.iter().map(|of| of.0.as_str()).collect();
            if !of.is_empty() {
                write!(f, " of {}", of.join(", "))?;
            }
        }
        Ok(())
    }
}
