//! Making a client, and reading through it.

use std::borrow::Cow;
use std::time::Duration;

use http::Uri;
use http::header::{CONNECTION, HeaderValue};
use kube::api::ListParams;
use kube::client::{Body, ClientBuilder};
use kube::core::response::StatusDetails;
use kube::core::{ObjectList, Request, Resource, Status};
use kube::{Api, Client, Config};
use migrate_core::{ClusterId, KubeVersion};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tower::BoxError;
use tower::util::{MapErrLayer, MapRequestLayer};

use crate::error::{OnTheWay, chain};
use crate::resources::Namespace;
use crate::retry::named_pause;
use crate::{ApiCall, Error, Retries};

/// How long one read may take.
pub const READ_DEADLINE: Duration = Duration::from_secs(30);
/// How long a connection may take to come about.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Objects per page of a list.
const PAGE: u32 = 500;
/// How often a list is begun anew because the server forgot its place.
const RESTARTS: u32 = 3;

/// A client that sends each request exactly once, and whose errors name the
/// address of the API server when it is out of reach.
///
/// The default client of kube sends a request again, up to fifteen times over
/// several minutes, when the answer is 429, 503 or 504. To an eviction, 429 is an
/// ordinary answer that decides what to do next.
///
/// A connection that does not come about within 10 s is given up, or sooner if
/// `config` says so: a read would otherwise end first, and not know why.
///
/// Call it inside a tokio runtime: a client of kube has a task of its own.
///
/// # Errors
/// [`Error::NoConfig`] if `config` is for TLS and the program was built without
/// a TLS feature of kube, or names files that cannot be read.
pub fn connect(config: Config) -> Result<Client, Error> {
    connected(config, false)
}

/// As [`connect`], each of whose requests goes over a connection of its own, which
/// is closed after the answer.
///
/// For whoever wants to ask all the API servers behind one address: a load balancer
/// chooses a server for each connection, not for each request.
///
/// # Errors
/// As [`connect`].
pub fn connect_anew(config: Config) -> Result<Client, Error> {
    connected(config, true)
}

fn connected(mut config: Config, closes: bool) -> Result<Client, Error> {
    config.default_retry = false;
    let patience = config.connect_timeout.unwrap_or(CONNECT_DEADLINE);
    config.connect_timeout = Some(patience.min(CONNECT_DEADLINE));
    let server = address(&config.cluster_url);
    let builder = ClientBuilder::try_from(config).map_err(|error| Error::NoConfig {
        message: chain(&error),
    })?;
    let name_server = MapErrLayer::new(move |source: BoxError| -> BoxError {
        // The client looks for its own errors by their type.
        match source.is::<kube::Error>() {
            true => source,
            false => Box::new(OnTheWay {
                server: server.clone(),
                source,
            }),
        }
    });
    let close = MapRequestLayer::new(move |mut request: http::Request<Body>| {
        if closes {
            let headers = request.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        request
    });
    Ok(builder.with_layer(&close).with_layer(&name_server).build())
}

/// `url` for people, without the password that it may hold.
fn address(url: &Uri) -> String {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let host = authority.rsplit('@').next().unwrap_or_default();
    let scheme = url.scheme_str().unwrap_or("https");
    format!("{scheme}://{host}{}", url.path().trim_end_matches('/'))
}

/// Which objects a list or watch is for; all of them by default.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Selection {
    /// A label selector, e.g. `app=web`.
    pub labels: Option<String>,
    /// A field selector, e.g. `spec.nodeName=a`.
    pub fields: Option<String>,
    /// The one namespace they are in.
    pub namespace: Option<String>,
    /// Ask for all of them in one answer, see [`Selection::unpaged`].
    pub unpaged: bool,
}

impl Selection {
    /// Every object.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only objects with these labels.
    #[must_use]
    pub fn labels(mut self, selector: impl Into<String>) -> Self {
        self.labels = Some(selector.into());
        self
    }

    /// Only objects with these fields.
    #[must_use]
    pub fn fields(mut self, selector: impl Into<String>) -> Self {
        self.fields = Some(selector.into());
        self
    }

    /// Only objects of this namespace.
    #[must_use]
    pub fn within(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// In one answer, for a selection that is small by its nature, as the pods
    /// of a node. API servers from 1.31 on give the newest state from their
    /// cache, by index where they have one, and up to 1.33 only to a request
    /// without a page size: with one they read every object from etcd.
    #[must_use]
    pub fn unpaged(mut self) -> Self {
        self.unpaged = true;
        self
    }
}

/// Every object of type `K` in `selection`, as of one moment.
///
/// Read in pages; when the server has forgotten the moment (410), the list is
/// begun anew.
///
/// # Errors
/// Any of [`Error`]; [`Error::Deadline`] if one page takes longer than 30 s.
pub async fn list<K>(client: &Client, selection: &Selection) -> Result<Vec<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    list_of(client, &(), selection).await
}

/// As [`list`], each of whose pages is tried again by itself.
///
/// # Errors
/// As [`list`].
pub async fn list_retried<K>(
    client: &Client,
    selection: &Selection,
    retries: &Retries,
) -> Result<Vec<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    pages(client, &(), selection, retries).await
}

