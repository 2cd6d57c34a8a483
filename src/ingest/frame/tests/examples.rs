use super::*;

#[test]
fn dorys_layout_is_kept_byte_for_byte() {
    let any = b"\0\0\0\x23\x01\0\0\0\0\0\0\x01t\0\0\0\0\0\0\0\x05\0\0\0\x02kk\0\0\0\x04vvvv";
    let Request::Dory(message) = frame(any) else { panic!("not a message of Dory's") };
    assert_eq!((message.topic.as_str(), message.partition_key), ("t", None));
    let record = Record { timestamp: 5, stamped_here: false, key: Some(b"kk"), value: Some(b"vvvv"), headers: &[] };
    assert_eq!(message.record(NOW), record);

    let keyed = b"\0\0\0\x21\x01\x01\0\0\0\0\xff\xff\xff\xfe\0\x01t\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\0";
    let Request::Dory(message) = frame(keyed) else { panic!("not a message of Dory's") };
    assert_eq!(message.partition_key, Some(u32::MAX - 1));
    assert_eq!(message.record(NOW), Record { key: None, value: None, ..record });

    let mut written = vec![];
    encode_dory(&mut written, "t", None, 5, b"kk", b"vvvv").unwrap();
    encode_dory(&mut written, "t", Some(u32::MAX - 1), 5, b"", b"").unwrap();
    assert_eq!(written, [&any[..], keyed].concat());
}

#[test]
fn the_bytes_in_the_documentation_are_those_that_are_written() {
    assert_eq!(produce(&head("logs"), &[hi()]), documented("produce request"));
    let mut bytes = vec![];
    let result = RecordResult { error_code: codes::NONE, partition: 3, offset: 1000 };
    encode_produce_answer(&mut bytes, 1, None, &[result]).unwrap();
    assert_eq!(bytes, documented("produce answer"));
    bytes.clear();
    encode_dory(&mut bytes, "logs", Some(7), 1_700_000_000_000, b"", b"hi").unwrap();
    assert_eq!(bytes, documented("dory message"));
}

#[test]
fn a_versions_answer_says_what_is_served_and_the_limits() {
    let mut bytes = vec![];
    encode_versions_request(&mut bytes, 9);
    assert_eq!(frame(&bytes), Request::Versions(VersionsRequest { correlation_id: 9 }));
    bytes.clear();
    encode_versions_answer(&mut bytes, 9, &LIMITS);
    let keys = SERVED.to_vec();
    let body = AnswerBody::Versions { keys, max_frame_size: 1 << 20, max_records_per_request: 50 };
    let answer = answer(&bytes);
    assert_eq!((answer.correlation_id, answer.error_code, answer.body), (9, codes::NONE, body));
    for key in SERVED {
        let bytes = resized(&patched(&[0; 8], 4, &key.api_key.to_be_bytes()), 8);
        assert_eq!(malformed(&bytes).fault.error_code(), codes::INVALID_REQUEST, "{key:?} is not served");
    }
}

#[test]
fn a_malformed_request_says_what_and_where() {
    let good = documented("produce request");
    let dory = documented("dory message");
    for (bytes, code, message) in [
        (patched(&good, 0, &[0, 0, 0, 7]), 42, "Size is 7, but it counts the 8 bytes of the header too"),
        (patched(&good, 0, &[0xff; 4]), 42, "Size is -1, but it counts the 8 bytes of the header too"),
        (patched(&good, 4, &[2, 9]), 35, "ApiKey 521 is unknown: 256, 257, 512, 513 and 514 are served"),
        (patched(&good, 6, &[0, 3]), 35, "ApiKey 512 is served in version 0 alone, not in 3"),
        (patched(&good, 0x12, &[0xff, 0xfe]), 42, "the size of Source is -2"),
        (patched(&good, 0x1c, &[0xff, 0xff]), 42, "the size of Topic is -1"),
        (patched(&good, 0x26, &[0xff; 4]), 42, "the size of RecordCount is -1"),
        (patched(&good, 0x26, &[0x7f, 0, 0, 0]), 42, "record 1: the frame ends within Timestamp"),
        (patched(&good, 0x26, &[0; 4]), 42, "20 bytes follow the last field"),
        (patched(&good, 0x32, &[0xff, 0, 0, 0]), 42, "record 0: the size of Key is -16777216"),
        (patched(&good, 0x36, &[0, 1, 0, 0]), 42, "record 0: the frame ends within Value"),
        (patched(&good, 0x3c, &[0xff, 0xff]), 42, "record 0: the size of HeaderCount is -1"),
        (patched(&good, 0x3c, &[0, 1]), 42, "record 0: the frame ends within a header's Name"),
        (resized(&good, good.len() + 3), 42, "3 bytes follow the last field"),
        (resized(&good, 11), 42, "the frame ends within CorrelationId"),
        (patched(&dory, 6, &[0, 1]), 35, "ApiKey 257 is served in version 0 alone, not in 1"),
        (patched(&dory, 8, &[0, 1]), 42, "Flags is 1, and must be 0"),
        (patched(&dory, 0xe, &[0, 0]), 42, "the size of Topic is 0"),
        (patched(&dory, 0xe, &[0x80, 0]), 42, "the size of Topic is -32768"),
        (patched(&dory, 0x1c, &[0xff; 4]), 42, "the size of Key is -1"),
        (patched(&dory, 0x20, &[0xff; 4]), 42, "the size of Value is -1"),
        (patched(&dory, 0x20, &[0, 0, 0, 1]), 42, "1 bytes follow the last field"),
    ] {
        let malformed = malformed(&bytes);
        assert_eq!((malformed.fault.error_code(), malformed.to_string().as_str()), (code, message));
    }
}

