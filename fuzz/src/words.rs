//! Words that are taken from the fuzzer's bytes; there is always one more.

/// The bytes that are left.
pub struct Words<'a>(pub &'a [u8]);

impl<'a> Words<'a> {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte, 0 behind the end.
    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or_default()
    }

    /// A number below 2²⁴.
    pub fn number(&mut self) -> usize {
        let bytes = self.bytes(3);
        bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    }

    /// So many bytes, or fewer at the end.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Bytes behind their length.
    pub fn some(&mut self) -> Vec<u8> {
        let count = usize::from(self.byte());
        self.bytes(count).to_vec()
    }
}
