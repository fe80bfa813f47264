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
#[cfg(not(madsim))]
pub mod config;
pub mod history;
#[cfg(not(madsim))]
pub mod http;
pub mod log_store;
pub mod serve;
pub mod work;
