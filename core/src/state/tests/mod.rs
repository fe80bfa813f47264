//! Tests of the state: facts one by one, and a naive model under random commands.

mod again;
mod facts;
mod history;
mod model;
mod property;
mod recurring;

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{Applied, Changes, Close, Command, Create, IndexKey, Open, Rerun, Start, State, Wish};
use crate::codec::flat::EntryBuilder;
use crate::id::{InstanceId, RecordRef, Slot, Token};
use crate::spec::{AttemptOutcome, Backoff, Misfire, Overlap, Profile, Recurrence, Retry, Rule};
use crate::time::Timestamp;

const KEY: IndexKey = IndexKey([7; 16]);
const WORKER: InstanceId = InstanceId(91);

/// A state and the entries that are applied to it.
struct Rig {
    state: State,
    index: u64,
    at: Timestamp,
    changes: Changes,
}

impl Rig {
    /// An empty state at second 1,000 with one registered worker.
    fn new() -> Self {
        Self::on(State::new(KEY))
    }

    fn on(state: State) -> Self {
        let at = Timestamp::from_seconds(1_000);
        let mut rig = Self { state, index: 0, at, changes: Changes::default() };
        rig.run(&[Command::RegisterInstance { instance: WORKER, name: "w1" }]);
        rig
    }

    /// Applies one entry of these commands and audits; gives the answers.
    fn run(&mut self, commands: &[Command<'_>]) -> Vec<Applied> {
        self.run_with(&profile(3), commands)
    }

    /// The same, with profile 0 of the entry chosen.
    fn run_with(&mut self, profile: &Profile, commands: &[Command<'_>]) -> Vec<Applied> {
        let mut builder = EntryBuilder::new(1, self.at);
        builder.intern(profile);
        for command in commands {
            builder.push(command);
        }
        self.apply(&builder.finish());
        core::mem::take(&mut self.changes.answers)
    }

    fn apply(&mut self, entry: &[u8]) {
        self.index += 1;
        self.changes.clear();
        self.state.apply(self.index, entry, &mut self.changes).expect("the level is ours");
        self.state.audit().expect("the state is consistent");
    }

    fn one(&mut self, command: Command<'_>) -> Applied {
        self.run(&[command])[0]
    }

    /// Lets replicated time pass, in an entry without commands.
    fn pass(&mut self, seconds: i64) {
        self.at = self.at.plus_micros(seconds * 1_000_000);
        self.run(&[]);
    }

    fn submit(&mut self, id: &str) -> RecordRef {
        created(self.one(Command::Create(create(id))))
    }

    fn start(&mut self, target: RecordRef, attempt: u16) -> Token {
        match self.one(Command::Open(Open { target, attempt, instance: WORKER })) {
            Applied::Opened { token, .. } => token,
            other => panic!("{target:?} did not open: {other:?}"),
        }
    }

    fn end(&mut self, token: Token, outcome: AttemptOutcome) -> Applied {
        self.one(Command::Close(close(token, outcome)))
    }

    fn store_all(&mut self) {
        while self.state.stored() < self.state.changes() {
            let through = self.state.changes();
            self.one(Command::HistoryStored { epoch: 5, through });
        }
    }
}

fn created(answer: Applied) -> RecordRef {
    match answer {
        Applied::Created { task, .. } => task,
        other => panic!("not created: {other:?}"),
    }
}

fn create(id: &str) -> Create<'_> {
    Create {
        id,
        name: "",
        payload: b"payload",
        profile: 0,
        priority: 5,
        retry: false,
        start: Start::Ready,
        open: None,
    }
}

fn trigger(target: RecordRef, open: Option<InstanceId>) -> Command<'static> {
    Command::Trigger { target, rerun: Rerun { wish: Wish::Trigger, key: None, open } }
}

fn close(token: Token, outcome: AttemptOutcome) -> Close<'static> {
    Close {
        slot: Slot(0),
        token,
        outcome,
        started_at: None,
        finished_at: None,
        exit_code: None,
        retryable: true,
        output: b"",
        error: "",
        tail: b"",
    }
}

/// Ten seconds of fixed backoff.
fn profile(max_retries: u16) -> Profile {
    Profile {
        kind: "exec".into(),
        queue: "default".into(),
        retry: Retry {
            max_retries,
            backoff: Backoff::Fixed,
            backoff_base_ms: 10_000,
            backoff_max_ms: 60_000,
            no_retry_exit: alloc::vec![99],
        },
        run_timeout_ms: 60_000,
    }
}

fn recurring(overlap: Overlap, next: Option<Timestamp>) -> Start {
    let recurrence = Recurrence {
        rule: Rule::Every { period_ms: 60_000, start: None },
        misfire: Misfire::FireOnce,
        catch_up_ms: 1_000,
        overlap,
    };
    Start::Recurring { recurrence: Box::new(recurrence), next }
}
