//! What callers want done to one task, from the question to `apply`'s answer. A task that has ended
//! and left memory is acted on as history tells it (P8.5).

use alloc::boxed::Box;
use alloc::vec::Vec;

use xxhash_rust::xxh3::xxh3_64;

use super::Leader;
use super::admission::{Asked, Change};
use super::dispatch::Floor;
use super::draft::Origin;
use super::settle::refused;
use crate::codec::flat::Put;
use crate::codec::flat::command::put_wish;
use crate::id::{RecordRef, Serial};
use crate::machine::Outbox;
use crate::node::io::Effect;
use crate::node::request::{Rejection, Reply, StoredTask};
use crate::state::view::TaskView;
use crate::state::{Again, Applied, Command, Deed, Key, Past, Refusal, Rerun, State};
use crate::time::Timestamp;

impl Leader {
    pub(super) fn plan_changes(
        &mut self,
        at: Timestamp,
        state: &State,
        floor: &mut Floor,
        unknown: &mut Vec<Asked>,
        out: &mut Outbox<Effect>,
    ) {
        for mut asked in self.admission.take_changes() {
            let target = state.find(&asked.id).and_then(|task| match asked.change {
                Change::Cancel { run: Some(run), .. } => state.live_run(task, run),
                Change::Cancel { run: None, .. } | Change::Rerun { .. } | Change::Delete { .. } => {
                    Some(task)
                }
                Change::Claim { .. } => None,
            });
            if let Change::Claim { content } = asked.change {
                let command = Command::Claim { request: &asked.id, content };
                self.push(at, &command, Origin::Claim { ticket: asked.ticket });
                continue;
            }
            match (target, asked.past.take()) {
                (Some(target), _) => self.plan_change(at, asked, target, state, floor, out),
                (None, Some(stored)) => self.plan_again(at, asked, *stored, state, floor, out),
                // Only a confirmed leader may say that an id is unknown, and what came before does
                // not depend on the task (P8.3).
                (None, None) if asked.confirmed => {
                    let reply = match state.asked_before(key(&asked.id, &asked.change)) {
                        Some(answer) => {
                            let answer = answer.unwrap_or_else(Applied::Refused);
                            self.changed(&asked.id, None, answer, state)
                        }
                        None => Reply::missing(&asked.id, state),
                    };
                    out.push(Effect::Answer { ticket: asked.ticket, reply });
                }
                (None, None) => unknown.push(Asked { confirmed: true, ..asked }),
            }
        }
    }

    fn plan_change(
        &mut self,
        at: Timestamp,
        asked: Asked,
        target: RecordRef,
        state: &State,
        floor: &mut Floor,
        out: &mut Outbox<Effect>,
    ) {
        let Asked { ticket, id, change, confirmed: _, past: _ } = asked;
        let key = key(&id, &change);
        match &change {
            Change::Cancel { .. } => {
                let origin = Origin::Change { ticket, id, was: None, open: None, loose: false };
                self.push(at, &Command::Cancel { target, key }, origin);
            }
            Change::Rerun { wish, .. } => {
                let open = match (self.loose, state.class_of(target)) {
                    (0, Some((queue, kind))) => floor.take_unwanted(&self.sessions, queue, kind),
                    (_, _) => None,
                };
                let loose = open.is_none();
                let origin = Origin::Change { ticket, id, was: None, open, loose };
                let rerun = Rerun { wish: *wish, key, open };
                self.push(at, &Command::Trigger { target, rerun }, origin);
            }
            Change::Delete { cancel } => {
                let Some(was) = state.task_view(target) else {
                    let reply = Reply::not_live(state);
                    return out.push(Effect::Answer { ticket, reply });
                };
                let origin = Origin::Delete { ticket, was: Box::new(was) };
                self.push(at, &Command::Delete { target, cancel: *cancel }, origin);
            }
            // It names no task, and was planned above.
            Change::Claim { .. } => {}
        }
    }

