//! One request from arrival to answer.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{Method, Request, Response, header};
use http_body::Body;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::time::sleep;
use tower::{BoxError, Service};

use super::audit::{AuditEntry, EXCERPT_BYTES};
use super::body::{Pieces, ResponseBody};
use super::outage::{Outage, refused, reset};
use super::query::Query;
use super::read::{self, View};
use super::route::{RequestInfo, Route, verb};
use super::watch::Watch;
use super::write::Target;
use super::{
    ApiServer, Contended, Fault, Settings, access, discovery, eviction, lock, request, subresource,
    write,
};
use crate::object::items_at;
use crate::store::{ApiError, Object, Resource, Store, encode};

impl<B> Service<Request<B>> for ApiServer
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(Into::into)?.to_bytes();
            server.serve(Call::new(&parts, body)).await
        })
    }
}

/// One request, read.
struct Call {
    method: Method,
    route: Option<Route>,
    query: Result<Query, ApiError>,
    info: RequestInfo,
    accept: String,
    content_type: String,
    body: Bytes,
    /// See [`AuditEntry::evicted_uid`].
    evicted_uid: String,
    /// What others write faster, if it is an eviction.
    contended: Option<Contended>,
}

/// What a request is answered with.
struct Answer {
    code: u16,
    retry_after_seconds: Option<u32>,
    content_type: &'static str,
    body: AnswerBody,
}

enum AnswerBody {
    Pieces(Pieces),
    Watch(Box<Watch>),
}

impl ApiServer {
    async fn serve(self, mut call: Call) -> Result<Response<ResponseBody>, BoxError> {
        let sent_ms = self.inner.shared.now_ms();
        let mut outage = self.outage();
        outage.check()?;
        let settings = self.settings();
        let fault = lock(&self.inner.faults).decide(&call.info);
        let there = settings.latency / 2;
        let arrival = match &fault {
            Fault::Refuse => return Err(refused()),
            Fault::Delay(delay) => there + *delay,
            _ => there,
        };
        pause(&mut outage, arrival).await?;
        if let Fault::Contend(contended) = fault {
            call.contended = Some(contended);
        }
        let mut answer = match fault {
            Fault::Answer(ref error) => Answer::error(error),
            _ => self
                .answer(&mut call, &settings)
                .unwrap_or_else(|error| Answer::error(&error)),
        };
        self.record(&call, sent_ms, answer.code);
        let back = settings.latency - there;
        let tries = match (call.contended, answer.code) {
            (Some(_), 409) => eviction::TRIES,
            _ => Duration::ZERO,
        };
        pause(&mut outage, back + tries).await?;
        match (fault, &mut answer.body) {
            (Fault::DropAnswer, _) => return Err(reset()),
            (Fault::CloseWatch(after), AnswerBody::Watch(watch)) => watch.close_after(after),
            _ => {}
        }
        answer.into_response()
    }

    fn record(&self, call: &Call, sent_ms: u64, code: u16) {
        let excerpt = &call.body[..call.body.len().min(EXCERPT_BYTES)];
        let entry = AuditEntry {
            at_ms: self.inner.shared.now_ms(),
            sent_ms,
            request: call.info.clone(),
            evicted_uid: call.evicted_uid.clone(),
            code,
            resource_version: *self.inner.shared.changes().borrow(),
            body_excerpt: String::from_utf8_lossy(excerpt).into_owned(),
        };
        lock(&self.inner.audit).push(entry);
    }

    fn answer(&self, call: &mut Call, settings: &Settings) -> Result<Answer, ApiError> {
        let query = call.query.clone()?;
        let reviews = ["authorization.k8s.io", "authentication.k8s.io"];
        let Some(route) = call
            .route
            .take()
            .filter(|route| !reviews.contains(&route.group.as_str()))
        else {
            return self.answer_path(call, settings);
        };
        let resource = route.resource(&self.inner.shared.lock())?;
        access::check(&settings.rules, &call.info, resource)?;
        call.info.dry_run = query.is_dry_run()? || body_says_dry_run(call);
        if call.info.verb == "watch" {
            let namespace = route.namespace.as_deref();
            let shared = Arc::clone(&self.inner.shared);
            let watch = Watch::open(
                shared,
                self.outage(),
                resource,
                namespace,
                &query,
                call.view(),
            )?;
            return Ok(Answer {
                body: AnswerBody::Watch(Box::new(watch)),
                ..Answer::pieces(200, Pieces::new())
            });
        }
        let mut store = self.inner.shared.lock();
        if route.subresource == "eviction" {
            let pod = store.get(Resource::PODS, route.namespace(), &route.name);
            call.evicted_uid = pod.map(|pod| pod.uid().to_owned()).unwrap_or_default();
        }
        if route.name.is_empty() {
            call.on_collection(&mut store, resource, &route, &query)
        } else {
            call.on_object(&mut store, resource, &route, &query)
        }
    }