#[test]
fn a_frame_over_the_limit_is_told_before_its_body_is_sent() {
    let over = patched(&documented("produce request"), 0, &(LIMITS.max_frame_size as i32 + 1).to_be_bytes());
    let at_limit = patched(&over, 0, &(LIMITS.max_frame_size as i32).to_be_bytes());
    assert_eq!(next_request(&at_limit, &LIMITS), Decoded::NeedMore { bytes: LIMITS.max_frame_size });
    assert_eq!(next_request(&over[..11], &LIMITS), Decoded::NeedMore { bytes: 12 });
    let malformed = malformed(&over[..12]);
    assert_eq!(malformed.fault.error_code(), codes::MESSAGE_TOO_LARGE);
    assert_eq!(malformed.correlation_id, 1);
}

#[test]
fn an_answer_over_the_limit_is_told_with_its_id_however_it_was_cut() {
    let mut bytes = vec![];
    encode_error(&mut bytes, METADATA, 0, 7, codes::INVALID_REQUEST, "words that make it longer than sixteen bytes");
    for len in 8..12 {
        assert_eq!(next_answer(&bytes[..len], 16), Decoded::NeedMore { bytes: 12 });
    }
    let Decoded::Malformed(malformed) = next_answer(&bytes[..12], 16) else { panic!("it is too large") };
    assert_eq!(malformed.correlation_id, 7);
}

#[test]
fn the_last_answer_carries_what_could_be_read_of_the_request() {
    let good = documented("produce request");
    let dory = documented("dory message");
    for (bytes, key, version, id) in [
        (patched(&good, 0x26, &[0; 4]), 512, 0, 1),
        (patched(&good, 6, &[0, 3]), 512, 3, 1),
        (patched(&good, 4, &[9, 9]), 0x0909, 0, 1),
        (patched(&good, 4, &[0, 3]), 3, 0, -1),
        (patched(&dory, 8, &[0, 1]), 257, 0, -1),
        (resized(&good, 11), 512, 0, -1),
        (vec![0, 0, 0, 1], -1, -1, -1),
        // The bytes at CorrelationId's place belong to the next frame.
        ([&resized(&good, 8)[..], &good].concat(), 512, 0, -1),
    ] {
        let malformed = malformed(&bytes);
        let mut out = vec![];
        malformed.encode_answer(&mut out);
        let answer = answer(&out);
        assert_eq!((answer.api_key, answer.api_version, answer.correlation_id), (key, version, id), "{malformed}");
        assert_eq!((answer.error_code, answer.body), (malformed.fault.error_code(), AnswerBody::Empty));
        assert_eq!(answer.message, Some(malformed.to_string().as_str()));
    }
}

