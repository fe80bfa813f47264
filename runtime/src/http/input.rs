//! What a request says: its body and its query, as messages of the schema.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use dtask_core::spec;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tonic::Code;

use crate::api::{Fault, json};

/// Query fields that may stand several times, or hold several words between commas.
const LISTS: [&str; 1] = ["status"];
/// Query fields that are numbers.
const NUMBERS: [&str; 3] = ["page_size", "run", "offset"];
/// Query fields that are true or false.
const SWITCHES: [&str; 3] = ["cancel", "follow", "retry"];

/// The query of a request, field by field.
pub type Pairs = axum::extract::RawQuery;

/// Reads a body of at most `max` bytes.
///
/// # Errors
/// A larger one is refused with the number; a connection that broke ends the request.
pub(super) async fn bytes(body: Body, max: usize) -> Result<Bytes, Fault> {
    axum::body::to_bytes(body, max).await.map_err(|error| {
        let detail = format!("the body is larger than {max} bytes, or was cut off: {error}");
        Fault::new(Code::InvalidArgument, "PAYLOAD_TOO_LARGE", detail)
    })
}

/// Reads a JSON body; an empty one is the empty message.
pub(super) async fn message<T: DeserializeOwned>(body: Body, max: usize) -> Result<T, Fault> {
    let body = bytes(body, max).await?;
    if body.is_empty() { json::read(b"{}") } else { json::read(&body) }
}

/// Reads the query as a message, with what the path says.
///
/// # Errors
/// An unknown field with the nearest known one; a value that does not fit.
pub fn query<T: DeserializeOwned>(pairs: &Pairs, path: &[(&str, Value)]) -> Result<T, Fault> {
    let mut fields = Map::new();
    for (key, value) in parse(pairs.0.as_deref().unwrap_or(""))? {
        if key == "consistency" {
            fields.insert("stale".to_owned(), Value::Bool(stale(&value)?));
        } else if LISTS.contains(&key.as_str()) {
            let words = value.split(',').filter(|word| !word.is_empty()).map(Value::from);
            let list = fields.entry(key).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                list.extend(words);
            }
        } else {
            let value = scalar(&key, value)?;
            fields.insert(key, value);
        }
    }
    for (key, value) in path {
        fields.insert((*key).to_owned(), value.clone());
    }
    json::read(Value::Object(fields).to_string().as_bytes())
}

fn scalar(key: &str, value: String) -> Result<Value, Fault> {
    if NUMBERS.contains(&key) {
        let number: u64 = value
            .parse()
            .map_err(|_| Fault::invalid(key, format!("{value:?} is not a number"), ""))?;
        return Ok(number.into());
    }
    if SWITCHES.contains(&key) {
        return match value.as_str() {
            "" | "true" | "1" => Ok(Value::Bool(true)),
            "false" | "0" => Ok(Value::Bool(false)),
            _ => Err(Fault::invalid(key, format!("{value:?} is neither true nor false"), "")),
        };
    }
    Ok(value.into())
}

fn stale(value: &str) -> Result<bool, Fault> {
    match value {
        "stale" => Ok(true),
        "linearizable" => Ok(false),
        other => {
            let detail = format!("there is no consistency {other:?}");
            Err(Fault::invalid("consistency", detail, "`stale` or `linearizable`"))
        }
    }
}

/// `a=b&c=d`, percent-decoded.
fn parse(query: &str) -> Result<Vec<(String, String)>, Fault> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match (decode(key), decode(value)) {
                (Some(key), Some(value)) => Ok((key, value)),
                _ => Err(Fault::invalid("query", format!("{part:?} is not percent-encoded"), "")),
            }
        })
        .collect()
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

/// What the headers of a request that changes something say of its sending.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sending {
    /// The id of `Idempotency-Key`.
    pub(super) key: Option<String>,
    /// `Idempotency-Retry: true`: it was sent before, and what became of it is not known (P8.2).
    pub(super) retry: bool,
}

impl Sending {
    /// Reads the headers; the key's id has at most `max` characters.
    ///
    /// # Errors
    /// A key that cannot be an id of that length; a mark that is neither true nor false.
    pub(super) fn read(headers: &HeaderMap, max: usize) -> Result<Self, Fault> {
        let retry = match headers.get("idempotency-retry").map(HeaderValue::as_bytes) {
            None | Some(b"false") => false,
            Some(b"true") => true,
            Some(_) => {
                return Err(Fault::invalid("Idempotency-Retry", "is neither true nor false", ""));
            }
        };
        Ok(Self { key: idempotency_id(headers, max)?, retry })
    }

    /// Puts what the headers say over what the message says.
    pub(super) fn mark(self, request_id: &mut String, retry: &mut bool) {
        if let Some(key) = self.key {
            *request_id = key;
        }
        *retry |= self.retry;
    }
}

