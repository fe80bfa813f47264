//! Live output on its way from workers to readers (P7.9): by (token, offset), so that a reader
//! goes on anywhere after a failover. Nothing of it is kept here.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::id::{RecordRef, Ticket, Token};
use crate::limits;
use crate::machine::Outbox;
use crate::node::io::Effect;
use crate::node::request::Reply;

/// The readers of one leadership.
#[derive(Debug, Default)]
pub struct Follow {
    readers: BTreeMap<Ticket, Reader>,
    /// Readers of an attempt that is open.
    watched: BTreeMap<Token, Vec<Ticket>>,
    /// Readers of a run whose next attempt has not opened yet.
    awaiting: BTreeMap<RecordRef, Vec<Ticket>>,
}

#[derive(Debug)]
struct Reader {
    token: Option<Token>,
    target: RecordRef,
    /// Everything before this was sent to the reader.
    next: u64,
}

impl Follow {
    /// Whether nobody reads.
    pub fn is_empty(&self) -> bool {
        self.readers.is_empty()
    }

    /// Adds a reader of an open attempt; the worker is to be asked from `offset` on.
    pub fn watch(&mut self, ticket: Ticket, target: RecordRef, token: Token, offset: u64) {
        self.readers.insert(ticket, Reader { token: Some(token), target, next: offset });
        self.watched.entry(token).or_default().push(ticket);
    }

    /// Adds a reader of a run that waits for its attempt.
    pub fn wait(&mut self, ticket: Ticket, target: RecordRef, offset: u64) {
        self.readers.insert(ticket, Reader { token: None, target, next: offset });
        self.awaiting.entry(target).or_default().push(ticket);
    }

    /// An attempt opened. Returns where its worker should begin, when somebody reads.
    pub fn opened(&mut self, target: RecordRef, token: Token) -> Option<u64> {
        let tickets = self.awaiting.remove(&target)?;
        for ticket in &tickets {
            if let Some(reader) = self.readers.get_mut(ticket) {
                reader.token = Some(token);
            }
        }
        self.watched.insert(token, tickets);
        self.begin(token)
    }

    /// Where the worker of an attempt should begin, when somebody reads: also for a worker that
    /// has just connected again.
    pub fn begin(&self, token: Token) -> Option<u64> {
        let tickets = self.watched.get(&token)?;
        tickets.iter().filter_map(|ticket| self.readers.get(ticket)).map(|r| r.next).min()
    }

    /// The worker said what its handler wrote. Each reader gets what it does not have yet: the
    /// worker may have begun anew for another reader.
    pub fn output(&mut self, token: Token, offset: u64, data: &Bytes, out: &mut Outbox<Effect>) {
        let end = offset.saturating_add(data.len() as u64);
        for ticket in self.watched.get(&token).into_iter().flatten() {
            let Some(reader) = self.readers.get_mut(ticket) else { continue };
            if end <= reader.next {
                continue;
            }
            // A piece beyond `next` means that the worker's ring has lost what was between.
            let from = reader.next.max(offset);
            let piece = data.slice(usize::try_from(from - offset).unwrap_or(data.len())..);
            reader.next = end;
            let reply = Reply::Output { token, offset: from, data: piece, end: false };
            out.push(Effect::Answer { ticket: *ticket, reply });
        }
    }

    /// The attempt has ended; `tail` is final.
    pub fn closed(&mut self, token: Token, tail: &Bytes, out: &mut Outbox<Effect>) {
        for ticket in self.watched.remove(&token).unwrap_or_default() {
            if let Some(reader) = self.readers.remove(&ticket) {
                out.push(last_piece(ticket, token, tail, reader.next));
            }
        }
    }

    /// The run ended without another attempt: nothing will come.
    pub fn finished(&mut self, target: RecordRef, out: &mut Outbox<Effect>) {
        for ticket in self.awaiting.remove(&target).unwrap_or_default() {
            if let Some(reader) = self.readers.remove(&ticket) {
                out.push(last_piece(ticket, Token(0), &Bytes::new(), reader.next));
            }
        }
    }

    /// A reader has gone. Returns the attempt that nobody reads any more.
    pub fn abandon(&mut self, ticket: Ticket) -> Option<Token> {
        let reader = self.readers.remove(&ticket)?;
        let Some(token) = reader.token else {
            if let Some(tickets) = self.awaiting.get_mut(&reader.target) {
                tickets.retain(|other| *other != ticket);
                if tickets.is_empty() {
                    self.awaiting.remove(&reader.target);
                }
            }
            return None;
        };
        let tickets = self.watched.get_mut(&token)?;
        tickets.retain(|other| *other != ticket);
        if !tickets.is_empty() {
            return None;
        }
        self.watched.remove(&token);
        Some(token)
    }

    /// Everybody who reads, when leadership ends.
    pub fn into_readers(self) -> impl Iterator<Item = Ticket> {
        self.readers.into_keys()
    }
}

/// The last piece for a reader that has everything before `next`. A tail below its bound is the
/// whole output, so its beginning is offset zero; of a longer one the reader has seen what came
/// live, and only one that begins at zero still needs it.
pub fn last_piece(ticket: Ticket, token: Token, tail: &Bytes, next: u64) -> Effect {
    let whole = tail.len() < limits::OUTPUT_TAIL_BYTES_MAX;
    let from = match usize::try_from(next) {
        Ok(next) if whole => next.min(tail.len()),
        Ok(0) => 0,
        Ok(_) | Err(_) => tail.len(),
    };
    let reply = Reply::Output { token, offset: next, data: tail.slice(from..), end: true };
    Effect::Answer { ticket, reply }
}
