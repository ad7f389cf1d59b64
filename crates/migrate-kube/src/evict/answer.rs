//! What the API says to an eviction.

use std::fmt;
use std::time::Duration;

use kube::core::Status;
use migrate_core::PodId;
use serde::{Deserialize, Serialize};

use super::Reply;
use crate::Error;

/// The pause that a server asks for when its answer should name one and does
/// not.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);
/// Cause of a refusal by a budget.
const BUDGET_CAUSE: &str = "DisruptionBudget";
/// Cause of a refusal in a namespace that is being deleted.
const NAMESPACE_CAUSE: &str = "NamespaceTerminating";

/// The answer to one eviction request.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", tag = "answer")]
pub enum EvictionAnswer {
    /// The pod is being deleted; it is gone when its grace is over. Also said
    /// of a pod that was being deleted already, and to an allowed dry run.
    Accepted,
    /// The budget allows no eviction now. There is no telling when it will; a
    /// watch on the budget does.
    BudgetExhausted {
        /// The budget, as far as the server's text names it.
        budget: Option<String>,
        /// The server's words, with counts.
        message: String,
    },
    /// The budget was changed and its controller has not caught up.
    BudgetNotObserved {
        /// The budget, as far as the server's text names it.
        budget: Option<String>,
        /// When to ask again.
        retry_after: Duration,
    },
    /// Others wrote the pod or its budget between each of the server's reads
    /// and its write, until its tries were spent. Nothing was evicted or spent.
    Contended {
        /// The server's words; they name the object.
        message: String,
    },
    /// An admission webhook with side effects stands before evictions, so that
    /// the server cannot say what it would answer. Only said to a dry run.
    DryRunUnsupported {
        /// The webhook.
        webhook: String,
    },
    /// Not allowed: permission is missing.
    Forbidden {
        /// The server's words.
        message: String,
    },
    /// There is no such pod any more.
    Gone,
    /// The server does not understand the request; asking again is of no use.
    Invalid {
        /// The server's words.
        message: String,
    },
    /// The namespace is being deleted, and the pod with it: nobody can evict it
    /// and nobody needs to.
    NamespaceTerminating,
    /// Nothing reached the server.
    NotSent {
        /// Why.
        reason: String,
    },
    /// The name is another pod's now. With a budget this refusal still spends
    /// one disruption for two minutes.
    OtherPod,
    /// The server asks for less traffic; no budget is involved.
    Throttled {
        /// When to ask again.
        retry_after: Duration,
    },
    /// More than one budget matches the pod. It cannot be evicted until someone
    /// changes that.
    TwoBudgets,
    /// The credentials are not accepted: expired, revoked or of another
    /// cluster. Asking again with the same ones is of no use.
    Unauthorized {
        /// The server's words.
        message: String,
    },
    /// The server or something before it failed. Whether the eviction took
    /// place is not certain.
    Unavailable {
        /// HTTP status code.
        code: u16,
        /// The server's words.
        message: String,
    },
    /// No answer: the deadline passed or the connection broke. Whether the
    /// eviction took place shows in the watch.
    Unknown {
        /// What happened.
        reason: String,
    },
    /// An admission webhook denied it. Some do so on purpose, to move the pod
    /// themselves.
    WebhookDenied {
        /// The webhook.
        webhook: String,
        /// Its words.
        message: String,
    },
    /// An admission webhook that must be asked did not answer.
    WebhookUnavailable {
        /// The webhook.
        webhook: String,
        /// The server's words.
        message: String,
    },
}

impl EvictionAnswer {
    /// Whether the pod may be on its way out now: it is, or it cannot be ruled
    /// out.
    pub fn may_have_evicted(&self) -> bool {
        matches!(
            self,
            Self::Accepted | Self::Unavailable { .. } | Self::Unknown { .. }
        )
    }

    /// Whether the server may have taken one disruption off a budget.
    pub fn may_have_spent_budget(&self) -> bool {
        self.may_have_evicted() || *self == Self::OtherPod
    }
}

impl fmt::Display for EvictionAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::BudgetExhausted { message, .. } => {
                write!(f, "no disruption allowed now: {message}")
            }
            Self::BudgetNotObserved {
                budget,
                retry_after,
            } => write!(
                f,
                "disruption budget {} is still being processed, ask again in {} s",
                budget.as_deref().unwrap_or("of the pod"),
                retry_after.as_secs()
            ),
            Self::Contended { message } => {
                write!(f, "others wrote faster than the server could: {message}")
            }
            Self::DryRunUnsupported { webhook } => {
                write!(f, "admission webhook {webhook} takes no dry runs")
            }
            Self::Forbidden { message } => write!(f, "forbidden: {message}"),
            Self::Gone => f.write_str("the pod is gone"),
            Self::Invalid { message } => write!(f, "refused as invalid: {message}"),
            Self::NamespaceTerminating => f.write_str("its namespace is being deleted"),
            Self::NotSent { reason } => write!(f, "not sent: {reason}"),
            Self::OtherPod => f.write_str("the name belongs to another pod now"),
            Self::Throttled { retry_after } => {
                write!(
                    f,
                    "the server is busy, ask again in {} s",
                    retry_after.as_secs()
                )
            }
            Self::TwoBudgets => f.write_str("more than one disruption budget matches the pod"),
            Self::Unauthorized { message } => write!(
                f,
                "the credentials are not accepted ({message}); renew them, \
                 or name the context of this cluster"
            ),
            Self::Unavailable { code, message } => write!(f, "answer {code}: {message}"),
            Self::Unknown { reason } => write!(f, "outcome unknown: {reason}"),
            Self::WebhookDenied { webhook, message } => {
                write!(f, "denied by admission webhook {webhook}: {message}")
            }
            Self::WebhookUnavailable { webhook, message } => {
                write!(f, "admission webhook {webhook} did not answer: {message}")
            }
        }
    }
}