#[test]
fn what_is_refused_is_answered_and_the_connection_goes_on() {
    let good = documented("produce request");
    let none = produce(&head("logs"), &[]);
    let with_source = resized(&[&patched(&good, 0x12, &[0, 0])[..0x14], &good[0x14..]].concat(), good.len());
    for (bytes, code, records) in [
        (produce(&head("lo gs"), &[hi()]), 17, 1),
        (produce(&head(""), &[hi(), hi()]), 17, 2),
        (produce(&head(&"x".repeat(250)), &[hi()]), 17, 1),
        (patched(&good, 0xc, &[0, 2]), 21, 1),
        (with_source, 42, 1),
        (none, 42, 0),
        (patched(&good, 0xe, &[0xff, 0xff, 0xff, 0xfe]), 42, 1),
        (patched(&good, 0x22, &[0xff, 0xff, 0xff, 0xfe]), 42, 1),
        (patched(&good, 0x2a, &(-2i64).to_be_bytes()), 32, 1),
        (produce(&head("logs"), &vec![hi(); 51]), 18, 51),
    ] {
        let refused = refused(&bytes);
        assert_eq!((refused.refusal.error_code(), refused.records), (code, records), "{}", refused.refusal);
        let mut out = vec![];
        refused.encode_answer(&mut out);
        let answer = answer(&out);
        assert_eq!((answer.api_key, answer.api_version, answer.correlation_id), (PRODUCE, 0, 1));
        assert_eq!((answer.error_code, answer.body), (code, AnswerBody::Empty));
        assert_eq!(answer.message, Some(refused.refusal.to_string().as_str()));
    }
    let mut bytes = vec![];
    encode_metadata_request(&mut bytes, 7, &["t"; 51]).unwrap();
    assert_eq!(refused(&bytes).refusal, Refusal::TooMany { count: 51, limit: 50 });
}

#[test]
fn acks_that_do_not_exist_are_refused_with_words_about_those_that_do() {
    let refused = refused(&patched(&documented("produce request"), 0xc, &[0, 2]));
    assert_eq!(refused.refusal.error_code(), codes::INVALID_REQUIRED_ACKS);
    assert_eq!(refused.refusal.to_string(), "Acks is 2: use 0, 1 or all (-1)");
}

#[test]
fn who_expects_no_answer_gets_none_when_refused() {
    let acks_none = ProduceHead { acks: Acks::None, ..head("..") };
    let mut dory = vec![];
    encode_dory(&mut dory, "lo gs", None, 0, b"", b"").unwrap();
    for bytes in [produce(&acks_none, &[hi()]), dory] {
        let refused = refused(&bytes);
        assert_eq!((refused.refusal, refused.records), (Refusal::InvalidTopic, 1));
        let mut out = vec![];
        refused.encode_answer(&mut out);
        assert!(out.is_empty());
    }
}

#[test]
fn a_datagram_is_exactly_one_message_of_dorys() {
    let dory = documented("dory message");
    assert!(matches!(datagram(&dory, &LIMITS), Ok(Request::Dory(_))));
    let fault = |bytes: &[u8]| datagram(bytes, &LIMITS).unwrap_err().fault;
    assert_eq!(fault(&[]), Fault::Truncated { field: "the header" });
    assert_eq!(fault(&dory[..37]), Fault::DatagramSize { size: 38, len: 37 });
    assert_eq!(fault(&[&dory[..], &dory].concat()), Fault::DatagramSize { size: 38, len: 76 });
    assert_eq!(fault(&patched(&dory, 8, &[0, 1])), Fault::Flags(1));
    assert_eq!(fault(&documented("produce request")), Fault::NotForDatagrams(512));
    let small = Limits { max_frame_size: 37, ..LIMITS };
    assert_eq!(datagram(&dory, &small).unwrap_err().fault, Fault::FrameTooLarge { size: 38, limit: 37 });
}

#[test]
fn what_does_not_fit_leaves_nothing_behind() {
    let mut out = b"before".to_vec();
    let long = "x".repeat(i16::MAX as usize + 1);
    assert!(encode_dory(&mut out, &long, None, 0, b"", b"").is_err());
    assert!(encode_metadata_request(&mut out, 1, &[&long]).is_err());
    assert!(ProduceEncoder::begin(&mut out, &head(&long)).is_err());
    drop(ProduceEncoder::begin(&mut out, &head("t")).unwrap());
    assert_eq!(out, b"before");

    let mut encoder = ProduceEncoder::begin(&mut out, &head("logs")).unwrap();
    let headers = [Header { name: long.as_bytes(), value: None }];
    assert!(encoder.push(&hi().record(&headers)).is_err());
    encoder.push(&hi().record(&[])).unwrap();
    encoder.finish().unwrap();
    assert_eq!(out, [b"before", &documented("produce request")[..]].concat());
}

#[test]
fn the_end_of_a_long_error_message_is_cut_between_characters() {
    let mut out = vec![];
    encode_error(&mut out, 512, 0, 1, codes::INVALID_REQUEST, &"é".repeat(20_000));
    assert_eq!(answer(&out).message, Some("é".repeat(16_383).as_str()));
}