/// As [`list`], of a kind that may have no type here.
///
/// # Errors
/// As [`list`].
pub async fn list_of<K>(
    client: &Client,
    kind: &K::DynamicType,
    selection: &Selection,
) -> Result<Vec<K>, Error>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    pages(client, kind, selection, &Retries::none()).await
}

async fn pages<K>(
    client: &Client,
    kind: &K::DynamicType,
    selection: &Selection,
    retries: &Retries,
) -> Result<Vec<K>, Error>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let path = K::url_path(kind, selection.namespace.as_deref());
    let owned = |text: Cow<'_, str>| text.into_owned();
    let mut call = ApiCall::dynamic(
        "list",
        owned(K::group(kind)),
        owned(K::kind(kind)),
        owned(K::plural(kind)),
    );
    if let Some(namespace) = &selection.namespace {
        call = call.within(namespace);
    }
    let first = ListParams {
        label_selector: selection.labels.clone(),
        field_selector: selection.fields.clone(),
        limit: (!selection.unpaged).then_some(PAGE),
        ..ListParams::default()
    };
    let mut restarts = 0;
    let mut params = first.clone();
    let mut items = Vec::new();
    loop {
        let page = retries.run(|| read::<ObjectList<K>>(client, &call, &path, &params));
        match page.await {
            Ok(page) => {
                items.extend(page.items);
                match page.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => params = first.clone().continue_token(&token),
                    None => return Ok(items),
                }
            }
            Err(Error::Api { code: 410, .. }) if restarts < RESTARTS => {
                restarts += 1;
                params = first.clone();
                items.clear();
            }
            Err(error) => return Err(error),
        }
    }
}

/// One cluster-wide object, or `None` if there is none of this name.
///
/// # Errors
/// Any of [`Error`] but [`Error::NotFound`].
pub async fn get<K>(client: &Client, name: &str) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api = Api::<K>::all(client.clone());
    let call = ApiCall::new::<K>("get").named(name);
    within_deadline(call, READ_DEADLINE, api.get_opt(name)).await
}

/// The identity of the cluster behind `client`.
///
/// # Errors
/// Any of [`Error`].
pub async fn cluster_id(client: &Client) -> Result<ClusterId, Error> {
    let name = "kube-system";
    let namespace = get::<Namespace>(client, name).await?;
    namespace
        .and_then(|namespace| namespace.cluster_id())
        .ok_or_else(|| Error::NotFound {
            call: ApiCall::new::<Namespace>("get").named(name),
        })
}

/// The version that the API server behind `client` reports. With several
/// servers behind one address it is that of whichever answered.
///
/// # Errors
/// Any of [`Error`].
pub async fn server_version(client: &Client) -> Result<KubeVersion, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Info {
        git_version: KubeVersion,
    }

    let call = ApiCall::path("/version");
    let info = read::<Info>(client, &call, "/version", &ListParams::default()).await?;
    Ok(info.git_version)
}

/// What a list at `path` answers, or any other `GET` there: one request.
///
/// # Errors
/// Any of [`Error`]; [`Error::Deadline`] if it takes longer than 30 s.
pub async fn read<T: DeserializeOwned>(
    client: &Client,
    call: &ApiCall,
    path: &str,
    params: &ListParams,
) -> Result<T, Error> {
    let request = Request::new(path).list(params);
    let request = request.map_err(|error| call.clone().failed(kube::Error::BuildRequest(error)))?;
    within_deadline(call.clone(), READ_DEADLINE, answer(client, request)).await
}

/// As [`Client::request`], which loses the `Retry-After` of an answer.
async fn answer<T: DeserializeOwned>(
    client: &Client,
    request: http::Request<Vec<u8>>,
) -> Result<T, kube::Error> {
    let (head, body) = client.send(request.map(Body::from)).await?.into_parts();
    let body = body.collect_bytes().await?;
    if !head.status.is_client_error() && !head.status.is_server_error() {
        return serde_json::from_slice(&body).map_err(kube::Error::SerdeError);
    }
    // Not every failure is a `Status`: a proxy answers in text.
    let mut status = serde_json::from_slice::<Status>(&body).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(&body);
        Status::failure(text.trim(), "").with_code(head.status.as_u16())
    });
    if let Some(pause) = named_pause(&head.headers) {
        let details = status.details.get_or_insert_with(|| StatusDetails {
            name: String::new(),
            group: String::new(),
            kind: String::new(),
            uid: String::new(),
            causes: Vec::new(),
            retry_after_seconds: 0,
        });
        if details.retry_after_seconds == 0 {
            details.retry_after_seconds = pause.as_secs().try_into().unwrap_or(u32::MAX);
        }
    }
    Err(kube::Error::Api(status.boxed()))
}

