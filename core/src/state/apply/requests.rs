//! Requests that were answered before (P8.3): their ids share the table of ended ids (P8.2), each
//! with a hash of what it asked for.

use alloc::boxed::Box;

use crate::id::RecordRef;
use crate::limits;
use crate::state::ended::Ended;
use crate::state::facts::Changes;
use crate::state::index::id_hash;
use crate::state::view::TaskStatus;
use crate::state::{Applied, Key, Refusal, State};

impl State {
    /// The answer to a request whose id came before: as the first was answered, or a refusal when
    /// it asked for something else (P8.3). It is the same whatever became of the task since.
    pub fn asked_before(&self, key: Option<Key<'_>>) -> Option<Result<Applied, Refusal>> {
        let Key { request, content, retry } = key?;
        if request.is_empty() || request.len() > limits::REQUEST_ID_BYTES_MAX {
            return Some(Err(Refusal::Malformed));
        }
        let Some(known) = self.ids.ended(self.request_hash(request)) else {
            // Upholds S9: the first sending may have been done, and forgotten since.
            let lost = retry && self.forgets_too_soon();
            return lost.then_some(Err(Refusal::Forgotten));
        };
        let same = known.spec == content;
        Some(if same { Ok(Applied::Repeated { live: None }) } else { Err(Refusal::RequestReused) })
    }

    /// Stops a task or run; a request id that came before changes nothing: what was stopped may
    /// run again by now.
    pub(super) fn cancel_once(
        &mut self,
        target: RecordRef,
        key: Option<Key<'_>>,
        changes: &mut Changes,
    ) -> Result<Applied, Refusal> {
        if let Some(answer) = self.asked_before(key) {
            return answer;
        }
        let answer = self.cancel(target, changes)?;
        self.remember_request(key);
        Ok(answer)
    }

    /// Puts a request id on record. What is created in its name is told from a repeat by its own
    /// id, so a claim whose tasks never came does no harm: the repeat brings them.
    pub(super) fn claim(&mut self, request: &str, content: u64) -> Result<Applied, Refusal> {
        let key = Some(Key { request, content, retry: false });
        if let Some(answer) = self.asked_before(key) {
            return answer;
        }
        self.remember_request(key);
        Ok(Applied::Done)
    }

    pub(super) fn remember_request(&mut self, key: Option<Key<'_>>) {
        let Some(key) = key else { return };
        let at = self.meta.at;
        let entry = Ended {
            id: self.request_hash(key.request),
            spec: key.content,
            serial: 0,
            created_at: at,
            ended_at: at,
            status: TaskStatus::Running,
            deleted: false,
        };
        let number = self.ids.push(entry);
        let row = self.digest.ended(number, &entry);
        self.digest.add(row);
    }

    /// Request ids share the table of ended ids; no id begins with a zero byte.
    fn request_hash(&self, request: &str) -> u64 {
        let mut name: Box<[u8]> = alloc::vec![0; request.len() + 1].into_boxed_slice();
        name[1..].copy_from_slice(request.as_bytes());
        id_hash(self.key, &name)
    }
}
