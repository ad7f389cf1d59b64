//! Addons, a part of step 3.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use futures::future::BoxFuture;

use super::{StepError, UpgradeComponents};
use crate::{Action, ActionId, ActionStatus, Outcome, StepContext};

/// A part of step 3: upgrades addons ([`Target::Addon`](crate::Target::Addon)) at
/// points of the run.
///
/// # Guarantees
/// `begin` and `probe` as for a member or node, for the phase `Upgrade`; an
/// addon that is as it should be before its `begin` makes that do nothing, for
/// every run upgrades every addon. `verify` changes nothing.
///
/// # Errors
/// `begin` and `probe` as for a member or node; `verify` see there.
#[async_trait]
pub trait UpgradeAddons: UpgradeComponents {
    /// Whether the addon of `action`, whose upgrade has ended well, works. The
    /// run does not go on before it does.
    ///
    /// # Errors
    /// `Unavailable` and `Deadline`: not yet, or nobody knows; the executor asks
    /// again until the time of the addon is up. Every other kind: it does not
    /// work, and waiting does not help, which stops the run.
    async fn verify(&self, cx: &StepContext, action: &Action) -> Result<(), StepError>;
}

/// Two closures that upgrade addons, see [`addon_fn`].
pub struct AddonFn<A, V> {
    apply: A,
    verify: V,
    applied: Mutex<BTreeSet<ActionId>>,
}

/// Upgrades addons by closures: `apply` upgrades one to its end, within a minute,
/// and `verify` is [`UpgradeAddons::verify`].
///
/// What has been applied is known to this process alone. After a crash, and
/// when an answer took too long, it is applied again: `apply` must do nothing
/// to an addon that is as it should be.
///
/// ```
/// use std::sync::Arc;
///
/// use migrate_core::UpgradeAddons;
/// use migrate_core::steps::addon_fn;
///
/// let addons: Arc<dyn UpgradeAddons> = Arc::new(addon_fn(
///     |_, action| Box::pin(async move { println!("{action}"); Ok(()) }),
///     |_, _| Box::pin(async { Ok(()) }),
/// ));
/// ```
pub fn addon_fn<A, V>(apply: A, verify: V) -> AddonFn<A, V>
where
    A: for<'a> Fn(&'a StepContext, &'a Action) -> BoxFuture<'a, Result<(), StepError>>
        + Send
        + Sync,
    V: for<'a> Fn(&'a StepContext, &'a Action) -> BoxFuture<'a, Result<(), StepError>>
        + Send
        + Sync,
{
    AddonFn {
        apply,
        verify,
        applied: Mutex::default(),
    }
}

#[async_trait]
impl<A, V> UpgradeComponents for AddonFn<A, V>
where
    A: for<'a> Fn(&'a StepContext, &'a Action) -> BoxFuture<'a, Result<(), StepError>>
        + Send
        + Sync,
    V: Send + Sync,
{
    async fn begin(&self, cx: &StepContext, action: &Action) -> Result<(), StepError> {
        (self.apply)(cx, action).await?;
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        applied.insert(action.id.clone());
        Ok(())
    }

    async fn probe(&self, _: &StepContext, action: &Action) -> Result<ActionStatus, StepError> {
        let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match applied.contains(&action.id) {
            true => ActionStatus::Succeeded(Outcome::SameNode),
            false => ActionStatus::Absent,
        })
    }
}

#[async_trait]
impl<A, V> UpgradeAddons for AddonFn<A, V>
where
    A: for<'a> Fn(&'a StepContext, &'a Action) -> BoxFuture<'a, Result<(), StepError>>
        + Send
        + Sync,
    V: for<'a> Fn(&'a StepContext, &'a Action) -> BoxFuture<'a, Result<(), StepError>>
        + Send
        + Sync,
{
    async fn verify(&self, cx: &StepContext, action: &Action) -> Result<(), StepError> {
        (self.verify)(cx, action).await
    }
}
