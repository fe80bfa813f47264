//! What all nodes agree on. Changes in one place: `State::apply(entry)`.

pub mod applied;
pub mod command;
pub mod history;
pub mod view;

pub use applied::{Applied, Refusal};
pub use command::{Close, Command, Create, Fire, Open, Start};
