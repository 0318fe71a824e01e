//! The coordinators' `roles`: whose certificates have which.

use serde::Deserialize;

use super::grant::{Grant, Pattern, PipelinePattern};
use super::principal::Principal;
use super::role::Role;

/// Whom the certificates of these names belong to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RolesConfig {
    /// Certificates of those who look.
    pub viewer: Vec<CertificateGrant>,
    /// Certificates of those who act on runs.
    pub operator: Vec<CertificateGrant>,
    /// Certificates of those who may do everything.
    pub admin: Vec<CertificateGrant>,
    /// Certificates of workers.
    pub worker: Vec<Pattern>,
    /// Certificates of coordinators, which pass calls on to each other.
    pub coordinator: Vec<Pattern>,
    /// The file of people's tokens.
    pub tokens_file: Option<std::path::PathBuf>,
}

/// Certificates that have a role.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum CertificateGrant {
    /// By their name, and the role holds everywhere.
    Named(Pattern),
    /// By their name, and where the role holds.
    Limited(LimitedGrant),
}

/// Certificates that have a role for some pipelines.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitedGrant {
    /// Their name.
    pub certificate: Pattern,
    /// The pipelines that they may act on.
    pub pipelines: Vec<PipelinePattern>,
}

/// Why a certificate has no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateRefused {
    /// No pattern fits its name.
    #[error(
        "the certificate `{name}` has no role here: the coordinators' `roles` name certificates that \
         have one"
    )]
    Unnamed {
        /// The certificate's.
        name: String,
    },
    /// It would be a program of the cluster and something else, too.
    #[error(
        "the certificate `{name}` has two roles here, {one} and {other}, and no {one} may be anything \
         else: mend the coordinators' `roles`"
    )]
    Ambiguous {
        /// The certificate's.
        name: String,
        /// A program's.
        one: Role,
        /// What else.
        other: Role,
    },
}

impl RolesConfig {
    /// What cannot be meant, all of it.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let acts = |grants: &[CertificateGrant]| !grants.is_empty();
        if !acts(&self.admin) && !acts(&self.operator) && self.tokens_file.is_none() {
            problems.push(
                "roles: nobody could begin a run: name certificates of an operator or an admin, or a \
                 tokens_file"
                    .to_owned(),
            );
        }
        if self.worker.is_empty() {
            problems.push("roles: no worker could work: name the workers' certificates".to_owned());
        }
        for grant in self.viewer.iter().chain(&self.operator).chain(&self.admin) {
            if let CertificateGrant::Limited(limited) = grant
                && limited.pipelines.is_empty()
            {
                problems.push(format!(
                    "roles: the certificate `{}` is limited to no pipeline: name one, or leave \
                     `pipelines` out by writing the name alone",
                    limited.certificate.0
                ));
            }
        }
        problems
    }

    /// Who shows a certificate of this name.
    ///
    /// # Errors
    /// It has no role, or two that exclude each other.
    pub fn of_certificate(&self, name: &str) -> Result<Principal, CertificateRefused> {
        let mut grants = Vec::new();
        for (role, patterns) in [
            (Role::Worker, &self.worker),
            (Role::Coordinator, &self.coordinator),
        ] {
            if patterns.iter().any(|pattern| pattern.fits(name)) {
                grants.push(Grant::everywhere(role));
            }
        }
        for (role, given) in [
            (Role::Admin, &self.admin),
            (Role::Operator, &self.operator),
            (Role::Viewer, &self.viewer),
        ] {
            grants.extend(given.iter().filter_map(|given| match given {
                CertificateGrant::Named(pattern) => {
                    pattern.fits(name).then(|| Grant::everywhere(role))
                }
                CertificateGrant::Limited(limited) => {
                    limited.certificate.fits(name).then(|| Grant {
                        role,
                        pipelines: limited.pipelines.clone(),
                    })
                }
            }));
        }
        let name = name.to_owned();
        match grants.as_slice() {
            [] => Err(CertificateRefused::Unnamed { name }),
            [one, other, ..] if !one.role.is_of_person() => Err(CertificateRefused::Ambiguous {
                name,
                one: one.role,
                other: other.role,
            }),
            _ => Ok(Principal {
                who: format!("{name} (certificate)"),
                grants,
            }),
        }
    }
}
