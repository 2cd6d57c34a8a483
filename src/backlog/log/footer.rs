//! Where the runs of a segment are: the body of its footer, and the same in memory. Pure.

use super::scan::Gap;
use super::varint::{DecodeError, Input};

/// Bytes of an entry.
pub const RUN_BYTES: usize = 24;
/// Bytes before the entries.
pub const COUNT_BYTES: usize = 4;

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunRef {
    /// Of which partition.
    pub partition: u32,
    /// Records.
    pub count: u32,
    /// Index of the first.
    pub first: u64,
    /// Where the frame that holds it stands.
    pub position: u32,
    /// Bytes of that frame, its header included.
    pub len: u32,
}

impl RunRef {
    /// Index of the last record.
    pub fn last(&self) -> u64 {
        self.first + u64::from(self.count) - 1
    }

    /// The bytes of its frame.
    pub(super) fn gap(&self) -> Gap {
        Gap { from: self.position, to: self.position.saturating_add(self.len) }
    }
}

/// The runs of one segment, sorted by partition and first index; one for each pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentIndex {
    runs: Vec<RunRef>,
}

impl SegmentIndex {
    /// Of runs in the order in which they were written: where two begin alike, the later one counts.
    pub fn new(mut runs: Vec<RunRef>) -> Self {
        runs.sort_by_key(|run| (run.partition, run.first, run.position));
        runs.reverse();
        runs.dedup_by_key(|run| (run.partition, run.first));
        runs.reverse();
        SegmentIndex { runs }
    }

    /// All runs.
    pub fn runs(&self) -> &[RunRef] {
        &self.runs
    }

    /// The partition of each run, in order.
    pub fn partitions(&self) -> impl Iterator<Item = u32> {
        self.runs.iter().map(|run| run.partition)
    }

    /// The runs of `partition` that hold record `index` or one behind it, in order.
    pub fn runs_from(&self, partition: u32, index: u64) -> &[RunRef] {
        let start = self.runs.partition_point(|run| (run.partition, run.first) <= (partition, index));
        let holds = |run: &&RunRef| run.partition == partition && run.last() >= index;
        let start = match start.checked_sub(1).and_then(|before| self.runs.get(before)).filter(holds) {
            Some(_) => start - 1,
            None => start,
        };
        let rest = self.runs.get(start..).unwrap_or_default();
        &rest[..rest.partition_point(|run| run.partition == partition)]
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        self.runs.capacity() * size_of::<RunRef>()
    }
}

/// Appends the body of a footer.
pub fn encode<'a>(out: &mut Vec<u8>, runs: impl ExactSizeIterator<Item = &'a RunRef>) {
    out.extend_from_slice(&(runs.len() as u32).to_le_bytes());
    for run in runs {
        out.extend_from_slice(&run.partition.to_le_bytes());
        out.extend_from_slice(&run.count.to_le_bytes());
        out.extend_from_slice(&run.first.to_le_bytes());
        out.extend_from_slice(&run.position.to_le_bytes());
        out.extend_from_slice(&run.len.to_le_bytes());
    }
}

/// The index that the body of a footer holds.
pub fn decode(body: &[u8]) -> Result<SegmentIndex, DecodeError> {
    let mut input = Input::new(body);
    let count = input.u32("the number of runs")? as usize;
    // So that nothing is allocated for a count that lies.
    if Some(input.rest().len()) != count.checked_mul(RUN_BYTES) {
        return Err(DecodeError::Invalid("the number of runs"));
    }
    let mut runs = Vec::with_capacity(count);
    for _ in 0..count {
        let run = RunRef {
            partition: input.u32("partition")?,
            count: input.u32("count")?,
            first: input.u64("first index")?,
            position: input.u32("position")?,
            len: input.u32("size")?,
        };
        if run.count == 0 || run.first.checked_add(u64::from(run.count)).is_none() {
            return Err(DecodeError::Invalid("a run"));
        }
        runs.push(run);
    }
    Ok(SegmentIndex::new(runs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(partition: u32, first: u64, count: u32, position: u32) -> RunRef {
        RunRef { partition, count, first, position, len: 100 }
    }

    proptest! {
        #[test]
        fn an_index_comes_back(runs in prop::collection::vec((0_u32..5, 0_u64..1000, 1_u32..10, any::<u32>()), 0..50)) {
            let index = SegmentIndex::new(runs.into_iter().map(|(p, first, count, at)| run(p, first, count, at)).collect());
            let mut out = vec![];
            encode(&mut out, index.runs().iter());
            prop_assert_eq!(decode(&out), Ok(index));
        }

        #[test]
        fn any_bytes_are_an_index_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn a_count_that_lies_is_refused_before_anything_is_allocated() {
        assert!(decode(&u32::MAX.to_le_bytes()).is_err());
    }

    #[test]
    fn runs_are_found_by_any_record_of_theirs() {
        let index =
            SegmentIndex::new(vec![run(1, 10, 5, 64), run(2, 0, 3, 164), run(1, 20, 5, 264), run(1, 10, 5, 364)]);
        assert_eq!(index.runs().len(), 3);
        let firsts = |partition, from| -> Vec<(u64, u32)> {
            index.runs_from(partition, from).iter().map(|run| (run.first, run.position)).collect()
        };
        assert_eq!(firsts(1, 0), [(10, 364), (20, 264)]);
        assert_eq!(firsts(1, 14), [(10, 364), (20, 264)]);
        assert_eq!(firsts(1, 15), [(20, 264)]);
        assert_eq!(firsts(1, 25), []);
        assert_eq!(firsts(2, 2), [(0, 164)]);
        assert_eq!(firsts(0, 0), []);
        assert_eq!(firsts(3, 0), []);
    }
}
