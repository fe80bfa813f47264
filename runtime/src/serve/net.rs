//! How a node reaches another, and the sizes that every connection uses.

use std::time::Duration;

use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// Where a node listens: bound already, so that a taken port is told before anything starts.
#[cfg(not(madsim))]
pub type Socket = std::net::TcpListener;

/// Where a node listens: simulated sockets are bound by whoever accepts.
#[cfg(madsim)]
pub type Socket = std::net::SocketAddr;

/// HTTP/2 windows: a full batch is under way without waiting for an update (datapath.md).
pub const WINDOW_BYTES: u32 = 8 << 20;
/// A connection that cannot be made within this counts as refused.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// A connection on which nothing arrives is probed after this long, so that a frozen process or a
/// vanished machine is noticed.
const KEEP_ALIVE_AFTER: Duration = Duration::from_millis(500);
/// It is given up when the probe stays unanswered for this long: one and a half times the longest
/// election timeout, so that a leader which is given up has been deposed, and one that is only slow
/// keeps its workers.
const KEEP_ALIVE_WAIT: Duration = Duration::from_millis(1_500);

/// Connects to `host:port`. The name is resolved at each call: a machine may come back under
/// another address.
pub async fn connect(address: &str) -> Result<Channel, Status> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| Status::invalid_argument(format!("address {address:?}: {error}")))?
        .connect_timeout(CONNECT_MAX)
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_keep_alive_interval(KEEP_ALIVE_AFTER)
        .keep_alive_timeout(KEEP_ALIVE_WAIT)
        .keep_alive_while_idle(true);
    endpoint.connect().await.map_err(|error| Status::unavailable(cause(&error)))
}

/// The innermost cause: "Connection refused" rather than "transport error".
pub(super) fn cause(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
