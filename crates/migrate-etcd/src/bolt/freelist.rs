//! The list of free pages, where the file has one.

use super::file::u64_at;
use super::page::{FREELIST, HEADER, Header};
use super::walk::Seen;
use super::{Database, Fault, ReadError};

/// A count that stands before the list, because it does not fit the header.
const COUNT_FOLLOWS: u16 = 0xFFFF;

/// Numbers that are read at once.
const AT_ONCE: u64 = 8192;

impl Database {
    /// Notes the list's pages and what is on it; every page of the database must
    /// then be noted exactly once. Gives how many are free.
    pub(super) fn check_free(&self, seen: &mut Seen) -> Result<u64, ReadError> {
        let Some(id) = self.meta.freelist else {
            return Ok(self.meta.pages.saturating_sub(seen.count()));
        };
        let size = u64::from(self.meta.page_size);
        let offset = id.saturating_mul(size);
        let damaged = |fault| self.file.damaged(id, offset, fault);
        if id < 2 || id >= self.meta.pages {
            return Err(damaged(Fault::OutOfBounds));
        }
        let mut head = [0; HEADER + 8];
        self.file.read(offset, &mut head)?;
        let header = Header::parse(&head).ok_or_else(|| damaged(Fault::FreeList))?;
        if header.id != id {
            return Err(damaged(Fault::WrongId { found: header.id }));
        }
        if header.flags != FREELIST {
            let found = header.flags;
            return Err(damaged(Fault::WrongKind { found }));
        }
        if header.overflow >= self.meta.pages - id {
            return Err(damaged(Fault::OutOfBounds));
        }
        let (skip, count) = if header.count == COUNT_FOLLOWS {
            (HEADER + 8, u64_at(&head, HEADER).unwrap_or(u64::MAX))
        } else {
            (HEADER, u64::from(header.count))
        };
        let room = ((header.overflow + 1) * size - skip as u64) / 8;
        if count > room {
            return Err(damaged(Fault::FreeList));
        }
        for page in id..=id + header.overflow {
            if !seen.insert(page) {
                return Err(self.file.damaged(page, page * size, Fault::ReachedTwice));
            }
        }
        let mut before = 1;
        let mut done = 0;
        while done < count {
            let some = AT_ONCE.min(count - done);
            let mut bytes = vec![0; some as usize * 8];
            let at = offset + skip as u64 + done * 8;
            self.file.read(at, &mut bytes)?;
            for (index, page) in bytes.chunks_exact(8).enumerate() {
                let page = u64_at(page, 0).unwrap_or(0);
                let damaged = |fault| self.file.damaged(id, at + 8 * index as u64, fault);
                if page <= before || page >= self.meta.pages {
                    return Err(damaged(Fault::FreeList));
                }
                if !seen.insert(page) {
                    return Err(damaged(Fault::FreeTwice));
                }
                before = page;
            }
            done += some;
        }
        match (0..self.meta.pages).find(|page| !seen.contains(*page)) {
            Some(lost) => Err(self.file.damaged(lost, lost * size, Fault::Lost)),
            None => Ok(count),
        }
    }
}
