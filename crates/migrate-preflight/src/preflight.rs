//! All checks at once.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use kube::Client;
use migrate_core::impossible::check_nodes;
use migrate_core::preconditions::{check_kubelet, check_skew};
use migrate_core::{Finding, PrepareEnvironment, StepContext, StepError, StepInput, StepReport};
use migrate_kube::{Selection, list};
use tokio::sync::OnceCell;

use crate::Error;
use crate::checks::{
    Answer, access, actors, api_services, deprecated, nodes, services, versions, webhooks,
};
use crate::objects::Deployment;
use crate::patience::patiently;

/// Every check of this crate, through one client.
///
/// # Guarantees
/// Only reads. Findings are ordered: blockers first, then by code and object,
/// so the same cluster gives the same report.
///
/// # Errors
/// [`Error`] as a [`StepError`]: a check had no usable answer. Permissions that
/// are missing are findings, not errors.
#[derive(Clone)]
pub struct Preflight {
    client: Client,
}

impl Preflight {
    /// Checks the cluster behind `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Makes every check, the pure ones on the model of `input`. `run` is the
    /// run that is about to start: its own cordons are no finding.
    ///
    /// # Errors
    /// Any of [`Error`] but [`Error::Cancelled`]; of several the first in the
    /// order of the checks.
    pub async fn check(&self, input: &StepInput, run: &str) -> Result<StepReport, Error> {
        let StepInput {
            model,
            policy,
            target,
            way_back,
            ..
        } = input;
        let client = &self.client;
        let deadline = policy.deadlines.request;
        let deployments = Deployments::default();
        let checks: Vec<(&'static str, Check<'_>)> = vec![
            (
                "nodes",
                Box::new(|| nodes::check(client, model, policy, target, run).boxed()),
            ),
            (
                "webhooks",
                Box::new(|| webhooks::check(client, model).boxed()),
            ),
            (
                "APIServices",
                Box::new(|| api_services::check(client).boxed()),
            ),
            (
                "deprecated APIs",
                Box::new(|| deprecated::check(client, model, target).boxed()),
            ),
            ("permissions", Box::new(|| access::check(client).boxed())),
            (
                "other actors",
                Box::new(|| {
                    let check = async {
                        let deployments = read(client, &deployments).await?;
                        actors::programs(client, deployments).await
                    };
                    check.boxed()
                }),
            ),
            (
                "Services",
                Box::new(|| {
                    let check = async {
                        let deployments = read(client, &deployments).await?;
                        services::check(client, deployments).await
                    };
                    check.boxed()
                }),
            ),
            (
                "other actors' objects",
                Box::new(|| actors::orders(client).boxed()),
            ),
        ];
        let checks = checks
            .into_iter()
            .map(|(name, check)| within(name, deadline, check));
        let (same_cluster, answers) =
            futures::join!(self.identify(input, deadline), join_all(checks));
        same_cluster?;

        let mut findings = match way_back {
            Some(node) => {
                let mut findings = check_skew(model, None);
                findings.extend(check_kubelet(model, node, target));
                findings
            }
            None => versions::check(model, &policy.pools, target),
        };
        findings.extend(check_nodes(model, policy, |node| input.is_to_change(node)));
        for answer in answers {
            findings.extend(answer?);
        }
        Ok(StepReport::new(ordered(findings)))
    }

    /// The client leads to the cluster that was observed.
    async fn identify(&self, input: &StepInput, deadline: Duration) -> Result<(), Error> {
        let check = "identity";
        let ask = || migrate_kube::cluster_id(&self.client).boxed();
        let found = tokio::time::timeout(deadline, patiently(ask))
            .await
            .map_err(|_| Error::Deadline {
                check,
                after: deadline,
            })?
            .map_err(|source| Error::Api { check, source })?;
        let expected = input.model.cluster.clone();
        if found == expected {
            Ok(())
        } else {
            Err(Error::OtherCluster { expected, found })
        }
    }
}

impl std::fmt::Debug for Preflight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Preflight").finish_non_exhaustive()
    }
}

#[async_trait]
impl PrepareEnvironment for Preflight {
    async fn run(&self, cx: &StepContext, input: &StepInput) -> Result<StepReport, StepError> {
        let cancelled = std::pin::pin!(cx.cancel.cancelled());
        let checked = std::pin::pin!(self.check(input, &cx.fence.run));
        match futures::future::select(cancelled, checked).await {
            futures::future::Either::Left(_) => Err(Error::Cancelled.into()),
            futures::future::Either::Right((report, _)) => report.map_err(Into::into),
        }
    }
}

/// Makes one check, from its beginning each time.
type Check<'a> = Box<dyn Fn() -> BoxFuture<'a, Answer> + Send + Sync + 'a>;

/// What two checks read, once.
type Deployments = OnceCell<Vec<Deployment>>;

async fn read<'a>(
    client: &Client,
    deployments: &'a Deployments,
) -> Result<&'a [Deployment], migrate_kube::Error> {
    let all = || async { list::<Deployment>(client, &Selection::all()).await };
    // Who waits for another's list asks itself if that fails.
    let found = deployments.get_or_try_init(all).await?;
    Ok(found)
}

/// One check within its deadline. One that is not allowed to look is a finding.
async fn within(
    check: &'static str,
    deadline: Duration,
    ask: Check<'_>,
) -> Result<Vec<Finding>, Error> {
    match tokio::time::timeout(deadline, patiently(ask)).await {
        Ok(Ok(findings)) => Ok(findings),
        Ok(Err(migrate_kube::Error::Forbidden { call, message })) => {
            Ok(vec![access::refused(check, &call, &message)])
        }
        Ok(Err(source)) => Err(Error::Api { check, source }),
        Err(_) => Err(Error::Deadline {
            check,
            after: deadline,
        }),
    }
}

/// Blockers first; what two checks found alike only once.
fn ordered(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by(|a, b| {
        (b.severity, &a.code, &a.object, &a.evidence).cmp(&(
            a.severity,
            &b.code,
            &b.object,
            &b.evidence,
        ))
    });
    // A missing permission shows in its review and in the check that met it.
    let mut seen = BTreeSet::new();
    findings.retain(|finding| {
        let is_permission = finding.object.kind == "Permission";
        !is_permission || seen.insert((finding.object.clone(), finding.cure.clone()))
    });
    findings
}
