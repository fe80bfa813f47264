//! What an attempt prints: live from its worker through the leader, or what was kept of it.

use std::time::Duration;

use bytes::Bytes;
use dtask_core::id::{RunNumber, Token};
use dtask_core::limits;
use dtask_core::node::{Reply, Request};
use dtask_core::state::view::AttemptView;
use dtask_proto::v1;
use tonic::Streaming;

use super::forward::{Kind, Tasks, marked};
use super::{Call, Calls, No, odd};
use crate::api::Fault;
use crate::serve::inbox::Pieces;

/// A reader that does not follow is given what the worker holds: what comes within this.
const HELD_MAX: Duration = Duration::from_millis(500);
/// A reader that follows leaves by itself.
const FOLLOW_MAX: Duration = Duration::from_secs(365 * 86_400);

/// A log on its way to its reader.
pub struct LogReader {
    source: Source,
    /// The reader stays until the attempt has ended.
    follow: bool,
}

enum Source {
    /// This node leads and relays the worker's output.
    Here(Pieces),
    /// The leader's stream.
    Leader(Box<Streaming<v1::LogChunk>>),
    /// What was kept.
    Kept(Option<v1::LogChunk>),
}

impl Calls {
    /// Opens an attempt's log.
    pub async fn logs(
        &self,
        call: Call,
        mut request: v1::StreamLogsRequest,
    ) -> Result<LogReader, Fault> {
        let meant = self.meant(&mut request).await?;
        let token = match meant {
            Some(view) if view.outcome.is_some() => return Ok(kept(&request, view)),
            Some(view) => Some(view.token),
            None => None,
        };
        let question =
            Request::Follow { id: request.task_id.as_str().into(), token, offset: request.offset };
        let follow = request.follow;
        let mut pieces = self.node.follow(question, call.forwarded).await?;
        // The first answer says where the log is; only then is it known what to do.
        let wait = if follow { FOLLOW_MAX } else { HELD_MAX };
        match tokio::time::timeout(wait, pieces.next()).await {
            Ok(Some(Reply::Rejected(rejection))) => match super::refusal(call, rejection) {
                No::AskLeader(address) => {
                    let read = |mut client: Tasks| async move {
                        client.stream_logs(marked(request)).await
                    };
                    let stream = self.leaders.call(&address, Kind::Read, read).await?;
                    Ok(LogReader { source: Source::Leader(Box::new(stream)), follow })
                }
                No::Refused(fault) => Err(fault),
            },
            Ok(Some(Reply::NotLive { .. })) => self.ended(&request, token).await,
            Ok(Some(first)) => {
                pieces.put_back(first);
                Ok(LogReader { source: Source::Here(pieces), follow })
            }
            Ok(None) => Err(Fault::stopping()),
            // Nothing was printed yet.
            Err(_) => Ok(LogReader { source: Source::Kept(None), follow }),
        }
    }

    /// The attempt that is meant when the request names one, or a run. Fills in the task.
    async fn meant(
        &self,
        request: &mut v1::StreamLogsRequest,
    ) -> Result<Option<AttemptView>, Fault> {
        if let Some(id) = request.execution_id {
            let row = self.attempt(Token(id), false).await?;
            if !request.task_id.is_empty() && *row.task_id != *request.task_id {
                return Err(Fault::not_found("execution of this task", &id.to_string()));
            }
            request.task_id = row.task_id.into();
            return Ok(Some(row.view));
        }
        if request.run.is_none() && request.follow {
            return Ok(None);
        }
        self.latest(&request.task_id, request.run.map(RunNumber)).await
    }

    /// The latest attempt of a task, or of one of its runs.
    async fn latest(
        &self,
        task_id: &str,
        run: Option<RunNumber>,
    ) -> Result<Option<AttemptView>, Fault> {
        let question = Request::Attempts { id: task_id.into(), stale: false };
        let live = match self.put(Call::default(), question).await {
            Ok(Reply::Attempts { attempts, .. }) => attempts,
            Ok(Reply::NotLive { .. }) => Vec::new(),
            Ok(reply) => return Err(odd(&reply)),
            Err(No::Refused(fault)) => return Err(fault),
            Err(No::AskLeader(_)) => return Err(Fault::no_leader()),
        };
        let fits = |view: &AttemptView| run.is_none_or(|run| view.run == run);
        let newest = live.into_iter().filter(fits).max_by_key(|view| view.token);
        match newest {
            Some(view) => Ok(Some(view)),
            None => self.latest_stored(task_id, run).await,
        }
    }

