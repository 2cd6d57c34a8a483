//! Who may do what with a topic. There is no authentication here, so everybody is `User:ANONYMOUS`; a topic without rules is
//! open to all, and one with rules only to what they allow.

use std::io;

use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::{CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest};

use crate::admin::{all_done, call, string};
use crate::cluster::{Cluster, SETTLE_TIMEOUT};
use crate::support::watch::poll;

const VERSION: i16 = 3;
/// `ResourceType.TOPIC`, `PatternType.LITERAL` and `AclPermissionType.ALLOW`.
const TOPIC: i8 = 2;
const LITERAL: i8 = 3;
const ALLOW: i8 = 3;
/// `AclOperation`, and of a filter also `AclPermissionType`.
const ANY: i8 = 1;
/// `AclOperation` WRITE, ALTER, DESCRIBE, DESCRIBE_CONFIGS and ALTER_CONFIGS: what a producer needs, and what the tests do to
/// a topic. Not READ.
const ALL_BUT_READ: [i8; 5] = [4, 7, 8, 10, 11];

impl Cluster {
    /// From now on nobody may read a topic; it can be written and changed.
    pub fn forbid_reading(&self, topic: &str) {
        let creations = ALL_BUT_READ.map(|operation| {
            AclCreation::default()
                .with_resource_type(TOPIC)
                .with_resource_name(string(topic))
                .with_resource_pattern_type(LITERAL)
                .with_principal(string("User:ANONYMOUS"))
                .with_host(string("*"))
                .with_operation(operation)
                .with_permission_type(ALLOW)
        });
        let request = CreateAclsRequest::default().with_creations(creations.to_vec());
        let response = call(self.any_port(), VERSION, &request).expect("a node answers");
        let codes = response.results.iter().map(|result| result.error_code);
        all_done("the rules were not made", codes).expect("anybody may make rules");
        self.wait_for_rules(topic, ALL_BUT_READ.len());
    }

    /// Everybody may do everything with a topic again.
    pub fn allow_reading(&self, topic: &str) {
        let filter = DeleteAclsFilter::default()
            .with_resource_type_filter(TOPIC)
            .with_resource_name_filter(Some(string(topic)))
            .with_pattern_type_filter(LITERAL)
            .with_principal_filter(None)
            .with_host_filter(None)
            .with_operation(ANY)
            .with_permission_type(ANY);
        let request = DeleteAclsRequest::default().with_filters(vec![filter]);
        let response = call(self.any_port(), VERSION, &request).expect("a node answers");
        let codes = response.filter_results.iter().map(|result| result.error_code);
        all_done("the rules were not removed", codes).expect("anybody may remove rules");
        self.wait_for_rules(topic, 0);
    }

    /// Each live node knows so many rules for a topic.
    fn wait_for_rules(&self, topic: &str, count: usize) {
        let known = || self.live_ports().all(|port| rules(port, topic).is_ok_and(|found| found == count)).then_some(());
        assert!(poll(SETTLE_TIMEOUT, known).is_some(), "not all nodes know {count} rules for {topic}");
    }
}

fn rules(port: u16, topic: &str) -> io::Result<usize> {
    let request = DescribeAclsRequest::default()
        .with_resource_type_filter(TOPIC)
        .with_resource_name_filter(Some(string(topic)))
        .with_pattern_type_filter(LITERAL)
        .with_principal_filter(None)
        .with_host_filter(None)
        .with_operation(ANY)
        .with_permission_type(ANY);
    let response = call(port, VERSION, &request)?;
    all_done("the rules are not told", [response.error_code].into_iter()).map_err(io::Error::other)?;
    Ok(response.resources.iter().map(|resource| resource.acls.len()).sum())
}
