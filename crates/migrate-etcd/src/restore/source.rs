//! Reads the database of a snapshot in the order of its keys.
//!
//! One page is in memory for each level of a tree. Everything that is read is
//! checked before it is used, so that a damaged file is an error and never a
//! panic, an endless walk or a copy of nonsense.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::RestoreError;

/// Length of a page's header and of an element.
pub(super) const HEADER: usize = 16;
pub(super) const BRANCH: u16 = 0x01;
pub(super) const LEAF: u16 = 0x02;
pub(super) const META: u16 = 0x04;
/// The flag of an element that is a bucket.
pub(super) const IS_BUCKET: u32 = 1;
pub(super) const MAGIC: u32 = 0xED0C_DAED;
pub(super) const FORMAT: u32 = 2;
/// Bytes of a meta that its checksum covers.
pub(super) const META_SUMMED: usize = 56;

/// A tree of pages is never as deep: two children each are 2^40 pages.
const DEEPEST: usize = 40;

/// A bucket at the root of the database.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    pub(crate) name: Vec<u8>,
    pub(super) sequence: u64,
    root: Root,
}

#[derive(Clone, Debug)]
enum Root {
    Page(u64),
    /// A small bucket lies in its parent's page.
    Inline(Vec<u8>),
}

/// The database of a snapshot, opened for reading.
pub(crate) struct Source {
    file: File,
    path: PathBuf,
    page_size: usize,
    /// Pages, the two metas included.
    pages: u64,
    root: u64,
}

/// What is done with each element: its flags, key and value.
type Visit<'a> = dyn FnMut(u32, &[u8], &[u8]) -> Result<(), RestoreError> + 'a;

/// What is done with each key and value.
type EachPair<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), RestoreError> + 'a;

impl Source {
    /// Takes the database of `bytes` bytes at the beginning of `file`.
    pub(crate) fn open(file: File, path: &Path, bytes: u64) -> Result<Self, RestoreError> {
        let mut source = Self {
            file,
            path: path.to_owned(),
            page_size: 0,
            pages: 0,
            root: 0,
        };
        // The first meta may be damaged, then the second one is looked for
        // where each size of pages would have it.
        let mut found: Option<Meta> = None;
        let offsets = std::iter::once(0).chain((9..=16).map(|bits| 1u64 << bits));
        for offset in offsets.filter(|offset| offset + 80 <= bytes) {
            let mut page = [0; HEADER + META_SUMMED + 8];
            source.read_at(offset, &mut page)?;
            if let Some(meta) = Meta::parse(&page[HEADER..])
                && (offset == 0 || offset == meta.page_size)
                && found.as_ref().is_none_or(|found| found.txid < meta.txid)
            {
                found = Some(meta);
            }
        }
        let Some(meta) = found else {
            return Err(source.damaged(0, "neither of its meta pages is valid"));
        };
        if meta
            .pages
            .checked_mul(meta.page_size)
            .is_none_or(|end| end > bytes)
        {
            return Err(source.damaged(0, "it is shorter than its meta page says"));
        }
        // At most 64 KiB, see `Meta::parse`.
        source.page_size = meta.page_size as usize;
        source.pages = meta.pages;
        source.root = meta.root;
        Ok(source)
    }

    pub(super) fn page_size(&self) -> usize {
        self.page_size
    }

    /// The buckets, by name.
    pub(crate) fn buckets(&mut self) -> Result<Vec<Bucket>, RestoreError> {
        let mut buckets = Vec::new();
        let path = self.path.clone();
        let mut visit = |flags, key: &[u8], value: &[u8]| {
            let parsed = (flags == IS_BUCKET).then(|| Bucket::parse(key, value));
            buckets.push(parsed.flatten().ok_or_else(|| RestoreError::Damaged {
                path: path.clone(),
                page: 0,
                what: format!("{} is no bucket of etcd", String::from_utf8_lossy(key)),
            })?);
            Ok(())
        };
        let root = self.root;
        self.walk(&Root::Page(root), &mut visit)?;
        Ok(buckets)
    }

