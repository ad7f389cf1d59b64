//! What canaries ask of the API: objects of one namespace.

use kube::Client;
use kube::api::{DeleteParams, GetParams, ListParams, PostParams, Preconditions};
use kube::core::{ObjectList, Request};
use migrate_kube::{ApiCall, Error, READ_DEADLINE, read, within_deadline};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What is read of an object to find it again.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) uid: String,
}

/// An object of which nothing else is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Named {
    pub(super) metadata: Metadata,
}

/// Kind, group and resource of what is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) kind: &'static str,
    pub(super) group: &'static str,
    pub(super) resource: &'static str,
}

pub(super) const PODS: Kind = Kind {
    kind: "Pod",
    group: "",
    resource: "pods",
};

impl Metadata {
    /// Of an object that is not there.
    pub(super) fn absent(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            uid: name.to_owned(),
        }
    }
}

/// Objects of one namespace.
#[derive(Clone)]
pub(super) struct Objects {
    client: Client,
    namespace: String,
}

impl Objects {
    pub(super) fn new(client: Client, namespace: impl Into<String>) -> Self {
        let namespace = namespace.into();
        Self { client, namespace }
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Makes one, or only asks whether it could be made.
    pub(super) async fn make<T: DeserializeOwned>(
        &self,
        kind: Kind,
        body: &Value,
        dry_run: bool,
    ) -> Result<T, Error> {
        let params = PostParams {
            dry_run,
            field_manager: None,
        };
        let body = body.to_string().into_bytes();
        let request = Request::new(self.path(kind)).create(&params, body);
        self.ask(self.call(kind, "create"), request).await
    }

    /// What goes by this name now.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        kind: Kind,
        name: &str,
    ) -> Result<T, Error> {
        let call = self.call(kind, "get").named(name);
        let request = Request::new(self.path(kind)).get(name, &GetParams::default());
        self.ask(call, request).await
    }

    /// All that `selection` says, in one answer.
    pub(super) async fn list<T>(&self, kind: Kind, selection: &ListParams) -> Result<Vec<T>, Error>
    where
        T: Clone + DeserializeOwned,
    {
        let (call, path) = (self.call(kind, "list"), self.path(kind));
        let found = read::<ObjectList<T>>(&self.client, &call, &path, selection).await?;
        Ok(found.items)
    }

    /// Removes this very object; that it is gone is as good. `params` says how.
    pub(super) async fn remove(
        &self,
        kind: Kind,
        object: &Metadata,
        mut params: DeleteParams,
    ) -> Result<(), Error> {
        let call = self.call(kind, "delete").named(&object.name);
        params.preconditions = Some(Preconditions {
            uid: Some(object.uid.clone()),
            resource_version: None,
        });
        let request = Request::new(self.path(kind)).delete(&object.name, &params);
        match self.ask::<Value>(call, request).await {
            Ok(_) | Err(Error::NotFound { .. } | Error::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        call: ApiCall,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<T, Error> {
        let request = match request {
            Ok(request) => request,
            Err(error) => return Err(call.failed(kube::Error::BuildRequest(error))),
        };
        within_deadline(call, READ_DEADLINE, self.client.request(request)).await
    }

    fn call(&self, kind: Kind, verb: &'static str) -> ApiCall {
        ApiCall::dynamic(verb, kind.group, kind.kind, kind.resource).within(&self.namespace)
    }

    fn path(&self, kind: Kind) -> String {
        let base = match kind.group {
            "" => "/api/v1".to_owned(),
            group => format!("/apis/{group}/v1"),
        };
        format!("{base}/namespaces/{}/{}", self.namespace, kind.resource)
    }
}

/// What of `asked` is refused for good.
///
/// # Errors
/// What may pass: then nobody knows.
pub(super) fn refusals(
    asked: impl IntoIterator<Item = Result<(), Error>>,
) -> Result<Vec<Error>, Error> {
    let mut refusals = Vec::new();
    for error in asked.into_iter().filter_map(Result::err) {
        match error.is_retryable() {
            true => return Err(error),
            false => refusals.push(error),
        }
    }
    Ok(refusals)
}
