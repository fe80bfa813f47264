//! Generated messages of `dtask/v1/*.proto`; with feature `grpc` also clients and servers, with
//! feature `json` also DTask's JSON mapping of the client API.

#[allow(clippy::all, missing_docs, unreachable_pub, reason = "generated code")]
pub mod v1 {
    #[cfg(all(madsim, feature = "grpc"))]
    include!(concat!(env!("OUT_DIR"), "/sim/dtask.v1.rs"));
    #[cfg(not(all(madsim, feature = "grpc")))]
    include!(concat!(env!("OUT_DIR"), "/dtask.v1.rs"));
}

#[cfg(feature = "json")]
pub mod json;

/// The encoded `FileDescriptorSet` of the schema, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