    /// Goes through a bucket in the order of its keys.
    ///
    /// etcd has no buckets within its buckets, so one is damage.
    pub(crate) fn each(
        &mut self,
        bucket: &Bucket,
        visit: &mut EachPair<'_>,
    ) -> Result<(), RestoreError> {
        let path = self.path.clone();
        self.walk(&bucket.root, &mut |flags, key, value| {
            if flags != 0 {
                return Err(RestoreError::Damaged {
                    path: path.clone(),
                    page: 0,
                    what: format!("an element of bucket {} has flags", bucket.text()),
                });
            }
            visit(key, value)
        })
    }

    /// The last key of a bucket.
    pub(super) fn last_key(&mut self, bucket: &Bucket) -> Result<Option<Vec<u8>>, RestoreError> {
        let mut page = match &bucket.root {
            Root::Page(id) => self.page(*id)?,
            Root::Inline(bytes) => self.inline(bytes)?,
        };
        for _ in 0..DEEPEST {
            let Some(last) = page.count.checked_sub(1) else {
                return Ok(None);
            };
            let element = self.element(&page, last)?;
            if page.flags == LEAF {
                return Ok(Some(page.bytes[element.key].to_vec()));
            }
            page = self.page(element.child)?;
        }
        Err(self.damaged(page.id, "the tree is too deep"))
    }

    fn walk(&mut self, root: &Root, visit: &mut Visit<'_>) -> Result<(), RestoreError> {
        let mut stack = vec![match root {
            Root::Page(id) => (self.page(*id)?, 0),
            Root::Inline(bytes) => (self.inline(bytes)?, 0),
        }];
        let mut before: Option<Vec<u8>> = None;
        // A page that is its own descendant, or is referenced twice.
        let mut left = self.pages;
        while let Some((page, next)) = stack.last_mut() {
            if *next == page.count {
                stack.pop();
                continue;
            }
            let element = element(&self.path, page, *next)?;
            *next += 1;
            if page.flags == LEAF {
                let key = &page.bytes[element.key];
                if before.as_deref().is_some_and(|before| before >= key) {
                    return Err(damaged(&self.path, page.id, "its keys are out of order"));
                }
                visit(element.flags, key, &page.bytes[element.value])?;
                let before = before.get_or_insert_default();
                before.clear();
                before.extend_from_slice(key);
                continue;
            }
            if stack.len() == DEEPEST || left == 0 {
                let what = "the tree is too deep, or a page is in it twice";
                return Err(self.damaged(element.child, what));
            }
            left -= 1;
            let child = self.page(element.child)?;
            stack.push((child, 0));
        }
        Ok(())
    }

    /// The page `id` and those that belong to it.
    fn page(&mut self, id: u64) -> Result<Page, RestoreError> {
        if id < 2 || id >= self.pages {
            return Err(self.damaged(id, "there is no such page"));
        }
        // No overflow of either: checked against the file's length when opened.
        let offset = id * self.page_size as u64;
        let mut bytes = vec![0; self.page_size];
        self.read_at(offset, &mut bytes)?;
        let mut page = Page::parse(bytes).filter(|page| page.id == id);
        if let Some(page) = &mut page
            && page.overflow > 0
        {
            if page.overflow >= self.pages - id {
                return Err(self.damaged(id, "it goes on past the end"));
            }
            let more = usize::try_from(page.overflow)
                .ok()
                .and_then(|overflow| overflow.checked_mul(self.page_size));
            let Some(more) = more else {
                return Err(self.damaged(id, "it is too large for this machine"));
            };
            page.bytes.resize(self.page_size + more, 0);
            self.read_at(
                offset + self.page_size as u64,
                &mut page.bytes[self.page_size..],
            )?;
        }
        page.ok_or_else(|| self.damaged(id, "its header is none of a leaf or a branch"))
    }

    fn inline(&self, bytes: &[u8]) -> Result<Page, RestoreError> {
        Page::parse(bytes.to_vec())
            .filter(|page| page.flags == LEAF)
            .ok_or_else(|| self.damaged(0, "a bucket within the root page is no leaf"))
    }