    /// Paths that are no stored objects.
    fn answer_path(&self, call: &Call, settings: &Settings) -> Result<Answer, ApiError> {
        let path = call.info.path.as_str();
        match (path.trim_end_matches('/'), &call.method) {
            ("/readyz" | "/livez" | "/healthz", &Method::GET) => {
                let up = settings.ready || path.starts_with("/livez");
                Ok(Answer::text(
                    if up { 200 } else { 500 },
                    if up { "ok" } else { "not ready" },
                ))
            }
            ("/metrics", &Method::GET) => Ok(Answer::text(200, &settings.metrics)),
            (_, &Method::POST) => {
                let body = request::json(&call.body)?;
                access::review(&settings.rules, path, body)
                    .map(|review| Answer::json(201, &review))
                    .ok_or(ApiError::UnknownPath)
            }
            (_, &Method::GET) => {
                discovery::answer(&self.inner.shared.lock(), path, &settings.version)
                    .map(|found| Answer::json(200, &found))
                    .ok_or(ApiError::UnknownPath)
            }
            _ => Err(ApiError::MethodNotAllowed),
        }
    }
}

impl Call {
    fn new(parts: &Parts, body: Bytes) -> Self {
        let header = |name| {
            let value = parts
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let path = parts.uri.path();
        let raw_query = parts.uri.query().unwrap_or_default();
        let query = Query::parse(raw_query);
        let route = Route::parse(path);
        let read = query.as_ref().ok();
        let info = RequestInfo {
            verb: verb(
                &parts.method,
                route.as_ref(),
                read.is_some_and(|query| query.watch),
            ),
            group: route.as_ref().map(|r| r.group.clone()).unwrap_or_default(),
            resource: route.as_ref().map(|r| r.plural.clone()).unwrap_or_default(),
            namespace: route
                .as_ref()
                .map(|r| r.namespace().to_owned())
                .unwrap_or_default(),
            name: route.as_ref().map(|r| r.name.clone()).unwrap_or_default(),
            subresource: route
                .as_ref()
                .map(|r| r.subresource.clone())
                .unwrap_or_default(),
            path: path.to_owned(),
            query: raw_query.to_owned(),
            dry_run: read.is_some_and(|query| !query.dry_run.is_empty()),
            user_agent: header(header::USER_AGENT),
        };
        Self {
            method: parts.method.clone(),
            route,
            query,
            info,
            accept: header(header::ACCEPT),
            content_type: header(header::CONTENT_TYPE),
            body,
            evicted_uid: String::new(),
            contended: None,
        }
    }

    fn view(&self) -> View {
        View::of_accept(&self.accept)
    }

    fn on_collection(
        &self,
        store: &mut Store,
        resource: &'static Resource,
        route: &Route,
        query: &Query,
    ) -> Result<Answer, ApiError> {
        let namespace = route.namespace.as_deref();
        match self.method {
            Method::GET => read::list(store, resource, namespace, query, self.view())
                .map(|p| Answer::pieces(200, p)),
            Method::POST if !resource.namespaced || namespace.is_some() => {
                let target = self.target(resource, route);
                write::create(store, target, &self.body).map(|object| self.object(201, &object))
            }
            Method::DELETE => {
                write::delete_collection(store, resource, namespace, query, &self.body)
                    .map(|list| Answer::json(200, &list))
            }
            _ => Err(ApiError::MethodNotAllowed),
        }
    }

    fn on_object(
        &self,
        store: &mut Store,
        resource: &'static Resource,
        route: &Route,
        query: &Query,
    ) -> Result<Answer, ApiError> {
        let target = self.target(resource, route);
        let Target {
            namespace, name, ..
        } = target;
        let content_type = (self.method == Method::PATCH).then_some(self.content_type.as_str());
        match (route.subresource.as_str(), &self.method) {
            ("" | "status", &Method::GET) => {
                let object = store.get(resource, namespace, name);
                object
                    .map(|object| self.object(200, object))
                    .ok_or_else(|| ApiError::not_found(resource, name))
            }
            ("status", _) if !resource.has_status => Err(ApiError::UnknownPath),
            ("" | "status", &Method::PUT) => write::update(store, target, &self.body)
                .map(|(object, created)| self.object(if created { 201 } else { 200 }, &object)),
            ("" | "status", &Method::PATCH) => {
                write::patch(store, target, &self.content_type, &self.body)
                    .map(|object| self.object(200, &object))
            }
            ("", &Method::DELETE) => write::delete(store, target, query, &self.body)
                .map(|answer| Answer::json(200, &answer)),
            ("eviction", &Method::POST) if resource == Resource::PODS => {
                let dry_run = query.is_dry_run()?;
                eviction::evict(store, namespace, name, &self.body, dry_run, self.contended)
                    .map(|()| Answer::json(201, &eviction::accepted()))
            }
            ("binding", &Method::POST) if resource == Resource::PODS => {
                subresource::bind(store, target, &self.body)
                    .map(|()| Answer::json(201, &eviction::accepted()))
            }
            ("scale", &Method::GET) if resource.has_scale => {
                let object = store
                    .get(resource, namespace, name)
                    .ok_or_else(|| ApiError::not_found(resource, name))?;
                Ok(Answer::json(200, &subresource::scale_of(object)))
            }
            ("scale", &Method::PUT | &Method::PATCH) if resource.has_scale => {
                subresource::write_scale(store, target, content_type, &self.body)
                    .map(|scale| Answer::json(200, &scale))
            }
            ("finalize", &Method::PUT) if resource == Resource::NAMESPACES => {
                subresource::finalize(store, target, &self.body)
                    .map(|object| self.object(200, &object))
            }
            ("" | "eviction" | "binding" | "scale" | "finalize", _) => {
                Err(ApiError::MethodNotAllowed)
            }
            _ => Err(ApiError::UnknownPath),
        }
    }

    fn target<'a>(&self, resource: &'static Resource, route: &'a Route) -> Target<'a> {
        Target {
            resource,
            namespace: route.namespace(),
            name: &route.name,
            status: route.subresource == "status",
            dry_run: self.info.dry_run,
        }
    }

    fn object(&self, code: u16, object: &Object) -> Answer {
        Answer::pieces(code, Pieces::from([self.view().bytes(object)]))
    }
}

impl Answer {
    fn pieces(code: u16, pieces: Pieces) -> Self {
        Self {
            code,
            retry_after_seconds: None,
            content_type: "application/json",
            body: AnswerBody::Pieces(pieces),
        }
    }

