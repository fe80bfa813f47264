//! DTask's JSON mapping of the client API: what serde's own mapping of the generated messages
//! does not say. `build.rs` chooses a module here for each field.
//!
//! It is not proto3's canonical mapping (which prints 64-bit integers as strings): field names
//! are snake_case, integers numbers, enums lower snake case without prefix, times RFC 3339 in
//! UTC, durations `1h30m`, and payloads the JSON that they are. Golden files in `tests/golden`
//! keep it.

pub mod duration;
pub mod moment;
pub mod names;
pub mod text;
pub mod value;

pub use names::Named;
