//! `dtask serve`: one scheduler node as a process, and several of them as `dtask dev`.
//!
//! A thin shell (design.md §8): it waits, performs and answers. What a task may do is decided in
//! `dtask_core`.

pub mod calls;
pub mod clock;
pub mod host;
pub mod inbox;
pub mod metrics;
pub mod net;
pub mod peers;
pub mod ports;
pub mod services;
pub mod status;
#[cfg(all(test, not(madsim)))]
mod tests;
