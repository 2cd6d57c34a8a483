//! The name under which the log knows a partition: topic id, partition, topic. Pure.

/// Bytes before the topic's name.
const FIXED_BYTES: usize = 16 + 4;

/// A partition as the log's dictionary names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionName<'a> {
    /// Kafka's id of the topic, zero when it is not known.
    pub topic_id: [u8; 16],
    /// The partition; `None` while it is not chosen.
    pub partition: Option<i32>,
    /// The topic's name.
    pub topic: &'a [u8],
}

impl<'a> PartitionName<'a> {
    /// The name's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED_BYTES + self.topic.len());
        bytes.extend_from_slice(&self.topic_id);
        bytes.extend_from_slice(&self.partition.unwrap_or(-1).to_le_bytes());
        bytes.extend_from_slice(self.topic);
        bytes
    }

    /// The partition that these bytes name; `None` for bytes that name none.
    pub fn decode(bytes: &'a [u8]) -> Option<PartitionName<'a>> {
        let (topic_id, rest) = bytes.split_first_chunk::<16>()?;
        let (partition, topic) = rest.split_first_chunk::<4>()?;
        let partition = i32::from_le_bytes(*partition);
        Some(PartitionName { topic_id: *topic_id, partition: (partition >= 0).then_some(partition), topic })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_back() {
        for partition in [None, Some(0), Some(i32::MAX)] {
            let name = PartitionName { topic_id: [7; 16], partition, topic: b"audit" };
            assert_eq!(PartitionName::decode(&name.encode()), Some(name));
        }
        assert_eq!(PartitionName::decode(&[0; 19]), None);
    }
}
