//! Writes a database page by page, from elements that come in their order.
//!
//! A bucket grows from its leaves: a page that is full is written and its first
//! key goes into a branch above, where the same is done. So nothing is ever
//! changed that is written, what is in memory is two pages for each level, and
//! the file has no free pages: it is defragmented as well.

use std::io::{self, Seek, SeekFrom, Write};

use super::meta::{FORMAT, MAGIC, NO_FREELIST, SUMMED, fnv};
use super::page::{BRANCH, HEADER, IS_BUCKET, LEAF, META};

/// Both metas; the first page of data follows.
const METAS: u64 = 2;

/// A database that is being written.
pub(crate) struct Tree<W> {
    out: W,
    page_size: usize,
    /// The page that is written next.
    next: u64,
    /// Buckets at the root: name, sequence, root page.
    buckets: Vec<(Vec<u8>, u64, u64)>,
}

impl<W: Write + Seek> Tree<W> {
    /// Begins a database with pages of `page_size` bytes.
    pub(crate) fn new(mut out: W, page_size: usize) -> io::Result<Self> {
        out.seek(SeekFrom::Start(METAS * page_size as u64))?;
        Ok(Self {
            out,
            page_size,
            next: METAS,
            buckets: Vec::new(),
        })
    }

    /// Begins the bucket `name`, which comes after the ones so far.
    pub(crate) fn bucket(&mut self, name: &[u8], sequence: u64) -> Branches<'_, W> {
        self.buckets.push((name.to_vec(), sequence, 0));
        Branches {
            tree: self,
            levels: vec![Level::default()],
        }
    }

    /// Writes the root and the metas; the database's length in bytes.
    pub(crate) fn finish(mut self) -> io::Result<(W, u64)> {
        let buckets = std::mem::take(&mut self.buckets);
        let mut root = Branches {
            tree: &mut self,
            levels: vec![Level::default()],
        };
        for (name, sequence, page) in buckets {
            let value = [page.to_le_bytes(), sequence.to_le_bytes()].concat();
            root.add(0, Element::leaf(IS_BUCKET, &name, &value))?;
        }
        let root = root.close()?;
        self.out.flush()?;
        self.out.seek(SeekFrom::Start(0))?;
        for id in 0..METAS {
            let page = self.meta(id, root);
            self.out.write_all(&page)?;
        }
        self.out.flush()?;
        Ok((self.out, self.next * self.page_size as u64))
    }

    /// The metas are as those of a new database: transaction 0 in page 0 and 1
    /// in page 1, so that the first write goes to page 0.
    fn meta(&self, id: u64, root: u64) -> Vec<u8> {
        let mut page = header(id, META, 0, 0);
        page.extend(MAGIC.to_le_bytes());
        page.extend(FORMAT.to_le_bytes());
        // A page has at most 64 KiB.
        page.extend((self.page_size as u32).to_le_bytes());
        page.extend(0u32.to_le_bytes());
        for word in [root, 0, NO_FREELIST, self.next, id] {
            page.extend(word.to_le_bytes());
        }
        debug_assert_eq!(page.len(), HEADER + SUMMED);
        let sum = fnv(page.get(HEADER..).unwrap_or_default());
        page.extend(sum.to_le_bytes());
        page.resize(self.page_size, 0);
        page
    }

    fn write(&mut self, node: &Node, flags: u16) -> io::Result<u64> {
        let id = self.next;
        let pages = node.size().div_ceil(self.page_size).max(1);
        let too_large = |_| io::Error::other("a page of 16 TiB");
        let overflow = u32::try_from(pages - 1).map_err(too_large)?;
        // Elements are of 16 bytes in a page of at most 64 KiB.
        let count = node.elements.len() as u16;
        self.out.write_all(&header(id, flags, count, overflow))?;
        let mut at = 0usize;
        for (index, element) in node.elements.iter().enumerate() {
            // From the element itself to its key.
            let pos = HEADER * (node.elements.len() - index) + at;
            let pos = u32::try_from(pos).map_err(|_| io::Error::other("a page of 4 GiB"))?;
            let mut head = [0; HEADER];
            let mut put =
                |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
            if flags == LEAF {
                put(0, &element.flags.to_le_bytes());
                put(4, &pos.to_le_bytes());
                put(8, &(element.key as u32).to_le_bytes());
                put(12, &(element.value as u32).to_le_bytes());
            } else {
                put(0, &pos.to_le_bytes());
                put(4, &(element.key as u32).to_le_bytes());
                put(8, &element.child.to_le_bytes());
            }
            self.out.write_all(&head)?;
            at += element.key + element.value;
        }
        self.out.write_all(&node.data)?;
        let padding = pages * self.page_size - node.size();
        io::copy(
            &mut io::Read::take(io::repeat(0), padding as u64),
            &mut self.out,
        )?;
        self.next += pages as u64;
        Ok(id)
    }
}

