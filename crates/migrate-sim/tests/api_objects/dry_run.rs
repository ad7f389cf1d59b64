//! Dry runs answer as the write would and write nothing.

use migrate_sim::store::Resource;
use serde_json::{Value, json};

use crate::common::{add_pod, pod, send, server, stored};
use crate::{LEASES, PODS, version};

#[tokio::test(start_paused = true)]
async fn dry_runs_answer_like_the_write_and_write_nothing() {
    let server = server();
    add_pod(&server, "a", true);
    let before = (version(&server), stored(&server, Resource::PODS, "a"));
    let all = "dryRun=All";
    let created = send(
        &server,
        "POST",
        &format!("{PODS}?{all}"),
        pod("b", json!({})),
    )
    .await;
    assert_eq!(
        (created.code, created.body["metadata"]["name"].as_str()),
        (201, Some("b"))
    );
    assert_eq!(
        send(
            &server,
            "POST",
            &format!("{PODS}?{all}"),
            pod("a", json!({}))
        )
        .await
        .code,
        409
    );
    let patched = send(
        &server,
        "PATCH",
        &format!("{PODS}/a?{all}"),
        json!({ "metadata": { "labels": { "x": "1" } } }),
    )
    .await;
    assert_eq!(patched.body["metadata"]["labels"]["x"], "1");
    assert_eq!(
        send(&server, "DELETE", &format!("{PODS}/a?{all}"), Value::Null)
            .await
            .code,
        200
    );
    assert_eq!(
        send(
            &server,
            "DELETE",
            &format!("{PODS}/a"),
            json!({ "dryRun": ["All"] })
        )
        .await
        .code,
        200
    );
    assert_eq!(
        send(&server, "DELETE", &format!("{PODS}?{all}"), Value::Null)
            .await
            .code,
        200
    );
    assert_eq!(
        send(
            &server,
            "PUT",
            &format!("{LEASES}/l?{all}"),
            json!({ "metadata": { "name": "l" } })
        )
        .await
        .code,
        201
    );
    assert_eq!(
        send(
            &server,
            "POST",
            &format!("{PODS}?dryRun=Yes"),
            pod("b", json!({}))
        )
        .await
        .code,
        422
    );
    assert_eq!(
        (version(&server), stored(&server, Resource::PODS, "a")),
        before
    );
    // Identities are those that a run without the dry runs would give.
    let uid =
        send(&server, "POST", PODS, pod("c", json!({}))).await.body["metadata"]["uid"].clone();
    let other = crate::common::server();
    add_pod(&other, "a", true);
    assert_eq!(
        send(&other, "POST", PODS, pod("c", json!({}))).await.body["metadata"]["uid"],
        uid
    );
}
