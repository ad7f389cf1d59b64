//! The fields of a database's structure, as bbolt lays them out.

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;
const HEADER: usize = 16;
const ELEMENT: usize = 16;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const META: u16 = 0x04;
const FREELIST: u16 = 0x10;

/// A number in the structure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) kind: &'static str,
    at: usize,
    width: usize,
    /// Its meta page, whose checksum is stamped anew.
    meta: Option<usize>,
}

impl Field {
    /// The file with this field set to what it must not be, one after the other.
    pub(crate) fn damages(self, whole: &[u8]) -> [Vec<u8>; 5] {
        let mut word = [0; 8];
        word[..self.width].copy_from_slice(&whole[self.at..self.at + self.width]);
        let is = u64::from_le_bytes(word);
        let values = [0, 1, is.wrapping_add(1), is.wrapping_sub(1), !is];
        values.map(|value| {
            let mut damaged = whole.to_vec();
            let bytes = &value.to_le_bytes()[..self.width];
            damaged[self.at..self.at + self.width].copy_from_slice(bytes);
            if let Some(page) = self.meta {
                let meta = &mut damaged[page + HEADER..][..64];
                let step =
                    |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
                let hash = meta[..56].iter().fold(0xcbf2_9ce4_8422_2325, step);
                meta[56..].copy_from_slice(&hash.to_le_bytes());
            }
            damaged
        })
    }
}

/// Every field of every page that is no free one.
pub(crate) fn fields(whole: &[u8]) -> Vec<Field> {
    let mut fields = Vec::new();
    let half = |at: usize| u16::from_le_bytes([whole[at], whole[at + 1]]);
    let word = |at: usize| u32::from_le_bytes(*whole[at..].first_chunk().unwrap()) as usize;
    let mut page = 0;
    while (page + 1) * PAGE <= whole.len() {
        let at = page * PAGE;
        let (flags, count, overflow) = (half(at + 8), half(at + 10), word(at + 12));
        page += 1;
        if ![BRANCH, LEAF, META, FREELIST].contains(&flags) {
            continue;
        }
        page += overflow;
        let add = |fields: &mut Vec<Field>, kind, from: usize, widths: &[usize], meta| {
            let mut at = from;
            for &width in widths {
                fields.push(Field {
                    kind,
                    at,
                    width,
                    meta,
                });
                at += width;
            }
        };
        add(&mut fields, "header of a page", at, &[8, 2, 2, 4], None);
        let body = at + HEADER;
        if flags == META {
            // The checksum itself is not stamped over.
            let kind = "meta page";
            add(
                &mut fields,
                kind,
                body,
                &[4, 4, 4, 4, 8, 8, 8, 8, 8],
                Some(at),
            );
            add(&mut fields, kind, body + 56, &[8], None);
            continue;
        }
        if flags == FREELIST {
            // A count that is too large for the header stands before the ids.
            let ids = match count {
                0xFFFF => 1 + word(body),
                count => count.into(),
            };
            add(&mut fields, "free list", body, &vec![8; ids], None);
            continue;
        }
        for element in 0..usize::from(count) {
            let from = body + element * ELEMENT;
            if flags == BRANCH {
                add(&mut fields, "element of a branch", from, &[4, 4, 8], None);
                continue;
            }
            add(&mut fields, "element of a leaf", from, &[4, 4, 4, 4], None);
            if word(from) != 1 {
                continue;
            }
            // A bucket: its root, its sequence, and a page of its own if it has no root.
            let bucket = from + word(from + 4) + word(from + 8);
            add(&mut fields, "bucket", bucket, &[8, 8], None);
            if word(bucket) == 0 {
                add(&mut fields, "bucket", bucket + 16, &[8, 2, 2, 4], None);
                for element in 0..usize::from(half(bucket + 26)) {
                    let from = bucket + 32 + element * ELEMENT;
                    add(&mut fields, "bucket", from, &[4, 4, 4, 4], None);
                }
            }
        }
    }
    fields
}
