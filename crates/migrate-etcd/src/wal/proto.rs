//! The little of protobuf that etcd's log and snapshot files are made of.

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

/// Whether `bytes` are fields of protobuf from the first byte to the last.
pub(crate) fn is_well_formed(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        if read_field(&mut bytes).is_none() {
            return false;
        }
    }
    true
}

/// What field 1 holds, if it is bytes and comes first, as etcd writes it.
#[cfg(any(feature = "client", test))]
pub(crate) fn first_bytes_field(mut bytes: &[u8]) -> Option<&[u8]> {
    let is_bytes = bytes.first() == Some(&(1 << 3 | 2));
    read_field(&mut bytes).filter(|_| is_bytes)
}

/// Takes a field; its bytes, none of it if it is a varint.
fn read_field<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let key = read_varint(bytes)?;
    let length = match key & 7 {
        0 => read_varint(bytes).map(|_| 0)?,
        1 => 8,
        2 => read_varint(bytes)?,
        5 => 4,
        _ => return None,
    };
    let (field, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    (key >> 3 > 0).then_some(field)
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
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
        assert_eq!(inner, [8, 0xac, 2]);
        assert!(is_well_formed(&message));
        assert!(is_well_formed(&[]));
        assert_eq!(first_bytes_field(&message), None);
        let named = Message::default().bytes(1, b"a").number(2, 3).finish();
        assert_eq!(first_bytes_field(&named), Some(&b"a"[..]));
        assert_eq!(first_bytes_field(&named[..2]), None);
        for length in 1..message.len() {
            let whole_field = length == 11;
            assert_eq!(is_well_formed(&message[..length]), whole_field, "{length}");
        }
        assert!(!is_well_formed(&[0, 0]), "field 0");
        assert!(!is_well_formed(&[0x0b]), "a group");
        assert!(!is_well_formed(&[
            8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255
        ]));
    }
}
