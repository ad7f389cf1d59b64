//! DER, as far as keys and certificates are compared.

/// Tags of what is looked at.
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const NAME: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
/// The version of a certificate, and the curve of a key.
pub(super) const FIRST: u8 = 0xA0;

/// Curves, as parameters of a key have them.
pub(super) const P256: &[u8] = b"\x06\x08\x2A\x86\x48\xCE\x3D\x03\x01\x07";
pub(super) const P384: &[u8] = b"\x06\x05\x2B\x81\x04\x00\x22";

/// An element of this tag and content, whose length is told in as few bytes as can be.
pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = content.len().to_be_bytes();
    let zeros = len.iter().take_while(|digit| **digit == 0).count();
    let digits = len.get(zeros..).unwrap_or_default();
    let mut der = vec![tag];
    if content.len() > 0x7F {
        // Eight at most.
        der.push(0x80 | digits.len() as u8);
    }
    match content.is_empty() {
        true => der.push(0),
        false => der.extend_from_slice(digits),
    }
    der.extend_from_slice(content);
    der
}

/// Takes the element that `rest` begins with: its tag, its content, and all of its bytes.
fn any<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8], &'a [u8])> {
    let whole = *rest;
    let (&tag, after) = whole.split_first()?;
    let (&first, after) = after.split_first()?;
    let (len, after) = match first {
        0..=0x7F => (usize::from(first), after),
        0x81..=0x84 => {
            let (digits, after) = after.split_at_checked(usize::from(first & 0x7F))?;
            let add = |len: usize, digit: &u8| len << 8 | usize::from(*digit);
            (digits.iter().fold(0, add), after)
        }
        _ => return None,
    };
    let (content, after) = after.split_at_checked(len)?;
    *rest = after;
    Some((tag, content, &whole[..whole.len() - after.len()]))
}

/// Takes the content of the element that `rest` begins with, if that is one of `tag`.
pub(super) fn take<'a>(rest: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let mut after = *rest;
    let (found, content, _) = any(&mut after)?;
    (found == tag).then(|| *rest = after)?;
    Some(content)
}

/// A public key: what it is for, as an algorithm's name and its parameters, and the key.
pub(super) struct Public<'a> {
    /// All of it: `SubjectPublicKeyInfo` of RFC 5280, which is what a certificate and a file
    /// of a public key have in common.
    pub(super) whole: &'a [u8],
    pub(super) algorithm: Algorithm<'a>,
    pub(super) key: &'a [u8],
}

/// The name of an algorithm, and what it is with: the curve of an elliptic one.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) struct Algorithm<'a> {
    pub(super) name: &'a [u8],
    pub(super) parameters: &'a [u8],
}

impl<'a> Algorithm<'a> {
    pub(super) fn take(rest: &mut &'a [u8]) -> Option<Self> {
        let mut parameters = take(rest, SEQUENCE)?;
        let name = take(&mut parameters, NAME)?;
        Some(Self { name, parameters })
    }
}

impl<'a> Public<'a> {
    /// Of a certificate, or of a public key that stands alone.
    pub(super) fn of(der: &'a [u8]) -> Option<Self> {
        Self::alone(der).or_else(|| Self::certified(der))
    }

    fn alone(whole: &'a [u8]) -> Option<Self> {
        let mut rest = take(&mut &*whole, SEQUENCE)?;
        let algorithm = Algorithm::take(&mut rest)?;
        // Of no key any bits are unused.
        let key = take(&mut rest, BIT_STRING)?.strip_prefix(&[0])?;
        Some(Self {
            whole,
            algorithm,
            key,
        })
    }

    fn certified(der: &'a [u8]) -> Option<Self> {
        let mut rest = take(&mut &*der, SEQUENCE)?;
        let mut rest = take(&mut rest, SEQUENCE)?;
        let _ = take(&mut rest, FIRST);
        take(&mut rest, INTEGER)?;
        // Its signature's algorithm, who has signed it, for how long, and what for.
        for _ in 0..4 {
            take(&mut rest, SEQUENCE)?;
        }
        Self::alone(any(&mut rest)?.2)
    }
}