fn header(id: u64, flags: u16, count: u16, overflow: u32) -> Vec<u8> {
    let mut page = Vec::with_capacity(HEADER);
    page.extend(id.to_le_bytes());
    page.extend(flags.to_le_bytes());
    page.extend(count.to_le_bytes());
    page.extend(overflow.to_le_bytes());
    page
}

/// A bucket that is being written.
pub(crate) struct Branches<'a, W> {
    tree: &'a mut Tree<W>,
    /// The leaves and what is above them.
    levels: Vec<Level>,
}

/// Pages of one level that are not written yet.
#[derive(Default)]
struct Level {
    /// A full page, held back in case the last one comes out too small.
    held: Option<Node>,
    current: Node,
}

impl<W: Write + Seek> Branches<'_, W> {
    /// Appends an element, whose key is greater than all before.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.add(0, Element::leaf(0, key, value))
    }

    /// Ends the bucket.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        let root = self.close()?;
        // The last one: a bucket is borrowed from its tree until it ends.
        if let Some(bucket) = self.tree.buckets.last_mut() {
            bucket.2 = root;
        }
        Ok(())
    }

    fn add(&mut self, at: usize, element: Element<'_>) -> io::Result<()> {
        if self.levels.len() == at {
            self.levels.push(Level::default());
        }
        let fewest = if at == 0 { 1 } else { FEWEST };
        let page_size = self.tree.page_size;
        // Never out of bounds: at most one level is new.
        let Some(level) = self.levels.get_mut(at) else {
            return Ok(());
        };
        let is_full = level.current.size() + element.size() > page_size
            && level.current.elements.len() >= fewest;
        if !is_full {
            level.current.push(&element);
            return Ok(());
        }
        let full = std::mem::take(&mut level.current);
        let settled = level.held.replace(full);
        level.current.push(&element);
        match settled {
            Some(node) => self.settle(at, &node),
            None => Ok(()),
        }
    }

    /// Writes a page and tells the level above.
    fn settle(&mut self, at: usize, node: &Node) -> io::Result<()> {
        let id = self.tree.write(node, flags(at))?;
        let first = node.first_key().to_vec();
        self.add(at + 1, Element::branch(&first, id))
    }

    /// Writes what is left; the root page.
    fn close(&mut self) -> io::Result<u64> {
        let mut at = 0;
        loop {
            let level = self.levels.get_mut(at).map(std::mem::take);
            let Level { held, current } = level.unwrap_or_default();
            let (held, current) = match held {
                Some(held) if at > 0 => even_out(held, current),
                held => (held, current),
            };
            // Without a page beside it and nothing above, this is the root.
            if held.is_none() && self.levels.len() <= at + 1 {
                return self.tree.write(&current, flags(at));
            }
            if let Some(held) = held {
                self.settle(at, &held)?;
            }
            self.settle(at, &current)?;
            at += 1;
        }
    }
}

fn flags(level: usize) -> u16 {
    if level == 0 { LEAF } else { BRANCH }
}

/// Children that a branch has at least. bbolt panics with "parent must have at
/// least 2 children" when it takes elements from the child of a smaller one.
const FEWEST: usize = 2;

/// Two branches beside each other, the second of which may be too small.
fn even_out(mut held: Node, current: Node) -> (Option<Node>, Node) {
    if current.elements.len() >= FEWEST {
        return (Some(held), current);
    }
    let moved = if held.elements.len() > FEWEST {
        1
    } else {
        held.elements.len()
    };
    let mut last = held.split_off(held.elements.len() - moved);
    last.append(&current);
    (Some(held).filter(|held| !held.elements.is_empty()), last)
}

/// An element to be.
struct Element<'a> {
    flags: u32,
    key: &'a [u8],
    value: &'a [u8],
    child: u64,
}

impl<'a> Element<'a> {
    fn leaf(flags: u32, key: &'a [u8], value: &'a [u8]) -> Self {
        Self {
            flags,
            key,
            value,
            child: 0,
        }
    }

    fn branch(key: &'a [u8], child: u64) -> Self {
        Self {
            flags: 0,
            key,
            value: &[],
            child,
        }
    }

    fn size(&self) -> usize {
        HEADER + self.key.len() + self.value.len()
    }
}

/// A page to be.
#[derive(Default)]
struct Node {
    elements: Vec<Lengths>,
    /// Keys and values, one after the other.
    data: Vec<u8>,
}

/// An element of a page to be.
#[derive(Clone, Copy)]
struct Lengths {
    flags: u32,
    key: usize,
    value: usize,
    child: u64,
}

impl Node {
    fn size(&self) -> usize {
        HEADER + HEADER * self.elements.len() + self.data.len()
    }

    fn push(&mut self, element: &Element<'_>) {
        self.elements.push(Lengths {
            flags: element.flags,
            key: element.key.len(),
            value: element.value.len(),
            child: element.child,
        });
        self.data.extend_from_slice(element.key);
        self.data.extend_from_slice(element.value);
    }

    fn first_key(&self) -> &[u8] {
        let first = self.elements.first().map_or(0, |element| element.key);
        self.data.get(..first).unwrap_or_default()
    }

