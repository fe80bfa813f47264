//! Requests that were answered before (P8.3): their ids share the table of ended ids (P8.2), each
//! with a hash of what it asked for.

use alloc::boxed::Box;
use alloc::vec::Vec;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::codec::flat::Put;
use crate::codec::flat::command::put_wish;
use crate::id::{RecordRef, Serial};
use crate::limits;
use crate::state::ended::Ended;
use crate::state::facts::Changes;
use crate::state::index::id_hash;
use crate::state::view::TaskStatus;
use crate::state::{Applied, Key, Refusal, State, Wish, digest};

/// What a request asks for, so that another one under its id is told from a repeat.
#[derive(Clone, Copy, Debug)]
pub(super) enum Said {
    /// A run of this creation.
    Run(Serial, Wish),
    /// An end of this record.
    Cancel(Serial),
    /// Tasks, by the hash of all that was said of them.
    Tasks(u64),
}

impl State {
    /// Stops a task or run; a request id that came before changes nothing: what was stopped may
    /// run again by now.
    pub(super) fn cancel_once(
        &mut self,
        target: RecordRef,
        key: Option<Key<'_>>,
        changes: &mut Changes,
    ) -> Result<Applied, Refusal> {
        let said = Said::Cancel(target.serial);
        if let Some(answer) = self.asked_before(said, key) {
            return answer;
        }
        let answer = self.cancel(target, changes)?;
        self.remember_request(said, key);
        Ok(answer)
    }

    /// Puts a request id on record. What is created in its name is told from a repeat by its own
    /// id, so a claim whose tasks never came does no harm: the repeat brings them.
    pub(super) fn claim(&mut self, request: &str, content: u64) -> Result<Applied, Refusal> {
        let (said, key) = (Said::Tasks(content), Some(Key { request, retry: false }));
        if let Some(answer) = self.asked_before(said, key) {
            return answer;
        }
        self.remember_request(said, key);
        Ok(Applied::Done)
    }

    /// The answer to a request whose id came before: as the first was answered, or a refusal when
    /// it asked for something else (P8.3).
    pub(super) fn asked_before(
        &self,
        said: Said,
        key: Option<Key<'_>>,
    ) -> Option<Result<Applied, Refusal>> {
        let Key { request, retry } = key?;
        if request.is_empty() || request.len() > limits::REQUEST_ID_BYTES_MAX {
            return Some(Err(Refusal::Malformed));
        }
        let Some(known) = self.ids.ended(self.request_hash(request)) else {
            // Upholds S9: the first sending may have been done, and forgotten since.
            let lost = retry && self.forgets_too_soon();
            return lost.then_some(Err(Refusal::Forgotten));
        };
        let same = known.spec == self.hash_of(said);
        Some(if same { Ok(Applied::Repeated { live: None }) } else { Err(Refusal::RequestReused) })
    }

    pub(super) fn remember_request(&mut self, said: Said, key: Option<Key<'_>>) {
        let Some(key) = key else { return };
        let at = self.meta.at;
        let entry = Ended {
            id: self.request_hash(key.request),
            spec: self.hash_of(said),
            serial: said.serial(),
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

    fn hash_of(&self, said: Said) -> u64 {
        let mut row = Vec::with_capacity(16);
        row.put_u64(said.serial());
        match said {
            Said::Run(_, wish) => put_wish(&mut row, wish),
            Said::Cancel(_) => row.put_u8(4),
            Said::Tasks(content) => {
                row.put_u8(5);
                row.put_u64(content);
            }
        }
        xxh3_64_with_seed(&row, digest::seed(self.key))
    }
}

impl Said {
    const fn serial(self) -> u64 {
        match self {
            Self::Run(serial, _) | Self::Cancel(serial) => serial.0,
            Self::Tasks(_) => 0,
        }
    }
}
