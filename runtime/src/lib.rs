//! Shells.
pub mod api;
#[cfg(not(madsim))]
pub mod bench;
#[cfg(not(madsim))]
pub mod http;
pub mod serve;
