//! Cuts what was read into the pieces that become records.

use std::collections::VecDeque;

/// Where a piece ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// At each delimiter, which is not empty; the last piece of a source also with the source.
    At(Vec<u8>),
    /// Only with its source, which is a piece even when it is empty.
    Whole,
}

/// Bytes that were read and not yet sent, piece by piece.
#[derive(Debug)]
pub(super) struct Pieces {
    cut: Cut,
    bytes: Vec<u8>,
    /// Where the first piece begins; all before it is done with.
    start: usize,
    /// No delimiter begins between `start` and here.
    scanned: usize,
    /// Where sources end, first one first.
    ends: VecDeque<usize>,
    /// Where the next piece begins once the first one is done with.
    next: usize,
    over: bool,
    taken: u64,
}

impl Pieces {
    pub(super) fn new(cut: Cut) -> Self {
        let (bytes, ends) = (Vec::new(), VecDeque::new());
        Pieces { cut, bytes, start: 0, scanned: 0, ends, next: 0, over: false, taken: 0 }
    }

    /// Appends what was read.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.bytes.drain(..self.start);
        self.scanned -= self.start;
        self.ends.iter_mut().for_each(|end| *end -= self.start);
        self.start = 0;
        self.bytes.extend_from_slice(chunk);
    }

    /// A source is at its end.
    pub(super) fn end_source(&mut self) {
        self.ends.push_back(self.bytes.len());
    }

    /// There is no more: what is left without an end is a piece, if it is not empty.
    pub(super) fn end(&mut self) {
        if self.ends.back().copied().unwrap_or(self.start) < self.bytes.len() {
            self.end_source();
        }
        self.over = true;
    }

    /// The first piece that is whole, without its delimiter.
    pub(super) fn first(&mut self) -> Option<&[u8]> {
        loop {
            let source_end = self.ends.front().copied();
            let limit = source_end.unwrap_or(self.bytes.len());
            if let Cut::At(delimiter) = &self.cut {
                let unscanned = self.bytes.get(self.scanned..limit).unwrap_or_default();
                if let Some(at) = find(unscanned, delimiter) {
                    self.scanned += at;
                    self.next = self.scanned + delimiter.len();
                    break;
                }
                // A delimiter may have begun at the end of what was read.
                self.scanned = self.scanned.max((limit + 1).saturating_sub(delimiter.len()));
            }
            let end = source_end?;
            if end == self.start && self.cut != Cut::Whole {
                self.ends.pop_front();
                self.scanned = end;
                continue;
            }
            (self.scanned, self.next) = (end, end);
            break;
        }
        self.bytes.get(self.start..self.scanned)
    }

    /// The piece that [`Pieces::first`] gave is done with.
    pub(super) fn take_first(&mut self) {
        if self.next == self.scanned {
            // It was its source's last.
            self.ends.pop_front();
        }
        self.start = self.next;
        self.scanned = self.next;
        self.taken += 1;
    }

    /// Bytes that are not done with.
    pub(super) fn len_bytes(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// The number of the first piece that is not done with, from 1.
    pub(super) fn number(&self) -> u64 {
        self.taken + 1
    }

    /// Whether all of the input is done with.
    pub(super) fn is_over(&mut self) -> bool {
        self.over && self.first().is_none()
    }
}

/// Where `needle`, which is not empty, first is in `bytes`.
pub(super) fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let (first, rest) = needle.split_first()?;
    let mut from = 0;
    loop {
        let at = from + bytes.get(from..)?.iter().position(|byte| byte == first)?;
        if bytes.get(at + 1..)?.starts_with(rest) {
            return Some(at);
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drain(pieces: &mut Pieces) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        while let Some(piece) = pieces.first() {
            out.push(piece.to_owned());
            pieces.take_first();
        }
        out
    }

    fn at(delimiter: &[u8]) -> Pieces {
        Pieces::new(Cut::At(delimiter.to_owned()))
    }

    /// What the pieces of one source are, cut the slow way.
    fn expected(source: &[u8], delimiter: &[u8]) -> Vec<Vec<u8>> {
        let (mut out, mut rest) = (Vec::new(), source);
        while let Some(at) = rest.windows(delimiter.len()).position(|window| window == delimiter) {
            out.push(rest[..at].to_owned());
            rest = &rest[at + delimiter.len()..];
        }
        // What is behind the last delimiter is a piece only if there is something.
        out.extend((!rest.is_empty()).then(|| rest.to_owned()));
        out
    }

    /// Sources, each in the chunks in which it is read.
    fn sources() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
        let chunk = prop::collection::vec(prop_oneof![4 => 0..3_u8, 1 => any::<u8>()], 0..12);
        prop::collection::vec(prop::collection::vec(chunk, 0..8), 0..4)
    }

    proptest! {
        #[test]
        fn however_it_is_read_the_pieces_are_those_of_the_whole(
            sources in sources(),
            delimiter in prop::collection::vec(0..3_u8, 1..4),
            drains in prop::collection::vec(any::<bool>(), 40),
            last_end_is_told in any::<bool>(),
        ) {
            let mut pieces = at(&delimiter);
            let (mut cut, mut drains) = (Vec::new(), drains.into_iter());
            for (number, source) in sources.iter().enumerate() {
                for chunk in source {
                    pieces.push(chunk);
                    if drains.next() == Some(true) {
                        cut.extend(drain(&mut pieces));
                    }
                }
                if last_end_is_told || number + 1 < sources.len() {
                    pieces.end_source();
                }
            }
            pieces.end();
            cut.extend(drain(&mut pieces));
            prop_assert!(pieces.is_over());
            prop_assert_eq!(pieces.number(), cut.len() as u64 + 1);
            let expected: Vec<_> =
                sources.iter().flat_map(|source| expected(&source.concat(), &delimiter)).collect();
            prop_assert_eq!(cut, expected);
        }

        #[test]
        fn a_whole_source_is_a_piece_whatever_is_in_it(sources in sources()) {
            let mut pieces = Pieces::new(Cut::Whole);
            for source in &sources {
                source.iter().for_each(|chunk| pieces.push(chunk));
                pieces.end_source();
            }
            pieces.end();
            let expected: Vec<_> = sources.iter().map(|source| source.concat()).collect();
            prop_assert_eq!(drain(&mut pieces), expected);
            prop_assert!(pieces.is_over());
        }
    }

    #[test]
    fn a_piece_is_whole_only_with_its_delimiter_or_at_the_end() {
        let mut pieces = at(b"\n");
        pieces.push(b"a\n\nb");
        assert_eq!(drain(&mut pieces), [&b"a"[..], b""]);
        assert_eq!((pieces.len_bytes(), pieces.number(), pieces.is_over()), (1, 3, false));
        pieces.end();
        assert_eq!(drain(&mut pieces), [b"b"]);
        assert!(pieces.is_over());
    }

    #[test]
    fn a_delimiter_may_come_in_two_parts_but_not_from_two_sources() {
        let mut pieces = at(b"XY");
        pieces.push(b"aX");
        assert_eq!(pieces.first(), None);
        pieces.push(b"Yb");
        assert_eq!(drain(&mut pieces), [b"a"]);
        pieces.push(b"X");
        pieces.end_source();
        pieces.push(b"Y");
        pieces.end_source();
        pieces.end();
        assert_eq!(drain(&mut pieces), [&b"bX"[..], b"Y"]);
    }
}
