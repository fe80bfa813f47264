//! The gRPC port of a node: every service on one listener, with health and reflection.
//!
//! The services and their limits are the same text in simulation; only the listener differs there.

use std::sync::Arc;
use std::time::Duration;

use dtask_core::limits;
use dtask_proto::v1::cluster_service_server::ClusterServiceServer;
use dtask_proto::v1::peer_service_server::PeerServiceServer;
use dtask_proto::v1::task_service_server::TaskServiceServer;
use dtask_proto::v1::worker_admin_service_server::WorkerAdminServiceServer;
use dtask_proto::v1::worker_service_server::WorkerServiceServer;
use tonic::transport::Server;
use tonic::transport::server::Router;

use super::calls::Calls;
use super::inbox::NodeHandle;
use super::net::{Socket, WINDOW_BYTES};
use super::services::{ClusterEdge, PeerEdge, SessionEdge, TaskEdge, WorkerAdminEdge};

/// A silent connection is probed this often, so that a vanished caller does not wait for ever.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Calls under way on one connection: a load generator multiplexes its clients.
const STREAMS_MAX: u32 = 10_000;

/// Serves until dropped.
pub(super) async fn serve(socket: Socket, node: NodeHandle, calls: Arc<Calls>) {
    if let Err(error) = accept(services(node, calls), socket).await {
        tracing::error!(error = ?error, "gRPC ended");
    }
}

fn services(node: NodeHandle, calls: Arc<Calls>) -> Router {
    let max = limits::MESSAGE_BYTES_MAX;
    Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .max_concurrent_streams(STREAMS_MAX)
        .add_service(
            TaskServiceServer::new(TaskEdge(calls.clone()))
                .max_decoding_message_size(max)
                .max_encoding_message_size(max),
        )
        .add_service(ClusterServiceServer::new(ClusterEdge(calls.clone())))
        .add_service(WorkerAdminServiceServer::new(WorkerAdminEdge(calls)))
        .add_service(
            WorkerServiceServer::new(SessionEdge(node.clone()))
                .max_decoding_message_size(max)
                .max_encoding_message_size(max),
        )
        .add_service(
            PeerServiceServer::new(PeerEdge(node))
                .max_decoding_message_size(max)
                .max_encoding_message_size(max),
        )
}

#[cfg(not(madsim))]
async fn accept(
    services: Router,
    socket: Socket,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    use tonic::transport::server::TcpIncoming;

    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<TaskServiceServer<TaskEdge>>().await;
    // Many clients, grpcio's among them, still ask by the older name.
    let describe = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(dtask_proto::DESCRIPTORS)
    };
    let (reflection, reflection_alpha) = (describe().build_v1()?, describe().build_v1alpha()?);
    let listener = tokio::net::TcpListener::from_std(socket)?;
    services
        .add_service(health_service)
        .add_service(reflection)
        .add_service(reflection_alpha)
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await?;
    Ok(())
}

/// The simulated transport binds by itself, and has neither health nor reflection.
#[cfg(madsim)]
async fn accept(services: Router, socket: Socket) -> Result<(), tonic::transport::Error> {
    services.serve(socket).await
}
