use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::bolt::build::{Free, snapshot};
use crate::inspect::kv::samples::{put_bytes, tombstone};
use crate::protobuf::Message;

fn message() -> Message {
    Message::default()
}

fn text(field: u32, text: &str) -> Vec<u8> {
    message().bytes(field, text.as_bytes()).finish()
}

/// A value as API servers write it.
fn stored(api_version: &str, kind: &str, object: Message) -> Vec<u8> {
    let meta = message()
        .bytes(1, api_version.as_bytes())
        .bytes(2, kind.as_bytes());
    let unknown = message()
        .bytes(1, &meta.finish())
        .bytes(2, &object.finish())
        .bytes(3, b"")
        .bytes(4, b"");
    [BINARY, &unknown.finish()].concat()
}

fn object(content: Content) -> (Value, Vec<String>) {
    match content {
        Content::Object { object, unknown } => (object, unknown),
        _ => panic!("no object"),
    }
}

fn read(api_version: &str, kind: &str, message: Message) -> Value {
    let (object, unknown) = object(Content::of(&stored(api_version, kind, message)));
    assert!(unknown.is_empty(), "{unknown:?}");
    object
}

#[test]
fn a_pod_is_what_the_api_shows() {
    let label = message().bytes(1, b"app").bytes(2, b"web").finish();
    let empty = message().bytes(1, b"none").bytes(2, b"").finish();
    let created = message().number(1, 1_788_220_800).number(2, 0).finish();
    let metadata = message()
        .bytes(1, b"web-0")
        .bytes(2, b"")
        .bytes(3, b"shop")
        .number(7, 0)
        .bytes(8, &created)
        .bytes(11, &label)
        .bytes(11, &empty);
    let quantity = message()
        .bytes(1, b"cpu")
        .bytes(2, &text(1, "100m"))
        .finish();
    let resources = message().bytes(2, &quantity).finish();
    let port = message().number(1, 0).number(2, 8080).finish();
    let http = message().bytes(1, b"/ready").bytes(2, &port).finish();
    let handler = message().bytes(2, &http).finish();
    let probe = message()
        .bytes(1, &handler)
        .number(2, 0)
        .number(3, 1)
        .finish();
    let container = message()
        .bytes(1, b"main")
        .bytes(3, b"serve")
        .bytes(3, b"--all")
        .bytes(8, &resources)
        .bytes(11, &probe)
        .number(16, 0);
    let claim = message().bytes(1, b"disk").number(2, 0).finish();
    let source = message().bytes(10, &claim).finish();
    let volume = message().bytes(1, b"data").bytes(2, &source).finish();
    let spec = message()
        .bytes(1, &volume)
        .bytes(2, &container.finish())
        .number(4, 0)
        .bytes(10, b"n1")
        .number(11, 0);
    let status = message().bytes(1, b"Running");
    let pod = message()
        .bytes(1, &metadata.finish())
        .bytes(2, &spec.finish())
        .bytes(3, &status.finish());
    let expected = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "web-0", "namespace": "shop", "labels": {"app": "web", "none": ""},
            "creationTimestamp": "2026-09-01T00:00:00Z",
        },
        "spec": {
            "nodeName": "n1",
            // A pointer: zero is said.
            "terminationGracePeriodSeconds": 0,
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "disk"}}],
            "containers": [{
                "name": "main", "command": ["serve", "--all"],
                "resources": {"requests": {"cpu": "100m"}},
                "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "timeoutSeconds": 1},
            }],
        },
        "status": {"phase": "Running"},
    });
    assert_eq!(read("v1", "Pod", pod), expected);
}

