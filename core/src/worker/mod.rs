//! One worker: its slots, its unacknowledged results, and how it fences itself.

pub mod config;
pub mod frame;
pub mod io;

pub use config::WorkerConfig;
pub use frame::{Assignment, Hello, LeaderFrame, Report, WorkerFrame};
pub use io::{ConnectionId, Effect, Ending, Farewell, Input, Note, Signal};
