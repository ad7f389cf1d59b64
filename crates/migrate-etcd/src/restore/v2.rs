//! The raft snapshot file beside the database.
//!
//! Up to etcd 3.6 a server that starts looks for the newest of these files that
//! its log knows, and only with it keeps its log from beginning at entry 1. 3.7 takes
//! the log's record alone and ignores the file. Its content is the
//! old store of etcd 2, which holds the members and nothing else.

use serde_json::{Value, json};

use super::membership::Membership;
use crate::protobuf::Message;
use crate::wal::{TERM, Voter, conf_state};

/// Events that the old store remembers; it indexes into as many places.
const EVENTS: usize = 1000;

/// Name and bytes of the file.
pub(super) fn snapshot_file(membership: &Membership, voters: &[Voter]) -> (String, Vec<u8>) {
    let index = voters.len() as u64;
    let metadata = Message::default()
        .bytes(1, &conf_state(voters))
        .number(2, index)
        .number(3, TERM);
    let snapshot = Message::default()
        .bytes(1, store(membership).to_string().as_bytes())
        .bytes(2, &metadata.finish())
        .finish();
    let file = Message::default()
        .number(1, u64::from(crc32c::crc32c(&snapshot)))
        .bytes(2, &snapshot);
    (format!("{TERM:016x}-{index:016x}.snap"), file.finish())
}

/// The store of etcd 2 after the members were added one by one.
fn store(membership: &Membership) -> Value {
    let mut members = serde_json::Map::new();
    for (index, (id, urls)) in (1u64..).zip(membership.peers()) {
        let path = format!("/0/members/{id:x}");
        let attributes = json!({ "peerURLs": urls }).to_string();
        let leaf = node(
            &format!("{path}/raftAttributes"),
            index,
            &attributes,
            Value::Null,
        );
        let dir = node(&path, index, "", json!({ "raftAttributes": leaf }));
        members.insert(format!("{id:x}"), dir);
    }
    let last = members.len() as u64;
    let members = node("/0/members", 1, "", members.into());
    let cluster = node("/0", 0, "", json!({ "members": members }));
    let keys = node("/1", 0, "", json!({}));
    json!({
        "Root": node("/", 0, "", json!({ "0": cluster, "1": keys })),
        "WatcherHub": {"EventHistory": {
            "Queue": {
                "Events": vec![Value::Null; EVENTS],
                "Size": 0, "Front": 0, "Back": 0, "Capacity": EVENTS,
            },
            "StartIndex": 0,
            "LastIndex": 0,
        }},
        "CurrentIndex": last,
        "Stats": {},
        "CurrentVersion": 2,
    })
}

fn node(path: &str, index: u64, value: &str, children: Value) -> Value {
    json!({
        "Path": path,
        "CreatedIndex": index,
        "ModifiedIndex": index,
        "ExpireTime": "0001-01-01T00:00:00Z",
        "Value": value,
        "Children": children,
    })
}
