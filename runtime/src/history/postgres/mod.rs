//! History in a PostgreSQL database, which all nodes reach; only the leader writes.

mod columns;
mod reader;
mod statements;
mod url;
mod writer;

use std::time::Duration;

pub use reader::{Page, PostgresReader, Questions};
pub(crate) use url::redact;
pub use url::{PostgresUrl, UrlError};
pub use writer::PostgresWriter;

/// How long a server may take to accept a connection, with name resolution, TLS and login.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a connection is told when it opens. A server that cannot answer in time is away; what it
/// was doing then ends by itself.
fn settings(timeout: Duration) -> String {
    let millis = timeout.as_millis();
    format!(
        "SET statement_timeout = {millis}; SET lock_timeout = {millis}; \
         SET idle_in_transaction_session_timeout = {millis}; SET TIME ZONE 'UTC'; SET jit = off"
    )
}
