//! The one border between wire and domain: messages of `dtask/v1` on one side, requests, views
//! and refusals of `dtask_core` on the other. gRPC, HTTP and the command line all cross here, so
//! that they cannot drift apart. Nothing is decided here.

pub mod fault;
pub mod json;
pub mod spec;
pub mod views;

pub use fault::Fault;
