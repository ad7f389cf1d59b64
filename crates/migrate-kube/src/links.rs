//! What the links of a cluster have shown: pulls of images, and the way to the API.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::Client;
use migrate_core::Clock;
use migrate_core::cost::{Bytes, TransferSample};

use crate::Error;
use crate::client::{Selection, list, server_version};
use crate::resources::Event;

/// The reason that kubelets give for it.
const PULLED: &str = "Pulled";

/// An image that a kubelet has pulled.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ImagePull {
    /// The image, as the pod names it.
    pub image: String,
    /// The node, if the event names it.
    pub node: Option<String>,
    /// Its size, and what the pull took without the wait for pulls before it. The size is
    /// the container runtime's (of containerd what is fetched, compressed; of CRI-O what is on
    /// disk), and layers that were there already count: of those a pull seems faster
    /// than the link is.
    pub sample: TransferSample,
}

/// The pulls that kubelets have told of and the API server still knows of: for an hour,
/// unless its `--event-ttl` is another. Samples for
/// [`Link::fit`](migrate_core::cost::Link::fit).
///
/// Kubelets say the size from Kubernetes 1.30 on; what says none, and an image that was there
/// already, is left out. Needs `docs/rbac-links.yaml`.
///
/// # Errors
/// Those of a list of events.
pub async fn image_pulls(client: &Client) -> Result<Vec<ImagePull>, Error> {
    let pulled = Selection::all().fields(format!("reason={PULLED}"));
    let events = list::<Event>(client, &pulled).await?;
    let pulls = events.into_iter().filter(|event| event.reason == PULLED);
    Ok(pulls.filter_map(|event| pull(&event)).collect())
}

/// What a node takes that has nothing yet: the median, over nodes, of the sizes of the images
/// that it has pulled, each counted once. `None` where no node is named.
///
/// Of nodes that have all their images it is what came last: too little for
/// [`Link::per_node`](migrate_core::cost::Link::per_node), if upgraded nodes come with empty disks.
pub fn pulled_per_node(pulls: &[ImagePull]) -> Option<Bytes> {
    let mut seen: BTreeSet<(&str, &str)> = BTreeSet::new();
    let mut sums: BTreeMap<&str, Bytes> = BTreeMap::new();
    for pull in pulls {
        if let Some(node) = pull.node.as_deref()
            && seen.insert((node, &pull.image))
        {
            let sum = sums.entry(node).or_default();
            *sum = sum.saturating_add(pull.sample.bytes);
        }
    }
    let mut sums: Vec<Bytes> = sums.into_values().collect();
    sums.sort_unstable();
    sums.get(sums.len() / 2).copied()
}

/// From a request to the answer of the API server: the mean over `count` requests for its
/// version (one at least), after one that opens the connection. Milliseconds over `count`,
/// as `clock` has no finer ones.
///
/// # Errors
/// Those of [`server_version`].
pub async fn round_trip(client: &Client, clock: &dyn Clock, count: u32) -> Result<Duration, Error> {
    server_version(client).await?;
    let count = count.max(1);
    let begun = clock.now();
    for _ in 0..count {
        server_version(client).await?;
    }
    Ok(clock.now().since(begun) / count)
}

/// What an event tells of a pull:
/// `Successfully pulled image "IMAGE" in 1m2.5s (1m3s including waiting). Image size: 9 bytes.`
fn pull(event: &Event) -> Option<ImagePull> {
    let rest = event.message.strip_prefix("Successfully pulled image \"")?;
    let (image, rest) = rest.split_once("\" in ")?;
    let took = duration(rest.split_whitespace().next()?)?;
    let (_, size) = rest.split_once("Image size: ")?;
    let (bytes, _) = size.split_once(" bytes")?;
    let bytes: u64 = bytes.parse().ok()?;
    let is_sample = bytes > 0 && !took.is_zero();
    is_sample.then(|| ImagePull {
        image: image.to_owned(),
        node: event.source.host.clone().filter(|node| !node.is_empty()),
        sample: TransferSample::new(Bytes(bytes), took),
    })
}

