//! Thin shells around the machines of `dtask-core`: they wait, perform effects, and answer.
//!
//! `serve` drives a scheduler node, `work` a worker; `log_store` and `history` are the two disks
//! behind them; `api` crosses between wire and domain for gRPC and `http` alike; `cli`, `config`
//! and `bench` make the program. What must also run under madsim names no process, no SQL and no
//! socket of its own.

pub mod api;
#[cfg(not(madsim))]
pub mod bench;
#[cfg(not(madsim))]
pub mod cli;
/// The command line's way to the cluster: the part of it that also runs in simulation.
#[cfg(madsim)]
pub mod cli {
    pub mod calls;
    pub mod fail;

    /// The caller's clock.
    fn now() -> dtask_core::time::Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let micros = since.unwrap_or_default().as_micros();
        dtask_core::time::Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }
}
#[cfg(not(madsim))]
pub mod config;
pub mod history;
pub mod http;
pub mod log_store;
pub mod serve;
pub mod work;
