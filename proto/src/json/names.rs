//! Enums by their names: lower snake case without prefix; the unspecified value is null.

use serde::{Deserialize, Deserializer, Serializer, de};

/// An enum of the schema; implemented by what `build.rs` writes.
pub trait Named: Copy {
    /// Numbers and names, without the unspecified value.
    const NAMES: &'static [(i32, &'static str)];
}

include!(concat!(env!("OUT_DIR"), "/enum_names.rs"));

/// The name of a value; `None` for the unspecified and for values of a newer schema.
pub fn name<E: Named>(number: i32) -> Option<&'static str> {
    E::NAMES.iter().find(|(n, _)| *n == number).map(|(_, name)| *name)
}

/// The value of a name.
///
/// # Errors
/// One sentence that lists the names.
pub fn number<E: Named>(name: &str) -> Result<i32, String> {
    E::NAMES.iter().find(|(_, n)| *n == name).map(|(number, _)| *number).ok_or_else(|| {
        let names: Vec<_> = E::NAMES.iter().map(|(_, name)| *name).collect();
        format!("`{name}` is not one of {}", names.join(", "))
    })
}

/// For serde.
///
/// # Errors
/// None of our own.
pub fn serialize<E: Named, S: Serializer>(number: &i32, out: S) -> Result<S::Ok, S::Error> {
    match name::<E>(*number) {
        Some(name) => out.serialize_str(name),
        None => out.serialize_none(),
    }
}

/// For serde.
///
/// # Errors
/// An unknown name.
pub fn deserialize<'de, E: Named, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
    match Option::<String>::deserialize(from)? {
        Some(name) => number::<E>(&name).map_err(de::Error::custom),
        None => Ok(0),
    }
}

/// The same for repeated fields.
pub mod list {
    use serde::Serialize as _;

    use super::{Deserialize, Deserializer, Named, Serializer, de};

    /// For serde.
    ///
    /// # Errors
    /// None of our own.
    pub fn serialize<E: Named, S: Serializer>(numbers: &[i32], out: S) -> Result<S::Ok, S::Error> {
        let names: Vec<_> = numbers.iter().map(|number| super::name::<E>(*number)).collect();
        names.serialize(out)
    }

    /// For serde.
    ///
    /// # Errors
    /// An unknown name.
    pub fn deserialize<'de, E: Named, D: Deserializer<'de>>(from: D) -> Result<Vec<i32>, D::Error> {
        let names = Vec::<String>::deserialize(from)?;
        names.iter().map(|name| super::number::<E>(name).map_err(de::Error::custom)).collect()
    }
}
