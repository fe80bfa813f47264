//! Output of an attempt, live and resumed: what was printed is printed once, whatever node the
//! reader has to turn to (P7.9).

use std::time::Duration;

use dtask_core::client::Repeat;
use dtask_proto::v1::{self, TaskStatus};

use super::calls::Calls;
use super::fail::Failure;
use super::out;

/// Whose output.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Which {
    /// Of this run; the latest when absent.
    pub run: Option<u32>,
    /// This attempt; the latest of the run when absent.
    pub execution: Option<u64>,
}

/// How far a reader has come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    /// The attempt that is being read; `None` before its first piece.
    pub execution: Option<u64>,
    /// The next byte of its output.
    pub offset: u64,
}

/// How one stream of output ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The attempt has ended, and everything was read.
    End,
    /// There is nothing more now: no attempt, or the reader did not want to follow.
    Nothing,
    /// The stream broke; another one goes on from the place.
    Broken,
}

/// How long the first piece may take: a task may wait for its worker for days.
const FOLLOW_MAX: Duration = Duration::from_secs(365 * 86_400);
/// Between two looks at a task that prints nothing.
const PAUSE: Duration = Duration::from_millis(200);

/// Prints an attempt's output to its end.
///
/// # Errors
/// What the cluster refused.
pub(crate) async fn print(
    calls: &Calls,
    id: &str,
    which: Which,
    follow: bool,
) -> Result<(), Failure> {
    let mut place = Place { execution: which.execution, offset: 0 };
    loop {
        match read(calls, id, which, follow, &mut place).await? {
            Stop::End => return Ok(()),
            Stop::Nothing if !follow || has_ended(calls, id).await? => return Ok(()),
            Stop::Nothing => tokio::time::sleep(PAUSE).await,
            Stop::Broken => {}
        }
    }
}

/// Whether a task will not run again.
///
/// # Errors
/// What the cluster refused.
pub(crate) async fn has_ended(calls: &Calls, id: &str) -> Result<bool, Failure> {
    let request = v1::GetTaskRequest { id: id.to_owned(), stale: false };
    let status =
        calls.call(Repeat::Read, async |mut to| to.tasks.get_status(request.clone()).await).await?;
    Ok(match status.status() {
        TaskStatus::Waiting | TaskStatus::Ready | TaskStatus::Running | TaskStatus::Pending => {
            false
        }
        TaskStatus::Succeeded
        | TaskStatus::Failed
        | TaskStatus::Cancelled
        | TaskStatus::Skipped
        | TaskStatus::Unspecified => true,
    })
}

/// Reads one stream from `place` on.
///
/// # Errors
/// What the cluster refused; standard output is closed.
pub(crate) async fn read(
    calls: &Calls,
    id: &str,
    which: Which,
    follow: bool,
    place: &mut Place,
) -> Result<Stop, Failure> {
    let request = v1::StreamLogsRequest {
        task_id: id.to_owned(),
        execution_id: place.execution,
        run: which.run,
        offset: place.offset,
        follow,
    };
    // Its headers come with its first piece, and a task that waits prints nothing for long.
    let wait = if follow { FOLLOW_MAX } else { Duration::ZERO };
    let mut pieces = calls
        .call_that_waits(wait, Repeat::Read, async |mut to| {
            to.tasks.stream_logs(request.clone()).await
        })
        .await?;
    loop {
        match pieces.message().await {
            Ok(Some(piece)) => {
                print_piece(&piece, place)?;
                if piece.end {
                    return Ok(Stop::End);
                }
            }
            Ok(None) => return Ok(Stop::Nothing),
            Err(status) => {
                calls.broken(&status).await?;
                return Ok(Stop::Broken);
            }
        }
    }
}

fn print_piece(piece: &v1::LogChunk, place: &mut Place) -> Result<(), Failure> {
    if place.execution != Some(piece.execution_id) {
        *place = Place { execution: Some(piece.execution_id), offset: 0 };
    }
    if piece.offset > place.offset {
        out::note(&format!("note: {} bytes of output were not kept", piece.offset - place.offset));
    }
    // What an earlier stream has brought is not printed again.
    let known = usize::try_from(place.offset.saturating_sub(piece.offset)).unwrap_or(usize::MAX);
    let fresh = piece.data.get(known..).unwrap_or_default();
    place.offset = place.offset.max(piece.offset + piece.data.len() as u64);
    if fresh.is_empty() { Ok(()) } else { out::raw(fresh) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(execution_id: u64, offset: u64, data: &'static str) -> v1::LogChunk {
        v1::LogChunk { execution_id, offset, data: data.into(), end: false }
    }

    #[test]
    fn a_reader_goes_on_where_it_was() {
        let mut place = Place::default();
        print_piece(&piece(7, 0, ""), &mut place).expect("nothing is printed");
        assert_eq!((place.execution, place.offset), (Some(7), 0));
        place.offset = 10;
        // The new node sends an overlap: nothing of it is fresh, the place stays.
        print_piece(&piece(7, 4, "abcdef"), &mut place).expect("nothing is printed");
        assert_eq!(place.offset, 10);
        // A retry is another attempt: its output begins anew.
        print_piece(&piece(8, 0, ""), &mut place).expect("nothing is printed");
        assert_eq!((place.execution, place.offset), (Some(8), 0));
    }
}
