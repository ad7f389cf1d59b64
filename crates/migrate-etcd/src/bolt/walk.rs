//! Goes through a tree in the order of its keys.

use super::page::{BRANCH, Header, Page};
use super::{Bucket, Database, Entry, Fault, ReadError, Root};

/// A tree of pages is never as deep: two children each are 2^40 pages.
const DEEPEST: usize = 40;

/// The most bytes of one page with what belongs to it. etcd's requests end at
/// 1.5 MiB unless it is told otherwise, and two entries may share a page.
const LARGEST: u64 = 64 << 20;

/// The same of a branch, of which there may be one for each level at a time. bbolt cuts one
/// of more than four keys in two before it is longer than a page.
const LARGEST_BRANCH: u64 = 1 << 20;

/// Pages that a walk has seen, one bit each.
#[derive(Debug)]
pub(super) struct Seen(Vec<u64>);

impl Seen {
    pub(super) fn new(pages: u64) -> Self {
        // At most 64 MiB: see `MOST_PAGES`.
        Self(vec![0; usize::try_from(pages.div_ceil(64)).unwrap_or(0)])
    }

    /// Notes a page; whether it was new.
    pub(super) fn insert(&mut self, page: u64) -> bool {
        let word = usize::try_from(page / 64).ok();
        let Some(word) = word.and_then(|word| self.0.get_mut(word)) else {
            return false;
        };
        let bit = 1 << (page % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    pub(super) fn contains(&self, page: u64) -> bool {
        let word = usize::try_from(page / 64).ok();
        let word = word.and_then(|word| self.0.get(word));
        word.is_some_and(|word| word & (1 << (page % 64)) != 0)
    }

    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

/// One walk through all buckets of a database, on which each of its pages is reached once.
pub(crate) struct Walk<'a> {
    database: &'a Database,
    seen: Seen,
}

impl<'a> Walk<'a> {
    /// Begins, and gives the buckets in the order of their names.
    pub(crate) fn begin(database: &'a Database) -> Result<(Self, Vec<Bucket>), ReadError> {
        let mut seen = Seen::new(database.meta.pages);
        seen.insert(0);
        seen.insert(1);
        let buckets = database.buckets_seen(&mut seen)?;
        Ok((Self { database, seen }, buckets))
    }

    /// Visits the entries of a bucket in the order of their keys.
    pub(crate) fn each<E: From<ReadError>>(
        &mut self,
        bucket: &Bucket,
        visit: &mut dyn FnMut(&Entry<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.database.each_seen(bucket, &mut self.seen, visit)
    }

    /// After all buckets: how many pages are free, where the file lists them all the others.
    pub(crate) fn end(mut self) -> Result<u64, ReadError> {
        self.database.check_free(&mut self.seen)
    }
}

struct Level {
    page: Page,
    next: usize,
    /// No key of the page is smaller; empty at the root.
    from: Vec<u8>,
    /// All keys of the page are smaller.
    below: Option<Vec<u8>>,
}

impl Database {
    /// Visits the entries of a tree; `is_bucket` goes first.
    pub(super) fn walk<E: From<ReadError>>(
        &self,
        root: &Root,
        seen: &mut Seen,
        visit: &mut dyn FnMut(bool, &Entry<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let page = self.root_page(root, seen)?;
        let mut stack = vec![Level {
            page,
            next: 0,
            from: Vec::new(),
            below: None,
        }];
        while let Some(level) = stack.last_mut() {
            let page = &level.page;
            if level.next == page.count {
                stack.pop();
                continue;
            }
            let index = level.next;
            level.next += 1;
            let at_page = |fault| self.file.damaged(page.id, page.offset, fault);
            let element = page.element(index).map_err(at_page)?;
            let key = page.key(&element);
            if key < level.from.as_slice()
                || level.below.as_deref().is_some_and(|below| key >= below)
            {
                return Err(at_page(Fault::KeyOrder(index)).into());
            }
            if page.is_leaf {
                visit(element.is_bucket, &page.entry(&element))?;
                continue;
            }
            let below = if index + 1 < page.count {
                let next = page.element(index + 1).map_err(at_page)?;
                Some(page.key(&next).to_vec())
            } else {
                level.below.clone()
            };
            let from = key.to_vec();
            if stack.len() == DEEPEST {
                return Err(self.too_deep(element.child).into());
            }
            let page = self.page(element.child, seen)?;
            // bbolt takes such a page out of the tree: it has lost its entries.
            if page.count == 0 {
                let fault = self.file.damaged(page.id, page.offset, Fault::Empty);
                return Err(fault.into());
            }
            stack.push(Level {
                page,
                next: 0,
                from,
                below,
            });
        }
        Ok(())
    }

    /// Shows the last entry of a tree, if it has one. Reads one page of each level.
    pub(super) fn last_of<T>(
        &self,
        root: &Root,
        see: impl FnOnce(&Entry<'_>) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        let mut seen = Seen::new(self.meta.pages);
        let mut page = self.root_page(root, &mut seen)?;
        for _ in 0..DEEPEST {
            let Some(last) = page.count.checked_sub(1) else {
                return Ok(None);
            };
            let at_page = |fault| self.file.damaged(page.id, page.offset, fault);
            let element = page.element(last).map_err(at_page)?;
            if page.is_leaf {
                return see(&page.entry(&element)).map(Some);
            }
            page = self.page(element.child, &mut seen)?;
        }
        Err(self.too_deep(page.id))
    }

    fn root_page(&self, root: &Root, seen: &mut Seen) -> Result<Page, ReadError> {
        match root {
            Root::Page(id) => self.page(*id, seen),
            Root::Inline(inline) => inline.page(&self.file),
        }
    }

    fn too_deep(&self, page: u64) -> ReadError {
        let offset = page.saturating_mul(self.meta.page_size.into());
        self.file.damaged(page, offset, Fault::TooDeep)
    }

    /// Page `id` of a tree, with those that belong to it.
    fn page(&self, id: u64, seen: &mut Seen) -> Result<Page, ReadError> {
        let size = u64::from(self.meta.page_size);
        let offset = id.saturating_mul(size);
        let damaged = |fault| self.file.damaged(id, offset, fault);
        if id < 2 || id >= self.meta.pages {
            return Err(damaged(Fault::OutOfBounds));
        }
        let mut bytes = vec![0; self.meta.page_size as usize];
        self.file.read(offset, &mut bytes)?;
        let header = Header::parse(&bytes);
        let overflow = header.map_or(0, |header| header.overflow);
        if overflow >= self.meta.pages - id {
            return Err(damaged(Fault::OutOfBounds));
        }
        if overflow > 0 {
            let more = overflow * size;
            let largest = match header.is_some_and(|header| header.flags == BRANCH) {
                true => LARGEST_BRANCH,
                false => LARGEST,
            };
            if more > largest {
                return Err(damaged(Fault::TooLarge(overflow)));
            }
            // At most `LARGEST`.
            bytes.resize(bytes.len() + more as usize, 0);
            let rest = bytes.get_mut(size as usize..).unwrap_or_default();
            self.file.read(offset + size, rest)?;
        }
        let page = Page::parse(bytes, id, offset).map_err(damaged)?;
        let needed = (page.end as u64).div_ceil(size) - 1;
        // Older versions of bbolt take one page more for contents that fill all of them.
        if overflow != needed && overflow != page.end as u64 / size {
            let found = overflow;
            return Err(damaged(Fault::Overflow { found, needed }));
        }
        for id in id..=id + overflow {
            if !seen.insert(id) {
                return Err(self.file.damaged(id, id * size, Fault::ReachedTwice));
            }
        }
        Ok(page)
    }
}
