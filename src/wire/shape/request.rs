//! The requests that a server reads (`*Request.json` of Kafka's message definitions).

use super::{ApiKey, BOOL, Field, INT8, INT16, INT32, INT64, Kind, Shape, UUID, always, since, tagged, until, within};

/// The description of an API's request.
pub fn request(api: ApiKey) -> &'static Shape {
    match api {
        ApiKey::Produce => &PRODUCE,
        ApiKey::Fetch => &FETCH,
        ApiKey::ListOffsets => &LIST_OFFSETS,
        ApiKey::Metadata => &METADATA,
        ApiKey::FindCoordinator => &FIND_COORDINATOR,
        ApiKey::ApiVersions => &API_VERSIONS,
        ApiKey::InitProducerId => &INIT_PRODUCER_ID,
        ApiKey::DescribeConfigs => &DESCRIBE_CONFIGS,
        ApiKey::DescribeProducers => &DESCRIBE_PRODUCERS,
        ApiKey::OffsetForLeaderEpoch => &OFFSET_FOR_LEADER_EPOCH,
    }
}

static API_VERSIONS: Shape = Shape {
    name: "ApiVersions request",
    flexible_since: 3,
    since: 0,
    until: 4,
    fields: &[since(3, Kind::Text), since(3, Kind::Text)],
};

static METADATA: Shape = Shape {
    name: "Metadata request",
    flexible_since: 9,
    since: 0,
    until: 13,
    fields: &[
        always(Kind::Array(&Kind::Struct(&[since(10, UUID), always(Kind::Text)]))),
        since(4, BOOL),
        within(8, 10, BOOL),
        since(8, BOOL),
    ],
};

static PRODUCE: Shape = Shape {
    name: "Produce request",
    flexible_since: 9,
    since: 3,
    until: 13,
    fields: &[
        always(Kind::Text),
        always(INT16),
        always(INT32),
        always(Kind::Array(&Kind::Struct(&[
            until(12, Kind::Text),
            since(13, UUID),
            always(Kind::Array(&Kind::Struct(&[always(INT32), always(Kind::Bytes)]))),
        ]))),
    ],
};

static INIT_PRODUCER_ID: Shape = Shape {
    name: "InitProducerId request",
    flexible_since: 2,
    since: 0,
    until: 5,
    fields: &[always(Kind::Text), always(INT32), since(3, INT64), since(3, INT16)],
};

static FETCH: Shape = Shape {
    name: "Fetch request",
    flexible_since: 12,
    since: 4,
    until: 18,
    fields: &[
        tagged(0, 12, Kind::Text),
        until(14, INT32),
        tagged(1, 15, Kind::Struct(&[always(INT32), always(INT64)])),
        always(INT32),
        always(INT32),
        always(INT32),
        always(INT8),
        since(7, INT32),
        since(7, INT32),
        always(Kind::Array(&Kind::Struct(&[
            until(12, Kind::Text),
            since(13, UUID),
            always(Kind::Array(&Kind::Struct(FETCH_PARTITION))),
        ]))),
        since(7, Kind::Array(&Kind::Struct(&[until(12, Kind::Text), since(13, UUID), always(Kind::Array(&INT32))]))),
        since(11, Kind::Text),
    ],
};

static FETCH_PARTITION: &[Field] = &[
    always(INT32),
    since(9, INT32),
    always(INT64),
    since(12, INT32),
    since(5, INT64),
    always(INT32),
    tagged(0, 17, UUID),
    tagged(1, 18, INT64),
];

static LIST_OFFSETS: Shape = Shape {
    name: "ListOffsets request",
    flexible_since: 6,
    since: 1,
    until: 10,
    fields: &[
        always(INT32),
        since(2, INT8),
        always(Kind::Array(&Kind::Struct(&[
            always(Kind::Text),
            always(Kind::Array(&Kind::Struct(&[always(INT32), since(4, INT32), always(INT64)]))),
        ]))),
        since(10, INT32),
    ],
};

static FIND_COORDINATOR: Shape = Shape {
    name: "FindCoordinator request",
    flexible_since: 3,
    since: 0,
    until: 6,
    fields: &[until(3, Kind::Text), since(1, INT8), since(4, Kind::Array(&Kind::Text))],
};

static DESCRIBE_CONFIGS: Shape = Shape {
    name: "DescribeConfigs request",
    flexible_since: 4,
    since: 1,
    until: 4,
    fields: &[
        always(Kind::Array(&Kind::Struct(&[always(INT8), always(Kind::Text), always(Kind::Array(&Kind::Text))]))),
        always(BOOL),
        since(3, BOOL),
    ],
};

static DESCRIBE_PRODUCERS: Shape = Shape {
    name: "DescribeProducers request",
    flexible_since: 0,
    since: 0,
    until: 0,
    fields: &[always(Kind::Array(&Kind::Struct(&[always(Kind::Text), always(Kind::Array(&INT32))])))],
};

static OFFSET_FOR_LEADER_EPOCH: Shape = Shape {
    name: "OffsetForLeaderEpoch request",
    flexible_since: 4,
    since: 2,
    until: 4,
    fields: &[
        since(3, INT32),
        always(Kind::Array(&Kind::Struct(&[
            always(Kind::Text),
            always(Kind::Array(&Kind::Struct(&[always(INT32), always(INT32), always(INT32)]))),
        ]))),
    ],
};
