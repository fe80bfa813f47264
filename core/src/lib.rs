#![no_std]
#![forbid(unsafe_code)]
//! The pure machines of DTask: raft handling, scheduling and dispatch as event processing.
//!
//! Five questions in five directories: what users **ask** ([`spec`]), what nodes have **agreed**
//! ([`state`]), how they **come to agree** ([`consensus`]), what only a **leader** does
//! (`leader`), what is **local** ([`node`], [`worker`], [`client`]). Nothing here reads a clock,
//! draws entropy, opens a file or starts a thread; hosts pass all of it in.

extern crate alloc;

pub mod client;
pub mod codec;
pub mod consensus;
pub mod id;
pub mod leader;
pub mod limits;
pub mod log;
pub mod machine;
pub mod node;
pub mod rng;
pub mod spec;
pub mod state;
pub mod time;
pub mod worker;
