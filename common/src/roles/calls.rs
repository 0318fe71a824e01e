//! Every call of the coordinators' port, and the least role that may make it. A call that is not here
//! is refused.

use super::role::Role;

/// Who may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Anybody, also who proves nothing.
    Nothing,
    /// Whoever has this role, or a higher one of the same ladder.
    Least(Role),
}

impl Need {
    /// The role that is needed.
    #[must_use]
    pub const fn least(self) -> Option<Role> {
        match self {
            Self::Nothing => None,
            Self::Least(role) => Some(role),
        }
    }
}

const VIEWER: Need = Need::Least(Role::Viewer);
const OPERATOR: Need = Need::Least(Role::Operator);
const ADMIN: Need = Need::Least(Role::Admin);
const WORKER: Need = Need::Least(Role::Worker);

/// The calls of Highwater's own services, by path. What else a call needs depends on what it touches:
/// a submission that adopts a target, and one that takes back what was loaded, need an admin.
pub const CALLS: &[(&str, Need)] = &[
    // It makes workers read databases, also when it only plans.
    ("/highwater.v1.ControlService/Submit", OPERATOR),
    ("/highwater.v1.ControlService/GetRun", VIEWER),
    ("/highwater.v1.ControlService/GetPlan", VIEWER),
    ("/highwater.v1.ControlService/WatchRun", VIEWER),
    ("/highwater.v1.ControlService/ListRuns", VIEWER),
    ("/highwater.v1.ControlService/Retry", OPERATOR),
    ("/highwater.v1.ControlService/Control", OPERATOR),
    ("/highwater.v1.ControlService/ListAudit", VIEWER),
    ("/highwater.v1.ControlService/Cancel", OPERATOR),
    ("/highwater.v1.ControlService/GetCluster", VIEWER),
    ("/highwater.v1.ControlService/ListTasks", VIEWER),
    ("/highwater.v1.ControlService/ListEvents", VIEWER),
    // Workers belong to all pipelines.
    ("/highwater.v1.ControlService/SetWorker", ADMIN),
    ("/highwater.v1.ControlService/SetSchedule", OPERATOR),
    ("/highwater.v1.ControlService/ControlSchedule", OPERATOR),
    ("/highwater.v1.ControlService/ListSchedules", VIEWER),
    ("/highwater.v1.WorkerService/Register", WORKER),
    ("/highwater.v1.WorkerService/Pull", WORKER),
    ("/highwater.v1.WorkerService/Heartbeat", WORKER),
    ("/highwater.v1.WorkerService/Complete", WORKER),
    ("/highwater.v1.WorkerService/Leave", WORKER),
];

/// Services of others that are served beside, by what their calls' paths begin with.
const SERVICES: &[(&str, Need)] = &[
    // Whether it serves, and nothing of anybody's: probes prove nothing of themselves.
    ("/grpc.health.v1.Health/", Need::Nothing),
    ("/grpc.reflection.v1.ServerReflection/", VIEWER),
];

/// Who may make the call of this path; `None` for one that nobody may make.
#[must_use]
pub fn need_of(path: &str) -> Option<Need> {
    let own = CALLS.iter().find(|(call, _)| *call == path);
    let other = || SERVICES.iter().find(|(start, _)| path.starts_with(start));
    own.or_else(other).map(|(_, need)| *need)
}
