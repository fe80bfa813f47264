//! Shells.
pub mod serve;
