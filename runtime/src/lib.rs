//! Shells.
pub mod api;
#[cfg(not(madsim))]
pub mod bench;
pub mod serve;