/// The id of at most `max` characters that an `Idempotency-Key` stands for (P8.3): itself when it
/// can be an id, else a name made of its bytes. `None` without a key.
///
/// # Errors
/// A key that is longer than an id may be and has no place in the table.
pub fn idempotency_id(headers: &HeaderMap, max: usize) -> Result<Option<String>, Fault> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let key = key.as_bytes();
    if let Ok(text) = std::str::from_utf8(key)
        && spec::draft::check_id("Idempotency-Key", text).is_ok()
        && text.len() <= max
        && !is_in_hex(text)
    {
        return Ok(Some(text.to_owned()));
    }
    // Two characters a byte and the prefix still fit an id.
    let bytes = (max - KEY_PREFIX.len()) / 2;
    if key.is_empty() || key.len() > bytes {
        let detail = format!("the key has {} bytes", key.len());
        let hint = format!("1 to {bytes} bytes, or up to {max} characters that can be a task's id");
        return Err(Fault::invalid("Idempotency-Key", detail, hint));
    }
    let mut id = KEY_PREFIX.to_owned();
    for byte in key {
        id.push_str(&format!("{byte:02x}"));
    }
    Ok(Some(id))
}

const KEY_PREFIX: &str = "key-";

/// Whether it is the id of another key. It goes the same way, so that two keys are never one id.
fn is_in_hex(text: &str) -> bool {
    let hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.strip_prefix(KEY_PREFIX)
        .is_some_and(|rest| rest.len().is_multiple_of(2) && rest.bytes().all(hex))
}

#[cfg(test)]
mod tests {
    use dtask_proto::v1;

    use super::*;

    fn pairs(query: &str) -> Pairs {
        axum::extract::RawQuery(Some(query.to_owned()))
    }

    #[test]
    fn query_becomes_a_message() {
        let query: v1::ListTasksRequest = query(
            &pairs("status=pending,running&status=failed&page_size=7&consistency=stale&name=a%20b"),
            &[],
        )
        .expect("every field is known");
        let words = [v1::TaskStatus::Pending, v1::TaskStatus::Running, v1::TaskStatus::Failed];
        assert_eq!(query.status, words.map(i32::from));
        assert_eq!((query.page_size, query.stale, query.name.as_str()), (Some(7), true, "a b"));
    }

    #[test]
    fn unknown_query_field_is_refused_with_the_nearest() {
        let fault = query::<v1::ListTasksRequest>(&pairs("queu=x"), &[]).expect_err("no queu");
        assert!(fault.0.errors[0].hint.contains("queue"), "{fault:?}");
    }

    #[test]
    fn key_that_can_be_an_id_is_the_id() {
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", "order-17".parse().expect("a header"));
        assert_eq!(idempotency_id(&headers, 128), Ok(Some("order-17".to_owned())));
        headers.insert("idempotency-key", "a b".parse().expect("a header"));
        assert_eq!(idempotency_id(&headers, 128), Ok(Some("key-612062".to_owned())));
    }

    #[test]
    fn two_keys_are_never_one_id() {
        let ids: std::collections::BTreeSet<_> =
            ["a b", "key-612062", "key-6b65792d363132303632", "key-61206", "key-61206Z", "key-"]
                .map(|key| {
                    let mut headers = HeaderMap::new();
                    headers.insert("idempotency-key", key.parse().expect("a header"));
                    idempotency_id(&headers, 128).expect("short enough")
                })
                .into();
        assert_eq!(ids.len(), 6, "{ids:?}");
    }

    #[test]
    fn mark_of_a_repeat_may_stand_in_the_query() {
        let request: v1::CancelTaskRequest = query(&pairs("retry=true"), &[]).expect("a switch");
        assert!(request.retry);
    }

    #[test]
    fn key_that_does_not_fit_is_refused_by_the_headers_name() {
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", "k".repeat(123).parse().expect("a header"));
        assert!(idempotency_id(&headers, 128).is_ok());
        let fault = idempotency_id(&headers, 122).expect_err("no room for it");
        assert_eq!(fault.0.errors[0].field, "Idempotency-Key");
    }

    #[test]
    fn mark_of_a_repeat_is_true_or_false() {
        let mut headers = HeaderMap::new();
        let marks = |headers: &HeaderMap| Sending::read(headers, 128).map(|sending| sending.retry);
        assert_eq!(marks(&headers), Ok(false));
        for (word, mark) in [("true", true), ("false", false)] {
            headers.insert("idempotency-retry", word.parse().expect("a header"));
            assert_eq!(marks(&headers), Ok(mark));
        }
        headers.insert("idempotency-retry", "yes".parse().expect("a header"));
        let fault = marks(&headers).expect_err("neither");
        assert_eq!(fault.0.errors[0].field, "Idempotency-Retry");
    }
}
