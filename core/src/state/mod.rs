//! What all nodes agree on. Changes in one place: `State::apply(entry)`.

pub mod applied;
pub mod command;
pub mod facts;
pub mod history;
pub mod view;

pub use applied::{Applied, Refusal};
pub use command::{Close, Command, Create, Fire, Open, Start};
pub use facts::{
    ApplyError, Changes, ClassId, DueSchedule, EndedTask, Finished, IndexKey, OpenAttempt,
    ReadyClass, ReadyRun,
};