    fn split_off(&mut self, at: usize) -> Self {
        let elements = self.elements.split_off(at);
        let bytes: usize = elements
            .iter()
            .map(|element| element.key + element.value)
            .sum();
        let data = self.data.split_off(self.data.len() - bytes);
        Self { elements, data }
    }

    fn append(&mut self, other: &Self) {
        self.elements.extend_from_slice(&other.elements);
        self.data.extend_from_slice(&other.data);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::Database;

    type Entries = Vec<(Vec<u8>, Vec<u8>)>;

    fn entries(count: usize, key: usize, value: usize) -> Entries {
        let entry = |i: usize| {
            let mut name = (i as u64).to_be_bytes().to_vec();
            name.resize(key.max(8), b'k');
            (name, vec![b'v'; value])
        };
        (0..count).map(entry).collect()
    }

    fn written(path: &Path, page_size: usize, buckets: &[(&str, &Entries)]) -> u64 {
        let file = fs::File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .open(path);
        let mut tree = Tree::new(file.unwrap(), page_size).unwrap();
        for (name, entries) in buckets {
            let mut bucket = tree.bucket(name.as_bytes(), 7);
            for (key, value) in *entries {
                bucket.push(key, value).unwrap();
            }
            bucket.finish().unwrap();
        }
        tree.finish().unwrap().1
    }

    fn read(path: &Path) -> Result<Vec<(String, u64, Entries)>, crate::Error> {
        let database = Database::open(path)?;
        let mut all = Vec::new();
        for bucket in database.buckets()? {
            let mut entries = Vec::new();
            database.each(&bucket, &mut |entry| {
                entries.push((entry.key.to_vec(), entry.value.to_vec()));
                Ok(())
            })?;
            let last = database.last(&bucket, |entry| Ok(entry.key.to_vec()))?;
            assert_eq!(last.as_ref(), entries.last().map(|(key, _)| key));
            let name = String::from_utf8_lossy(bucket.name()).into_owned();
            all.push((name, bucket.sequence(), entries));
        }
        Ok(all)
    }

    /// Children of the branches of a file, and how many pages are of no use.
    fn branches(path: &Path, page_size: usize) -> Vec<u16> {
        let bytes = fs::read(path).unwrap();
        let mut at = 2 * page_size;
        let mut counts = Vec::new();
        while at < bytes.len() {
            let page = &bytes[at..];
            let word = |at: usize| u16::from_le_bytes([page[at], page[at + 1]]);
            let id = u64::from_le_bytes(*page.first_chunk().unwrap());
            assert_eq!(id as usize, at / page_size);
            if word(8) == BRANCH {
                counts.push(word(10));
            }
            let overflow = u32::from_le_bytes(*page[12..].first_chunk().unwrap());
            at += (1 + overflow as usize) * page_size;
        }
        counts
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let mut deepest = 0;
        for page_size in [512, 4096] {
            for (key, value) in [(8, 0), (17, 40), (200, 10), (700, 1), (17, 5000)] {
                for count in (0..60).chain([150, 333, 1000]) {
                    let some = entries(count, key, value);
                    let none = Entries::new();
                    let bytes = written(&path, page_size, &[("a", &none), ("key", &some)]);
                    assert_eq!(bytes, fs::metadata(&path).unwrap().len());
                    let expected = [("a".to_owned(), 7, none), ("key".to_owned(), 7, some)];
                    assert_eq!(read(&path).unwrap(), expected);
                    let counts = branches(&path, page_size);
                    assert!(counts.iter().all(|count| *count >= 2), "{counts:?}");
                    deepest = deepest.max(counts.len());
                }
            }
        }
        assert!(deepest > 100, "{deepest}");
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let some = entries(300, 17, 30);
        let bytes = written(&path, 512, &[("a", &entries(1, 8, 1)), ("key", &some)]);
        let whole = fs::read(&path).unwrap();
        let expected = read(&path).unwrap();
        let mut seed = 7u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        let mut refused = 0;
        for round in 0..2000 {
            let mut damaged = whole.clone();
            // Half of them into the headers and elements, where structure is.
            let page = random(bytes / 512);
            let at = (page * 512 + random(if round % 2 == 0 { 512 } else { 80 })) as usize;
            match round % 3 {
                0 => damaged[at] ^= 1 << random(8),
                1 => damaged[at] = 0xff,
                _ => damaged.truncate(at),
            }
            fs::write(&path, &damaged).unwrap();
            match read(&path) {
                Ok(read) => assert!(round % 3 < 2 || read == expected),
                Err(error) => {
                    assert!(error.to_string().contains("take another backup"), "{error}");
                    refused += 1;
                }
            }
        }
        assert!(refused > 1000, "{refused}");

        // One meta is enough.
        for meta in [0, 512] {
            let mut damaged = whole.clone();
            damaged[meta + 20] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert_eq!(read(&path).unwrap(), expected);
        }
    }
}
