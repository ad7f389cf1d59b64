//! The mark that a run leaves in the cluster, and the switch that pauses it.

use kube::api::PostParams;
use kube::core::{Request, Resource};
use kube::{Api, Client};
use serde_json::json;

use crate::client::{READ_DEADLINE, within_deadline};
use crate::patch::{FIELD_MANAGER, merge};
use crate::resources::{Lease, annotation};
use crate::{ApiCall, Error};

/// Namespace of the Lease.
pub const NAMESPACE: &str = "kube-system";
/// Name of the Lease.
pub const NAME: &str = "kube-migrate";
/// Annotation: the run that is under way.
pub const RUN: &str = "kube-migrate.dev/run";
/// Annotation: where its journal is, `host:path`.
pub const JOURNAL: &str = "kube-migrate.dev/journal";
/// Annotation: its plan.
pub const PLAN: &str = "kube-migrate.dev/plan";
/// Annotation: `true` pauses whatever run is under way. It belongs to people and
/// is never written here.
pub const PAUSE: &str = "kube-migrate.dev/pause";

/// A run, where its journal is, and its plan.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct RunMark {
    /// The run.
    pub run: String,
    /// Where its journal is, `host:path`.
    pub journal: String,
    /// Its plan.
    pub plan: String,
}

impl RunMark {
    /// The mark of `run`.
    pub fn new(
        run: impl Into<String>,
        journal: impl Into<String>,
        plan: impl Into<String>,
    ) -> Self {
        Self {
            run: run.into(),
            journal: journal.into(),
            plan: plan.into(),
        }
    }
}

/// The Lease `kube-system/kube-migrate` as last read: which run is under way,
/// where its journal is, and whether someone paused it.
///
/// # Guarantees
/// Every change is made from what was read (compare and set by
/// `resourceVersion`): of two that change it at once, one gets
/// [`Error::Conflict`].
///
/// # Caveats
/// It names a run; it is no lock that times out. Whoever finds another run here
/// leaves it alone, or takes it over on purpose with [`update`](Self::update).
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Anchor {
    /// The run that is under way, if one is.
    pub mark: Option<RunMark>,
    /// Someone wants no further action to begin.
    pub paused: bool,
    /// `None` if there is no Lease.
    version: Option<String>,
}

impl Anchor {
    /// Reads the Lease; one that does not exist names no run and does not pause.
    ///
    /// # Errors
    /// Any of [`Error`] but [`Error::NotFound`].
    pub async fn read(client: &Client) -> Result<Self, Error> {
        let api = Api::<Lease>::namespaced(client.clone(), NAMESPACE);
        let lease = within_deadline(call("get"), READ_DEADLINE, api.get_opt(NAME)).await?;
        Ok(lease.map_or(
            Self {
                mark: None,
                paused: false,
                version: None,
            },
            |lease| Self::of(&lease),
        ))
    }

    /// What a Lease, as a watch shows it, says.
    pub fn of(lease: &Lease) -> Self {
        let text = |key| annotation(&lease.metadata, key).unwrap_or_default();
        let run = text(RUN);
        Self {
            mark: (!run.is_empty()).then(|| RunMark::new(run, text(JOURNAL), text(PLAN))),
            paused: text(PAUSE).eq_ignore_ascii_case("true"),
            version: lease.metadata.resource_version.clone(),
        }
    }

    /// Enters `mark` as the run that is under way. The same run may do so again,
    /// e.g. after a restart.
    ///
    /// # Errors
    /// [`Error::Conflict`] naming the other run and its journal if one is under
    /// way, or if another process was faster; any other of [`Error`].
    pub async fn claim(client: &Client, mark: &RunMark) -> Result<Self, Error> {
        let seen = Self::read(client).await?;
        match &seen.mark {
            Some(other) if other.run != mark.run => Err(Error::Conflict {
                call: call("patch"),
                message: format!(
                    "run {} is under way, its journal is {}; resume it there, or adopt it",
                    other.run, other.journal
                ),
            }),
            Some(own) if own == mark => Ok(seen),
            _ => seen.update(client, mark).await,
        }
    }

    /// Enters `mark`, whatever run was there when this was read.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the Lease has changed since; any other of [`Error`].
    pub async fn update(self, client: &Client, mark: &RunMark) -> Result<Self, Error> {
        let annotations = json!({ RUN: mark.run, JOURNAL: mark.journal, PLAN: mark.plan });
        match &self.version {
            Some(version) => set(client, version, &annotations).await,
            None => create(client, &annotations).await,
        }
    }

