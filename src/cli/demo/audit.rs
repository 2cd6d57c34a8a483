//! Reads every partition back and compares it with what was sent.

use std::collections::HashMap;

use super::input::{Lines, Share, share_of};
use super::{PARTITIONS, TOPIC};
use crate::devbroker::{DevBrokerError, DevCluster};

/// What one partition holds.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// All its records.
    pub records: u64,
    /// Those that were there before, in any partition.
    pub doubled: u64,
    /// Those that come after a later record of the same client.
    pub out_of_order: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Audit {
    /// By number.
    pub partitions: Vec<Partition>,
    /// Sent and in no partition.
    pub lost: u64,
    /// Records whose value or key is not what was sent.
    pub changed: u64,
}

impl Audit {
    /// Of the whole topic.
    pub(super) fn of(
        cluster: &DevCluster,
        lines: &Lines,
        shares: &[Share],
        records: u32,
    ) -> Result<Self, DevBrokerError> {
        let clients = shares.len() as u16;
        let mut seen: Vec<Vec<bool>> =
            (0..clients).map(|client| vec![false; share_of(client, clients, records) as usize]).collect();
        let mut audit = Audit::default();
        for id in 0..PARTITIONS as i32 {
            let mut partition = Partition::default();
            let mut newest: HashMap<u16, u32> = HashMap::new();
            for record in cluster.records(TOPIC, id)? {
                partition.records += 1;
                let value = record.value.unwrap_or_default();
                let sent = parse(&value).and_then(|(client, number, line)| {
                    let place = seen.get_mut(usize::from(client))?.get_mut(number as usize)?;
                    let key = shares.get(usize::from(client))?.key.as_deref().map(str::as_bytes);
                    let same = line == lines.line(client, number) && record.key.as_deref() == key;
                    same.then_some((client, number, place))
                });
                let Some((client, number, place)) = sent else {
                    audit.changed += 1;
                    continue;
                };
                partition.doubled += u64::from(std::mem::replace(place, true));
                let before = newest.insert(client, number);
                partition.out_of_order += u64::from(before.is_some_and(|before| before > number));
            }
            audit.partitions.push(partition);
        }
        audit.lost = seen.iter().flatten().filter(|seen| !**seen).count() as u64;
        Ok(audit)
    }

    /// Records in all partitions.
    pub(super) fn records(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.records).sum()
    }

    /// In all partitions.
    pub(super) fn doubled(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.doubled).sum()
    }

    /// In all partitions.
    pub(super) fn out_of_order(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.out_of_order).sum()
    }

    /// Nothing lost, doubled, changed or out of order.
    pub(super) fn is_clean(&self) -> bool {
        self.lost == 0 && self.changed == 0 && self.doubled() == 0 && self.out_of_order() == 0
    }
}

/// `client number line`.
fn parse(value: &[u8]) -> Option<(u16, u32, &[u8])> {
    let mut parts = value.splitn(3, |byte| *byte == b' ');
    let mut number = || std::str::from_utf8(parts.next()?).ok();
    let (client, sequence) = (number()?.parse().ok()?, number()?.parse().ok()?);
    Some((client, sequence, parts.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_taken_apart_and_any_other_refused() {
        assert_eq!(parse(b"3 17 a line"), Some((3, 17, &b"a line"[..])));
        assert_eq!(parse(b"3 17 "), Some((3, 17, &b""[..])));
        for value in [&b""[..], b"3", b"3 17", b"x 17 y", b"3 -1 y", b"\xff 1 y"] {
            assert_eq!(parse(value), None);
        }
    }

    #[test]
    fn what_is_not_clean_is_noticed() {
        let clean = || Audit { partitions: vec![Partition::default()], lost: 0, changed: 0 };
        assert!(clean().is_clean());
        assert!(!Audit { lost: 1, ..clean() }.is_clean());
        assert!(!Audit { changed: 1, ..clean() }.is_clean());
        let doubled = Partition { doubled: 1, ..Partition::default() };
        assert!(!Audit { partitions: vec![doubled], ..clean() }.is_clean());
        let reordered = Partition { out_of_order: 1, ..Partition::default() };
        assert!(!Audit { partitions: vec![reordered], ..clean() }.is_clean());
    }
}
