//! The first write-ahead log of a restored member: the cluster's beginning.
//!
//! A file is a row of frames: a length of 8 bytes, little endian, whose top byte
//! counts the padding to 8, and a record `{type, crc, data}`. The checksum is
//! a running CRC-32C over the data of all records so far, so that no record can
//! be taken out, changed or moved (etcd `server/storage/wal/encoder.go`).

use crate::protobuf::Message;

/// The file's name: segment 0 from entry 0.
pub(crate) const FILE: &str = "0000000000000000-0000000000000000.wal";

/// Length of a segment, which etcd preallocates (`SegmentSizeBytes`).
pub(crate) const SEGMENT: u64 = 64_000_000;

/// The term of everything that a restore writes.
pub(crate) const TERM: u64 = 1;

const METADATA: u64 = 1;
const ENTRY: u64 = 2;
const STATE: u64 = 3;
const CRC: u64 = 4;
const SNAPSHOT: u64 = 5;

/// An entry's type: a change of the membership. The change's own type, to add
/// a voter, is 0.
const CONF_CHANGE: u64 = 1;

/// A voter as the log introduces it.
pub(crate) struct Voter {
    /// Member id.
    pub(crate) id: u64,
    /// The member as JSON.
    pub(crate) json: Vec<u8>,
}

/// The log of `member` in a cluster whose `voters` are added one by one, all
/// committed, with a snapshot at the last of them.
///
/// The snapshot record is what keeps a member that joins later right: without
/// it the log would begin at entry 1, the leader would send entries alone, and
/// the newcomer would never get the keys that were restored.
pub(crate) fn first_log(member: u64, cluster: u64, voters: &[Voter]) -> Vec<u8> {
    let mut log = Log::default();
    log.record(CRC, None);
    let metadata = Message::default().number(1, member).number(2, cluster);
    log.record(METADATA, Some(metadata));
    log.record(SNAPSHOT, Some(Message::default().number(1, 0).number(2, 0)));
    let mut last = 0;
    for voter in voters {
        last += 1;
        let change = Message::default()
            .number(1, 0)
            .number(2, 0)
            .number(3, voter.id)
            .bytes(4, &voter.json);
        let entry = Message::default()
            .number(1, CONF_CHANGE)
            .number(2, TERM)
            .number(3, last)
            .bytes(4, &change.finish());
        log.record(ENTRY, Some(entry));
    }
    let state = Message::default()
        .number(1, TERM)
        .number(2, voters.first().map_or(0, |voter| voter.id))
        .number(3, last);
    log.record(STATE, Some(state));
    let snapshot = Message::default()
        .number(1, last)
        .number(2, TERM)
        .bytes(3, &conf_state(voters));
    log.record(SNAPSHOT, Some(snapshot));
    log.bytes
}

/// The membership of raft: voters alone.
pub(crate) fn conf_state(voters: &[Voter]) -> Vec<u8> {
    let mut state = Message::default();
    for voter in voters {
        state = state.number(1, voter.id);
    }
    state.number(5, 0).finish()
}

#[derive(Default)]
struct Log {
    bytes: Vec<u8>,
    crc: u32,
}

impl Log {
    fn record(&mut self, kind: u64, data: Option<Message>) {
        let data = data.map(Message::finish);
        self.crc = crc32c::crc32c_append(self.crc, data.as_deref().unwrap_or_default());
        let mut record = Message::default()
            .number(1, kind)
            .number(2, u64::from(self.crc));
        if let Some(data) = data {
            record = record.bytes(3, &data);
        }
        let mut record = record.finish();
        let mut length = record.len() as u64;
        let padding = (8 - record.len() % 8) % 8;
        if padding > 0 {
            length |= (0x80 | padding as u64) << 56;
        }
        record.resize(record.len() + padding, 0);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(&record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_padded_and_the_checksum_runs_on() {
        let voters = [Voter {
            id: 7,
            json: b"{}".to_vec(),
        }];
        let log = first_log(7, 9, &voters);
        assert_eq!(log.len() % 8, 0);
        // The frame of the first record: 4 bytes and as many of padding.
        assert_eq!(log[..8], (4u64 | 0x84 << 56).to_le_bytes());
        assert_eq!(log[8..16], [8, 4, 16, 0, 0, 0, 0, 0]);
        // One bit in the metadata changes the checksums of all that follows.
        let other = first_log(6, 9, &voters);
        let tail = log.len() - 24;
        assert_ne!(log[tail..], other[tail..]);
    }
}
