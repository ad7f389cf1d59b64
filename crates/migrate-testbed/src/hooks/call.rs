//! One call of the hook program and its answer.

use std::fmt;

/// What the tool asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Call {
    pub(super) phase: Phase,
    /// Identity of the action; the same in its begin and all its probes.
    pub(super) action: String,
    pub(super) target: Target,
    /// Version to reach, with `v`.
    pub(super) to: String,
    /// Epoch of the runner that calls.
    pub(super) epoch: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    Begin,
    Probe,
}

/// What is to be upgraded.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Target {
    /// A member of the control plane. There is one here, under any name.
    ControlPlane(String),
    Node(String),
}

/// The hook program's exit code and its line of output.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Answer {
    /// Begin: under way, or done before.
    Accepted(String),
    /// Probe: done.
    Succeeded(String),
    /// Probe: under way.
    Running(String),
    /// Probe: never begun.
    Absent(String),
    /// Begin: try again later. Probe: failed, and a new begin may succeed.
    Later(String),
    /// Failed for good.
    Failed(String),
}

impl Call {
    /// Lines that make one call.
    pub(super) const FIELDS: usize = 6;

    /// Parses the environment as the hook program sends it; an error says in
    /// words what is wrong.
    pub(super) fn parse(fields: Vec<String>) -> Result<Self, String> {
        let Ok([phase, action, target, node, to, epoch]) =
            <[String; Self::FIELDS]>::try_from(fields)
        else {
            return Err("the hook program sent too few lines".to_owned());
        };
        let empty = [
            (&action, "KUBE_MIGRATE_ACTION_ID"),
            (&node, "KUBE_MIGRATE_NODE"),
            (&to, "KUBE_MIGRATE_TO"),
        ];
        if let Some((_, name)) = empty.into_iter().find(|(value, _)| value.is_empty()) {
            return Err(format!("{name} is not set"));
        }
        Ok(Self {
            phase: match phase.as_str() {
                "begin" => Phase::Begin,
                "probe" => Phase::Probe,
                other => return Err(format!("KUBE_MIGRATE_PHASE is {other:?}")),
            },
            action,
            target: match target.as_str() {
                "control-plane" => Target::ControlPlane(node),
                "node" => Target::Node(node),
                other => return Err(format!("KUBE_MIGRATE_TARGET is {other:?}")),
            },
            to: format!("v{}", to.trim_start_matches('v')),
            epoch: epoch
                .parse()
                .map_err(|_| format!("KUBE_MIGRATE_EPOCH is {epoch:?}"))?,
        })
    }
}

impl Answer {
    fn code_and_message(&self) -> (u8, &str) {
        match self {
            Self::Accepted(message) | Self::Succeeded(message) => (0, message),
            Self::Running(message) => (10, message),
            Self::Absent(message) => (20, message),
            Self::Later(message) => (75, message),
            Self::Failed(message) => (1, message),
        }
    }
}

/// The line that the hook program reads.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, message) = self.code_and_message();
        write!(f, "{code} {}", message.replace('\n', "; "))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ControlPlane(member) => write!(f, "control plane member {member}"),
            Self::Node(name) => write!(f, "node {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(changed: Option<(usize, &str)>) -> Vec<String> {
        let mut fields = ["begin", "a-1", "node", "n", "v1.37.2", "3"].map(str::to_owned);
        if let Some((index, value)) = changed {
            fields[index] = value.to_owned();
        }
        fields.to_vec()
    }

    #[test]
    fn a_call_is_taken_whole_or_refused_by_name() {
        let call = Call::parse(fields(None)).unwrap();
        assert_eq!(call.target, Target::Node("n".to_owned()));
        assert_eq!((call.phase, call.epoch), (Phase::Begin, 3));
        for (index, value, named) in [
            (0, "start", "KUBE_MIGRATE_PHASE"),
            (1, "", "KUBE_MIGRATE_ACTION_ID"),
            (2, "", "KUBE_MIGRATE_TARGET"),
            (3, "", "KUBE_MIGRATE_NODE"),
            (4, "", "KUBE_MIGRATE_TO"),
            (5, "", "KUBE_MIGRATE_EPOCH"),
        ] {
            let problem = Call::parse(fields(Some((index, value)))).unwrap_err();
            assert!(problem.contains(named), "{problem}");
        }
    }

    #[test]
    fn an_answer_is_one_line() {
        let answer = Answer::Failed("first\nsecond".to_owned());
        assert_eq!(answer.to_string(), "1 first; second");
    }
}
