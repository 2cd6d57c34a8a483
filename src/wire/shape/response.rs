//! The responses that a client reads (`*Response.json` of Kafka's message definitions).

use super::{BOOL, Field, INT8, INT16, INT32, INT64, Kind, Shape, UUID, always, since, tagged, until, within};

pub(in crate::wire) static API_VERSIONS_RESPONSE: Shape = Shape {
    name: "ApiVersions response",
    flexible_since: 3,
    since: 0,
    until: 4,
    fields: &[
        always(INT16),
        always(Kind::Array(&Kind::Struct(&[always(INT16), always(INT16), always(INT16)]))),
        since(1, INT32),
        tagged(0, 3, Kind::Array(&Kind::Struct(FEATURE))),
        tagged(1, 3, INT64),
        tagged(2, 3, Kind::Array(&Kind::Struct(FEATURE))),
        tagged(3, 3, BOOL),
    ],
};

static FEATURE: &[Field] = &[always(Kind::Text), always(INT16), always(INT16)];

pub(in crate::wire) static METADATA_RESPONSE: Shape = Shape {
    name: "Metadata response",
    flexible_since: 9,
    since: 0,
    until: 13,
    fields: &[
        since(3, INT32),
        always(Kind::Array(&Kind::Struct(&[always(INT32), always(Kind::Text), always(INT32), since(1, Kind::Text)]))),
        since(2, Kind::Text),
        since(1, INT32),
        always(Kind::Array(&Kind::Struct(&[
            always(INT16),
            always(Kind::Text),
            since(10, UUID),
            since(1, BOOL),
            always(Kind::Array(&Kind::Struct(METADATA_PARTITION))),
            since(8, INT32),
        ]))),
        within(8, 10, INT32),
        since(13, INT16),
    ],
};

static METADATA_PARTITION: &[Field] = &[
    always(INT16),
    always(INT32),
    always(INT32),
    since(7, INT32),
    always(Kind::Array(&INT32)),
    always(Kind::Array(&INT32)),
    since(5, Kind::Array(&INT32)),
];

pub(in crate::wire) static PRODUCE_RESPONSE: Shape = Shape {
    name: "Produce response",
    flexible_since: 9,
    since: 3,
    until: 13,
    fields: &[
        always(Kind::Array(&Kind::Struct(&[
            until(12, Kind::Text),
            since(13, UUID),
            always(Kind::Array(&Kind::Struct(PRODUCE_PARTITION))),
        ]))),
        always(INT32),
        tagged(
            0,
            10,
            Kind::Array(&Kind::Struct(&[always(INT32), always(Kind::Text), always(INT32), always(Kind::Text)])),
        ),
    ],
};

static PRODUCE_PARTITION: &[Field] = &[
    always(INT32),
    always(INT16),
    always(INT64),
    always(INT64),
    since(5, INT64),
    since(8, Kind::Array(&Kind::Struct(&[always(INT32), always(Kind::Text)]))),
    since(8, Kind::Text),
    tagged(0, 10, Kind::Struct(&[always(INT32), always(INT32)])),
];

pub(in crate::wire) static INIT_PRODUCER_ID_RESPONSE: Shape = Shape {
    name: "InitProducerId response",
    flexible_since: 2,
    since: 0,
    until: 6,
    fields: &[always(INT32), always(INT16), always(INT64), always(INT16), since(6, INT64), since(6, INT16)],
};

pub(in crate::wire) static DESCRIBE_CONFIGS_RESPONSE: Shape = Shape {
    name: "DescribeConfigs response",
    flexible_since: 4,
    since: 1,
    until: 4,
    fields: &[
        always(INT32),
        always(Kind::Array(&Kind::Struct(&[
            always(INT16),
            always(Kind::Text),
            always(INT8),
            always(Kind::Text),
            always(Kind::Array(&Kind::Struct(CONFIG))),
        ]))),
    ],
};

static CONFIG: &[Field] = &[
    always(Kind::Text),
    always(Kind::Text),
    always(BOOL),
    always(INT8),
    always(BOOL),
    always(Kind::Array(&Kind::Struct(&[always(Kind::Text), always(Kind::Text), always(INT8)]))),
    since(3, INT8),
    since(3, Kind::Text),
];

/// As far as topics go by name.
pub(in crate::wire) static FETCH_RESPONSE: Shape = Shape {
    name: "Fetch response",
    flexible_since: 12,
    since: 4,
    until: 12,
    fields: &[
        always(INT32),
        since(7, INT16),
        since(7, INT32),
        always(Kind::Array(&Kind::Struct(&[always(Kind::Text), always(Kind::Array(&Kind::Struct(FETCH_PARTITION)))]))),
    ],
};

static FETCH_PARTITION: &[Field] = &[
    always(INT32),
    always(INT16),
    always(INT64),
    always(INT64),
    since(5, INT64),
    tagged(0, 12, Kind::Struct(&[always(INT32), always(INT64)])),
    tagged(1, 12, Kind::Struct(&[always(INT32), always(INT32)])),
    tagged(2, 12, Kind::Struct(&[always(INT64), always(INT32)])),
    always(Kind::Array(&Kind::Struct(&[always(INT64), always(INT64)]))),
    since(11, INT32),
    always(Kind::Bytes),
];

pub(in crate::wire) static DESCRIBE_PRODUCERS_RESPONSE: Shape = Shape {
    name: "DescribeProducers response",
    flexible_since: 0,
    since: 0,
    until: 0,
    fields: &[
        always(INT32),
        always(Kind::Array(&Kind::Struct(&[
            always(Kind::Text),
            always(Kind::Array(&Kind::Struct(&[
                always(INT32),
                always(INT16),
                always(Kind::Text),
                always(Kind::Array(&Kind::Struct(PRODUCER))),
            ]))),
        ]))),
    ],
};

static PRODUCER: &[Field] = &[always(INT64), always(INT32), always(INT32), always(INT64), always(INT32), always(INT64)];

pub(in crate::wire) static OFFSET_FOR_LEADER_EPOCH_RESPONSE: Shape = Shape {
    name: "OffsetForLeaderEpoch response",
    flexible_since: 4,
    since: 2,
    until: 4,
    fields: &[
        always(INT32),
        always(Kind::Array(&Kind::Struct(&[
            always(Kind::Text),
            always(Kind::Array(&Kind::Struct(&[always(INT16), always(INT32), always(INT32), always(INT64)]))),
        ]))),
    ],
};
