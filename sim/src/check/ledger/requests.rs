//! Request ids: each stands for one request as long as it is remembered (P8.3).

use dtask_core::limits;
use dtask_core::state::{Applied, Refusal, Wish};
use dtask_core::time::Timestamp;

use super::{Ledger, Meaning};
use crate::check::{Violation, hold};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A run of this serial.
    Run(u64, Wish),
    /// An end of this serial.
    Cancel(u64),
    /// Tasks with this content.
    Tasks(u64),
}

impl Ledger {
    /// S9: what came before is answered and changes nothing, what differs from it is refused, and
    /// nothing else is told either.
    pub(super) fn request(
        &mut self,
        at: Timestamp,
        request: &str,
        said: Said,
        answer: Applied,
    ) -> Result<Meaning, Violation> {
        let known = self.requests.get(request).copied();
        match answer {
            Applied::Repeated { .. } => {
                let same = known.is_some_and(|(before, _)| before == said);
                hold!("S9", same, "request {request} repeats {said:?}, it was {known:?}");
                return Ok(Meaning::RequestRepeated);
            }
            Applied::Refused(Refusal::RequestReused) => {
                let other = known.is_some_and(|(before, _)| before != said);
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
        let new = known.is_none_or(|(_, then)| at.since(then) >= limits::DEDUP_WINDOW);
        hold!("S9", new, "request {request} is carried out for {said:?}, it was {known:?}");
        self.requests.insert(request.into(), (said, at));
        self.ids_kept += 1;
        Ok(Meaning::Nothing)
    }

    /// Whether a request id stands for something.
    pub fn has_request(&self, request: &str) -> bool {
        self.requests.contains_key(request)
    }
}