#[test]
fn what_has_a_form_of_its_own_has_it() {
    let renewed = message().number(1, 1_788_220_800).number(2, 5_000_000);
    let spec = message().number(2, 40).bytes(4, &renewed.finish()).finish();
    let lease = read("coordination.k8s.io/v1", "Lease", message().bytes(2, &spec));
    assert_eq!(lease["spec"]["renewTime"], "2026-09-01T00:00:00.005000Z");
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 40);

    let entry = message().bytes(1, b"key").bytes(2, b"\xff\x00").finish();
    let secret = read("v1", "Secret", message().bytes(2, &entry));
    assert_eq!(secret["data"], json!({"key": "/wA="}));

    let percent = message()
        .number(1, 1)
        .number(2, 0)
        .bytes(3, b"25%")
        .finish();
    let spec = message().bytes(3, &percent).finish();
    let budget = read(
        "policy/v1",
        "PodDisruptionBudget",
        message().bytes(2, &spec),
    );
    assert_eq!(budget["spec"]["maxUnavailable"], "25%");

    let raw = message().bytes(1, br#"{"spec":{"a":1}}"#).finish();
    let revision = message().bytes(2, &raw).number(3, 4);
    let revision = read("apps/v1", "ControllerRevision", revision);
    assert_eq!(revision["data"], json!({"spec": {"a": 1}}));
    assert_eq!(revision["revision"], 4);

    // -5, as a number of 32 bits is written.
    let priority = message().number(2, (-5_i64).cast_unsigned());
    let class = read("scheduling.k8s.io/v1", "PriorityClass", priority);
    assert_eq!(class["value"], -5);
}

#[test]
fn the_schema_of_a_custom_resource_is_that_of_its_author() {
    let allows = message().number(1, 0).finish();
    let leaf = text(5, "string");
    let array = message().bytes(1, &leaf).finish();
    let default = message().bytes(1, b"[1]").finish();
    let some = message()
        .bytes(5, b"array")
        .bytes(8, &default)
        .bytes(24, &array)
        .number(38, 1);
    let property = message()
        .bytes(1, b"some")
        .bytes(2, &some.finish())
        .finish();
    let props = message()
        .bytes(5, b"object")
        .bytes(29, &property)
        .bytes(30, &allows)
        .finish();
    let schema = message().bytes(1, &props).finish();
    let version = message().bytes(1, b"v1").number(2, 1).number(3, 0);
    let version = version.bytes(4, &schema).finish();
    let spec = message()
        .bytes(1, b"example.com")
        .bytes(7, &version)
        .finish();
    let read = read(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        message().bytes(2, &spec),
    );
    let version = &read["spec"]["versions"][0];
    assert_eq!(version["served"], true);
    assert_eq!(version["storage"], false);
    assert_eq!(
        version["schema"]["openAPIV3Schema"],
        json!({
            "type": "object", "additionalProperties": false,
            "properties": {"some": {
                "type": "array", "items": {"type": "string"}, "default": [1],
                "x-kubernetes-preserve-unknown-fields": true,
            }},
        })
    );
}

#[test]
fn what_is_not_known_is_told_and_what_is_malformed_is_no_object() {
    let pod = message().bytes(2, &text(10, "n1")).number(7000, 1);
    let (pod, unknown) = object(Content::of(&stored("v1", "Pod", pod)));
    assert_eq!(pod["spec"]["nodeName"], "n1");
    assert_eq!(unknown, ["core.v1.Pod 7000"]);

    let other = Content::of(&stored("v1", "Gadget", message()));
    let expected = Content::UnknownKind {
        api_version: "v1".to_owned(),
        kind: "Gadget".to_owned(),
    };
    assert!(other == expected);
    assert!(Content::of(b"k8s:enc:kms:v2:vault:\xff") == Content::Encrypted);
    // A text where a message is, and one that is no UTF-8.
    for wrong in [message().number(2, 1), message().bytes(2, &[0x52, 1, 0xff])] {
        assert!(Content::of(&stored("v1", "Pod", wrong)) == Content::Unreadable);
    }
    for wrong in [
        &b""[..],
        b"k8s\0",
        b"k8s\0\x0a\x05",
        b"\xd9\xd9\xf7\xa0",
        b"{}",
        b"[]",
        br#"{"kind":7}"#,
    ] {
        assert!(Content::of(wrong) == Content::Unreadable, "{wrong:?}");
    }
}

