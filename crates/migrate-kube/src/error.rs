//! What can go wrong between us and the API.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use kube::config::{InferConfigError, KubeconfigError};
use kube::core::Status;
use migrate_core::{ObjectName, StepError, StepErrorKind};
use tower::BoxError;

use crate::{ApiCall, Refused};

/// Why a call to the API failed, by what a caller can do about it.
///
/// Shown as `call: what happened; cure`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server answered with an error that has no variant of its own.
    Api {
        /// The call.
        call: ApiCall,
        /// HTTP status code.
        code: u16,
        /// The server's words.
        message: String,
        /// How long the server asks to be left alone, if it says so.
        retry_after: Option<Duration>,
    },
    /// A certificate is past its end: renew it.
    CertificateExpired {
        /// The call.
        call: ApiCall,
        /// Address of the server, if the client is one of
        /// [`connect`](crate::connect).
        server: Option<String>,
        /// What says so.
        message: String,
    },
    /// Someone else changed or holds the object: read again and decide anew.
    Conflict {
        /// The call.
        call: ApiCall,
        /// Who or what, and what to do.
        message: String,
    },
    /// No answer in time; whether the call took effect is unknown.
    Deadline {
        /// The call.
        call: ApiCall,
        /// How long was waited.
        after: Duration,
    },
    /// An answer that cannot be read.
    Decode {
        /// The call.
        call: ApiCall,
        /// What is wrong with it.
        message: String,
    },
    /// Another epoch than ours holds the run: nothing was sent. Leave off if it
    /// is newer; if it is older, the API was restored from a backup.
    Fenced {
        /// The call that was not made.
        call: ApiCall,
        /// Our epoch.
        ours: u64,
        /// The epoch that the node or the Lease shows.
        found: u64,
    },
    /// Permission is missing: add [`ApiCall::rule`] to the role. A webhook or
    /// policy that forbids the call shows the same way; the message tells.
    Forbidden {
        /// The call.
        call: ApiCall,
        /// The server's words.
        message: String,
    },
    /// No usable configuration: no kubeconfig and not inside a cluster, or one
    /// that is wrong.
    NoConfig {
        /// What is wrong with it.
        message: String,
    },
    /// The object does not exist.
    NotFound {
        /// The call.
        call: ApiCall,
    },
    /// Nothing was sent: this client may only read.
    Refused {
        /// The call.
        call: ApiCall,
        /// What the guard refused.
        #[source]
        source: Refused,
    },
    /// Another run, or a drain by hand, has cordoned the node: nothing was
    /// changed.
    OtherOwner {
        /// The call that was not made.
        call: ApiCall,
        /// Whose cordon it is.
        owner: String,
    },
    /// The credentials are not accepted: expired, revoked or for another cluster.
    Unauthorized {
        /// The call.
        call: ApiCall,
        /// The server's words.
        message: String,
    },
    /// The server was not reached or the connection broke. Whether a changing
    /// call took effect is unknown.
    Unreachable {
        /// The call.
        call: ApiCall,
        /// Address of the server, if the client is one of
        /// [`connect`](crate::connect).
        server: Option<String>,
        /// The chain of causes.
        message: String,
    },
}

impl Error {
    /// What it is about.
    pub fn object(&self) -> ObjectName {
        self.call().map_or_else(
            || ObjectName::cluster("File", "kubeconfig"),
            ApiCall::object,
        )
    }

    /// The call that failed; `None` if there was none yet.
    pub fn call(&self) -> Option<&ApiCall> {
        match self {
            Self::Api { call, .. }
            | Self::CertificateExpired { call, .. }
            | Self::Conflict { call, .. }
            | Self::Deadline { call, .. }
            | Self::Decode { call, .. }
            | Self::Fenced { call, .. }
            | Self::Forbidden { call, .. }
            | Self::NotFound { call }
            | Self::OtherOwner { call, .. }
            | Self::Refused { call, .. }
            | Self::Unauthorized { call, .. }
            | Self::Unreachable { call, .. } => Some(call),
            Self::NoConfig { .. } => None,
        }
    }

