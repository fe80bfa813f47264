//! Shells.
#[cfg(not(madsim))]
pub mod bench;
pub mod serve;