    async fn latest_stored(
        &self,
        task_id: &str,
        run: Option<RunNumber>,
    ) -> Result<Option<AttemptView>, Fault> {
        let Some(history) = self.history().await? else { return Ok(None) };
        let mut newest = None;
        let mut after = None;
        loop {
            let query = crate::serve::ports::ExecutionQuery {
                task_id: Some(task_id.into()),
                run,
                after,
                limit: 1_000,
                ..Default::default()
            };
            let rows = history.executions(query).await.map_err(|away| self.away(&away))?;
            let Some(last) = rows.into_iter().next_back() else { return Ok(newest) };
            after = Some(last.view.token);
            newest = Some(last.view);
        }
    }

    /// The log of a task that has left memory.
    async fn ended(
        &self,
        request: &v1::StreamLogsRequest,
        token: Option<Token>,
    ) -> Result<LogReader, Fault> {
        let view = match token {
            Some(token) => Some(self.attempt(token, false).await?.view),
            None => self.latest(&request.task_id, request.run.map(RunNumber)).await?,
        };
        if let Some(view) = view {
            return Ok(kept(request, view));
        }
        // No attempt was ever made: an unknown task says so, a known one printed nothing.
        self.stored(&request.task_id).await?;
        Ok(LogReader { source: Source::Kept(None), follow: false })
    }
}

/// What was kept of an attempt that has ended, from where the reader stands. A tail below its
/// bound is the whole output; of a longer one only a reader that begins still needs it.
fn kept(request: &v1::StreamLogsRequest, view: AttemptView) -> LogReader {
    let whole = view.tail.len() < limits::OUTPUT_TAIL_BYTES_MAX;
    let from = match usize::try_from(request.offset) {
        Ok(offset) if whole => offset.min(view.tail.len()),
        Ok(0) => 0,
        Ok(_) | Err(_) => view.tail.len(),
    };
    let (offset, data) = (request.offset, view.tail.slice(from..));
    let chunk = chunk(view.token, offset, data, view.outcome.is_some());
    LogReader { source: Source::Kept(Some(chunk)), follow: false }
}

impl LogReader {
    /// Whether more may come than what is at hand.
    pub const fn is_live(&self) -> bool {
        match self.source {
            Source::Here(_) | Source::Leader(_) => self.follow,
            Source::Kept(_) => false,
        }
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<v1::LogChunk, Fault>> {
        let wait = if self.follow { FOLLOW_MAX } else { HELD_MAX };
        let reply = match &mut self.source {
            Source::Kept(chunk) => return chunk.take().map(Ok),
            Source::Leader(stream) => {
                return match stream.message().await {
                    Ok(chunk) => chunk.map(Ok),
                    Err(status) => {
                        Some(Err(Fault::from_status(&status).unwrap_or_else(Fault::no_leader)))
                    }
                };
            }
            Source::Here(pieces) => tokio::time::timeout(wait, pieces.next()).await,
        };
        match reply {
            Ok(Some(Reply::Output { token, offset, data, end })) => {
                if end {
                    self.source = Source::Kept(None);
                }
                Some(Ok(chunk(token, offset, data, end)))
            }
            Ok(Some(Reply::Rejected(rejection))) => {
                self.source = Source::Kept(None);
                Some(Err(rejection.into()))
            }
            Ok(Some(reply)) => {
                self.source = Source::Kept(None);
                Some(Err(odd(&reply)))
            }
            // Cut off because it read too slowly, or because the node stops: it resumes by offset.
            Ok(None) => {
                self.source = Source::Kept(None);
                Some(Err(Fault::no_leader()))
            }
            Err(_) => None,
        }
    }
}

fn chunk(token: Token, offset: u64, data: Bytes, end: bool) -> v1::LogChunk {
    v1::LogChunk { execution_id: token.0, offset, data, end }
}