/// Awaits the answer to `call` for `deadline` at the most.
///
/// # Errors
/// [`Error::Deadline`], or whatever the answer's error means.
pub async fn within_deadline<T>(
    call: ApiCall,
    deadline: Duration,
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(deadline, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(call.failed(error)),
        Err(_) => Err(Error::Deadline {
            call,
            after: deadline,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::{Value, json};
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::resources::Pod;
    use crate::testing::{Scripted, reply, status};

    fn page(names: &[&str], next: &str) -> Value {
        let items: Vec<Value> = names
            .iter()
            .map(|name| json!({ "metadata": { "name": name } }))
            .collect();
        json!({ "kind": "PodList", "apiVersion": "v1",
                "metadata": { "resourceVersion": "7", "continue": next }, "items": items })
    }

    #[tokio::test]
    async fn a_server_out_of_reach_is_named_with_what_to_look_at() {
        // Nothing listens on port 1.
        let config = |url: &str| Config::new(url.parse().unwrap());
        let client = connect(config("http://bob:secret@127.0.0.1:1/behind/")).unwrap();
        for client in [crate::read_only(client.clone()), client] {
            let error = server_version(&client).await.unwrap_err();
            let text = error.to_string();
            for says in [
                "get /version: the API server http://127.0.0.1:1/behind is out of reach",
                "Connection refused",
                "see that it runs",
                "correct the address in the kubeconfig",
            ] {
                assert!(text.contains(says), "{says}: {text}");
            }
            assert!(!text.contains("secret"), "{text}");
        }
    }

    /// Connections that came for so many requests, one after the other, to a server
    /// that keeps them.
    async fn connections(connect: fn(Config) -> Result<Client, Error>, requests: usize) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let came = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&came);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream));
            }
        });
        let client = connect(Config::new(url.parse().unwrap())).unwrap();
        for _ in 0..requests {
            server_version(&client).await.unwrap();
        }
        server.abort();
        came.load(Ordering::Relaxed)
    }

    /// Answers each request, and closes where it is asked to.
    async fn serve(stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufStream::new(stream);
        let (mut line, mut closes) = (String::new(), false);
        while stream.read_line(&mut line).await? > 0 {
            closes |= line.eq_ignore_ascii_case("connection: close\r\n");
            if line == "\r\n" {
                let body = r#"{"gitVersion":"v1.36.3"}"#;
                let length = body.len();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                stream.write_all((head + body).as_bytes()).await?;
                stream.flush().await?;
                if closes {
                    break;
                }
            }
            line.clear();
        }
        Ok(())
    }

    #[tokio::test]
    async fn each_request_has_a_connection_of_its_own_where_that_is_asked_for() {
        assert_eq!(connections(connect, 4).await, 1);
        assert_eq!(connections(connect_anew, 4).await, 4);
    }

    #[tokio::test]
    async fn pages_are_joined_and_a_forgotten_place_starts_the_list_anew() {
        let expired = status(410, "Expired", "the continue token is too old", json!({}));
        let mut script = vec![
            reply(200, page(&["a", "b"], "next")),
            reply(410, &expired),
            reply(200, page(&["a", "c"], "later")),
            reply(200, page(&["d"], "")),
        ]
        .into_iter();
        let api = Scripted::new(move |_| script.next().unwrap());
        let selection = Selection::all().labels("app=web").fields("spec.nodeName=n");
        let pods = list::<Pod>(&api.client, &selection).await.unwrap();
        let names: Vec<_> = pods
            .iter()
            .filter_map(|pod| pod.metadata.name.as_deref())
            .collect();
        assert_eq!(names, ["a", "c", "d"]);
        let query = "fieldSelector=spec.nodeName%3Dn&labelSelector=app%3Dweb&limit=500";
        let first = format!("GET /api/v1/pods?&{query}");
        let lines: Vec<String> = api.asked().iter().map(|asked| asked.line()).collect();
        let next = |token| format!("{first}&continue={token}");
        assert_eq!(
            lines,
            [first.clone(), next("next"), first.clone(), next("later")]
        );
    }

    #[tokio::test]
    async fn a_place_that_is_always_forgotten_is_an_error() {
        let expired = status(410, "Expired", "too old", json!({}));
        let api = Scripted::new(move |_| reply(410, &expired));
        let error = list::<Pod>(&api.client, &Selection::all())
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Api { code: 410, .. }), "{error}");
        assert_eq!(api.asked().len(), 4);
    }

    #[tokio::test]
    async fn version_and_identity() {
        let api = Scripted::new(|asked| match asked.path() {
            "/version" => reply(200, json!({ "major": "1", "gitVersion": "v1.36.3+k3s1" })),
            _ => reply(
                200,
                json!({ "metadata": { "name": "kube-system", "uid": "u-1" } }),
            ),
        });
        let version = server_version(&api.client).await.unwrap();
        assert_eq!(version.to_string(), "v1.36.3+k3s1");
        assert_eq!(
            cluster_id(&api.client).await.unwrap(),
            ClusterId::new("u-1")
        );
        let lines: Vec<String> = api
            .asked()
            .iter()
            .map(|asked| asked.path().to_owned())
            .collect();
        assert_eq!(lines, ["/version", "/api/v1/namespaces/kube-system"]);
    }
}
