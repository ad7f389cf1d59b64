//! A transport that lets nothing through that could change the cluster.

use std::task::{Context, Poll};

use futures::TryFutureExt;
use futures::future::{Either, MapErr, Ready, ready};
use http::{Method, Request};
use kube::Client;
use kube::client::Body;
use tower::{BoxError, Layer, Service, service_fn};

/// The guard refused a request; nothing was sent.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "this client only reads: {method} {path} was not sent ({reason}); use one without the guard \
     to change the cluster"
)]
#[non_exhaustive]
pub struct Refused {
    /// Method.
    pub method: String,
    /// Path.
    pub path: String,
    /// Why it counts as changing something.
    pub reason: &'static str,
}

/// Lets only requests through that cannot change the cluster.
///
/// # Guarantees
/// What passes is: `GET`, `HEAD` and `OPTIONS`, except on `exec`, `attach` and
/// `portforward`, which act although they may be `GET`s; self reviews
/// (`selfsubjectaccessreviews`, `selfsubjectrulesreviews`,
/// `selfsubjectreviews`), which store nothing; and other methods on objects of
/// the API with `dryRun=All` in the query. Everything else fails with
/// [`Refused`] and never reaches the inner service.
///
/// # Caveats
/// `dryRun=All` does not count where the server would not honour it: on
/// `proxy`, on `token`, on paths that are no API objects, and on a `DELETE` with
/// a body, whose options take the place of the query's. An aggregated API server
/// that ignores `dryRun` cannot be told from one that honours it.
#[derive(Clone, Debug)]
pub struct DryRunGuard<S> {
    inner: S,
}

impl<S> DryRunGuard<S> {
    /// Guards `inner`.
    pub const fn new(inner: S) -> Self {
        Self { inner }
    }
}

/// [`DryRunGuard`] as a layer.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct DryRunGuardLayer;

impl DryRunGuardLayer {
    /// The layer.
    pub const fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for DryRunGuardLayer {
    type Service = DryRunGuard<S>;

    fn layer(&self, inner: S) -> DryRunGuard<S> {
        DryRunGuard::new(inner)
    }
}

impl<S, B> Service<Request<B>> for DryRunGuard<S>
where
    S: Service<Request<B>>,
    S::Error: Into<BoxError>,
    B: http_body::Body,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future =
        Either<MapErr<S::Future, fn(S::Error) -> BoxError>, Ready<Result<S::Response, BoxError>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let has_body = request.body().size_hint().upper() != Some(0);
        let query = request.uri().query().unwrap_or_default();
        match judge(request.method(), request.uri().path(), query, has_body) {
            Ok(()) => {
                let into: fn(S::Error) -> BoxError = Into::into;
                Either::Left(self.inner.call(request).map_err(into))
            }
            Err(reason) => Either::Right(ready(Err(Box::new(Refused {
                method: request.method().to_string(),
                path: request.uri().path().to_owned(),
                reason,
            })))),
        }
    }
}

/// `client` behind a [`DryRunGuard`]. Call it inside a tokio runtime, as for
/// every new client.
pub fn read_only(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    let send = service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move { client.send(request).await }
    });
    Client::new(DryRunGuard::new(send), namespace)
}

/// Whether the request can change nothing; if not, why.
fn judge(method: &Method, path: &str, query: &str, has_body: bool) -> Result<(), &'static str> {
    let Some(target) = Target::parse(path) else {
        return Err("its path cannot be read for certain");
    };
    if matches!(target.subresource, Some("exec" | "attach" | "portforward")) {
        return Err("it acts inside a pod");
    }
    if [Method::GET, Method::HEAD, Method::OPTIONS].contains(method) {
        return Ok(());
    }
    if *method == Method::POST && target.is_self_review() {
        return Ok(());
    }
    if !is_dry_run(query) {
        return Err("it is neither a read, a self review nor dryRun=All");
    }
    if !target.is_object {
        return Err("dryRun does not count on a path that is no API object");
    }
    if matches!(target.subresource, Some("proxy" | "token")) {
        return Err("dryRun does not count on this subresource");
    }
    if *method == Method::DELETE && has_body {
        return Err("dryRun in the query does not count beside options in the body");
    }
    Ok(())
}

