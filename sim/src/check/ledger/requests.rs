//! Request ids: each stands for one request as long as it is remembered (P8.3).

use dtask_core::limits;
use dtask_core::state::{Applied, Refusal, Wish};
use dtask_core::time::Timestamp;

use super::{Ledger, Meaning};
use crate::check::{Violation, hold};

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A run of the task with this id.
    Run(Box<str>, Wish),
    /// An end of the task with this id.
    Cancel(Box<str>),
    /// Tasks with this content.
    Tasks(u64),
}

impl Ledger {
    /// The id that a caller knows a task by.
    pub(super) fn id_of(&self, serial: u64) -> Box<str> {
        self.records.get(&serial).map_or_else(Box::default, |record| record.id.clone())
    }

    /// S9: what came before is answered and changes nothing, what differs from it is refused, and
    /// nothing else is told either.
    pub(super) fn request(
        &mut self,
        at: Timestamp,
        request: &str,
        said: Said,
        answer: Applied,
    ) -> Result<Meaning, Violation> {
        let known = self.requests.get(request).cloned();
        match answer {
            Applied::Repeated { .. } => {
                let same = known.as_ref().is_some_and(|(before, _)| *before == said);
                hold!("S9", same, "request {request} repeats {said:?}, it was {known:?}");
                return Ok(Meaning::RequestRepeated);
            }
            Applied::Refused(Refusal::RequestReused) => {
                let other = known.as_ref().is_some_and(|(before, _)| *before != said);
                hold!("S9", other, "request {request} is refused for {said:?}, it was {known:?}");
                return Ok(Meaning::RequestReused);
            }
            Applied::Refused(_) => return Ok(Meaning::Nothing),
            Applied::Created { .. }
            | Applied::Opened { .. }
            | Applied::Closed { .. }
            | Applied::Fired { .. }
            | Applied::Stopping { .. }
            | Applied::Done => {}
        }
        let new = known.as_ref().is_none_or(|(_, then)| at.since(*then) >= limits::DEDUP_WINDOW);
        hold!("S9", new, "request {request} is carried out for {said:?}, it was {known:?}");
        self.requests.insert(request.into(), (said, at));
        self.ids_kept += 1;
        Ok(Meaning::Nothing)
    }

    /// Since when a request id stands for something.
    pub fn request_since(&self, request: &str) -> Option<Timestamp> {
        self.requests.get(request).map(|(_, since)| *since)
    }
}
