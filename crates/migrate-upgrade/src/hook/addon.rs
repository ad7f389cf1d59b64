//! Addons upgraded by programs of the operator's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use migrate_core::{
    Action, ActionStatus, Addon, StepContext, StepError, UpgradeAddons, UpgradeComponents,
};

use super::{Child, CommandHook, Exit, executable};
use crate::Error;

/// Upgrades the addons of a policy by running their programs.
///
/// # The programs' contract
/// `apply` is run as the program of a [`CommandHook`] is, with the phases `begin`
/// and `probe` and the same exit codes; `KUBE_MIGRATE_TARGET` is `addon` and
/// `KUBE_MIGRATE_NODE` the addon's name. `verify` is run with the phase `verify`:
/// 0 = it works, 75 = not yet, ask again, anything else = it does not work. It
/// changes nothing and ends within 50 seconds. `undo` is never run.
///
/// # Guarantees
/// Those of [`CommandHook`]; its timeout is that of the addon, less what the
/// executor needs to see the program ended first.
#[derive(Debug)]
pub struct AddonHook {
    addons: BTreeMap<String, Programs>,
    verify_timeout: Duration,
}

#[derive(Debug)]
struct Programs {
    apply: CommandHook,
    verify: PathBuf,
}

impl AddonHook {
    /// Runs the programs of `addons`.
    ///
    /// # Errors
    /// [`Error::BadHook`] when an addon names no program for `apply` or `verify`,
    /// or one of its three is not an executable file.
    pub fn new(addons: &[Addon]) -> Result<Self, Error> {
        let with_programs = |addon: &Addon| {
            let apply = named(addon, "apply", addon.apply.as_deref())?;
            let verify = executable(named(addon, "verify", addon.verify.as_deref())?)?;
            addon.undo.clone().map(executable).transpose()?;
            let limit = addon.timeout;
            let limit = (limit / 2).max(limit.saturating_sub(Duration::from_secs(30)));
            let apply = CommandHook::new(apply.clone(), apply)?.with_timeout(limit);
            Ok((addon.name.clone(), Programs { apply, verify }))
        };
        Ok(Self {
            addons: addons
                .iter()
                .map(with_programs)
                .collect::<Result<_, Error>>()?,
            verify_timeout: Duration::from_secs(50),
        })
    }

    /// Ends a `verify` that takes longer than `timeout` (default 50 seconds).
    #[must_use]
    pub fn with_verify_timeout(mut self, timeout: Duration) -> Self {
        self.verify_timeout = timeout;
        self
    }

    /// The addons by name, and what applies each.
    pub(super) fn appliers(&self) -> impl Iterator<Item = (&String, &CommandHook)> {
        let addons = self.addons.iter();
        addons.map(|(name, programs)| (name, &programs.apply))
    }

    fn programs(&self, action: &Action) -> Result<&Programs, Error> {
        let name = action.target.name();
        self.addons.get(name).ok_or_else(|| Error::BadHook {
            path: PathBuf::from(name),
            reason: "no such addon is in the policy; go on with the policy of the run".to_owned(),
        })
    }
}

fn named(addon: &Addon, what: &str, program: Option<&Path>) -> Result<PathBuf, Error> {
    let program = program.map(Path::to_owned);
    program.ok_or_else(|| Error::BadHook {
        path: PathBuf::from(&addon.name),
        reason: format!("the addon names no program for {what}; name one in the policy"),
    })
}

#[async_trait]
impl UpgradeComponents for AddonHook {
    async fn begin(&self, cx: &StepContext, action: &Action) -> Result<(), StepError> {
        self.programs(action)?.apply.begin(cx, action).await
    }

    async fn probe(&self, cx: &StepContext, action: &Action) -> Result<ActionStatus, StepError> {
        self.programs(action)?.apply.probe(cx, action).await
    }
}

#[async_trait]
impl UpgradeAddons for AddonHook {
    async fn verify(&self, cx: &StepContext, action: &Action) -> Result<(), StepError> {
        let verify = &self.programs(action)?.verify;
        let environment = CommandHook::environment(cx, action, "verify");
        let mut child = Child::start(verify, environment, false)?;
        let path = verify.clone();
        let error = match child.wait(self.verify_timeout).await {
            Exit::Code(0, _) => return Ok(()),
            Exit::Code(75, said) => Error::HookPutsOff { path, said },
            Exit::Code(code, said) => Error::NotVerified {
                path,
                reason: format!("exited with {code}{said}"),
            },
            Exit::Killed(said) => Error::NotVerified {
                path,
                reason: format!("was ended by a signal{said}"),
            },
            Exit::Running | Exit::TimedOut => Error::ProbeHangs {
                path,
                limit: self.verify_timeout,
            },
        };
        Err(error.into())
    }
}