    /// Whether the same call may succeed later without anyone doing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind(),
            StepErrorKind::Unavailable | StepErrorKind::Deadline
        )
    }

    pub(crate) fn kind(&self) -> StepErrorKind {
        match self {
            Self::Api {
                code: 429 | 500.., ..
            }
            | Self::Unreachable { .. } => StepErrorKind::Unavailable,
            Self::Conflict { .. } | Self::Fenced { .. } | Self::OtherOwner { .. } => {
                StepErrorKind::Conflict
            }
            Self::Deadline { .. } => StepErrorKind::Deadline,
            Self::Forbidden { .. } | Self::Unauthorized { .. } => StepErrorKind::Forbidden,
            Self::NoConfig { .. } => StepErrorKind::Invalid,
            Self::Api { .. }
            | Self::CertificateExpired { .. }
            | Self::Decode { .. }
            | Self::NotFound { .. }
            | Self::Refused { .. } => StepErrorKind::Permanent,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(call) = self.call() {
            write!(f, "{call}: ")?;
        }
        match self {
            Self::Api { code, message, .. } => {
                let cure = match code {
                    429 | 500.. => "try again, and look at its log if that does not help",
                    _ => "correct what it names",
                };
                write!(f, "the server answered {code}: {message}; {cure}")
            }
            Self::CertificateExpired {
                server, message, ..
            } => {
                // An alert is what the other side says about our certificate.
                let whose = match message.to_lowercase().contains("alert") {
                    true => "our client certificate for",
                    false => "the certificate of",
                };
                let server = At(server.as_deref());
                write!(f, "{whose} {server} has expired ({message}); renew it")
            }
            Self::Conflict { message, .. } => write!(f, "{message}"),
            Self::OtherOwner { owner, .. } => write!(
                f,
                "run {owner} has cordoned it; finish or clear that run first"
            ),
            Self::Deadline { after, .. } => write!(
                f,
                "no answer within {} s; see how loaded the API server is and try again",
                after.as_secs_f64()
            ),
            Self::Decode { message, .. } => write!(
                f,
                "unreadable answer: {message}; see that an API server of a supported version \
                 answers there"
            ),
            Self::Fenced { ours, found, .. } if found < ours => write!(
                f,
                "not sent: the run is at epoch {found} in the cluster and at {ours} here, so the \
                 API is older than this run; see KM-RUN-007"
            ),
            Self::Fenced { ours, found, .. } => write!(
                f,
                "not sent: another runner holds the run (epoch {found}, ours is {ours}); leave the \
                 cluster to it"
            ),
            Self::Forbidden { call, message } => {
                write!(f, "forbidden ({message}); add the rule {}", call.rule())
            }
            Self::NoConfig { message } => write!(
                f,
                "no usable kubeconfig ({message}); give one that exists and names this cluster, or \
                 run inside it"
            ),
            Self::NotFound { .. } => {
                f.write_str("not found; see that this is the right cluster, or create it")
            }
            Self::Refused { source, .. } => write!(f, "{source}"),
            Self::Unauthorized { message, .. } => write!(
                f,
                "the credentials are not accepted ({message}); renew them, or name the context of \
                 this cluster"
            ),
            Self::Unreachable {
                server, message, ..
            } => write!(
                f,
                "{} is out of reach ({message}); see that it runs and that this machine can reach \
                 it, or correct the address in the kubeconfig",
                At(server.as_deref())
            ),
        }
    }
}

/// The API server, with its address if that is known.
struct At<'a>(Option<&'a str>);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the API server")?;
        self.0.map_or(Ok(()), |server| write!(f, " {server}"))
    }
}

/// A failure on the way to the API server at this address.
#[derive(Debug, thiserror::Error)]
#[error("{server}: {source}")]
pub(crate) struct OnTheWay {
    pub(crate) server: String,
    pub(crate) source: BoxError,
}

impl From<InferConfigError> for Error {
    fn from(error: InferConfigError) -> Self {
        Self::NoConfig {
            message: chain(&error),
        }
    }
}

impl From<KubeconfigError> for Error {
    fn from(error: KubeconfigError) -> Self {
        Self::NoConfig {
            message: chain(&error),
        }
    }
}

impl From<Error> for StepError {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error.object(), error.to_string()).with_source(error)
    }
}