    /// Removes the run that was there when this was read. The pause stays: it is
    /// someone else's.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the Lease has changed since; any other of [`Error`].
    pub async fn clear(self, client: &Client) -> Result<Self, Error> {
        match (&self.version, &self.mark) {
            (Some(version), Some(_)) => {
                let annotations = json!({ RUN: null, JOURNAL: null, PLAN: null });
                set(client, version, &annotations).await
            }
            _ => Ok(self),
        }
    }
}

async fn set(
    client: &Client,
    version: &str,
    annotations: &serde_json::Value,
) -> Result<Anchor, Error> {
    let patch = json!({ "metadata": { "resourceVersion": version, "annotations": annotations } });
    let lease: Lease = merge(client, call("patch"), path(), NAME, &patch).await?;
    Ok(Anchor::of(&lease))
}

async fn create(client: &Client, annotations: &serde_json::Value) -> Result<Anchor, Error> {
    let call = call("create");
    let lease = json!({
        "apiVersion": Lease::api_version(&()),
        "kind": Lease::kind(&()),
        "metadata": { "name": NAME, "namespace": NAMESPACE, "annotations": annotations },
        "spec": {},
    });
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    match Request::new(path()).create(&params, lease.to_string().into_bytes()) {
        Ok(request) => {
            let lease = client.request::<Lease>(request);
            within_deadline(call, READ_DEADLINE, lease)
                .await
                .map(|lease| Anchor::of(&lease))
        }
        Err(error) => Err(call.failed(kube::Error::BuildRequest(error))),
    }
}

fn path() -> String {
    Lease::url_path(&(), Some(NAMESPACE))
}

fn call(verb: &'static str) -> ApiCall {
    ApiCall::new::<Lease>(verb).within(NAMESPACE).named(NAME)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::testing::{Objects, Scripted};

    const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-migrate";

    fn cluster() -> (Arc<Mutex<Objects>>, Scripted) {
        let objects = Arc::new(Mutex::new(Objects::default()));
        let api = Objects::serve(&objects);
        (objects, api)
    }

    fn mark(run: &str) -> RunMark {
        RunMark::new(run, "host:/var/journal", "plan-1")
    }

    #[tokio::test]
    async fn a_run_claims_and_clears_and_the_pause_stays() {
        let (objects, api) = cluster();
        let nothing = Anchor::read(&api.client).await.unwrap();
        assert!(nothing.mark.is_none() && !nothing.paused);
        let claimed = Anchor::claim(&api.client, &mark("run-1")).await.unwrap();
        assert_eq!(claimed.mark, Some(mark("run-1")));
        let again = Anchor::claim(&api.client, &mark("run-1")).await.unwrap();
        assert_eq!(again, claimed);

        let pause = json!({ "metadata": { "annotations": { PAUSE: "true" } } });
        objects.lock().unwrap().patch(LEASE, &pause);
        let paused = Anchor::read(&api.client).await.unwrap();
        assert!(paused.paused);
        let cleared = paused.clear(&api.client).await.unwrap();
        assert!(cleared.mark.is_none() && cleared.paused);
        let annotations = objects.lock().unwrap().object(LEASE)["metadata"]["annotations"].clone();
        assert_eq!(annotations, json!({ PAUSE: "true" }));
    }

    #[tokio::test]
    async fn another_run_is_named_and_only_replaced_on_purpose() {
        let (_objects, api) = cluster();
        Anchor::claim(&api.client, &mark("run-1")).await.unwrap();
        let error = Anchor::claim(&api.client, &mark("run-2"))
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("run-1") && error.contains("host:/var/journal"),
            "{error}"
        );

        let seen = Anchor::read(&api.client).await.unwrap();
        let late = seen.clone();
        let adopted = seen.update(&api.client, &mark("run-2")).await.unwrap();
        assert_eq!(adopted.mark, Some(mark("run-2")));
        let lost = late.update(&api.client, &mark("run-3")).await;
        assert!(matches!(lost, Err(Error::Conflict { .. })));
    }

    #[tokio::test]
    async fn of_two_that_claim_at_once_one_wins() {
        let (_objects, api) = cluster();
        let first = Anchor::read(&api.client).await.unwrap();
        let second = first.clone();
        first.update(&api.client, &mark("run-1")).await.unwrap();
        let lost = second.update(&api.client, &mark("run-2")).await;
        assert!(matches!(lost, Err(Error::Conflict { .. })));
        let left = Anchor::read(&api.client).await.unwrap();
        assert_eq!(left.mark, Some(mark("run-1")));
    }

    #[test]
    fn anything_but_true_does_not_pause() {
        for (text, paused) in [
            ("true", true),
            ("True", true),
            ("false", false),
            ("", false),
        ] {
            let lease = json!({ "metadata": { "annotations": { PAUSE: text } } });
            assert_eq!(
                Anchor::of(&serde_json::from_value(lease).unwrap()).paused,
                paused
            );
        }
    }
}
