//! The gRPC services of a node: the schema's calls over `calls`, worker sessions, peers' streams.

mod cluster;
mod peer;
mod session;
mod task;

pub use cluster::{ClusterEdge, WorkerAdminEdge};
pub use peer::PeerEdge;
pub use session::SessionEdge;
pub use task::TaskEdge;
