//! `ClusterService` and `WorkerAdminService`.

use std::sync::Arc;

use dtask_proto::v1;
use dtask_proto::v1::cluster_service_server::ClusterService;
use dtask_proto::v1::worker_admin_service_server::WorkerAdminService;
use tonic::{Request, Response, Status};

use crate::api::Fault;
use crate::serve::calls::{Call, Calls};

/// `ClusterService` over a node's calls.
#[derive(Clone)]
pub struct ClusterEdge(pub Arc<Calls>);

#[tonic::async_trait]
impl ClusterService for ClusterEdge {
    async fn get_cluster(
        &self,
        _: Request<v1::GetClusterRequest>,
    ) -> Result<Response<v1::Cluster>, Status> {
        self.0.cluster().await.map(Response::new).map_err(Fault::into_status)
    }
}

/// `WorkerAdminService` over a node's calls.
#[derive(Clone)]
pub struct WorkerAdminEdge(pub Arc<Calls>);

#[tonic::async_trait]
impl WorkerAdminService for WorkerAdminEdge {
    async fn list_workers(
        &self,
        request: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        let call = Call::from(request.metadata());
        self.0.workers(call).await.map(Response::new).map_err(Fault::into_status)
    }
}