    /// P8.5: the command carries what history tells, with the creation's serial.
    fn plan_again(
        &mut self,
        at: Timestamp,
        asked: Asked,
        stored: StoredTask,
        state: &State,
        floor: &mut Floor,
        out: &mut Outbox<Effect>,
    ) {
        let Asked { ticket, id, change, confirmed: _, past: _ } = asked;
        let StoredTask { view, as_of, before_gap } = stored;
        // Upholds S13: in the gap the task may have run again, or have been deleted, unless what the
        // state remembers of its end says that the row is right.
        if before_gap && !state.remembers_end(&id, view.serial, Past::of(&view, as_of).ended_at) {
            return out.push(Effect::Answer { ticket, reply: Reply::Rejected(Rejection::InGap) });
        }
        let mut open = None;
        let deed = match &change {
            Change::Rerun { wish, .. } => {
                if self.loose == 0 {
                    let (queue, kind) = (&view.profile.queue, &view.profile.kind);
                    open = floor.take_unwanted(&self.sessions, queue, kind);
                }
                Deed::Run(Rerun { wish: *wish, key: key(&id, &change), open })
            }
            Change::Delete { cancel } => Deed::Delete { cancel: *cancel },
            // What has ended cannot be cancelled, whatever history tells; a claim has no task.
            Change::Cancel { .. } | Change::Claim { .. } => {
                let reply = Reply::missing(&id, state);
                return out.push(Effect::Answer { ticket, reply });
            }
        };
        let (profile, was) = (view.profile.clone(), Box::new(view.clone()));
        let again = Again {
            id: &id,
            serial: Serial(view.serial),
            past: Box::new(Past::of(&view, as_of)),
            deed,
        };
        let origin = match change {
            Change::Delete { .. } => Origin::Delete { ticket, was },
            Change::Rerun { .. } | Change::Cancel { .. } | Change::Claim { .. } => {
                let (id, loose) = (id.clone(), open.is_none());
                Origin::Change { ticket, id, was: Some(was), open, loose }
            }
        };
        self.count(&origin);
        self.drafts.again(at, &profile, again, origin);
    }

    /// The answer to a cancel, a trigger or a retry. `was` is the task as history told of it.
    pub(super) fn changed(
        &self,
        id: &str,
        was: Option<Box<TaskView>>,
        answer: Applied,
        state: &State,
    ) -> Reply {
        let task = state.find(id);
        match answer {
            Applied::Refused(refusal) => {
                let status = task.and_then(|task| state.task_view(task)).map(|view| view.status);
                moved_on(id, refusal, state).unwrap_or_else(|| refused(id, refusal, status))
            }
            Applied::Created { .. }
            | Applied::Repeated { .. }
            | Applied::Opened { .. }
            | Applied::Closed { .. }
            | Applied::Fired { .. }
            | Applied::Stopping { .. }
            | Applied::Done => match task.and_then(|task| self.task_view(task, state)).or(was) {
                Some(view) => Reply::Task(view),
                None if state.is_deleted(id) => Reply::missing(id, state),
                None => Reply::Repeated { stored: state.stored() },
            },
        }
    }

    /// The answer to a delete: the task as it was.
    pub(super) fn deleted(was: Box<TaskView>, answer: Applied, state: &State) -> Reply {
        match answer {
            Applied::Refused(refusal) => moved_on(&was.id, refusal, state)
                .unwrap_or_else(|| refused(&was.id, refusal, Some(was.status))),
            Applied::Created { .. }
            | Applied::Repeated { .. }
            | Applied::Opened { .. }
            | Applied::Closed { .. }
            | Applied::Fired { .. }
            | Applied::Stopping { .. }
            | Applied::Done => Reply::Task(was),
        }
    }
}

/// The request id of a change, with a hash of what is asked for (P8.3): the task by the id that the
/// caller knows it by, so that neither its end nor another creation of the id makes a repeat look
/// like another request.
fn key<'a>(id: &str, change: &'a Change) -> Option<Key<'a>> {
    let mut said = Vec::with_capacity(id.len() + 8);
    let (request, retry) = match change {
        Change::Cancel { run, request, retry } => {
            said.put_u8(1);
            said.put_option(*run, |said, run| said.put_u32(run.0));
            (request, *retry)
        }
        Change::Rerun { wish, request, retry } => {
            said.put_u8(2);
            put_wish(&mut said, *wish);
            (request, *retry)
        }
        Change::Delete { .. } | Change::Claim { .. } => return None,
    };
    let request = request.as_deref()?;
    said.put_text(id);
    Some(Key { request, content: xxh3_64(&said), retry })
}

/// What the command was planned on is no more (it left memory, or came back as another): the caller
/// may look again, and at history.
fn moved_on(id: &str, refusal: Refusal, state: &State) -> Option<Reply> {
    matches!(refusal, Refusal::NotFound | Refusal::Stale).then(|| Reply::missing(id, state))
}
