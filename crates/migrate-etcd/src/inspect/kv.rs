//! The entries of bucket `key`: a revision and a `mvccpb.KeyValue`.

use crate::protobuf::{Field, Message, fields};

/// Where bucket `meta` says which revision was compacted last: asked for, and done.
pub(crate) const COMPACTIONS: [&[u8]; 2] = [b"scheduledCompactRev", b"finishedCompactRev"];

/// The key of an entry.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Revision {
    /// Revision of the store.
    pub(crate) main: i64,
    /// Place among the changes of one transaction.
    pub(crate) sub: i64,
    /// Whether the key was deleted.
    pub(crate) is_tombstone: bool,
}

impl Revision {
    /// 17 bytes: main, `_`, sub, both big endian; an 18th, `t`, for a tombstone.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let parse = || {
            let (main, rest) = bytes.split_first_chunk()?;
            let (separator, rest) = rest.split_first()?;
            let (sub, mark) = rest.split_first_chunk()?;
            let is_known = *separator == b'_' && (mark.is_empty() || mark == b"t");
            is_known.then_some(Self {
                main: i64::from_be_bytes(*main),
                sub: i64::from_be_bytes(*sub),
                is_tombstone: !mark.is_empty(),
            })
        };
        let revision = parse().ok_or("a key is no revision")?;
        if revision.main < 1 || revision.sub < 0 {
            return Err("a revision is negative");
        }
        Ok(revision)
    }

    /// The key of an entry that is no tombstone.
    pub(crate) fn key(main: i64, sub: i64) -> Vec<u8> {
        [&main.to_be_bytes()[..], b"_", &sub.to_be_bytes()].concat()
    }
}

/// What a revision made of a key.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct KeyValue<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) create_revision: i64,
    mod_revision: i64,
    version: i64,
    lease: i64,
    /// Fields of a newer etcd than is known here, which passes them over.
    pub(crate) unknown_fields: u32,
}

impl<'a> KeyValue<'a> {
    /// Decodes and compares with the revision that it stands under.
    ///
    /// A restore that raises the revision leaves one entry without anything.
    pub(crate) fn parse(revision: Revision, bytes: &'a [u8]) -> Result<Self, &'static str> {
        let mut kv = Self::default();
        for field in fields(bytes) {
            match field.ok_or("a value is no protobuf")? {
                (1, Field::Bytes(key)) => kv.key = key,
                (2, Field::Number(number)) => kv.create_revision = number.cast_signed(),
                (3, Field::Number(number)) => kv.mod_revision = number.cast_signed(),
                (4, Field::Number(number)) => kv.version = number.cast_signed(),
                (5, Field::Bytes(value)) => kv.value = value,
                (6, Field::Number(number)) => kv.lease = number.cast_signed(),
                (1..=6, _) => return Err("a field of a value is of another kind"),
                _ => kv.unknown_fields = kv.unknown_fields.saturating_add(1),
            }
        }
        if bytes.is_empty() && !revision.is_tombstone {
            return Ok(kv);
        }
        if kv.key.is_empty() {
            return Err("a value has no key");
        }
        if revision.is_tombstone {
            let only_key = Self {
                key: kv.key,
                unknown_fields: kv.unknown_fields,
                ..Self::default()
            };
            return if kv == only_key {
                Ok(kv)
            } else {
                Err("a tombstone has more than a key")
            };
        }
        if kv.mod_revision != revision.main {
            return Err("a value names another revision than its own");
        }
        if kv.create_revision < 1 || kv.create_revision > kv.mod_revision || kv.version < 1 {
            return Err("a value's revisions contradict each other");
        }
        Ok(kv)
    }
}

/// A record as etcd writes it: a key that was created at a revision and has been put
/// `version` times since.
pub(crate) fn encode(
    key: &[u8],
    value: &[u8],
    created: u64,
    changed: u64,
    version: u64,
) -> Vec<u8> {
    Message::default()
        .bytes(1, key)
        .number(2, created)
        .number(3, changed)
        .number(4, version)
        .bytes(5, value)
        .finish()
}

/// Entries for tests, as etcd writes them.
#[cfg(test)]
pub(crate) mod samples {
    use super::{Revision, encode};
    use crate::protobuf::Message;

    type Pair = (Vec<u8>, Vec<u8>);

    pub(crate) fn put(
        main: i64,
        sub: i64,
        key: &str,
        value: &str,
        create: i64,
        version: i64,
    ) -> Pair {
        put_bytes(main, sub, key, value.as_bytes(), create, version)
    }

    pub(crate) fn put_bytes(
        main: i64,
        sub: i64,
        key: &str,
        value: &[u8],
        create: i64,
        version: i64,
    ) -> Pair {
        let (created, changed) = (create as u64, main as u64);
        let record = encode(key.as_bytes(), value, created, changed, version as u64);
        (Revision::key(main, sub), record)
    }

    pub(crate) fn tombstone(main: i64, sub: i64, key: &str) -> Pair {
        let mut revision = Revision::key(main, sub);
        revision.push(b't');
        (revision, bytes(1, key.as_bytes()))
    }

    pub(crate) fn bytes(field: u32, value: &[u8]) -> Vec<u8> {
        Message::default().bytes(field, value).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_17_or_18_bytes_and_not_negative() {
        let mut key = 7i64.to_be_bytes().to_vec();
        key.push(b'_');
        key.extend(2i64.to_be_bytes());
        let revision = Revision::parse(&key).unwrap();
        assert_eq!((revision.main, revision.sub), (7, 2));
        assert!(!revision.is_tombstone);
        key.push(b't');
        assert!(Revision::parse(&key).unwrap().is_tombstone);
        for (at, byte) in [(0, 0x80), (9, 0x80), (8, b'-'), (17, b'u')] {
            let mut damaged = key.clone();
            damaged[at] = byte;
            assert!(Revision::parse(&damaged).is_err(), "{at}");
        }
        for len in [0, 7, 16, 19] {
            key.resize(len, 0);
            assert!(Revision::parse(&key).is_err(), "{len}");
        }
    }
}
