//! The JSON surface of a node (interface.md, "HTTP"): the schema's messages in DTask's own mapping
//! over the same calls that gRPC has.
//!
//! It runs on a runtime of its own beside the node's, so that a long list or a slow reader never
//! delays a heartbeat (datapath.md, "Threads").

mod cluster;
mod edge;
mod executions;
pub mod input;
mod tasks;
#[cfg(all(test, not(madsim)))]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::{get, post};
use tokio::sync::watch;

use crate::serve::calls::Calls;
use crate::serve::net::Socket;

/// What every route has.
#[derive(Clone)]
pub struct Surface {
    calls: Arc<Calls>,
}

/// The routes over a node's calls.
pub fn router(calls: Arc<Calls>) -> Router {
    let surface = Surface { calls };
    Router::new()
        .route("/v1/tasks", post(tasks::submit).get(tasks::list))
        .route("/v1/tasks/batch", post(tasks::submit_batch))
        .route("/v1/tasks/{id}", get(tasks::look).delete(tasks::delete))
        .route("/v1/tasks/{id}/status", get(tasks::status))
        .route("/v1/tasks/{id}/cancel", post(tasks::cancel))
        .route("/v1/tasks/{id}/trigger", post(tasks::trigger))
        .route("/v1/tasks/{id}/retry", post(tasks::retry))
        .route("/v1/tasks/{id}/wait", get(tasks::wait))
        .route("/v1/tasks/{id}/runs", get(executions::runs))
        .route("/v1/tasks/{id}/runs/{run}", get(executions::run))
        .route("/v1/tasks/{id}/runs/{run}/cancel", post(tasks::cancel_run))
        .route("/v1/tasks/{id}/runs/{run}/retry", post(tasks::retry_run))
        .route("/v1/tasks/{id}/executions", get(executions::of_task))
        .route("/v1/tasks/{id}/logs", get(executions::task_logs))
        .route("/v1/executions", get(executions::list))
        .route("/v1/executions/{id}", get(executions::look))
        .route("/v1/executions/{id}/logs", get(executions::logs))
        .route("/v1/workers", get(cluster::workers))
        .route("/v1/cluster", get(cluster::cluster))
        .route("/healthz", get(cluster::healthz))
        .route("/readyz", get(cluster::readyz))
        .route("/metrics", get(cluster::metrics))
        .fallback(edge::no_such_path)
        .method_not_allowed_fallback(edge::no_such_method)
        .layer(middleware::from_fn_with_state(surface.clone(), edge::dress))
        .with_state(surface)
}

/// Serves until `shutdown` becomes true; requests under way are finished.
#[cfg(not(madsim))]
pub async fn serve(
    socket: Socket,
    calls: Arc<Calls>,
    mut shutdown: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(socket)?;
    let service = router(calls).into_make_service_with_connect_info::<std::net::SocketAddr>();
    axum::serve(listener, service)
        .with_graceful_shutdown(async move {
            let _or_dropped = shutdown.wait_for(|stop| *stop).await;
        })
        .await
}

/// The same over simulated sockets, which axum's own accept loop does not know.
#[cfg(madsim)]
pub async fn serve(
    socket: Socket,
    calls: Arc<Calls>,
    mut shutdown: watch::Receiver<bool>,
) -> std::io::Result<()> {
    use hyper_util::rt::TokioIo;
    use hyper_util::service::TowerToHyperService;

    let listener = tokio::net::TcpListener::bind(socket).await?;
    let routes = router(calls);
    loop {
        let (stream, _) = tokio::select! {
            biased;
            _or_dropped = shutdown.wait_for(|stop| *stop) => return Ok(()),
            accepted = listener.accept() => accepted?,
        };
        let service = TowerToHyperService::new(routes.clone());
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new();
            if let Err(error) = connection.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "an HTTP connection broke");
            }
        });
    }
}