proptest! {
    /// Bytes that begin as an object does, and go on as they like.
    #[test]
    fn any_bytes_are_an_object_or_none(
        head in proptest::sample::select(vec![
            &b""[..], b"k8s\0", b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12",
        ]),
        rest in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = Content::of(&[head, &rest].concat());
        let message = schema::message("core.v1.PodSpec").unwrap();
        if let Some((object, _)) = decode::object(message, &rest) {
            let text = serde_json::to_string(&object).unwrap();
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok());
        }
    }
}

/// However deep somebody lays schemas into each other.
#[test]
fn no_depth_ends_the_program() {
    let mut props = text(5, "object");
    for _ in 0..2000 {
        let or_bool = message().bytes(2, &props).finish();
        props = message().bytes(30, &or_bool).finish();
    }
    let schema = message().bytes(1, &props).finish();
    let version = message().bytes(4, &schema).finish();
    let spec = message().bytes(7, &version).finish();
    let definition = message().bytes(2, &spec);
    let value = stored(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        definition,
    );
    assert!(Content::of(&value) == Content::Unreadable);
}

#[test]
fn each_key_that_exists_is_told_once_with_its_last_value() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("etcd.db");
    let json = |size: u32| format!(r#"{{"kind":"Widget","size":{size}}}"#).into_bytes();
    let widget = "/registry/example.com/widgets/a/w";
    let binary = stored("v1", "Namespace", message().bytes(1, &text(1, "shop")));
    let keys = vec![
        put_bytes(2, 0, widget, &json(1), 2, 1),
        put_bytes(3, 0, "/registry/namespaces/shop", &binary, 3, 1),
        put_bytes(4, 0, widget, &json(2), 2, 2),
        put_bytes(5, 0, "/registry/pods/a/p", b"{}", 5, 1),
        tombstone(6, 0, "/registry/pods/a/p"),
        put_bytes(7, 0, "compact_rev_key", b"3", 7, 1),
    ];
    let mut buckets = vec![("key", keys), ("meta", Vec::new())];
    std::fs::write(&path, snapshot(4096, Free::Unlisted, &buckets)).unwrap();
    let mut found = Vec::new();
    let revision = objects(&path, |object| found.push(object)).unwrap();
    assert_eq!(revision, 7);
    let told: Vec<_> = found
        .iter()
        .map(|it| {
            (
                it.resource.as_str(),
                it.namespace.as_str(),
                it.name.as_str(),
                it.revision,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("namespaces", "", "shop", 3),
            ("widgets.example.com", "a", "w", 4),
            ("", "", "", 7),
        ]
    );
    let contents = found.into_iter().map(|it| it.content);
    let [namespace, widget, other] = &contents.collect::<Vec<_>>()[..] else {
        panic!("three");
    };
    assert_eq!(object(namespace.clone()).0["metadata"]["name"], "shop");
    assert_eq!(object(widget.clone()).0["size"], 2);
    assert!(*other == Content::NoObject);
    // Nothing is told of a file that an inspection refuses, be it for a lease that is none.
    buckets.push(("lease", vec![(b"x".to_vec(), Vec::new())]));
    std::fs::write(&path, snapshot(4096, Free::Unlisted, &buckets)).unwrap();
    let error = objects(&path, |object| panic!("{object:?}")).unwrap_err();
    assert!(error.to_string().contains("lease"), "{error}");
}

#[test]
fn what_is_larger_than_etcd_takes_is_not_decoded() {
    let json = |length: usize| format!(r#"{{"kind":"Widget","a":"{}"}}"#, "v".repeat(length));
    let is_read = |length| Content::of(json(length).as_bytes()) != Content::Unreadable;
    assert!(is_read(LARGEST - 100));
    assert!(!is_read(LARGEST));
}
