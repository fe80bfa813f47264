//! The shells as a cluster: the runtime's own host loops, peer streams, worker sessions, gRPC
//! services and HTTP routes, unchanged, over madsim's executor and network.
//!
//! What a shell gets from outside is ours: disks that lose what was not synced ([`disk`]), a
//! history database that disappoints ([`database`]), clocks that disagree ([`clock`]), handlers by
//! script ([`worker`]), connections that can be cut ([`relay`]). Everything that leaves a node's
//! machine passes [`observed`] and meets the World's checkers in [`books`]; what clients are told
//! meets them again in [`edge`]. A run is a function of its seed: each has a thread of its own,
//! and madsim orders everything in it.

pub mod answers;
pub mod ask;
pub mod books;
pub mod clock;
pub mod cluster;
pub mod database;
pub mod disk;
pub mod draw;
pub mod edge;
pub mod http;
pub mod live;
pub mod load;
pub mod observed;
pub mod operator;
pub mod reader;
pub mod relay;
pub mod run;
pub mod scheduler;
pub mod seen;
pub mod specs;
pub mod worker;
