//! Domain values to bytes and back; nothing else serialises, and only this names generated types.

pub mod flat;
pub mod peer;
pub mod worker;
