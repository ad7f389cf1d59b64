//! What can go wrong, by what the reader can do about it.

use std::io;
use std::time::Duration;

use crate::releases::Release;

/// Why the testbed could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The API server refused or failed a request of the testbed itself.
    #[error("{what}: {source}")]
    Api {
        /// What was being done.
        what: String,
        /// The server's or the connection's answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// The audit log was asked for, but the control plane was built without.
    #[error("the control plane keeps no audit log: build it with `.audit(true)`")]
    AuditOff,
    /// Building a program from Go modules failed.
    #[error("building {what} failed:\n{log}")]
    Build {
        /// Program and version.
        what: String,
        /// The end of what the Go tool said.
        log: String,
    },
    /// A certificate could not be made.
    #[error("making the certificate of {subject}: {source}")]
    Certificate {
        /// Whose certificate.
        subject: String,
        /// The reason.
        #[source]
        source: rcgen::Error,
    },
    /// A program that was to succeed has failed.
    #[error("{what} failed ({status}):\n{said}")]
    Command {
        /// What was run, and where.
        what: String,
        /// How it ended.
        status: String,
        /// The end of what it said.
        said: String,
    },
    /// A component of the control plane ended although nobody stopped it.
    #[error("{component} ended by itself ({status}); the end of its log:\n{log}")]
    ComponentEnded {
        /// Name of the component.
        component: String,
        /// How it ended.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// A file, folder, port or process could not be had from the system.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// An object given to [`apply`](crate::ControlPlane::apply) is no
    /// Kubernetes object.
    #[error("object {index} is no Kubernetes object: {problem}")]
    MalformedObject {
        /// Position in the list.
        index: usize,
        /// What is missing.
        problem: &'static str,
    },
    /// This machine does not let nodes be made.
    #[error(
        "no nodes can be made on this machine: {reason}; run as root, where namespaces and \
         control groups are allowed"
    )]
    NoNamespaces {
        /// What is missing.
        reason: String,
    },
    /// Programs are missing and cannot be built here.
    #[error("no {programs} on this machine and {reason}: {cure}")]
    NoPrograms {
        /// What is missing, with versions.
        programs: String,
        /// Why they cannot be built.
        reason: String,
        /// What to do about it.
        cure: &'static str,
    },
    /// Something that was waited for did not come true.
    #[error("waited {} s for {what}; last: {last}", within.as_secs_f32())]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        within: Duration,
        /// What the last look showed.
        last: String,
    },
    /// The testbed knows no release of this minor version.
    #[error(
        "no release of Kubernetes 1.{minor} in the testbed; it knows {}",
        Release::known()
    )]
    UnknownMinor {
        /// The minor version asked for.
        minor: u32,
    },
    /// A hook asked for a version of the control plane that the testbed cannot
    /// run exactly.
    #[error("the testbed cannot run {version}; it knows {}", Release::known())]
    UnknownVersion {
        /// The version asked for.
        version: String,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    pub(crate) fn api(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Api {
            what,
            source: Box::new(source),
        }
    }
}