    fn json(code: u16, value: &Value) -> Self {
        Self::pieces(code, Pieces::from([encode(value)]))
    }

    fn text(code: u16, text: &str) -> Self {
        let pieces = Pieces::from([Bytes::copy_from_slice(text.as_bytes())]);
        Self {
            content_type: "text/plain; charset=utf-8",
            ..Self::pieces(code, pieces)
        }
    }

    fn error(error: &ApiError) -> Self {
        Self {
            retry_after_seconds: error.retry_after_seconds(),
            ..Self::json(error.code(), &error.status())
        }
    }

    fn into_response(self) -> Result<Response<ResponseBody>, BoxError> {
        let mut response = Response::builder()
            .status(self.code)
            .header(header::CONTENT_TYPE, self.content_type);
        if let Some(seconds) = self.retry_after_seconds {
            response = response.header(header::RETRY_AFTER, seconds);
        }
        let body = match self.body {
            AnswerBody::Pieces(pieces) => ResponseBody::fixed(pieces),
            AnswerBody::Watch(watch) => ResponseBody::streamed(watch.into_stream()),
        };
        Ok(response.body(body)?)
    }
}

/// Whether delete options in the body ask for a dry run.
fn body_says_dry_run(call: &Call) -> bool {
    let has_options = call.info.subresource == "eviction" || call.method == Method::DELETE;
    if !has_options || call.body.is_empty() {
        return false;
    }
    let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    let options = if call.method == Method::DELETE {
        &body
    } else {
        &body["deleteOptions"]
    };
    items_at(options, &["dryRun"])
        .iter()
        .any(|value| value == "All")
}

/// Lets time pass, unless the server goes down meanwhile.
async fn pause(outage: &mut Outage, time: Duration) -> Result<(), BoxError> {
    if time.is_zero() {
        return outage.check();
    }
    tokio::select! {
        biased;
        error = outage.begins() => Err(error),
        () = sleep(time) => Ok(()),
    }
}
