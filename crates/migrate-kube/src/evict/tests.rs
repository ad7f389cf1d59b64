use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderValue;
use http::header::RETRY_AFTER;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::service_fn;

use super::*;
use crate::testing::{Scripted, reply, status};
use crate::{connect, read_only};

fn pod() -> PodId {
    PodId::new("shop", "web-1", "u-1")
}

/// The answer to a reply of this code, `Retry-After` header and body.
async fn answer(
    code: u16,
    retry_after: Option<&'static str>,
    body: impl ToString,
) -> EvictionAnswer {
    let body = body.to_string();
    let api = Scripted::new(move |_| {
        let mut response = reply(code, &body);
        if let Some(value) = retry_after {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static(value));
        }
        response
    });
    let answer = evict(&api.client, &pod(), &EvictOptions::default()).await;
    assert_eq!(api.asked().len(), 1);
    answer
}

fn by_budget(message: &str, seconds: u32) -> Value {
    let cause = json!({ "reason": "DisruptionBudget", "message": message });
    let mut details = json!({ "causes": [cause] });
    if seconds > 0 {
        details["retryAfterSeconds"] = json!(seconds);
    }
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    status(429, "TooManyRequests", message, details)
}

#[tokio::test]
async fn the_request_is_exactly_this() {
    let cases = [
        (
            EvictOptions::default(),
            "",
            r#"{"preconditions":{"uid":"u-1"}}"#,
        ),
        (
            EvictOptions::default().with_grace(7),
            "",
            r#"{"gracePeriodSeconds":7,"preconditions":{"uid":"u-1"}}"#,
        ),
        (
            EvictOptions::default().with_grace(0).with_dry_run(),
            "?dryRun=All",
            r#"{"dryRun":["All"],"gracePeriodSeconds":0,"preconditions":{"uid":"u-1"}}"#,
        ),
    ];
    for (options, query, delete_options) in cases {
        let api = Scripted::new(|_| reply(201, r#"{"kind":"Status","status":"Success"}"#));
        let answer = evict(&api.client, &pod(), &options).await;
        assert_eq!(answer, EvictionAnswer::Accepted);
        let asked = api.asked();
        assert_eq!(asked.len(), 1);
        let path = "/api/v1/namespaces/shop/pods/web-1/eviction";
        assert_eq!(asked[0].line(), format!("POST {path}{query}"));
        assert_eq!(asked[0].content_type, "application/json");
        let head = r#"{"apiVersion":"policy/v1","kind":"Eviction""#;
        let metadata = r#""metadata":{"name":"web-1","namespace":"shop"}"#;
        let body = format!(r#"{head},{metadata},"deleteOptions":{delete_options}}}"#);
        assert_eq!(asked[0].body, body);
    }
}

#[tokio::test]
async fn a_pod_without_uid_is_never_asked_for() {
    let api = Scripted::new(|_| reply(201, "{}"));
    let nobody = PodId::new("shop", "web-1", "");
    let answer = evict(&api.client, &nobody, &EvictOptions::default()).await;
    assert!(matches!(answer, EvictionAnswer::NotSent { .. }));
    assert!(api.asked().is_empty());
}

#[tokio::test]
async fn success_and_disappearance() {
    for code in [200, 201, 202] {
        let body = json!({ "kind": "Status", "status": "Success", "code": code });
        assert_eq!(answer(code, None, body).await, EvictionAnswer::Accepted);
    }
    let gone = |kind: &str, name: &str| {
        let details = json!({ "kind": kind, "name": name });
        status(
            404,
            "NotFound",
            &format!("{kind} \"{name}\" not found"),
            details,
        )
    };
    assert_eq!(
        answer(404, None, gone("pods", "web-1")).await,
        EvictionAnswer::Gone
    );
    assert_eq!(
        answer(404, None, gone("namespaces", "shop")).await,
        EvictionAnswer::Gone
    );
    // A 404 that is not about this pod proves nothing about it.
    for body in [
        gone("pods", "web-2").to_string(),
        "<html>no such page</html>".to_owned(),
    ] {
        let answer = answer(404, None, body).await;
        assert!(
            matches!(answer, EvictionAnswer::Unavailable { code: 404, .. }),
            "{answer}"
        );
    }
    for words in [
        "Operation cannot be fulfilled on Pod \"web-1\": the UID in the precondition (u-1) does \
         not match the UID in record (u-2). The object might have been deleted and then recreated",
        "Precondition failed: UID in precondition: u-1, UID in object meta: u-2",
    ] {
        let answer = answer(409, None, status(409, "Conflict", words, json!({}))).await;
        assert_eq!(answer, EvictionAnswer::OtherPod);
        assert!(answer.may_have_spent_budget() && !answer.may_have_evicted());
    }
    let raced = status(409, "Conflict", "the object has been modified", json!({}));
    let answer = answer(409, None, raced).await;
    assert!(
        matches!(answer, EvictionAnswer::Contended { .. }),
        "{answer}"
    );
    assert!(!answer.may_have_spent_budget() && !answer.may_have_evicted());
}

#[tokio::test]
async fn budgets_and_throttling_are_told_apart() {
    let counts = "The disruption budget pb needs 1 healthy pods and has 1 currently";
    let sync = "The disruption budget pb does not allow evicting pods currently because it \
                failed sync: found no controllers for pod \"web-1\"";
    let reason = "The disruption budget pb does not allow evicting pods currently (Custom): text";
    for message in [counts, sync, reason] {
        let answer = answer(429, None, by_budget(message, 0)).await;
        let budget = Some("pb".to_owned());
        let message = message.to_owned();
        assert_eq!(answer, EvictionAnswer::BudgetExhausted { budget, message });
        assert!(!answer.may_have_spent_budget());
    }
    // In the body, as the server sends it, or in the header alone.
    let processed = "The disruption budget pb is still being processed by the server.";
    for (header, seconds) in [(Some("10"), 10), (None, 10), (Some("10"), 0)] {
        let answer = answer(429, header, by_budget(processed, seconds)).await;
        let budget = Some("pb".to_owned());
        let retry_after = Duration::from_secs(10);
        assert_eq!(
            answer,
            EvictionAnswer::BudgetNotObserved {
                budget,
                retry_after
            }
        );
    }
    let unworded = by_budget("words of a later version", 0);
    let answered = answer(429, None, unworded).await;
    assert!(matches!(
        answered,
        EvictionAnswer::BudgetExhausted { budget: None, .. }
    ));

    let throttled = |seconds| EvictionAnswer::Throttled {
        retry_after: Duration::from_secs(seconds),
    };
    let fairness = "Too many requests, please try again later.\n";
    assert_eq!(answer(429, Some("3"), fairness).await, throttled(3));
    let stated = status(
        429,
        "TooManyRequests",
        "too many",
        json!({ "retryAfterSeconds": 2 }),
    );
    assert_eq!(answer(429, None, stated).await, throttled(2));
    assert_eq!(answer(429, None, "").await, throttled(1));
}

#[tokio::test]
async fn refusals_that_no_waiting_cures() {
    let two = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 500,
        "message": "This pod has more than one PodDisruptionBudget, which the eviction \
                    subresource does not support.",
    });
    assert_eq!(answer(500, None, two).await, EvictionAnswer::TwoBudgets);

    let cause = json!({ "reason": "NamespaceTerminating", "field": "metadata.namespace" });
    let words = "pods \"web-1\" is forbidden: unable to create new content in namespace shop";
    let body = status(403, "Forbidden", words, json!({ "causes": [cause] }));
    assert_eq!(
        answer(403, None, body).await,
        EvictionAnswer::NamespaceTerminating
    );

    let details = json!({ "name": "web-1", "kind": "pods" });
    let body = status(
        403,
        "Forbidden",
        "User \"bot\" cannot create pods/eviction",
        details,
    );
    assert!(matches!(
        answer(403, None, body).await,
        EvictionAnswer::Forbidden { .. }
    ));
    let body = status(401, "Unauthorized", "Unauthorized", json!({}));
    assert!(matches!(
        answer(401, None, body).await,
        EvictionAnswer::Unauthorized { .. }
    ));
    let foreign = answer(401, None, json!("go away")).await;
    assert!(matches!(foreign, EvictionAnswer::Unauthorized { .. }));
    let words = "admission webhook \"hook.example\" does not support dry run";
    let body = status(400, "BadRequest", words, json!({}));
    assert_eq!(
        answer(400, None, body).await,
        EvictionAnswer::DryRunUnsupported {
            webhook: "hook.example".into()
        }
    );

    let details = json!({ "name": "pb", "group": "policy", "kind": "poddisruptionbudget" });
    let body = status(
        403,
        "Forbidden",
        "pdb disruptions allowed is negative",
        details,
    );
    let broken = answer(403, None, body).await;
    assert!(
        matches!(&broken, EvictionAnswer::BudgetExhausted { budget: Some(b), .. } if b == "pb"),
        "{broken}"
    );

    for (code, reason) in [
        (400, "BadRequest"),
        (405, "MethodNotAllowed"),
        (422, "Invalid"),
    ] {
        let body = status(code, reason, "name in URL does not match", json!({}));
        assert!(matches!(
            answer(code, None, body).await,
            EvictionAnswer::Invalid { .. }
        ));
    }
}

#[tokio::test]
async fn webhooks_answer_with_any_code() {
    for code in [400, 403, 409, 429, 500] {
        let words = "admission webhook \"drain.example.com\" denied the request: the pod will be \
                     rolled by its operator";
        let answer = answer(code, None, status(code, "", words, json!({}))).await;
        let EvictionAnswer::WebhookDenied { webhook, message } = answer else {
            panic!("{code}: {answer}");
        };
        assert_eq!(
            (webhook.as_str(), message.as_str()),
            ("drain.example.com", words)
        );
    }
    let words = "Internal error occurred: failed calling webhook \"drain.example.com\": failed to \
                 call webhook: Post \"https://x.y.svc:443/\": connect: connection refused";
    let answer = answer(500, None, status(500, "InternalError", words, json!({}))).await;
    assert!(
        matches!(&answer, EvictionAnswer::WebhookUnavailable { webhook, .. }
            if webhook == "drain.example.com"),
        "{answer}"
    );
}

#[tokio::test]
async fn failures_leave_the_outcome_open() {
    let conflicts = status(
        504,
        "Timeout",
        "couldn't update PodDisruptionBudget",
        json!({}),
    );
    for (code, body) in [
        (
            500,
            status(
                500,
                "InternalError",
                "etcdserver: request timed out",
                json!({}),
            ),
        ),
        (502, Value::String("<html>bad gateway</html>".to_owned())),
        (
            503,
            status(
                503,
                "ServiceUnavailable",
                "apiserver is shutting down",
                json!({}),
            ),
        ),
        (504, conflicts),
    ] {
        let answer = answer(code, None, body).await;
        assert!(matches!(&answer, EvictionAnswer::Unavailable { code: c, .. } if *c == code));
        assert!(answer.may_have_evicted() && answer.may_have_spent_budget());
    }
}

#[tokio::test(start_paused = true)]
async fn no_answer_is_unknown_at_the_deadline() {
    let silent = service_fn(|_: Request<Body>| {
        std::future::pending::<Result<Response<Body>, std::convert::Infallible>>()
    });
    let client = Client::new(silent, "default");
    let began = tokio::time::Instant::now();
    let options = EvictOptions::default().with_deadline(Duration::from_secs(4));
    let answer = evict(&client, &pod(), &options).await;
    assert!(matches!(answer, EvictionAnswer::Unknown { .. }), "{answer}");
    assert_eq!(began.elapsed(), Duration::from_secs(4));

    let broken = service_fn(|_: Request<Body>| async {
        Err::<Response<Body>, _>(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
    });
    let client = Client::new(broken, "default");
    let answer = evict(&client, &pod(), &options).await;
    assert!(matches!(answer, EvictionAnswer::Unknown { .. }), "{answer}");
    assert!(answer.may_have_spent_budget());
}

#[tokio::test]
async fn a_reading_client_sends_only_dry_runs() {
    let api = Scripted::new(|_| reply(201, "{}"));
    let client = read_only(api.client.clone());
    let refused = evict(&client, &pod(), &EvictOptions::default()).await;
    let EvictionAnswer::NotSent { reason } = refused else {
        panic!("{refused}")
    };
    assert!(reason.contains("this client only reads"), "{reason}");
    assert!(api.asked().is_empty());
    let asked = evict(&client, &pod(), &EvictOptions::default().with_dry_run()).await;
    assert_eq!(asked, EvictionAnswer::Accepted);
}

/// Serves `body` with 429 on 127.0.0.1 and counts the POSTs.
async fn busy_server(body: String) -> (http::Uri, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let posts = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&posts);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, body.clone(), Arc::clone(&count)));
        }
    });
    (uri, posts)
}

