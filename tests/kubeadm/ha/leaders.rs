//! Who leads etcd, as its members say themselves, while each of them is swapped.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use migrate_testbed::KubeadmCluster;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

const PAUSE: Duration = Duration::from_millis(500);
/// A member that answers later is asked again.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a member has said of itself: its version, and whether it leads.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Said {
    version: String,
    leads: bool,
}

/// What each member has said, each time that it was something else.
type Course = Vec<Vec<Said>>;

/// Asks every member until it is asked for what it has heard.
pub(crate) struct LeaderWatch {
    watches: Vec<JoinHandle<()>>,
    course: Arc<Mutex<Course>>,
}

impl LeaderWatch {
    pub(crate) async fn start(cluster: &KubeadmCluster) -> Self {
        let members = cluster.etcd_access();
        let course = Arc::new(Mutex::new(vec![Vec::new(); members.len()]));
        let mut watches = Vec::new();
        for (index, file) in members.iter().enumerate() {
            let file = Kubeconfig::read_from(file).unwrap();
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(file, &options).await;
            let client = Client::try_from(config.unwrap()).unwrap();
            watches.push(tokio::spawn(watch(client, index, Arc::clone(&course))));
        }
        Self { watches, course }
    }

    /// Members that led when they were last heard with a version that they have left.
    pub(crate) fn swapped_while_leading(self) -> Vec<String> {
        for watch in self.watches {
            watch.abort();
        }
        let course = std::mem::take(&mut *self.course.lock().unwrap());
        println!("{course:?}");
        swapped_while_leading(&course)
    }
}

async fn watch(client: Client, index: usize, course: Arc<Mutex<Course>>) {
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Ok(Some(said)) = timeout(PATIENCE, ask(&client)).await else {
            continue;
        };
        let heard = &mut course.lock().unwrap()[index];
        if heard.last() != Some(&said) {
            heard.push(said);
        }
    }
}

/// Its status, by the gateway that it serves for JSON.
async fn ask(client: &Client) -> Option<Said> {
    let request = http::Request::post("/v3/maintenance/status");
    let request = request.body(b"{}".to_vec()).unwrap();
    let said: Value = client.request(request).await.ok()?;
    let own = said["header"]["member_id"].as_str()?;
    Some(Said {
        version: said["version"].as_str()?.to_owned(),
        leads: said["leader"].as_str()? == own,
    })
}

fn swapped_while_leading(course: &Course) -> Vec<String> {
    let mut found = Vec::new();
    for (index, heard) in course.iter().enumerate() {
        let versions: BTreeSet<&str> = heard.iter().map(|said| &*said.version).collect();
        if versions.len() != 2 {
            found.push(format!("member {index}: not two versions but {versions:?}"));
        }
        for pair in heard.windows(2) {
            if pair[0].version != pair[1].version && pair[0].leads {
                found.push(format!("member {index} led with {}", pair[0].version));
            }
        }
    }
    found
}

#[test]
fn one_that_leads_to_its_end_is_found() {
    let said = |version: &str, leads| Said {
        version: version.to_owned(),
        leads,
    };
    let gave_it_away = vec![said("3.6", true), said("3.6", false), said("3.7", true)];
    assert_eq!(swapped_while_leading(&vec![gave_it_away]), [""; 0]);
    let kept_it = vec![said("3.6", false), said("3.6", true), said("3.7", false)];
    assert_eq!(swapped_while_leading(&vec![kept_it]).len(), 1);
    let stayed = vec![said("3.6", false)];
    assert_eq!(swapped_while_leading(&vec![stayed]).len(), 1);
}
