//! Reading what the API server says it was asked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::Error;
use crate::wait::eventually;

pub(crate) const POLICY: &str = include_str!("audit.yaml");

/// A reader of the API server's audit log, which remembers how far it has
/// read. Several readers do not disturb each other.
///
/// # Guarantees
/// The server writes an event before the client has the answer; so an answered
/// request is in the log. Requests of users outside the control plane are all
/// there, with their body when they create, change, delete or evict pods or
/// change nodes. A watch appears when it ends. Swapping the control plane
/// keeps the log.
///
/// # Caveats
/// Reads of the control plane's own components, and of service accounts in
/// `kube-system`, are left out, and so are the components' leases and events.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    offset: u64,
}

/// One answered request.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    /// Identifies the request.
    #[serde(rename = "auditID")]
    pub audit_id: String,
    /// `ResponseComplete`, or `Panic` if the server broke.
    pub stage: String,
    /// Path and query.
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or
    /// `deletecollection`; for other paths the HTTP method in lower case.
    pub verb: String,
    /// Who asked.
    pub user: AuditUser,
    /// The client's `User-Agent`.
    #[serde(default)]
    pub user_agent: String,
    /// What was asked for; absent for paths like `/readyz`.
    #[serde(default)]
    pub object_ref: Option<AuditObject>,
    /// The answer.
    #[serde(default)]
    pub response_status: Option<AuditStatus>,
    /// The request's body as JSON, where the policy keeps it.
    #[serde(default)]
    pub request_object: Option<Value>,
    /// When the server got the request.
    pub request_received_timestamp: Timestamp,
    /// When it had answered.
    pub stage_timestamp: Timestamp,
    /// Reasons of the authorizer, deprecated API versions and the like.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// Who sent a request.
#[derive(Clone, Debug, Default, Deserialize)]
#[non_exhaustive]
#[serde(default, rename_all = "camelCase")]
pub struct AuditUser {
    /// User name.
    pub username: String,
    /// Groups.
    pub groups: Vec<String>,
}

/// The object of a request.
#[derive(Clone, Debug, Default, Deserialize)]
#[non_exhaustive]
#[serde(default, rename_all = "camelCase")]
pub struct AuditObject {
    /// Plural, `pods`.
    pub resource: String,
    /// `eviction`, `status`; empty for the object itself.
    pub subresource: String,
    /// Empty for the core group.
    pub api_group: String,
    /// `v1`.
    pub api_version: String,
    /// Empty for objects of no namespace.
    pub namespace: String,
    /// Empty for lists, and for objects named by the server.
    pub name: String,
    /// Where the server knows it.
    pub uid: String,
}

/// The answer to a request.
#[derive(Clone, Debug, Default, Deserialize)]
#[non_exhaustive]
#[serde(default, rename_all = "camelCase")]
pub struct AuditStatus {
    /// HTTP status code.
    pub code: u16,
    /// Why it was refused.
    pub reason: String,
    /// The same in words.
    pub message: String,
}

impl AuditEvent {
    /// HTTP status code of the answer; 0 if there was none.
    pub fn code(&self) -> u16 {
        self.response_status
            .as_ref()
            .map_or(0, |status| status.code)
    }

    /// Whether the request can change nothing by its verb.
    pub fn is_read(&self) -> bool {
        matches!(
            self.verb.as_str(),
            "get" | "list" | "watch" | "head" | "options"
        )
    }

    /// Whether the request asked for a dry run in its query, the only place
    /// where every verb and client can say so.
    pub fn is_dry_run(&self) -> bool {
        let query = self
            .request_uri
            .split_once('?')
            .map_or("", |(_, query)| query);
        query.split('&').any(|pair| pair == "dryRun=All")
    }

    /// Whether this is a request for `resource` or, written `pods/eviction`,
    /// for a subresource.
    pub fn is_for(&self, resource: &str) -> bool {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        self.object_ref
            .as_ref()
            .is_some_and(|object| object.resource == resource && object.subresource == subresource)
    }

    /// Whether the request is an eviction that the server accepted for real.
    pub fn is_accepted_eviction(&self) -> bool {
        self.is_real_eviction() && (200..300).contains(&self.code())
    }

    /// Whether the request is an eviction that may have been carried out
    /// although no such answer was given: the server gives up a request, with
    /// 504, whose client is gone, and what it has begun goes on.
    pub fn is_unsettled_eviction(&self) -> bool {
        self.is_real_eviction() && !(200..500).contains(&self.code())
    }

