//! Shells.
pub mod api;
#[cfg(not(madsim))]
pub mod bench;
#[cfg(not(madsim))]
pub mod cli;
#[cfg(not(madsim))]
pub mod config;
pub mod history;
#[cfg(not(madsim))]
pub mod http;
pub mod log_store;
pub mod serve;
pub mod work;
