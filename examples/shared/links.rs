//! The link that nodes fetch over, as somebody says or as it is measured: flags that
//! several programs have.

use std::error::Error;

use clap::Args;
use migrate_core::cost::{Bytes, BytesPerSecond, Link, TransferSample};
use migrate_kube::{TokioClock, image_pulls, pulled_per_node, round_trip};

use crate::failure::Failure;

/// What the link is called.
const LINK: &str = "registry";
/// What a node fetches, if nobody knows.
pub(crate) const PER_NODE: Bytes = Bytes(1_500_000_000);
/// How often the API is asked for its round trip.
const ROUND_TRIPS: u32 = 10;

/// What is said of the link.
#[derive(Args, Clone, Debug)]
pub(crate) struct LinkFlags {
    /// Measure the link to the registry by what kubelets have told of their pulls, and the
    /// way to the API; needs docs/rbac-links.yaml.
    #[arg(long, global = true)]
    pub(crate) measure_links: bool,
    /// What the link to the registry carries for all nodes together, instead of what was
    /// measured.
    #[arg(long, global = true, value_name = "BYTES_PER_S")]
    pub(crate) throughput: Option<u64>,
    /// What each node fetches over it: what nodes have pulled (`--measure-links`), else 1.5
    /// GB.
    #[arg(long, global = true, value_name = "BYTES")]
    pub(crate) bytes_per_node: Option<u64>,
    /// What each pod that is displaced fetches over it where it goes, of its images: without
    /// it nothing, as where nodes have the images of all pods.
    #[arg(long, global = true, value_name = "BYTES")]
    pub(crate) bytes_per_pod: Option<u64>,
}

impl LinkFlags {
    /// The link, measured through `client` where that is asked for and there is one; none if
    /// nothing is asked for.
    pub(crate) async fn link(
        &self,
        client: Option<&kube::Client>,
    ) -> Result<Option<Link>, Failure> {
        let link = self.told_or_measured(client).await;
        link.map_err(|error| Failure::plain(format!("no link: {error}")))
    }

    async fn told_or_measured(
        &self,
        client: Option<&kube::Client>,
    ) -> Result<Option<Link>, Box<dyn Error>> {
        let told = self
            .throughput
            .map(|told| Link::new(LINK, BytesPerSecond(told)));
        let (link, per_node) = match client {
            Some(client) if self.measure_links => {
                let way = round_trip(client, &TokioClock::system(), ROUND_TRIPS).await?;
                let pulls = image_pulls(client).await?;
                let samples: Vec<TransferSample> = pulls.iter().map(|pull| pull.sample).collect();
                let count = samples.len();
                eprintln!("measured {count} pulls of images; the API answers after {way:?}");
                let fitted = || Link::fit(LINK, &samples);
                let link = match told {
                    Some(told) => told,
                    None => fitted().map_err(|error| format!("{error} (--throughput)"))?,
                };
                (link, pulled_per_node(&pulls))
            }
            _ => match told {
                Some(told) => (told, None),
                None => return Ok(None),
            },
        };
        let per_node = self.bytes_per_node.map(Bytes).or(per_node);
        let link = link.with_per_node(per_node.unwrap_or(PER_NODE));
        Ok(Some(
            link.with_per_pod(Bytes(self.bytes_per_pod.unwrap_or(0))),
        ))
    }
}

/// What the link is believed to be, in words.
pub(crate) fn told(link: &Link) -> String {
    let Link {
        name,
        throughput,
        latency,
        per_node,
        per_pod,
        ..
    } = link;
    let of_pods = match *per_pod {
        Bytes(0) => String::new(),
        per_pod => format!(" and each displaced pod {per_pod}"),
    };
    format!(
        "each node fetches {per_node}{of_pods} over link {name}: {throughput} after {latency:?}"
    )
}