async fn serve(mut stream: TcpStream, body: String, posts: Arc<AtomicUsize>) {
    let mut received = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(count) => received.extend_from_slice(&chunk[..count]),
        }
        // Requests of this test end with their JSON body.
        if received.ends_with(b"}") {
            assert!(received.starts_with(b"POST "));
            received.clear();
            posts.fetch_add(1, Ordering::SeqCst);
            let head = "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json";
            let length = body.len();
            let response = format!("{head}\r\ncontent-length: {length}\r\n\r\n{body}");
            stream.write_all(response.as_bytes()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_connected_client_asks_once_and_a_repeating_one_is_cut_off() {
    let message = "The disruption budget pb needs 1 healthy pods and has 1 currently";
    let (uri, posts) = busy_server(by_budget(message, 0).to_string()).await;

    let client = connect(kube::Config::new(uri.clone())).unwrap();
    let answer = evict(&client, &pod(), &EvictOptions::default()).await;
    assert!(
        matches!(answer, EvictionAnswer::BudgetExhausted { .. }),
        "{answer}"
    );
    assert_eq!(posts.swap(0, Ordering::SeqCst), 1);

    // The default client of kube hides the answer behind its repetitions.
    let client = Client::try_from(kube::Config::new(uri)).unwrap();
    let options = EvictOptions::default().with_deadline(Duration::from_millis(500));
    let answer = evict(&client, &pod(), &options).await;
    assert!(matches!(answer, EvictionAnswer::Unknown { .. }), "{answer}");
    assert!(posts.load(Ordering::SeqCst) > 1);
}
