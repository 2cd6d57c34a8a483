//! Records in JSON. Bytes are text where they are text, else in base64.

use serde_json::{Map, Value};

use super::decode::Decoded;

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A record, and where it is to go.
pub(in crate::cli) fn object_of(topic: &str, partition: Option<i32>, record: &Decoded<'_>) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("topic".to_owned(), topic.into());
    object.insert("partition".to_owned(), partition.into());
    object.insert("timestamp".to_owned(), record.timestamp.into());
    put_bytes(&mut object, "key", record.key);
    put_bytes(&mut object, "value", record.value);
    let headers = record.headers.iter().map(|(name, value)| {
        let mut header = Map::new();
        put_bytes(&mut header, "name", Some(name));
        put_bytes(&mut header, "value", *value);
        Value::from(header)
    });
    object.insert("headers".to_owned(), headers.collect());
    object
}

/// Puts `bytes` under `name`, or under `name` with `_base64` behind it when they are not UTF-8.
fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(str::from_utf8) {
        None => object.insert(name.to_owned(), Value::Null),
        Some(Ok(text)) => object.insert(name.to_owned(), text.into()),
        Some(Err(_)) => object.insert(format!("{name}_base64"), base64(bytes.unwrap_or_default()).into()),
    };
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().chain([0, 0].iter()).take(3).fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 0x3f;
            out.push(if digit > chunk.len() { '=' } else { char::from(DIGITS[value as usize]) });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let vectors =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")];
        for (bytes, text) in vectors {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe]), "//4=");
    }

    #[test]
    fn text_is_text_and_null_is_null() {
        let mut object = Map::new();
        put_bytes(&mut object, "a", Some(b"x"));
        put_bytes(&mut object, "b", None);
        put_bytes(&mut object, "c", Some(&[0xff]));
        assert_eq!(Value::from(object).to_string(), r#"{"a":"x","b":null,"c_base64":"/w=="}"#);
    }
}
