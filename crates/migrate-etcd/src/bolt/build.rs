//! Makes databases for tests, as etcd's library lays them out.

use sha2::{Digest, Sha256};

use super::page::{BRANCH, FREELIST, LEAF, META};

/// Keys and values of a bucket.
pub(crate) type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// How free pages are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Free {
    Unlisted,
    Listed,
    /// The count stands before the list.
    CountFirst,
}

/// A page or what becomes one: flags, key, value or child.
struct Item {
    flags: u32,
    key: Vec<u8>,
    value: Vec<u8>,
    child: u64,
}

/// A database of `buckets`, with two free pages and the trailer.
pub(crate) fn snapshot(page_size: usize, free: Free, buckets: &[(&str, Entries)]) -> Vec<u8> {
    sealed(database(page_size, free, buckets))
}

/// Puts the trailer behind a database.
pub(crate) fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let hash = Sha256::digest(&bytes);
    bytes.extend_from_slice(hash.as_slice());
    bytes
}

/// Stamps the trailer anew.
pub(crate) fn stamped(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() - 32);
    sealed(bytes)
}

pub(crate) fn database(page_size: usize, free: Free, buckets: &[(&str, Entries)]) -> Vec<u8> {
    // Pages 2 and 3 are free and full of rubbish.
    let mut bytes = vec![0; 2 * page_size];
    bytes.resize(4 * page_size, 0xA5);
    let mut root = Vec::new();
    for (name, entries) in buckets {
        let item = |(key, value): &(Vec<u8>, Vec<u8>)| Item {
            flags: 0,
            key: key.clone(),
            value: value.clone(),
            child: 0,
        };
        let items: Vec<_> = entries.iter().map(item).collect();
        let size: usize = items.iter().map(|i| 16 + i.key.len() + i.value.len()).sum();
        let mut value = vec![0; 16];
        if size < page_size / 8 {
            value.extend(page(0, LEAF, 0, &items));
        } else {
            let page = tree(&mut bytes, page_size, items);
            value[..8].copy_from_slice(&page.to_le_bytes());
        }
        root.push(Item {
            flags: 1,
            key: name.as_bytes().to_vec(),
            value,
            child: 0,
        });
    }
    root.sort_by(|one, other| one.key.cmp(&other.key));
    let root = tree(&mut bytes, page_size, root);
    let freelist = match free {
        Free::Unlisted => u64::MAX,
        Free::Listed | Free::CountFirst => {
            let id = (bytes.len() / page_size) as u64;
            let mut list = page(id, FREELIST, 0, &[]);
            if free == Free::CountFirst {
                list[10..12].copy_from_slice(&[0xFF; 2]);
                list.extend(2u64.to_le_bytes());
            } else {
                list[10..12].copy_from_slice(&2u16.to_le_bytes());
            }
            list.extend(2u64.to_le_bytes());
            list.extend(3u64.to_le_bytes());
            list.resize(page_size, 0);
            bytes.extend(list);
            id
        }
    };
    let pages = (bytes.len() / page_size) as u64;
    for (id, txid) in [(0u64, 8u64), (1, 7)] {
        let mut meta = page(id, META, 0, &[]);
        meta.extend(0xED0C_DAEDu32.to_le_bytes());
        meta.extend(2u32.to_le_bytes());
        meta.extend((page_size as u32).to_le_bytes());
        meta.extend(0u32.to_le_bytes());
        for word in [root, 0, freelist, pages, txid] {
            meta.extend(word.to_le_bytes());
        }
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        let hash = meta[16..].iter().fold(0xcbf2_9ce4_8422_2325, step);
        meta.extend(hash.to_le_bytes());
        let at = id as usize * page_size;
        bytes[at..at + meta.len()].copy_from_slice(&meta);
    }
    bytes
}

/// Writes a tree from its leaves; its root.
fn tree(bytes: &mut Vec<u8>, page_size: usize, mut items: Vec<Item>) -> u64 {
    let mut flags = LEAF;
    loop {
        let mut above = Vec::new();
        let mut rest = items.into_iter().peekable();
        loop {
            let mut size = 16;
            let mut some: Vec<Item> = Vec::new();
            while let Some(item) = rest.next_if(|item| {
                size += 16 + item.key.len() + item.value.len();
                size <= page_size || some.is_empty() || (flags == BRANCH && some.len() < 2)
            }) {
                some.push(item);
            }
            let id = (bytes.len() / page_size) as u64;
            let size: usize = some.iter().map(|i| 16 + i.key.len() + i.value.len()).sum();
            let overflow = (16 + size).div_ceil(page_size) - 1;
            bytes.extend(page(id, flags, overflow as u32, &some));
            bytes.resize((id as usize + 1 + overflow) * page_size, 0);
            above.push(Item {
                flags: 0,
                key: some.first().map_or_else(Vec::new, |item| item.key.clone()),
                value: Vec::new(),
                child: id,
            });
            if rest.peek().is_none() {
                break;
            }
        }
        if above.len() == 1 {
            return above[0].child;
        }
        items = above;
        flags = BRANCH;
    }
}

fn page(id: u64, flags: u16, overflow: u32, items: &[Item]) -> Vec<u8> {
    let mut bytes = id.to_le_bytes().to_vec();
    bytes.extend(flags.to_le_bytes());
    bytes.extend((items.len() as u16).to_le_bytes());
    bytes.extend(overflow.to_le_bytes());
    let mut data = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let pos = (16 * (items.len() - index) + data.len()) as u32;
        let key = item.key.len() as u32;
        if flags == LEAF {
            for word in [item.flags, pos, key, item.value.len() as u32] {
                bytes.extend(word.to_le_bytes());
            }
        } else {
            bytes.extend(pos.to_le_bytes());
            bytes.extend(key.to_le_bytes());
            bytes.extend(item.child.to_le_bytes());
        }
        data.extend_from_slice(&item.key);
        data.extend_from_slice(&item.value);
    }
    bytes.extend(data);
    bytes
}
