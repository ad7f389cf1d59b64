//! Reads the wire format of protobuf, as far as etcd's records need it.

/// What a field holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
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
            let (value, after) = rest.split_at_checked(len)?;
            *rest = after;
            Field::Bytes(value)
        }
        _ => return None,
    };
    Some((tag >> 3, value))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
