//! Whose the history database is: rows of another cluster are never shown as ours (P9.2).

use std::sync::Mutex;
use std::time::Duration;

use dtask_core::id::ClusterId;
use dtask_core::node::{Reply, Request};
use tokio::time::Instant;

use super::look::LEVEL_MAX;
use super::{Call, Calls};
use crate::api::Fault;
use crate::serve::ports::{HistoryAway, HistoryRead};

/// For how long a look holds: somebody may put another database in the place of ours.
const HOLDS: Duration = Duration::from_secs(5);

/// When the database was last seen to be ours.
#[derive(Debug, Default)]
pub(super) struct Whose(Mutex<Option<Instant>>);

impl Whose {
    fn seen(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn see(&self) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Instant::now());
    }
}

impl Calls {
    /// The history database, if there is one. One that is away, that nobody has claimed, or that is
    /// another cluster's is unavailable: it proves nothing of our tasks (P8.6, P9.2).
    pub(super) async fn history(&self) -> Result<Option<&dyn HistoryRead>, Fault> {
        let Some(history) = self.history.as_deref() else { return Ok(None) };
        let seen = self.whose.seen();
        if seen.is_some_and(|at| at.elapsed() < HOLDS) {
            return Ok(Some(history));
        }
        let mut found = history.cluster().await;
        // A young cluster's first leader is making the database: that is not an outage.
        if seen.is_none() && !matches!(found, Ok(Some(_))) && history.covers(0, LEVEL_MAX).await {
            found = history.cluster().await;
        }
        let found = found
            .map_err(|away| self.away(&away))?
            .ok_or_else(|| self.away(&HistoryAway("it belongs to no cluster".to_owned())))?;
        let ours = self.cluster_id().await;
        if ours != Some(found) {
            let text = format!("it belongs to cluster {:016x}", found.0);
            self.away(&HistoryAway(text));
            return Err(Fault::history_foreign(found));
        }
        self.whose.see();
        Ok(Some(history))
    }

    /// `None` until this node has formed a cluster or found one.
    async fn cluster_id(&self) -> Option<ClusterId> {
        match self.put(Call::default(), Request::Cluster).await {
            Ok(Reply::Cluster(view)) => view.cluster,
            Ok(_) | Err(_) => None,
        }
    }
}