/// What `reply` says about `pod`.
pub(super) fn interpret(pod: &PodId, reply: &Reply) -> EvictionAnswer {
    // Also a dry run and a pod that is terminating already are answered 201,
    // with a body that says nothing more.
    if (200..300).contains(&reply.code) {
        return EvictionAnswer::Accepted;
    }
    let Ok(status) = serde_json::from_slice::<Status>(&reply.body) else {
        return foreign(reply);
    };
    let message = status.message.clone();
    // Before the codes: webhooks choose theirs freely, 429 included.
    if let Some(webhook) = quoted_after(&message, "admission webhook ") {
        if message.contains("denied the request") {
            return EvictionAnswer::WebhookDenied { webhook, message };
        }
        if message.contains("does not support dry run") {
            return EvictionAnswer::DryRunUnsupported { webhook };
        }
    }
    if let Some(webhook) = quoted_after(&message, "failed calling webhook ") {
        return EvictionAnswer::WebhookUnavailable { webhook, message };
    }
    match reply.code {
        403 if cause(&status, NAMESPACE_CAUSE).is_some() => EvictionAnswer::NamespaceTerminating,
        403 => forbidden(&status),
        404 if is_about(&status, pod) => EvictionAnswer::Gone,
        409 if message.contains("UID in") => EvictionAnswer::OtherPod,
        // The uid is our only precondition; the versions that did not match are
        // the server's own, in 20 tries half a second apart.
        409 => EvictionAnswer::Contended { message },
        400 | 405 | 406 | 413 | 415 | 422 => EvictionAnswer::Invalid { message },
        401 => EvictionAnswer::Unauthorized { message },
        429 => match cause(&status, BUDGET_CAUSE) {
            Some(because) => budget_refusal(because, retry_after(&status, reply)),
            None => EvictionAnswer::Throttled {
                retry_after: retry_after(&status, reply).unwrap_or(DEFAULT_RETRY_AFTER),
            },
        },
        500 if message.contains("more than one PodDisruptionBudget") => EvictionAnswer::TwoBudgets,
        code => EvictionAnswer::Unavailable { code, message },
    }
}

/// What it means that there is no reply.
pub(super) fn without_reply(error: Error) -> EvictionAnswer {
    let reason = error.to_string();
    match error {
        Error::CertificateExpired { .. }
        | Error::NoConfig { .. }
        | Error::Refused { .. }
        | Error::Unauthorized { .. } => EvictionAnswer::NotSent { reason },
        _ => EvictionAnswer::Unknown { reason },
    }
}

/// An error that is no Status: priority and fairness answers 429 in plain text,
/// and proxies answer what they like.
fn foreign(reply: &Reply) -> EvictionAnswer {
    let text = String::from_utf8_lossy(&reply.body);
    let message: String = text.trim().chars().take(200).collect();
    match reply.code {
        401 => EvictionAnswer::Unauthorized { message },
        403 => EvictionAnswer::Forbidden { message },
        429 => EvictionAnswer::Throttled {
            retry_after: reply.retry_after.unwrap_or(DEFAULT_RETRY_AFTER),
        },
        code => EvictionAnswer::Unavailable { code, message },
    }
}

/// A budget whose status is broken is refused as forbidden too.
fn forbidden(status: &Status) -> EvictionAnswer {
    let message = status.message.clone();
    match &status.details {
        Some(details) if details.kind.starts_with("poddisruptionbudget") => {
            EvictionAnswer::BudgetExhausted {
                budget: Some(details.name.clone()),
                message,
            }
        }
        _ => EvictionAnswer::Forbidden { message },
    }
}

/// Only a refusal with a time to wait is about a budget that is not observed.
fn budget_refusal(because: &str, retry_after: Option<Duration>) -> EvictionAnswer {
    let budget = because
        .strip_prefix("The disruption budget ")
        .and_then(|rest| rest.split_whitespace().next())
        .map(str::to_owned);
    match retry_after {
        Some(retry_after) => EvictionAnswer::BudgetNotObserved {
            budget,
            retry_after,
        },
        None => EvictionAnswer::BudgetExhausted {
            budget,
            message: because.to_owned(),
        },
    }
}

fn retry_after(status: &Status, reply: &Reply) -> Option<Duration> {
    let seconds = status
        .details
        .as_ref()
        .map_or(0, |details| details.retry_after_seconds);
    let named = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
    named
        .or(reply.retry_after)
        .filter(|duration| !duration.is_zero())
}

fn cause<'a>(status: &'a Status, reason: &str) -> Option<&'a str> {
    let causes = &status.details.as_ref()?.causes;
    causes
        .iter()
        .find(|cause| cause.reason == reason)
        .map(|cause| cause.message.as_str())
}

/// A 404 of a proxy, or of a path that is not served, says nothing about a pod.
fn is_about(status: &Status, pod: &PodId) -> bool {
    status.reason == "NotFound"
        && status
            .details
            .as_ref()
            .is_some_and(|details| match details.kind.as_str() {
                "pods" => details.name == pod.name,
                "namespaces" => details.name == pod.namespace,
                _ => false,
            })
}

/// The text in double quotes right after `marker`.
fn quoted_after(text: &str, marker: &str) -> Option<String> {
    let (_, rest) = text.split_once(marker)?;
    let (name, _) = rest.strip_prefix('"')?.split_once('"')?;
    Some(name.to_owned())
}
