//! APIs to test against, on the seam under a client.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use http::header::CONTENT_TYPE;
use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower::service_fn;

/// A request as it left the client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) content_type: String,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.uri)
    }

    pub(crate) fn path(&self) -> &str {
        self.uri.split_once('?').map_or(&self.uri, |(path, _)| path)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A client whose requests are answered by a closure, and what it asked.
#[derive(Clone)]
pub(crate) struct Scripted {
    pub(crate) client: Client,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Scripted {
    pub(crate) fn new(answer: impl FnMut(&Asked) -> Response<Body> + Send + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&asked), Arc::new(Mutex::new(answer)));
        let service = service_fn(move |request: Request<Body>| {
            let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
            async move {
                let (parts, body) = request.into_parts();
                let content_type = parts.headers.get(CONTENT_TYPE);
                let asked = Asked {
                    method: parts.method.to_string(),
                    uri: parts.uri.to_string(),
                    content_type: content_type
                        .map_or("", |value| value.to_str().unwrap())
                        .to_owned(),
                    body: String::from_utf8(body.collect_bytes().await.unwrap().to_vec()).unwrap(),
                };
                log.lock().unwrap().push(asked.clone());
                let mut answer = answer.lock().unwrap_or_else(PoisonError::into_inner);
                Ok::<_, Infallible>(answer(&asked))
            }
        });
        Self {
            client: Client::new(service, "default"),
            asked,
        }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

pub(crate) fn reply(code: u16, body: impl ToString) -> Response<Body> {
    let body = Body::from(body.to_string().into_bytes());
    Response::builder().status(code).body(body).unwrap()
}

/// A failure as the API states it.
pub(crate) fn status(code: u16, reason: &str, message: &str, details: Value) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "details": details, "code": code,
    })
}

type Hook = Box<dyn FnOnce(&mut Objects) + Send>;

/// A few objects that can be read, created and merge-patched with compare and
/// set, as an API server does it.
#[derive(Default)]
pub(crate) struct Objects {
    objects: BTreeMap<String, Value>,
    version: u64,
    /// Run before the next writes, one each.
    pub(crate) before_write: Vec<Hook>,
}

impl Objects {
    pub(crate) fn put(&mut self, path: &str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), object);
    }

    pub(crate) fn patch(&mut self, path: &str, patch: &Value) {
        let mut object = self.objects[path].clone();
        merge(&mut object, patch);
        self.put(path, object);
    }

    pub(crate) fn object(&self, path: &str) -> &Value {
        &self.objects[path]
    }

    pub(crate) fn serve(objects: &Arc<Mutex<Self>>) -> Scripted {
        let objects = Arc::clone(objects);
        Scripted::new(move |asked| objects.lock().unwrap().answer(asked))
    }

    fn answer(&mut self, asked: &Asked) -> Response<Body> {
        let path = asked.path();
        if asked.method != "GET" && !self.before_write.is_empty() {
            let hook = self.before_write.remove(0);
            hook(self);
        }
        match asked.method.as_str() {
            "POST" => {
                let object = asked.json();
                let path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap());
                if self.objects.contains_key(&path) {
                    return conflict("AlreadyExists");
                }
                self.put(&path, object);
                reply(201, self.object(&path))
            }
            "GET" if self.objects.keys().any(|key| is_in(key, path)) => {
                let items = self.objects.iter().filter(|(key, _)| is_in(key, path));
                let items: Vec<&Value> = items.map(|(_, object)| object).collect();
                reply(200, json!({ "metadata": {}, "items": items }))
            }
            _ if !self.objects.contains_key(path) => {
                reply(404, status(404, "NotFound", "not found", json!({})))
            }
            "PATCH" => {
                assert_eq!(asked.content_type, "application/merge-patch+json");
                let patch = asked.json();
                let expected = &patch["metadata"]["resourceVersion"];
                assert!(expected.is_string(), "a blind patch: {patch}");
                if *expected != self.object(path)["metadata"]["resourceVersion"] {
                    return conflict("Conflict");
                }
                self.patch(path, &patch);
                reply(200, self.object(path))
            }
            _ => reply(200, self.object(path)),
        }
    }
}

/// Whether the object at `key` is of the collection at `path`.
fn is_in(key: &str, path: &str) -> bool {
    key.rsplit_once('/')
        .is_some_and(|(parent, _)| parent == path)
}

fn conflict(reason: &str) -> Response<Body> {
    reply(
        409,
        status(409, reason, "the object has been modified", json!({})),
    )
}

fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}
