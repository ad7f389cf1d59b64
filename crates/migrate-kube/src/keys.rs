//! What the keys of a cluster are known by.

use std::collections::BTreeMap;

use kube::Client;
use kube::api::ListParams;
use serde::Deserialize;
use serde_json::Value;

use crate::client::read;
use crate::{ApiCall, Error};

/// What a cluster's keys are known by, as its API server tells: no secret.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ClusterKeys {
    /// Certificates of the authority that signs API servers, PEM.
    pub ca: String,
    /// The keys that tokens of service accounts are signed with, a JSON Web Key Set.
    pub jwks: String,
}

/// The public halves of the keys without which no backup restores the cluster: of
/// ConfigMap `kube-system/kube-root-ca.crt`, and `/openid/v1/jwks`.
///
/// # Errors
/// Any of [`Error`].
pub async fn cluster_keys(client: &Client) -> Result<ClusterKeys, Error> {
    #[derive(Deserialize)]
    struct ConfigMap {
        data: BTreeMap<String, String>,
    }

    let call = ApiCall::dynamic("get", "", "ConfigMap", "configmaps");
    let call = call.within("kube-system").named("kube-root-ca.crt");
    let path = "/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt";
    let mut map = read::<ConfigMap>(client, &call, path, &ListParams::default()).await?;
    let ca = map.data.remove("ca.crt").ok_or(Error::NotFound { call })?;
    let path = "/openid/v1/jwks";
    let jwks = read::<Value>(client, &ApiCall::path(path), path, &ListParams::default()).await?;
    Ok(ClusterKeys {
        ca,
        jwks: jwks.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{Scripted, reply};

    #[tokio::test]
    async fn keys_are_those_that_the_server_tells() {
        let api = Scripted::new(|asked| match asked.path() {
            "/openid/v1/jwks" => reply(200, json!({ "keys": [{ "kid": "a" }] })),
            _ => reply(200, json!({ "data": { "ca.crt": "a certificate" } })),
        });
        let keys = cluster_keys(&api.client).await.unwrap();
        assert_eq!(keys.ca, "a certificate");
        assert_eq!(keys.jwks, r#"{"keys":[{"kid":"a"}]}"#);
        let map = "/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt";
        let paths: Vec<String> = api.asked().iter().map(|it| it.path().to_owned()).collect();
        assert_eq!(paths, [map, "/openid/v1/jwks"]);

        let api = Scripted::new(|_| reply(200, json!({ "data": {} })));
        let error = cluster_keys(&api.client).await.unwrap_err();
        assert!(error.to_string().contains("kube-root-ca.crt"), "{error}");
    }
}
