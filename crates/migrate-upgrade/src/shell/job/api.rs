//! What is asked of the API, all in one namespace.

use std::time::Duration;

use futures::{AsyncBufRead, AsyncReadExt};
use kube::Client;
use kube::api::{DeleteParams, GetParams, ListParams, LogParams, PostParams};
use kube::core::{ObjectList, Request};
use migrate_kube::{ApiCall, Error, within_deadline};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::frame;
use super::manifest::CONTAINER;
use super::standing::{Event, Job, Pod};

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(15);
/// How long a log is read before it is begun anew: a connection to a kubelet
/// that has gone may stay open and silent.
const READING: Duration = Duration::from_secs(20);

/// How often the API is asked the same again.
pub(super) const POLL: Duration = Duration::from_millis(500);
/// How long a lack of rights is doubted.
const SUSPECT: Duration = Duration::from_secs(10);

/// Every call doubts a lack of rights for ten seconds; other errors are returned
/// at once.
#[derive(Clone)]
pub(super) struct JobApi {
    client: Client,
    namespace: String,
}

impl JobApi {
    pub(super) fn new(client: Client, namespace: String) -> Self {
        Self { client, namespace }
    }

    pub(super) fn within(mut self, namespace: String) -> Self {
        self.namespace = namespace;
        self
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(super) async fn create(&self, job: &Value) -> Result<Job, Error> {
        let call = self.jobs("create");
        let body = job.to_string().into_bytes();
        let request = self.path("apis/batch/v1", "jobs");
        let request = Request::new(request).create(&PostParams::default(), body);
        self.answer(call, request).await
    }

    pub(super) async fn job(&self, name: &str) -> Result<Job, Error> {
        let call = self.jobs("get").named(name);
        let request = Request::new(self.path("apis/batch/v1", "jobs"));
        self.answer(call, request.get(name, &GetParams::default()))
            .await
    }

    /// With its pod.
    pub(super) async fn delete(&self, name: &str) -> Result<(), Error> {
        let call = self.jobs("delete").named(name);
        let request = Request::new(self.path("apis/batch/v1", "jobs"));
        let request = request.delete(name, &DeleteParams::background());
        self.answer::<Value>(call, request).await.map(drop)
    }

    pub(super) async fn pod_of(&self, job: &Job) -> Result<Option<Pod>, Error> {
        let selection = ListParams::default().labels(&format!("job-name={}", job.metadata.name));
        let path = self.path("api/v1", "pods");
        let pods = self.list(self.pods("list"), path, &selection).await?;
        Ok(pods.into_iter().next())
    }

    /// Why the Job could not make its pod, as it last said.
    pub(super) async fn refusal_of(&self, job: &Job) -> Result<Option<String>, Error> {
        let call = ApiCall::dynamic("list", "", "Event", "events").within(&self.namespace);
        let about = format!("involvedObject.uid={}", job.metadata.uid);
        let path = self.path("api/v1", "events");
        let about = ListParams::default().fields(&about);
        let events: Vec<Event> = self.list(call, path, &about).await?;
        let mut refusals = events
            .into_iter()
            .filter(|event| event.reason == "FailedCreate");
        Ok(refusals.next_back().map(|event| event.message))
    }

    /// The log of a script: as far as it goes now if `ended`, else until the
    /// frame of `mark` is whole. `None` if neither came in time.
    pub(super) async fn log(
        &self,
        pod: &Pod,
        mark: &str,
        ended: bool,
    ) -> Result<Option<Vec<u8>>, Error> {
        let call = self
            .pods("get")
            .named(&pod.metadata.name)
            .subresource("log");
        let params = LogParams {
            container: Some(CONTAINER.to_owned()),
            follow: !ended,
            ..LogParams::default()
        };
        let request = Request::new(self.path("api/v1", "pods"));
        let request = request.logs(&pod.metadata.name, &params);
        let request = request.map_err(|error| not_built(&call, error))?;
        let doubt = Doubt::new();
        let stream = loop {
            let stream = self.client.request_stream(request.clone());
            match within_deadline(call.clone(), ANSWER, stream).await {
                Err(error) if doubt.concerns(&error) => tokio::time::sleep(POLL).await,
                stream => break stream?,
            }
        };
        // A connection that was cut off says nothing of the log's end.
        let log = tokio::time::timeout(READING, whole(stream, mark)).await;
        Ok(log.ok().and_then(Result::ok))
    }

    async fn list<T>(
        &self,
        call: ApiCall,
        path: String,
        selection: &ListParams,
    ) -> Result<Vec<T>, Error>
    where
        T: Clone + for<'de> Deserialize<'de>,
    {
        let request = Request::new(path).list(selection);
        let list: ObjectList<T> = self.answer(call, request).await?;
        Ok(list.items)
    }

    async fn answer<T>(
        &self,
        call: ApiCall,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<T, Error>
    where
        T: for<'de> Deserialize<'de>,
    {
        let request = request.map_err(|error| not_built(&call, error))?;
        let doubt = Doubt::new();
        loop {
            let answer = self.client.request(request.clone());
            match within_deadline(call.clone(), ANSWER, answer).await {
                Err(error) if doubt.concerns(&error) => tokio::time::sleep(POLL).await,
                answer => return answer,
            }
        }
    }

    fn jobs(&self, verb: &'static str) -> ApiCall {
        ApiCall::dynamic(verb, "batch", "Job", "jobs").within(&self.namespace)
    }

    fn pods(&self, verb: &'static str) -> ApiCall {
        ApiCall::dynamic(verb, "", "Pod", "pods").within(&self.namespace)
    }

    fn path(&self, version: &str, resource: &str) -> String {
        format!("/{version}/namespaces/{}/{resource}", self.namespace)
    }
}

/// For some time after a first answer, a lack of rights is not believed: an API
/// server that has just come back refuses everything until it knows its rules.
struct Doubt {
    until: Instant,
}

impl Doubt {
    fn new() -> Self {
        Self {
            until: Instant::now() + SUSPECT,
        }
    }

    fn concerns(&self, error: &Error) -> bool {
        let refused = matches!(error, Error::Forbidden { .. } | Error::Unauthorized { .. });
        refused && Instant::now() < self.until
    }
}

fn not_built(call: &ApiCall, error: kube::core::request::Error) -> Error {
    call.clone().failed(kube::Error::BuildRequest(error))
}

/// Reads until a frame is whole, or nothing follows.
async fn whole(stream: impl AsyncBufRead, mark: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = std::pin::pin!(stream);
    let (mut log, mut piece) = (Vec::new(), vec![0; 32 << 10]);
    while log.len() <= frame::LONGEST && !frame::may_be_whole(&log, mark) {
        let read = stream.read(&mut piece).await?;
        match piece.get(..read).filter(|bytes| !bytes.is_empty()) {
            Some(bytes) => log.extend_from_slice(bytes),
            None => break,
        }
    }
    Ok(log)
}
