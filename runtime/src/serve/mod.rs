//! `dtask serve`: one scheduler node as a process, and several of them as `dtask dev`.
//!
//! A thin shell (design.md §8): it waits, performs and answers. What a task may do is decided in
//! `dtask_core`.

pub mod calls;
pub mod clock;
#[cfg(not(madsim))]
pub mod config;
#[cfg(not(madsim))]
pub mod dev;
mod grpc;
#[cfg(not(madsim))]
mod history;
pub mod host;
pub mod inbox;
pub mod life;
pub mod metrics;
pub mod net;
#[cfg(not(madsim))]
pub mod node;
pub mod peers;
pub mod ports;
pub mod services;
pub mod status;
#[cfg(all(test, not(madsim)))]
mod tests;

#[cfg(not(madsim))]
pub use config::{HistoryChoice, Listen, ServeConfig, ServeError};
#[cfg(not(madsim))]
pub use node::run;
