//! The wire format of protobuf, as far as etcd's records, logs and snapshot files need it.

/// What a field holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Four or eight bytes; etcd has none.
    Fixed(&'a [u8]),
}

/// The fields of a message with their numbers; `None` once where it is malformed,
/// and then no more.
pub(crate) fn fields(bytes: &[u8]) -> impl Iterator<Item = Option<(u64, Field<'_>)>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = field(&mut rest);
        if field.is_none() {
            rest = &[];
        }
        Some(field)
    })
}

fn field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let tag = varint(rest)?;
    let value = match tag & 7 {
        0 => Field::Number(varint(rest)?),
        2 => {
            let len = usize::try_from(varint(rest)?).ok()?;
            Field::Bytes(take(rest, len)?)
        }
        1 => Field::Fixed(take(rest, 8)?),
        5 => Field::Fixed(take(rest, 4)?),
        _ => return None,
    };
    let number = tag >> 3;
    (number > 0).then_some((number, value))
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (value, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(value)
}

pub(crate) fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        let bits = u64::from(byte & 0x7F);
        if shift == 63 && bits > 1 {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// A message under construction.
///
/// etcd writes every field that cannot be absent, also zeros; so does this, so
/// that the bytes are the same as its own.
#[derive(Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// Appends a number.
    pub(crate) fn number(mut self, field: u32, value: u64) -> Self {
        self.varint(u64::from(field) << 3);
        self.varint(value);
        self
    }

    /// Appends bytes, or a message within this one.
    pub(crate) fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// Its bytes.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_well_formed_and_pieces_of_them_are_not() {
        let inner = Message::default().number(1, 300).finish();
        let message = Message::default()
            .number(1, u64::MAX)
            .bytes(2, &inner)
            .finish();
        let is_well_formed = |bytes: &[u8]| fields(bytes).all(|field| field.is_some());
        assert_eq!(inner, [8, 0xac, 2]);
        assert!(is_well_formed(&message));
        assert!(is_well_formed(&[]));
        for length in 1..message.len() {
            let whole_field = length == 11;
            assert_eq!(is_well_formed(&message[..length]), whole_field, "{length}");
        }
        assert!(!is_well_formed(&[0, 0]), "field 0");
        assert!(!is_well_formed(&[0x0b]), "a group");
        assert!(is_well_formed(&[0x0d, 1, 2, 3, 4]), "four bytes");
        assert!(!is_well_formed(&[
            8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255
        ]));
    }

    #[test]
    fn numbers_and_bytes_are_read_and_nonsense_ends_it() {
        let read = |bytes: &'static [u8]| fields(bytes).collect::<Vec<_>>();
        let expected = [
            Some((1, Field::Bytes(b"ab"))),
            Some((2, Field::Number(300))),
        ];
        assert_eq!(read(b"\x0a\x02ab\x10\xac\x02"), expected);
        assert_eq!(
            read(b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
            [Some((2, Field::Number(u64::MAX)))]
        );
        for malformed in [
            &b"\x0a\x05ab"[..],
            b"\x0d",
            b"\x10",
            b"\x10\x80",
            b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            assert_eq!(read(malformed), [None]);
        }
    }
}