/// A duration as Go writes it, which is one of the ways that jiff reads.
fn duration(text: &str) -> Option<Duration> {
    let signed = text.parse::<jiff::SignedDuration>().ok()?;
    Duration::try_from(signed).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use migrate_core::Moment;
    use migrate_core::cost::Link;
    use serde_json::json;

    use super::*;
    use crate::testing::{Scripted, reply, status};

    fn event(message: &str, node: Option<&str>) -> Event {
        let event = json!({
            "metadata": {}, "reason": "Pulled", "message": message,
            "source": { "component": "kubelet", "host": node },
        });
        serde_json::from_value(event).unwrap()
    }

    fn told(image: &str, took: &str, size: &str) -> String {
        format!(
            "Successfully pulled image \"{image}\" in {took} ({took} including waiting). Image size: {size} bytes."
        )
    }

    #[test]
    fn a_pull_is_read_from_what_kubelets_say() {
        let of = |message: &str| pull(&event(message, Some("n")));
        let took = |text: &str| {
            let pull = of(&told("registry.example:5000/web@sha256:00", text, "40962"))?;
            assert_eq!(pull.sample.bytes, Bytes(40_962));
            assert_eq!(pull.image, "registry.example:5000/web@sha256:00");
            assert_eq!(pull.node.as_deref(), Some("n"));
            Some(pull.sample.took.as_micros())
        };
        assert_eq!(took("1.234s"), Some(1_234_000));
        assert_eq!(took("345ms"), Some(345_000));
        assert_eq!(took("1m2.5s"), Some(62_500_000));
        assert_eq!(took("1h0m0.001s"), Some(3_600_001_000));
        assert_eq!(took("900.5µs"), Some(900));
        for none in ["0s", "-1s", "1.2", "", "NaNs", "1 s"] {
            assert_eq!(took(none), None, "{none}");
        }
        let waited = told("web", "2s", "9").replace("(2s", "(1m9s");
        let waited = of(&waited).unwrap();
        assert_eq!(waited.sample.took, Duration::from_secs(2));
        // Of a kubelet before 1.30, of an image that was there, of nothing.
        assert_eq!(
            of("Successfully pulled image \"a\" in 2s (2s including waiting)"),
            None
        );
        let there = "Container image \"a\" already present on machine";
        assert_eq!(of(there), None);
        for size in ["0", "-1", "many", "99999999999999999999"] {
            assert_eq!(of(&told("a", "1s", size)), None, "{size}");
        }
        let absent: Event = serde_json::from_str("{}").unwrap();
        assert_eq!(pull(&absent), None);
    }

    #[tokio::test]
    async fn pulls_are_listed_and_tell_a_link() {
        let items: Vec<Event> = [1u64, 4, 10]
            .map(|mb| {
                let took = format!("{}ms", 200 + 50 * mb);
                event(
                    &told(&format!("web-{mb}"), &took, &format!("{}", mb * 1_000_000)),
                    Some("a"),
                )
            })
            .into();
        let api = Scripted::new(move |_| {
            let scheduled = json!({ "metadata": {}, "reason": "Scheduled", "message": "x" });
            let mut items: Vec<_> = items.iter().map(|item| json!(item)).collect();
            items.push(scheduled);
            reply(200, json!({ "metadata": {}, "items": items }))
        });
        let pulls = image_pulls(&api.client).await.unwrap();
        assert_eq!(api.asked()[0].path(), "/api/v1/events");
        assert!(api.asked()[0].uri.contains("fieldSelector=reason%3DPulled"));
        let samples: Vec<TransferSample> = pulls.iter().map(|pull| pull.sample).collect();
        let link = Link::fit("registry", &samples).unwrap();
        assert_eq!(link.throughput.0, 20_000_000);
        assert_eq!(link.latency, Duration::from_millis(200));
        assert_eq!(pulled_per_node(&pulls), Some(Bytes(15_000_000)));
    }

    #[tokio::test]
    async fn without_the_right_it_says_which() {
        let api = Scripted::new(|_| reply(403, status(403, "Forbidden", "no", json!({}))));
        let error = image_pulls(&api.client).await.unwrap_err();
        assert!(matches!(error, Error::Forbidden { .. }), "{error:?}");
        assert!(error.to_string().contains("events"), "{error}");
    }

    #[test]
    fn a_node_takes_each_image_once() {
        let of = |node: Option<&str>, image: &str, bytes: &str| {
            pull(&event(&told(image, "1s", bytes), node)).unwrap()
        };
        assert_eq!(pulled_per_node(&[]), None);
        assert_eq!(pulled_per_node(&[of(None, "a", "5")]), None);
        let pulls = [
            of(Some("x"), "a", "5"),
            of(Some("x"), "a", "5"),
            of(Some("x"), "b", "7"),
            of(Some("y"), "a", "5"),
            of(Some("z"), "c", "900"),
        ];
        assert_eq!(pulled_per_node(&pulls), Some(Bytes(12)));
    }

    #[tokio::test]
    async fn a_round_trip_is_the_mean_after_the_first() {
        let now = std::sync::Arc::new(Mutex::new(0u64));
        let of_api = std::sync::Arc::clone(&now);
        let mut asked = 0;
        let api = Scripted::new(move |request| {
            assert_eq!(request.line(), "GET /version?");
            // The first has a connection to make.
            asked += 1;
            *of_api.lock().unwrap() += if asked == 1 { 500 } else { 7 + asked % 2 };
            reply(200, json!({ "gitVersion": "v1.36.3" }))
        });
        let clock = move || Moment::from_millis(*now.lock().unwrap());
        let took = round_trip(&api.client, &clock, 4).await.unwrap();
        assert_eq!(took, Duration::from_micros(7_500));
        assert_eq!(api.asked().len(), 5);
        let took = round_trip(&api.client, &clock, 0).await.unwrap();
        assert!(took <= Duration::from_millis(8));
    }
}
