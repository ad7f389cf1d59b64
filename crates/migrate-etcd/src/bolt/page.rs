//! A page of a tree, and its entries.

use std::ops::Range;

use super::file::{u16_at, u32_at, u64_at};
use super::{Entry, Fault};

/// Length of a page's header, and of an entry in its table.
pub(crate) const HEADER: usize = 16;
pub(crate) const BRANCH: u16 = 0x01;
pub(crate) const LEAF: u16 = 0x02;
pub(crate) const META: u16 = 0x04;
pub(super) const FREELIST: u16 = 0x10;
/// The longest key (bbolt's `MaxKeySize`).
const LONGEST_KEY: usize = 32_768;

/// The flag of an entry that is a bucket.
pub(crate) const IS_BUCKET: u32 = 1;

/// The header of a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) id: u64,
    pub(super) flags: u16,
    pub(super) count: u16,
    /// Pages that belong to it and follow it.
    pub(super) overflow: u64,
}

impl Header {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            id: u64_at(bytes, 0)?,
            flags: u16_at(bytes, 8)?,
            count: u16_at(bytes, 10)?,
            overflow: u32_at(bytes, 12)?.into(),
        })
    }
}

/// A branch or a leaf whose entries all lie where they should.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) id: u64,
    /// Offset in the file.
    pub(super) offset: u64,
    pub(super) is_leaf: bool,
    pub(super) count: usize,
    pub(super) bytes: Vec<u8>,
    /// Where the contents end.
    pub(super) end: usize,
}

/// An entry of a page.
#[derive(Clone, Debug)]
pub(super) struct Element {
    pub(super) is_bucket: bool,
    /// Child of a branch.
    pub(super) child: u64,
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
}

impl Page {
    /// Checks every entry: bbolt writes keys and values one after the other,
    /// right behind the table, so that any other place is damage. Keys of a page
    /// ascend.
    pub(super) fn parse(bytes: Vec<u8>, id: u64, offset: u64) -> Result<Self, Fault> {
        let header = Header::parse(&bytes).ok_or(Fault::OutOfBounds)?;
        if header.id != id {
            return Err(Fault::WrongId { found: header.id });
        }
        if header.flags != LEAF && header.flags != BRANCH {
            let found = header.flags;
            return Err(Fault::WrongKind { found });
        }
        let count = usize::from(header.count);
        let mut page = Self {
            id,
            offset,
            is_leaf: header.flags == LEAF,
            count,
            bytes,
            end: HEADER + HEADER * count,
        };
        if !page.is_leaf && count == 0 {
            return Err(Fault::Empty);
        }
        let mut before: Option<Range<usize>> = None;
        for index in 0..count {
            let element = page.element(index)?;
            if element.key.start != page.end {
                return Err(Fault::Layout(index));
            }
            if element.key.len() > LONGEST_KEY {
                return Err(Fault::KeyTooLong(index));
            }
            page.end = element.value.end;
            let key = page.key(&element);
            let ascends = before.is_none_or(|before| page.bytes.get(before) < Some(key));
            if !ascends {
                return Err(Fault::KeyOrder(index));
            }
            before = Some(element.key);
        }
        Ok(page)
    }

    /// Entry `index`, whose ranges lie in the page.
    pub(super) fn element(&self, index: usize) -> Result<Element, Fault> {
        let at = HEADER + HEADER * index;
        let parse = || {
            let head = self.bytes.get(at..at + HEADER)?;
            let word = |n: usize| u32_at(head, 4 * n).map(u64::from);
            let (flags, pos, key, value, child) = if self.is_leaf {
                (word(0)?, word(1)?, word(2)?, word(3)?, 0)
            } else {
                (0, word(0)?, word(1)?, 0, u64_at(head, 8)?)
            };
            let begin = at as u64 + pos;
            let middle = begin + key;
            let end = middle + value;
            // Nothing that ends within the page is too large for this machine.
            (end <= self.bytes.len() as u64).then_some((
                flags,
                Element {
                    is_bucket: flags == u64::from(IS_BUCKET),
                    child,
                    key: begin as usize..middle as usize,
                    value: middle as usize..end as usize,
                },
            ))
        };
        let (flags, element) = parse().ok_or(Fault::Layout(index))?;
        if flags > u64::from(IS_BUCKET) {
            return Err(Fault::EntryFlags(index));
        }
        Ok(element)
    }

    pub(super) fn key(&self, element: &Element) -> &[u8] {
        self.bytes.get(element.key.clone()).unwrap_or_default()
    }

    pub(super) fn value(&self, element: &Element) -> &[u8] {
        self.bytes.get(element.value.clone()).unwrap_or_default()
    }

    /// An entry of a leaf.
    pub(super) fn entry(&self, element: &Element) -> Entry<'_> {
        Entry {
            page: self.id,
            offset: self.offset + element.key.start as u64,
            key: self.key(element),
            value: self.value(element),
        }
    }
}