fn named_pause(status: &Status) -> Option<Duration> {
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

/// What the failure of `call` means.
pub(crate) fn classify(call: ApiCall, error: kube::Error) -> Error {
    match error {
        kube::Error::Api(status) => {
            let message = status.message.clone();
            match status.code {
                401 => Error::Unauthorized { call, message },
                403 => Error::Forbidden { call, message },
                404 => Error::NotFound { call },
                409 => Error::Conflict { call, message },
                code => Error::Api {
                    call,
                    code,
                    message,
                    retry_after: named_pause(&status),
                },
            }
        }
        kube::Error::SerdeError(error) => Error::Decode {
            call,
            message: error.to_string(),
        },
        kube::Error::FromUtf8(error) => Error::Decode {
            call,
            message: error.to_string(),
        },
        kube::Error::InferConfig(error) => error.into(),
        kube::Error::InferKubeconfig(error) => error.into(),
        kube::Error::Service(error) => match error.downcast::<Refused>() {
            Ok(refused) => Error::Refused {
                call,
                source: *refused,
            },
            Err(error) => match error.downcast::<OnTheWay>() {
                Ok(error) => transport(call, Some(error.server), &*error.source),
                Err(error) => transport(call, None, &*error),
            },
        },
        error @ kube::Error::TlsRequired => Error::NoConfig {
            message: error.to_string(),
        },
        error @ kube::Error::Auth(_) => Error::Unauthorized {
            call,
            message: chain(&error),
        },
        error => transport(call, None, &error),
    }
}

fn transport(call: ApiCall, server: Option<String>, error: &(dyn StdError + 'static)) -> Error {
    let message = chain(error);
    // TLS libraries say it in their own words and types, none of which a
    // library without a TLS feature can name.
    let lower = message.to_lowercase();
    if lower.contains("expired") && lower.contains("certificate") {
        return Error::CertificateExpired {
            call,
            server,
            message,
        };
    }
    Error::Unreachable {
        call,
        server,
        message,
    }
}

/// The error and its causes in one line, without saying anything twice.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let next = cause.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{Scripted, reply, status};
    use crate::{Selection, get, list, resources};

    async fn answered(code: u16, body: serde_json::Value) -> Error {
        let api = Scripted::new(move |_| reply(code, &body));
        list::<resources::Pod>(&api.client, &Selection::all())
            .await
            .unwrap_err()
    }

    #[tokio::test]
    async fn a_missing_permission_names_verb_resource_and_rule() {
        let words = "pods is forbidden: User \"bot\" cannot list resource \"pods\"";
        let error = answered(403, status(403, "Forbidden", words, json!({}))).await;
        let text = error.to_string();
        assert!(
            text.starts_with("list pods: forbidden (pods is forbidden"),
            "{text}"
        );
        let rule = r#"{apiGroups: [""], resources: ["pods"], verbs: ["list"]}"#;
        assert!(text.ends_with(rule), "{text}");
        let step = StepError::from(error);
        assert_eq!(step.kind, StepErrorKind::Forbidden);
        assert_eq!(step.object, ObjectName::cluster("Pod", "pods"));
        assert!(step.source.is_some());
    }

    #[tokio::test]
    async fn each_kind_of_failure_is_told_apart() {
        use StepErrorKind::{Conflict, Forbidden, Permanent, Unavailable};
        for (code, reason, kind) in [
            (400, "BadRequest", Permanent),
            (401, "Unauthorized", Forbidden),
            (403, "Forbidden", Forbidden),
            (404, "NotFound", Permanent),
            (409, "Conflict", Conflict),
            (429, "TooManyRequests", Unavailable),
            (500, "InternalError", Unavailable),
            (503, "ServiceUnavailable", Unavailable),
        ] {
            let error = answered(code, status(code, reason, "words", json!({}))).await;
            assert_eq!(error.kind(), kind, "{code}: {error}");
            assert_eq!(error.is_retryable(), kind == Unavailable);
        }
        let error = answered(200, json!("no list")).await;
        assert!(matches!(error, Error::Decode { .. }), "{error}");
    }

    #[tokio::test]
    async fn what_the_transport_says() {
        #[derive(Debug, thiserror::Error)]
        #[error("client error (Connect)")]
        struct Connect(#[source] std::io::Error);

        let call = || ApiCall::new::<resources::Node>("get").named("a");
        let failed = |text: &str| {
            let source = Connect(std::io::Error::other(text.to_owned()));
            call().failed(kube::Error::Service(Box::new(source)))
        };
        for text in [
            "invalid peer certificate: certificate expired: verification time 1 (UNIX)",
            "received fatal alert: CertificateExpired",
            "error:0A000086: certificate verify failed: certificate has expired",
        ] {
            assert!(
                matches!(failed(text), Error::CertificateExpired { .. }),
                "{text}"
            );
        }
        let text = failed("received fatal alert: CertificateExpired").to_string();
        assert!(text.contains("our client certificate for"), "{text}");
        let refused = failed("Connection refused (os error 111)");
        assert!(matches!(refused, Error::Unreachable { .. }));
        let text = refused.to_string();
        assert!(
            text.contains("client error (Connect): Connection refused"),
            "{text}"
        );

        let missing = kube::config::Kubeconfig::read_from("/nowhere/kubeconfig").unwrap_err();
        let missing = Error::from(missing);
        assert!(matches!(missing, Error::NoConfig { .. }));
        assert!(
            missing.to_string().contains("/nowhere/kubeconfig"),
            "{missing}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_at_the_deadline() {
        let silent = tower::service_fn(|_: http::Request<kube::client::Body>| {
            std::future::pending::<Result<http::Response<kube::client::Body>, std::io::Error>>()
        });
        let client = kube::Client::new(silent, "default");
        let error = get::<resources::Node>(&client, "a").await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("get nodes a: no answer within 30 s; see how"),
            "{text}"
        );
    }

    #[test]
    fn errors_are_small() {
        assert!(size_of::<Error>() <= 96, "{}", size_of::<Error>());
    }
}
