//! The mark that a run leaves in the cluster, the epoch of who holds it, and the
//! switch that pauses it.

#[cfg(test)]
mod tests;

use std::time::Duration;

use kube::api::PostParams;
use kube::core::{Request, Resource};
use kube::{Api, Client};
use migrate_core::{Fence, Moment};
use serde_json::{Value, json};

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
/// Annotation of the Lease: the epoch of the last holder. It only grows, and
/// stays when a run ends. On a node: the epoch that last wrote there.
pub const EPOCH: &str = "kube-migrate.dev/epoch";
/// Annotation: `true` pauses whatever run is under way. It belongs to people and
/// is never written here.
pub const PAUSE: &str = "kube-migrate.dev/pause";

/// How often a change is tried anew when the Lease changes meanwhile.
const ATTEMPTS: u32 = 5;

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

/// Who holds the run, by the fields that Leases have for it.
///
/// Two equal ones say that it was not renewed in between; whoever has seen that
/// for as long as it [`lasts`](Self::lasts), on a clock of its own, may take the
/// holder for gone. That is about who goes on, not about safety: see [`Anchor`].
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Holder {
    /// The journal it writes to, `host:path`.
    pub identity: String,
    /// When it last renewed, by its clock: to be compared for equality only.
    pub renewed: String,
    /// How long without a renewal it is waited for.
    pub lasts: Duration,
}

/// What it takes to hold a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Claim {
    /// The run, its journal and its plan. The journal is the holder's identity.
    pub mark: RunMark,
    /// The highest epoch known from elsewhere, as from the journal.
    pub floor: u64,
    /// How long others wait without a renewal.
    pub lasts: Duration,
    /// A holder that was not seen to renew for as long as it lasts.
    pub lapsed: Option<Holder>,
}

impl Claim {
    /// To hold the run of `mark`, which others take for gone when it was not
    /// renewed for as long as it `lasts`, in whole seconds.
    pub fn new(mark: RunMark, lasts: Duration) -> Self {
        Self {
            mark,
            floor: 0,
            lasts,
            lapsed: None,
        }
    }

    /// With the highest epoch that is known from elsewhere.
    #[must_use]
    pub fn with_floor(mut self, floor: u64) -> Self {
        self.floor = floor;
        self
    }

    /// May displace this holder, unless it has renewed since.
    #[must_use]
    pub fn with_lapsed(mut self, lapsed: Option<Holder>) -> Self {
        self.lapsed = lapsed;
        self
    }
}

