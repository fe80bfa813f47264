//! `PeerService`: what other nodes say becomes inputs. Who may speak is the core's decision, by
//! cluster id and incarnation (P4.1).

use dtask_core::codec::peer;
use dtask_core::node::Input;
use dtask_proto::v1;
use dtask_proto::v1::peer_service_server::PeerService;
use tonic::{Request, Response, Status, Streaming};

use crate::serve::inbox::NodeHandle;

/// `PeerService` of one node.
#[derive(Clone)]
pub struct PeerEdge(pub NodeHandle);

#[tonic::async_trait]
impl PeerService for PeerEdge {
    async fn append_entries(
        &self,
        request: Request<Streaming<v1::PeerEnvelope>>,
    ) -> Result<Response<v1::PeerStreamEnd>, Status> {
        self.listen(request).await
    }

    async fn vote(
        &self,
        request: Request<Streaming<v1::PeerEnvelope>>,
    ) -> Result<Response<v1::PeerStreamEnd>, Status> {
        self.listen(request).await
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<v1::PeerEnvelope>>,
    ) -> Result<Response<v1::PeerStreamEnd>, Status> {
        self.listen(request).await
    }
}

impl PeerEdge {
    /// The inbox's bound is the stream's backpressure.
    async fn listen(
        &self,
        request: Request<Streaming<v1::PeerEnvelope>>,
    ) -> Result<Response<v1::PeerStreamEnd>, Status> {
        let mut envelopes = request.into_inner();
        while let Some(message) = envelopes.message().await? {
            let envelope = peer::decode_envelope(message)
                .map_err(|error| Status::invalid_argument(error.to_string()))?;
            let told = self.0.tell(Input::Peer(Box::new(envelope))).await;
            told.map_err(|_| Status::unavailable("the node is shutting down"))?;
        }
        Ok(Response::new(v1::PeerStreamEnd {}))
    }
}
