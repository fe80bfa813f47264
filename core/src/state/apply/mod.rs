//! `apply`: total, small, dull (P2.1, P2.2, P2.5). A command that does not fit the state it meets
//! is refused and changes nothing; nothing here can fail, assert or look around.

mod again;
mod attempt;
mod create;
mod life;
mod recurring;
mod registry;
mod requests;
mod stop;
mod stored;

use alloc::vec::Vec;

use super::facts::{ApplyError, Changes};
use super::record::Phase;
use super::{Applied, Command, LEVEL, Refusal, State};
use crate::codec::flat::EntryRef;
use crate::limits;

impl State {
    /// Applies the entry at `index`. Empty data is raft's own entry: it carries nothing, but due
    /// runs are woken. An entry that cannot be decoded is refused as a whole and counts as
    /// applied. An index that was applied before changes nothing.
    ///
    /// `changes` is appended to; `answers` gets one answer for each command of the entry.
    ///
    /// # Errors
    /// When the entry needs a newer program: nothing was applied, and the node halts (P5.1).
    pub fn apply(
        &mut self,
        index: u64,
        data: &[u8],
        changes: &mut Changes,
    ) -> Result<(), ApplyError> {
        if index <= self.meta.applied {
            return Ok(());
        }
        let entry = if data.is_empty() { None } else { EntryRef::parse(data).ok() };
        if let Some(entry) = &entry {
            let needed = entry.level();
            if needed > LEVEL {
                return Err(ApplyError::Level { index, needed, known: LEVEL });
            }
            // Upholds S16: whatever a leader stamps, time does not fall.
            self.meta.at = self.meta.at.max(entry.at());
        }
        self.meta.applied = index;
        let newest = self.outbox.newest();
        self.wake(changes);
        self.forget_ended();
        if let Some(entry) = &entry {
            let mut table = EntryProfiles::new(entry.profile_bytes());
            for command in entry.commands() {
                let answer = match command {
                    Ok(command) => self.apply_command(&command, &mut table, newest, changes),
                    Err(_) => Applied::Refused(Refusal::Malformed),
                };
                changes.answers.push(answer);
            }
            self.release_table(table);
        }
        self.settle();
        Ok(())
    }

    fn apply_command(
        &mut self,
        command: &Command<'_>,
        table: &mut EntryProfiles<'_>,
        newest: u64,
        changes: &mut Changes,
    ) -> Applied {
        let answer = match command {
            Command::Create(create) => self.create(create, table, changes),
            Command::Open(open) => self.open(open, changes),
            Command::Close(close) => self.close(close, changes),
            Command::Fire(fire) => self.fire(fire, changes),
            Command::Cancel { target, key } => self.cancel_once(*target, *key, changes),
            Command::Claim { request, content } => self.claim(request, *content),
            Command::TimeOut { token, target } => self.time_out(*token, *target, changes),
            Command::Trigger { target, rerun } => self.rerun(*target, *rerun, changes),
            Command::Again(again) => self.again(again, table, changes),
            Command::Delete { target, cancel } => self.delete(*target, *cancel, changes),
            Command::RegisterInstance { instance, name } => self.register(*instance, name),
            Command::RetireInstance { instance } => self.retire(*instance),
            Command::HistoryStored { epoch, through } => {
                self.history_stored(*epoch, *through, newest)
            }
            Command::HistoryDropped { through } => self.history_dropped(*through, newest),
            Command::SetAddresses { node, grpc, http } => self.set_addresses(*node, grpc, http),
        };
        answer.unwrap_or_else(Applied::Refused)
    }

    /// Readies waiting runs whose time has come, earliest first, ties by serial (P2.1).
    fn wake(&mut self, changes: &mut Changes) {
        for _ in 0..limits::ROWS_PER_COMMAND_MAX {
            let Some((due, slot)) = self.timers.first() else { return };
            if due > self.meta.at {
                return;
            }
            self.touch_run(slot);
            self.timers.remove(&mut self.slab, slot);
            self.make_ready(slot, None, changes);
        }
    }

    /// Drops ended ids beyond the bounds of P8.2, so many at a time.
    fn forget_ended(&mut self) {
        for _ in 0..limits::ROWS_PER_COMMAND_MAX {
            if !self.ids.is_over(self.meta.ended_max, self.meta.at) {
                return;
            }
            self.keep_ended_image();
            let Some((number, gone)) = self.ids.forget() else { return };
            if !gone.is_out_of_window(self.meta.at) {
                self.meta.forgot = self.meta.forgot.max(gone.ended_at);
            }
            let row = self.digest.ended(number, &gone);
            self.digest.subtract(row);
        }
    }

    fn release_table(&mut self, table: EntryProfiles<'_>) {
        for number in table.held.into_iter().flatten() {
            self.release_profile(number);
        }
    }

    pub(in crate::state) fn release_profile(&mut self, number: u32) {
        self.profiles.release(number, &mut self.classes);
    }

    /// The record that a command names, if it is that creation.
    fn named(&self, target: crate::id::RecordRef) -> Result<(u32, Phase, u8), Refusal> {
        let slot = target.slot.0;
        match self.slab.at(slot) {
            Some(record) if record.serial == target.serial.0 => {
                Ok((slot, record.phase, record.flags))
            }
            Some(_) | None => Err(Refusal::NotFound),
        }
    }
}

/// An entry's profiles and the numbers they were interned under while the entry is applied. No
/// number crosses entries (P5.2): each is held for the entry and given back at its end.
pub(super) struct EntryProfiles<'a> {
    bytes: &'a [&'a [u8]],
    held: Vec<Option<u32>>,
}

impl<'a> EntryProfiles<'a> {
    fn new(bytes: &'a [&'a [u8]]) -> Self {
        Self { bytes, held: alloc::vec![None; bytes.len()] }
    }

    /// The state's number for the entry's profile `number`.
    fn resolve(&mut self, state: &mut State, number: u16) -> Result<u32, Refusal> {
        let place = self.held.get_mut(usize::from(number)).ok_or(Refusal::Malformed)?;
        if let Some(held) = *place {
            return Ok(held);
        }
        let bytes = self.bytes.get(usize::from(number)).ok_or(Refusal::Malformed)?;
        let held =
            state.profiles.retain(bytes, &mut state.classes).map_err(|_| Refusal::Malformed)?;
        *place = Some(held);
        Ok(held)
    }
}
