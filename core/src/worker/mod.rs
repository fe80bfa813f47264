//! One worker: its slots, its unacknowledged results, and how it fences itself.

pub mod frame;

pub use frame::{Assignment, Hello, LeaderFrame, Report, WorkerFrame};
