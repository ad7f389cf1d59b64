//! That no member of etcd led when it was swapped, by what the members said.

use std::collections::BTreeSet;
use std::path::PathBuf;

use migrate_testbed::{KubeadmCluster, traffic_program};
use tokio::process::{Child, Command};

/// Milliseconds between two looks at a member.
const PAUSE: &str = "500";

/// Asks every member until it is asked for what it has heard.
pub(crate) struct LeaderWatch {
    said: PathBuf,
    members: usize,
    _asks: Child,
}

impl LeaderWatch {
    pub(crate) fn start(cluster: &KubeadmCluster) -> Self {
        let said = cluster.dir().join("leaders");
        let outside = cluster.outside();
        let members = cluster.etcd_access();
        let asks = Command::new(&outside[0])
            .args(&outside[1..])
            .arg(traffic_program().unwrap())
            .args(["leaders", PAUSE])
            .args(members)
            .stdin(std::process::Stdio::piped())
            .stdout(std::fs::File::create(&said).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            said,
            members: members.len(),
            _asks: asks,
        }
    }

    /// Members that led when they were last heard with a version that they have left,
    /// or that were not heard with two.
    pub(crate) fn swapped_while_leading(&self) -> Vec<String> {
        let said = std::fs::read_to_string(&self.said).unwrap();
        println!("place, version, whether it leads:\n{said}");
        swapped_while_leading(&said, self.members)
    }
}

fn swapped_while_leading(said: &str, members: usize) -> Vec<String> {
    let mut found = Vec::new();
    for place in 0..members {
        let mine = format!("{place} ");
        let heard: Vec<(&str, bool)> = said
            .lines()
            .filter_map(|line| line.strip_prefix(&mine)?.split_once(' '))
            .map(|(version, leads)| (version, leads == "true"))
            .collect();
        let versions: BTreeSet<&str> = heard.iter().map(|(version, _)| *version).collect();
        if versions.len() != 2 {
            found.push(format!("member {place}: not two versions but {versions:?}"));
        }
        for pair in heard.windows(2) {
            if pair[0].0 != pair[1].0 && pair[0].1 {
                found.push(format!("member {place} led with {}", pair[0].0));
            }
        }
    }
    found
}

#[test]
fn one_that_leads_to_its_end_is_found() {
    let gave_it_away = "0 3.6 true\n0 3.6 false\n0 3.7 true\n";
    assert_eq!(swapped_while_leading(gave_it_away, 1), [""; 0]);
    let kept_it = "0 3.6 false\n0 3.6 true\n0 3.7 false\n";
    assert_eq!(swapped_while_leading(kept_it, 1).len(), 1);
    assert_eq!(swapped_while_leading("0 3.6 false\n", 1).len(), 1);
    assert_eq!(swapped_while_leading(gave_it_away, 2).len(), 1);
}