/// The Lease `kube-system/kube-migrate` as last read: which run is under way,
/// where its journal is, who holds it under which epoch, and whether someone
/// paused it.
///
/// # Guarantees
/// * Every change is made from what was read (compare and set by
///   `resourceVersion`): of two that change it at once, one gets
///   [`Error::Conflict`] or what the other has written.
/// * Every [`claim`](Self::claim) takes an epoch that nobody has had before, as
///   long as the Lease is neither deleted nor restored to what it was.
/// * Who holds an epoch changes nodes only through functions that read the node,
///   then the Lease, and write from that version of the node, such as
///   [`cordon`](crate::cordon()): once a new holder has stamped a node, no write
///   of an older one takes effect on it. No clock is compared for that.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Anchor {
    /// The run that is under way, if one is.
    pub mark: Option<RunMark>,
    /// The epoch of the last holder; 0 before the first.
    pub epoch: u64,
    /// Who holds the run; absent once it has ended.
    pub holder: Option<Holder>,
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
                epoch: 0,
                holder: None,
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
        let spec = &lease.spec;
        let identity = spec.holder_identity.clone().filter(|name| !name.is_empty());
        Self {
            mark: (!run.is_empty()).then(|| RunMark::new(run, text(JOURNAL), text(PLAN))),
            epoch: text(EPOCH).parse().unwrap_or(0),
            holder: identity.map(|identity| Holder {
                identity,
                renewed: spec.renew_time.clone().unwrap_or_default(),
                lasts: Duration::from_secs(spec.lease_duration_seconds.unwrap_or(0).into()),
            }),
            paused: text(PAUSE).eq_ignore_ascii_case("true"),
            version: lease.metadata.resource_version.clone(),
        }
    }

    /// Whether it names no other journal than `journal`, neither as its run's nor
    /// as its holder: nobody but the runner of that one can be at work.
    pub fn names_no_other(&self, journal: &str) -> bool {
        let holds = self.holder.as_ref().map(|holder| &holder.identity);
        let runs = self.mark.as_ref().map(|mark| &mark.journal);
        [holds, runs]
            .iter()
            .flatten()
            .all(|named| *named == journal)
    }

    /// Takes the next epoch for the run of `claim`: one more than the Lease and
    /// the claim know of. `now` is written as the time of the renewal. The
    /// journal that holds the run already takes it anew.
    ///
    /// # Errors
    /// [`Error::Conflict`] naming the other run if one is under way, or the
    /// holder if it is another one and not the lapsed one of the claim, or if
    /// another process was faster; any other of [`Error`].
    pub async fn claim(client: &Client, claim: &Claim, now: Moment) -> Result<Self, Error> {
        let seen = Self::read(client).await?;
        let conflict = |message| Error::Conflict {
            call: call("patch"),
            message,
        };
        if let Some(other) = seen.mark.as_ref().filter(|it| it.run != claim.mark.run) {
            return Err(conflict(format!(
                "run {} is under way, its journal is {}; resume it there, or adopt it",
                other.run, other.journal
            )));
        }
        let other = |holder: &&Holder| holder.identity != claim.mark.journal;
        match seen.holder.as_ref().filter(other) {
            Some(holder) if claim.lapsed.as_ref() != Some(holder) => Err(conflict(format!(
                "it is held by {}, which may be at work; stop that runner, then adopt its run",
                holder.identity
            ))),
            _ => seen.take(client, claim, now).await,
        }
    }

    /// Enters the run of `claim` under the next epoch, whatever was there when
    /// this was read.
    async fn take(self, client: &Client, claim: &Claim, now: Moment) -> Result<Self, Error> {
        let mark = &claim.mark;
        let epoch = self.epoch.max(claim.floor).saturating_add(1);
        let annotations = json!({
            RUN: mark.run, JOURNAL: mark.journal, PLAN: mark.plan, EPOCH: epoch.to_string(),
        });
        let spec = json!({
            "holderIdentity": mark.journal,
            "leaseDurationSeconds": claim.lasts.as_secs().max(1),
            "acquireTime": micro_time(now),
            "renewTime": micro_time(now),
        });
        match &self.version {
            Some(version) => set(client, version, &annotations, &spec).await,
            None => create(client, &annotations, &spec).await,
        }
    }

    /// Renews the Lease if `mark` holds it under `epoch`; gives what is there,
    /// which is for the caller to judge. Nothing is written if it is not ours.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the Lease keeps changing; any other of [`Error`].
    pub async fn renew(
        client: &Client,
        mark: &RunMark,
        epoch: u64,
        now: Moment,
    ) -> Result<Self, Error> {
        let mut attempt = 1;
        loop {
            let seen = Self::read(client).await?;
            let (Some(version), true) = (&seen.version, seen.is_held_by(mark, epoch)) else {
                return Ok(seen);
            };
            let spec = json!({ "renewTime": micro_time(now) });
            match set(client, version, &json!({}), &spec).await {
                // A person may write a pause at the same moment.
                Err(Error::Conflict { .. }) if attempt < ATTEMPTS => attempt += 1,
                renewed => return renewed,
            }
        }
    }

    /// Removes the run and its holder that were there when this was read. The
    /// pause stays: it is someone else's; and so does the epoch, from which the
    /// next holder goes on.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the Lease has changed since; any other of [`Error`].
    pub async fn clear(self, client: &Client) -> Result<Self, Error> {
        match (&self.version, &self.mark) {
            (Some(version), Some(_)) => {
                let annotations = json!({ RUN: null, JOURNAL: null, PLAN: null });
                let spec = json!({ "holderIdentity": null });
                set(client, version, &annotations, &spec).await
            }
            _ => Ok(self),
        }
    }

    /// Whether `mark` is what is under way, under this epoch.
    pub fn is_held_by(&self, mark: &RunMark, epoch: u64) -> bool {
        let same = |own: &RunMark| own.run == mark.run && own.journal == mark.journal;
        self.epoch == epoch && self.mark.as_ref().is_some_and(same)
    }

    /// Whether who acts under `fence` may write, as far as the Lease says;
    /// `call` is what it wants to do.
    pub(crate) fn admits(&self, fence: &Fence, call: &ApiCall) -> Result<(), Error> {
        let is_ours = |mark: &RunMark| mark.run == fence.run;
        if self.epoch == fence.epoch && self.mark.as_ref().is_some_and(is_ours) {
            return Ok(());
        }
        Err(Error::Fenced {
            call: call.clone(),
            ours: fence.epoch,
            found: self.epoch,
        })
    }
}

/// As the API writes it, and with as much of it as a [`Moment`] has.
fn micro_time(at: Moment) -> String {
    format!("{:.6}", jiff::Timestamp::from(at))
}

async fn set(
    client: &Client,
    version: &str,
    annotations: &Value,
    spec: &Value,
) -> Result<Anchor, Error> {
    let metadata = json!({ "resourceVersion": version, "annotations": annotations });
    let patch = json!({ "metadata": metadata, "spec": spec });
    let lease: Lease = merge(client, call("patch"), path(), NAME, &patch).await?;
    Ok(Anchor::of(&lease))
}

async fn create(client: &Client, annotations: &Value, spec: &Value) -> Result<Anchor, Error> {
    let call = call("create");
    let lease = json!({
        "apiVersion": Lease::api_version(&()),
        "kind": Lease::kind(&()),
        "metadata": { "name": NAME, "namespace": NAMESPACE, "annotations": annotations },
        "spec": spec,
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
