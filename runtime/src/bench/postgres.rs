//! Which process of this machine serves a PostgreSQL URL: its CPU time counts as well.

use anyhow::{Context as _, Result};
use sqlx::{ConnectOptions as _, Connection as _};

use super::process;
use crate::history::PostgresUrl;

/// The first process of the server behind `url`; `None` when it is no PostgreSQL, or runs elsewhere.
pub(crate) async fn first_process(url: &str) -> Result<Option<u32>> {
    if !PostgresUrl::is_one(url) {
        return Ok(None);
    }
    let url: PostgresUrl = url.parse()?;
    let asked = async {
        let mut connection = url.options().connect().await?;
        let pid: i32 =
            sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(pid.unsigned_abs())
    };
    let pid =
        asked.await.map_err(|error| anyhow::anyhow!("{url}: {}", url.hide(&error.to_string())));
    // Each connection has a process of its own, a child of the first one. It may be gone by now,
    // and may never have been of this machine.
    let pid = pid.context("cannot ask the history database")?;
    Ok(process::parent(pid).filter(|first| process::name(*first).is_some_and(|n| n == "postgres")))
}
