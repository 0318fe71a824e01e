//! The roles, and which is enough where another one is needed.

use std::fmt;
use std::str::FromStr;

/// What somebody is on a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Looks, and changes nothing.
    Viewer,
    /// Begins, holds back, retries and cancels runs, and looks.
    Operator,
    /// Does everything that a person can do.
    Admin,
    /// A worker: pulls tasks and reports on them.
    Worker,
    /// A coordinator: passes calls of people on to the one that leads.
    Coordinator,
}

impl Role {
    pub(super) const ALL: [Self; 5] = [
        Self::Viewer,
        Self::Operator,
        Self::Admin,
        Self::Worker,
        Self::Coordinator,
    ];

    /// Its name in files and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Worker => "worker",
            Self::Coordinator => "coordinator",
        }
    }

    /// Whether it is a person's, and not a program's of the cluster.
    #[must_use]
    pub const fn is_of_person(self) -> bool {
        match self {
            Self::Viewer | Self::Operator | Self::Admin => true,
            Self::Worker | Self::Coordinator => false,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("`{text}` is no role: write viewer, operator or admin"))
    }
}

/// Whether a role is enough where another one is needed: those of people are steps of one ladder,
/// those of programs are nobody else's.
#[must_use]
pub fn may(role: Role, needs: Role) -> bool {
    if needs.is_of_person() {
        role.is_of_person() && role >= needs
    } else {
        role == needs
    }
}
