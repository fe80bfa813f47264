//! Payloads and results: bytes that are JSON travel as that JSON, byte for byte; others as
//! `{"base64": "…"}`; none as null.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize as _, Serializer, de};
use serde_json::value::RawValue;

/// The key of what is not JSON.
const BASE64: &str = "base64";

/// For serde (serde_json's serializers only).
///
/// # Errors
/// None of our own.
pub fn serialize<S: Serializer>(bytes: &Bytes, out: S) -> Result<S::Ok, S::Error> {
    if bytes.is_empty() {
        return out.serialize_none();
    }
    match serde_json::from_slice::<&RawValue>(bytes) {
        // An object that looks like our own escape is escaped too, so that it reads back as it is.
        Ok(raw) if escaped(raw.get()).is_none() => raw.serialize(out),
        Ok(_) | Err(_) => {
            let mut map = out.serialize_map(Some(1))?;
            map.serialize_entry(BASE64, &STANDARD.encode(bytes))?;
            map.end()
        }
    }
}

/// For serde (serde_json's deserializers only).
///
/// # Errors
/// `base64` that is none.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
    let raw = Box::<RawValue>::deserialize(from)?;
    match (raw.get(), escaped(raw.get())) {
        ("null", _) => Ok(Bytes::new()),
        (_, Some(text)) => STANDARD
            .decode(text)
            .map(Bytes::from)
            .map_err(|_| de::Error::custom("the value of `base64` is not base64")),
        (json, None) => Ok(Bytes::copy_from_slice(json.as_bytes())),
    }
}

/// The text of `{"base64": TEXT}`.
fn escaped(json: &str) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Escape {
        base64: String,
    }
    if !json.starts_with('{') || json.len() < BASE64.len() {
        return None;
    }
    serde_json::from_str::<Escape>(json).ok().map(|escape| escape.base64)
}
