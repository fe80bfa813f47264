//! What a handler printed: a string where it is UTF-8, else `{"base64": "…"}`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serializer, de};

/// For serde.
///
/// # Errors
/// None of our own.
pub fn serialize<S: Serializer>(bytes: &Bytes, out: S) -> Result<S::Ok, S::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => out.serialize_str(text),
        Err(_) => {
            let mut map = out.serialize_map(Some(1))?;
            map.serialize_entry("base64", &STANDARD.encode(bytes))?;
            map.end()
        }
    }
}

/// For serde.
///
/// # Errors
/// Neither a string nor base64.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Text {
        Plain(String),
        Escaped { base64: String },
    }
    match Text::deserialize(from)? {
        Text::Plain(text) => Ok(Bytes::from(text)),
        Text::Escaped { base64 } => {
            STANDARD.decode(base64).map(Bytes::from).map_err(de::Error::custom)
        }
    }
}
