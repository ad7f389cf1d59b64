//! Merge patches that name the version they are made from.

use std::time::Duration;

use kube::Client;
use kube::api::{Patch, PatchParams};
use kube::core::Request;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::client::within_deadline;
use crate::{ApiCall, Error};

/// Who we are in `metadata.managedFields`.
pub(crate) const FIELD_MANAGER: &str = "kube-migrate";
/// How long one write may take.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);

/// Patches the object `name` of the collection at `path`.
///
/// `patch` carries `metadata.resourceVersion`, so the server refuses it with
/// [`Error::Conflict`] if the object is no longer what was read.
pub(crate) async fn merge<T: DeserializeOwned>(
    client: &Client,
    call: ApiCall,
    path: String,
    name: &str,
    patch: &Value,
) -> Result<T, Error> {
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    match Request::new(path).patch(name, &params, &Patch::Merge(patch)) {
        Ok(request) => within_deadline(call, WRITE_DEADLINE, client.request(request)).await,
        Err(error) => Err(call.failed(kube::Error::BuildRequest(error))),
    }
}
