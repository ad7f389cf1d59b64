//! The two meta pages, of which the newer valid one counts.

use super::file::{Named, u16_at, u32_at, u64_at};
use super::page::{HEADER, META};
use super::{ReadError, TRAILER};

pub(crate) const MAGIC: u32 = 0xED0C_DAED;
pub(crate) const FORMAT: u32 = 2;
/// Bytes that the checksum behind them covers.
pub(crate) const SUMMED: usize = 56;
const META_LEN: usize = HEADER + SUMMED + 8;
/// Page sizes of 512 bytes to 64 KiB.
const PAGE_BITS: std::ops::RangeInclusive<u32> = 9..=16;

/// The free list's page where the file has none: etcd does not write it.
pub(crate) const NO_FREELIST: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Meta {
    pub(super) page_size: u32,
    pub(super) root: u64,
    /// `None` where free pages are not listed.
    pub(super) freelist: Option<u64>,
    /// Pages of the database, the metas included.
    pub(super) pages: u64,
    pub(super) txid: u64,
}

impl Meta {
    /// The one that counts, and the number of the other page if it is damaged.
    pub(super) fn find(file: &Named) -> Result<(Self, Option<u64>), ReadError> {
        let first = Self::at(file, 0, 0)?;
        // Where the first one is damaged, nobody says how long a page is.
        let second = match first {
            Some(first) => Self::at(file, u64::from(first.page_size), 1)?,
            None => {
                let mut newest: Option<Self> = None;
                for bits in PAGE_BITS {
                    let found = Self::at(file, 1 << bits, 1)?;
                    let found = found.filter(|meta| meta.page_size == 1 << bits);
                    newest = newest.max_by_txid(found);
                }
                newest
            }
        };
        let second =
            second.filter(|second| first.is_none_or(|first| first.page_size == second.page_size));
        let damaged = match (first, second) {
            (None, Some(_)) => Some(0),
            (Some(_), None) => Some(1),
            _ => None,
        };
        let newest = first.max_by_txid(second);
        let newest = newest.ok_or_else(|| ReadError::NoMeta {
            path: file.path.clone(),
        })?;
        Ok((newest, damaged))
    }

    fn at(file: &Named, offset: u64, page: u64) -> Result<Option<Self>, ReadError> {
        if offset + META_LEN as u64 + TRAILER > file.len {
            return Ok(None);
        }
        let mut bytes = [0; META_LEN];
        file.read(offset, &mut bytes)?;
        Ok(Self::parse(&bytes, page))
    }

    fn parse(bytes: &[u8], page: u64) -> Option<Self> {
        let (header, body) = bytes.split_at_checked(HEADER)?;
        let page_size = u32_at(body, 8)?;
        let is_sound = u64_at(header, 0)? == page
            && u16_at(header, 8)? == META
            && u32_at(body, 0)? == MAGIC
            && u32_at(body, 4)? == FORMAT
            && u64_at(body, SUMMED)? == fnv(body.get(..SUMMED)?)
            && page_size.is_power_of_two()
            && PAGE_BITS.contains(&page_size.trailing_zeros());
        is_sound.then_some(Self {
            page_size,
            root: u64_at(body, 16)?,
            freelist: Some(u64_at(body, 32)?).filter(|page| *page != NO_FREELIST),
            pages: u64_at(body, 40)?,
            txid: u64_at(body, 48)?,
        })
    }
}

trait Newest {
    fn max_by_txid(self, other: Self) -> Self;
}

impl Newest for Option<Meta> {
    fn max_by_txid(self, other: Self) -> Self {
        match (self, other) {
            (Some(one), Some(other)) if other.txid > one.txid => Some(other),
            (one, other) => one.or(other),
        }
    }
}

/// FNV-1a, 64 bits.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}
