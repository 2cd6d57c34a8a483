//! Cuts what was read into lines.

/// Bytes that were read and not yet sent, line by line. A line ends with a line feed, the last one also with the input.
#[derive(Debug, Default)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    /// Where the first line begins; all before it is done with.
    start: usize,
    /// No line feed is between `start` and here.
    scanned: usize,
    ended: bool,
    taken: u64,
}

impl Lines {
    /// Appends what was read.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.bytes.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.bytes.extend_from_slice(chunk);
    }

    /// There is no more: what is left is a line, if it is not empty.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// The first line that is whole, without its line feed.
    pub(super) fn first(&mut self) -> Option<&[u8]> {
        let unscanned = self.bytes.get(self.scanned..).unwrap_or_default();
        match unscanned.iter().position(|byte| *byte == b'\n') {
            Some(at) => self.scanned += at,
            None => {
                self.scanned = self.bytes.len();
                if !self.ended || self.start == self.scanned {
                    return None;
                }
            }
        }
        self.bytes.get(self.start..self.scanned)
    }

    /// The line that [`Lines::first`] gave is done with.
    pub(super) fn take_first(&mut self) {
        self.start = (self.scanned + 1).min(self.bytes.len());
        self.scanned = self.start;
        self.taken += 1;
    }

    /// Bytes that are not done with.
    pub(super) fn len_bytes(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// The number of the first line that is not done with, from 1.
    pub(super) fn number(&self) -> u64 {
        self.taken + 1
    }

    /// Whether all of the input is done with.
    pub(super) fn is_over(&self) -> bool {
        self.ended && self.len_bytes() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drain(lines: &mut Lines) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        while let Some(line) = lines.first() {
            out.push(line.to_owned());
            lines.take_first();
        }
        out
    }

    proptest! {
        #[test]
        fn however_it_is_read_the_lines_are_those_of_the_whole(
            chunks in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..20), 0..20)
        ) {
            let mut lines = Lines::default();
            let mut cut = Vec::new();
            for chunk in &chunks {
                lines.push(chunk);
                cut.extend(drain(&mut lines));
            }
            lines.end();
            cut.extend(drain(&mut lines));
            prop_assert!(lines.is_over());
            prop_assert_eq!(lines.number(), cut.len() as u64 + 1);

            let whole = chunks.concat();
            let mut expected: Vec<_> = whole.split(|byte| *byte == b'\n').map(<[u8]>::to_owned).collect();
            // What is behind the last line feed is a line only if there is something.
            if expected.last().is_some_and(Vec::is_empty) {
                expected.pop();
            }
            prop_assert_eq!(cut, expected);
        }
    }

    #[test]
    fn a_line_is_whole_only_with_its_line_feed_or_at_the_end() {
        let mut lines = Lines::default();
        lines.push(b"a\n\nb");
        assert_eq!(drain(&mut lines), [&b"a"[..], b""]);
        assert_eq!((lines.len_bytes(), lines.number(), lines.is_over()), (1, 3, false));
        lines.end();
        assert_eq!(drain(&mut lines), [b"b"]);
        assert!(lines.is_over());
    }
}