    fn element(&self, page: &Page, index: usize) -> Result<Element, RestoreError> {
        element(&self.path, page, index)
    }

    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), RestoreError> {
        let read = self
            .file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| self.file.read_exact(bytes));
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                let page = offset.checked_div(self.page_size as u64).unwrap_or(0);
                self.damaged(page, "the file ends within it")
            }
            _ => RestoreError::file(&self.path, error),
        })
    }

    fn damaged(&self, page: u64, what: &str) -> RestoreError {
        damaged(&self.path, page, what)
    }
}

fn damaged(path: &Path, page: u64, what: &str) -> RestoreError {
    RestoreError::Damaged {
        path: path.to_owned(),
        page,
        what: what.to_owned(),
    }
}

impl Bucket {
    /// A bucket's value: its root page, its sequence, and the page itself if
    /// there is no root.
    fn parse(name: &[u8], value: &[u8]) -> Option<Self> {
        let (root, rest) = value.split_first_chunk()?;
        let (sequence, page) = rest.split_first_chunk()?;
        let root = match u64::from_le_bytes(*root) {
            0 => Root::Inline(page.to_vec()),
            root => Root::Page(root),
        };
        Some(Self {
            name: name.to_vec(),
            sequence: u64::from_le_bytes(*sequence),
            root,
        })
    }

    /// Its name for a person.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }
}

struct Meta {
    page_size: u64,
    root: u64,
    pages: u64,
    txid: u64,
}

impl Meta {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let u32_at = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let u64_at = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let page_size = u64::from(u32_at(8)?);
        let is_ours = u32_at(0)? == MAGIC
            && u32_at(4)? == FORMAT
            && u64_at(META_SUMMED)? == fnv(bytes.get(..META_SUMMED)?)
            && (512..=65536).contains(&page_size)
            && page_size.is_power_of_two();
        Some(Self {
            page_size,
            root: u64_at(16)?,
            pages: u64_at(40)?,
            txid: u64_at(48)?,
        })
        .filter(|_| is_ours)
    }
}

/// FNV-1a, the checksum of a meta.
pub(super) fn fnv(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

struct Page {
    id: u64,
    flags: u16,
    count: usize,
    overflow: u64,
    bytes: Vec<u8>,
}

impl Page {
    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let (id, rest) = bytes.split_first_chunk()?;
        let (flags, rest) = rest.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let overflow = rest.first_chunk()?;
        let page = Self {
            id: u64::from_le_bytes(*id),
            flags: u16::from_le_bytes(*flags),
            count: u16::from_le_bytes(*count).into(),
            overflow: u32::from_le_bytes(*overflow).into(),
            bytes: Vec::new(),
        };
        let is_sound = page.flags == LEAF || page.flags == BRANCH && page.count > 0;
        is_sound.then_some(Self { bytes, ..page })
    }
}

struct Element {
    flags: u32,
    child: u64,
    key: std::ops::Range<usize>,
    value: std::ops::Range<usize>,
}

fn element(path: &Path, page: &Page, index: usize) -> Result<Element, RestoreError> {
    let parse = || {
        let at = HEADER + HEADER * index;
        let head = page.bytes.get(at..at + HEADER)?;
        let word = |n: usize| Some(u32::from_le_bytes(*head.get(4 * n..)?.first_chunk()?));
        let is_leaf = page.flags == LEAF;
        let (flags, pos, key, value) = if is_leaf {
            (word(0)?, word(1)?, word(2)?, word(3)?)
        } else {
            (0, word(0)?, word(1)?, 0)
        };
        let size = |word: u32| usize::try_from(word).ok();
        let begin = at.checked_add(size(pos)?)?;
        let middle = begin.checked_add(size(key)?)?;
        let end = middle.checked_add(size(value)?)?;
        let table = HEADER + HEADER * page.count;
        (begin >= table && end <= page.bytes.len()).then_some(Element {
            flags,
            child: if is_leaf {
                0
            } else {
                u64::from_le_bytes(*head.last_chunk()?)
            },
            key: begin..middle,
            value: middle..end,
        })
    };
    parse().ok_or_else(|| damaged(path, page.id, "an element lies outside of it"))
}