/// Every `dryRun` of the query is `All`, and there is one.
fn is_dry_run(query: &str) -> bool {
    let mut values = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("dryRun"))
        .peekable();
    values.peek().is_some() && values.all(|value| value == "=All")
}

/// What a path addresses, read as an API server reads it.
#[derive(Debug, Default, Eq, PartialEq)]
struct Target<'a> {
    is_object: bool,
    group: &'a str,
    resource: Option<&'a str>,
    subresource: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// `None` for a path that another reader might take for another path.
    fn parse(path: &'a str) -> Option<Self> {
        if path.contains('%') || path.split('/').any(|part| part == "." || part == "..") {
            return None;
        }
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (group, rest) = match parts.as_slice() {
            ["api", _version, rest @ ..] => ("", rest),
            ["apis", group, _version, rest @ ..] => (*group, rest),
            _ => return Some(Self::default()),
        };
        let rest = match rest {
            // A namespace has two subresources; anything else below it is a
            // resource inside it.
            ["namespaces", _name, "finalize" | "status", ..] => rest,
            ["namespaces", _namespace, inside @ ..] if !inside.is_empty() => inside,
            _ => rest,
        };
        Some(Self {
            is_object: !rest.is_empty() && !path.contains("//"),
            group,
            resource: rest.first().copied(),
            subresource: rest.get(2).copied(),
        })
    }

    fn is_self_review(&self) -> bool {
        let reviews: &[&str] = match self.group {
            "authentication.k8s.io" => &["selfsubjectreviews"],
            "authorization.k8s.io" => &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
            _ => &[],
        };
        self.is_object
            && self.subresource.is_none()
            && self.resource.is_some_and(|name| reviews.contains(&name))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt;
    use migrate_core::Fence;
    use proptest::prelude::*;
    use proptest::sample::select;
    use tower::ServiceExt;

    use super::*;
    use crate::testing::{Scripted, reply};
    use crate::{Error, cordon};

    /// Whether the guard lets the request reach the inner service.
    fn passes(method: &str, uri: &str, body: &'static str) -> bool {
        let reached = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&reached);
        let inner = service_fn(move |_: Request<Body>| {
            count.fetch_add(1, Ordering::SeqCst);
            async { Ok::<_, BoxError>(()) }
        });
        let request = Request::builder().method(method).uri(uri);
        let request = request.body(Body::from(body.as_bytes().to_vec())).unwrap();
        let outcome = DryRunGuard::new(inner)
            .oneshot(request)
            .now_or_never()
            .unwrap();
        let reached = reached.load(Ordering::SeqCst) == 1;
        match outcome {
            Ok(()) => assert!(reached),
            Err(error) => assert!(!reached && error.is::<Refused>()),
        }
        reached
    }

    /// A request of which is known by construction what it addresses.
    #[derive(Clone, Debug)]
    struct Case {
        method: &'static str,
        root: &'static str,
        namespaced: bool,
        resource: &'static str,
        subresource: Option<&'static str>,
        query: &'static str,
        body: &'static str,
    }

    impl Case {
        fn uri(&self) -> String {
            let namespace = if self.namespaced {
                "/namespaces/exec"
            } else {
                ""
            };
            let subresource = self
                .subresource
                .map_or_else(String::new, |s| format!("/attach/{s}"));
            format!(
                "{}{namespace}/{}{subresource}{}",
                self.root, self.resource, self.query
            )
        }

        fn expected(&self) -> bool {
            let acts = matches!(self.subresource, Some("exec" | "attach" | "portforward"));
            let reads = matches!(self.method, "GET" | "HEAD" | "OPTIONS");
            let review = matches!(
                (self.root, self.resource),
                ("/apis/authorization.k8s.io/v1", "selfsubjectaccessreviews")
                    | ("/apis/authentication.k8s.io/v1", "selfsubjectreviews")
            );
            let dry = matches!(self.query, "?dryRun=All" | "?a=b&dryRun=All");
            let overruled = self.method == "DELETE" && !self.body.is_empty();
            let ignored = matches!(self.subresource, Some("proxy" | "token"));
            let honoured = !overruled && !ignored;
            let asks = review && self.method == "POST" && self.subresource.is_none();
            !acts && (reads || asks || dry && honoured)
        }
    }

    fn case() -> impl Strategy<Value = Case> {
        let methods = select(vec![
            "GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE",
        ]);
        let roots = select(vec![
            "/api/v1",
            "/apis/apps/v1",
            "/apis/authorization.k8s.io/v1",
            "/apis/authentication.k8s.io/v1",
        ]);
        let resources = select(vec![
            "pods",
            "nodes",
            "selfsubjectaccessreviews",
            "selfsubjectreviews",
            "subjectaccessreviews",
        ]);
        let subresources = select(vec![
            "eviction",
            "status",
            "exec",
            "attach",
            "portforward",
            "proxy",
            "token",
            "binding",
        ]);
        let queries = select(vec![
            "",
            "?dryRun=All",
            "?a=b&dryRun=All",
            "?dryRun=all",
            "?dryRun=",
            "?dryRun",
            "?dryRun=All&dryRun=None",
            "?dryRun=All,",
            "?DryRun=All",
            "?xdryRun=All",
            "?dryRunX=All",
            "?fieldManager=dryRun=All",
        ]);
        let bodies = select(vec!["", "{}"]);
        let subresource = proptest::option::of(subresources);
        (
            methods,
            roots,
            any::<bool>(),
            resources,
            subresource,
            queries,
            bodies,
        )
            .prop_map(
                |(method, root, namespaced, resource, subresource, query, body)| Case {
                    method,
                    root,
                    namespaced,
                    resource,
                    subresource,
                    query,
                    body,
                },
            )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn only_what_cannot_change_anything_passes(case in case()) {
            prop_assert_eq!(passes(case.method, &case.uri(), case.body), case.expected());
        }

        #[test]
        fn no_path_smuggles_a_write_through(
            method in select(vec!["POST", "PUT", "PATCH", "DELETE", "CONNECT", "BREW"]),
            path in "(/|//|/api|/apis|/v1|/pods|/exec|/%65xec|/\\.\\.|/self[a-z]{0,8}|/x){0,8}",
        ) {
            let uri = format!("/{path}");
            prop_assert!(!passes(method, &uri, ""));
        }

        #[test]
        fn no_spelling_of_exec_passes(
            method in select(vec!["GET", "POST"]),
            slashes in "/{1,3}",
            word in select(vec!["exec", "%65xec", "e%78ec", "./exec", "x/../exec"]),
            query in select(vec!["", "?dryRun=All"]),
        ) {
            let uri = format!("/api/v1{slashes}namespaces/a{slashes}pods/p{slashes}{word}{query}");
            prop_assert!(!passes(method, &uri, ""));
        }
    }

    #[test]
    fn dry_runs_count_only_on_objects() {
        for path in ["/metrics", "/", "/apis", "/apis/apps/v1", "/healthz/etcd"] {
            assert!(!passes("POST", &format!("{path}?dryRun=All"), ""), "{path}");
            assert!(passes("GET", path, ""), "{path}");
        }
        assert!(passes(
            "PUT",
            "/api/v1/namespaces/a/finalize?dryRun=All",
            "{}"
        ));
        assert!(passes(
            "GET",
            "/api/v1/namespaces/a/services/http:x:80/proxy/metrics",
            ""
        ));
    }

    #[tokio::test]
    async fn the_refusal_is_typed_through_a_client() {
        let node = r#"{"metadata":{"name":"a","resourceVersion":"1"}}"#;
        let api = Scripted::new(move |_| reply(200, node));
        let fence = Fence::without_lease("run-1");
        let error = cordon(&read_only(api.client.clone()), "a", &fence)
            .await
            .unwrap_err();
        assert!(matches!(&error, Error::Refused { source, .. } if source.method == "PATCH"));
        assert!(!error.is_retryable());
        let lines: Vec<String> = api.asked().iter().map(|asked| asked.line()).collect();
        assert_eq!(lines, ["GET /api/v1/nodes/a"]);
    }
}
