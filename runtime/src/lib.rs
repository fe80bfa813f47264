//! Shells.
pub mod api;
#[cfg(not(madsim))]
pub mod bench;
pub mod history;
#[cfg(not(madsim))]
pub mod cli;
#[cfg(not(madsim))]
pub mod config;
#[cfg(not(madsim))]
pub mod http;
pub mod serve;
pub mod work;
