//! Forwarding to the leader, one hop, over the client API (P3.6).

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};

use dtask_core::limits;
use dtask_proto::v1::task_service_client::TaskServiceClient;
use dtask_proto::v1::worker_admin_service_client::WorkerAdminServiceClient;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::FORWARDED;
use crate::api::Fault;
use crate::serve::net;

/// A client of the leader's `TaskService`.
pub(super) type Tasks = TaskServiceClient<Channel>;

/// Leaders that are kept connected; elections are rare, so more means stale ones.
const CHANNELS_MAX: usize = 8;

/// Whether a call that was cut off may have been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only looks.
    Read,
    /// It changes something.
    Write,
}

/// Connections to leaders, by address.
#[derive(Debug, Default)]
pub(super) struct Leaders {
    channels: Mutex<HashMap<Box<str>, Channel>>,
}

impl Leaders {
    /// Calls the `TaskService` of the leader at `address`.
    pub(super) async fn call<T, F>(
        &self,
        address: &str,
        kind: Kind,
        call: impl FnOnce(Tasks) -> F,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let client = TaskServiceClient::new(self.channel(address).await?)
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(limits::MESSAGE_BYTES_MAX);
        self.judge(address, kind, call(client).await)
    }

    /// Calls the `WorkerAdminService` of the leader at `address`.
    pub(super) async fn call_admin<T, F>(
        &self,
        address: &str,
        call: impl FnOnce(WorkerAdminServiceClient<Channel>) -> F,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let client = WorkerAdminServiceClient::new(self.channel(address).await?)
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
        self.judge(address, Kind::Read, call(client).await)
    }

    fn judge<T>(
        &self,
        address: &str,
        kind: Kind,
        result: Result<Response<T>, Status>,
    ) -> Result<T, Fault> {
        let status = match result {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) => status,
        };
        if let Some(fault) = Fault::from_status(&status) {
            return Err(fault);
        }
        // The connection broke, not the node's word: a write may have reached the log.
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
        tracing::debug!(address, error = status.message(), "forwarding was cut off");
        match kind {
            Kind::Read => Err(Fault::no_leader()),
            Kind::Write => Err(Fault::outcome_unknown()),
        }
    }

    async fn channel(&self, address: &str) -> Result<Channel, Fault> {
        let known = {
            let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
            channels.get(address).cloned()
        };
        if let Some(channel) = known {
            return Ok(channel);
        }
        // Nothing was sent yet: whatever fails here, nothing was done.
        let channel = net::connect(address).await.map_err(|_| Fault::no_leader())?;
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if channels.len() >= CHANNELS_MAX {
            channels.clear();
        }
        channels.insert(address.into(), channel.clone());
        Ok(channel)
    }
}

/// The message with the mark that it came from another node.
pub(super) fn marked<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(FORWARDED, MetadataValue::from_static("1"));
    request
}