    /// The uid of the pod that an eviction asked for: absent where its
    /// preconditions name none, for then it went to whoever had the name.
    pub fn evicted_uid(&self) -> Option<&str> {
        let body = self.request_object.as_ref()?;
        let uid = &body["deleteOptions"]["preconditions"]["uid"];
        uid.as_str().filter(|_| self.is_real_eviction())
    }

    fn is_real_eviction(&self) -> bool {
        self.verb == "create" && self.is_for("pods/eviction") && !self.is_dry_run()
    }
}

impl AuditLog {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, offset: 0 }
    }

    /// The events written since the last call, oldest first.
    ///
    /// # Errors
    /// [`Error::Io`] if the log cannot be read or a line of it is no event.
    pub fn read_new(&mut self) -> Result<Vec<AuditEvent>, Error> {
        self.read_lines()
            .map_err(Error::io(format!("reading {}", self.path.display())))
    }

    /// Waits until an event satisfies `wanted`, and returns everything read on
    /// the way, that event included.
    ///
    /// # Errors
    /// [`Error::Timeout`], and those of [`read_new`](Self::read_new).
    pub async fn read_until(
        &mut self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&AuditEvent) -> bool,
    ) -> Result<Vec<AuditEvent>, Error> {
        let mut events = Vec::new();
        let mut seen = 0;
        eventually(what, within, || {
            let news = self.read_new();
            let found = news.map(|news| {
                events.extend(news);
                let found = events[seen..].iter().any(&wanted);
                seen = events.len();
                found
            });
            async { found }
        })
        .await?;
        Ok(events)
    }

    fn read_lines(&mut self) -> io::Result<Vec<AuditEvent>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            // The server creates it with the first event.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut reader = BufReader::new(file);
        reader.seek(SeekFrom::Start(self.offset))?;
        let mut events = Vec::new();
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line)?;
            // A line without its end is still being written.
            if line.last() != Some(&b'\n') {
                return Ok(events);
            }
            events.push(serde_json::from_slice(&line)?);
            self.offset += read as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    const EVICTION: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Request",
        "auditID":"a","stage":"ResponseComplete",
        "requestURI":"/api/v1/namespaces/n/pods/p/eviction?dryRun=All","verb":"create",
        "user":{"username":"u","groups":["g"]},"userAgent":"t/1",
        "objectRef":{"resource":"pods","namespace":"n","name":"p","apiVersion":"v1","subresource":"eviction"},
        "responseStatus":{"metadata":{},"status":"Success","code":201},
        "requestObject":{"kind":"Eviction"},
        "requestReceivedTimestamp":"2026-01-02T03:04:05.000006Z","stageTimestamp":"2026-01-02T03:04:05.100006Z"}"#;

    #[test]
    fn a_dry_run_is_no_eviction() {
        let mut event: AuditEvent = serde_json::from_str(EVICTION).unwrap();
        assert!(event.is_dry_run() && !event.is_accepted_eviction());
        event.request_uri = event.request_uri.replace("?dryRun=All", "");
        assert!(!event.is_dry_run() && event.is_accepted_eviction());
        event.response_status = Some(AuditStatus {
            code: 429,
            ..AuditStatus::default()
        });
        assert!(!event.is_accepted_eviction() && !event.is_unsettled_eviction());
        event.response_status = Some(AuditStatus {
            code: 504,
            ..AuditStatus::default()
        });
        assert!(!event.is_accepted_eviction() && event.is_unsettled_eviction());
    }

    #[test]
    fn an_eviction_names_its_pod_by_preconditions_alone() {
        let mut event: AuditEvent = serde_json::from_str(EVICTION).unwrap();
        let named = serde_json::json!({"deleteOptions": {"preconditions": {"uid": "u-1"}}});
        event.request_object = Some(named);
        assert_eq!(event.evicted_uid(), None, "a dry run evicts nobody");
        event.request_uri = event.request_uri.replace("?dryRun=All", "");
        assert_eq!(event.evicted_uid(), Some("u-1"));
        event.request_object = Some(serde_json::json!({"kind": "Eviction"}));
        assert_eq!(event.evicted_uid(), None);
    }

    #[test]
    fn a_line_is_read_once_and_only_when_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let mut log = AuditLog::new(path.clone());
        assert!(log.read_new().unwrap().is_empty());
        let line = EVICTION.replace('\n', "");
        fs::write(&path, format!("{line}\n{}", &line[..40])).unwrap();
        assert_eq!(log.read_new().unwrap().len(), 1);
        assert_eq!(log.read_new().unwrap().len(), 0);
        let mut file = File::options().append(true).open(&path).unwrap();
        writeln!(file, "{}", &line[40..]).unwrap();
        assert_eq!(log.read_new().unwrap().len(), 1);
    }
}
