//! What a broker answers, one file per API: pure but for Fetch and Produce, which may have to wait.
//!
//! A request's body comes in, checked and decoded by `wire`; the whole response frame goes out.

pub(super) mod api_versions;
pub(super) mod describe_configs;
pub(super) mod describe_producers;
pub(super) mod fetch;
pub(super) mod find_coordinator;
pub(super) mod init_producer_id;
pub(super) mod list_offsets;
pub(super) mod metadata;
pub(super) mod offset_for_leader_epoch;
pub(super) mod produce;
