//! One scheduler node.

pub mod io;
pub mod request;

pub use io::{Effect, Input, Note};
pub use request::*;
