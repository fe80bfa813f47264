//! Scripted handlers: they take time, fail, hang, ignore signals, and leave effects in a store
//! outside.

use bytes::Bytes;
use dtask_core::id::Token;
use dtask_core::worker::{Assignment, Ending, Input, Signal};

use super::World;
use super::config::{around, log_uniform};
use super::event::{Event, Life};
use super::trace::Probe;
use crate::check::effects::RunKey;

/// A handler's script.
#[derive(Clone, Debug)]
pub struct HandlerRun {
    /// Whose.
    pub key: RunKey,
    /// How it will end when nobody interferes.
    pub ending: Ending,
    /// Never ends by itself.
    pub hangs: bool,
    /// Ignores SIGTERM.
    pub deaf: bool,
    /// Stages of an older script are void.
    pub script: u32,
    /// Length, in microseconds.
    pub length: u64,
}

/// Stages of a handler.
const STARTED: u32 = 0;
const EFFECT: u32 = 1;
const END: u32 = 2;
pub(super) const KILLED: u32 = 3;

impl World {
    pub(super) fn handler_start(&mut self, who: usize, assignment: &Assignment) {
        let (at, healed) = (self.at, self.healed);
        let token = assignment.token;
        let key = (assignment.task_id.clone(), assignment.run.0);
        let numbers = [token.0, u64::from(assignment.run.0), u64::from(assignment.attempt)];
        self.trace.push(super::trace::Line {
            at,
            who: 101 + who as u32,
            kind: "handler starts",
            numbers,
        });
        let instance = self.workers[who].config.instance;
        if let Err(violation) = self.judge_start(instance, assignment) {
            self.violate(violation);
            return;
        }
        let config = &self.config;
        let host = &mut self.workers[who];
        let rng = &mut host.rng;
        let most =
            if healed { config.load.handler_max.min(20_000) } else { config.load.handler_max };
        let length = log_uniform(rng, 1_000, most.max(1_000));
        let fails = !healed && rng.chance(config.worker.fail_permille, 1_000);
        let hangs = !healed && rng.chance(config.worker.hang_permille, 1_000);
        let ending = if fails {
            let exit_code = Some(1 + rng.below(3) as i32);
            Ending { exit_code, ..Ending::failure("scripted", rng.chance(7, 8)) }
        } else {
            Ending::success(Bytes::from_static(b"done"))
        };
        let run = HandlerRun { key, ending, hangs, deaf: rng.chance(1, 4), script: 0, length };
        host.handlers.insert(token, run);
        let life = Life { who, life: host.life };
        let slow = rng.below(2_000);
        self.agenda.push(at + 1 + slow, Event::HandlerDue(life, token, STARTED));
    }

    pub(super) fn handler_due(&mut self, who: usize, token: Token, stage: u32) {
        let life = Life { who, life: self.workers[who].life };
        let Some(run) = self.workers[who].handlers.get(&token).cloned() else { return };
        let at = self.at;
        match stage {
            STARTED => {
                self.agenda.push(at + run.length / 2, Event::HandlerDue(life, token, EFFECT));
                self.handler_says(who, Input::Started { token });
            }
            EFFECT => {
                if !self.outside.effect(&run.key, token) {
                    self.fail("S11", format!("{token} has an effect after a newer one had"));
                }
                if !run.hangs {
                    self.agenda.push(at + run.length / 2, Event::HandlerDue(life, token, END));
                }
            }
            _ => {
                self.workers[who].handlers.remove(&token);
                self.outside.ended(&run.key, token);
                let ending = if stage == KILLED {
                    Ending { exit_code: Some(-9), ..Ending::failure("killed", true) }
                } else {
                    run.ending
                };
                self.note(101 + who as u32, "handler ends", [token.0, u64::from(stage), 0]);
                self.handler_says(who, Input::Ended { token, ending });
            }
        }
    }

    /// A handler tells its worker something; a frozen one reads it when it thaws.
    fn handler_says(&mut self, who: usize, input: Input) {
        let at = self.at;
        let host = &mut self.workers[who];
        if host.paused_until > at {
            let life = Life { who, life: host.life };
            host.backlog.push(Event::HandlerSaid(life, Box::new(input)));
        } else {
            self.worker_feed(who, input);
        }
    }

    pub(super) fn handler_signal(&mut self, who: usize, token: Token, signal: Signal) {
        let life = Life { who, life: self.workers[who].life };
        self.note(101 + who as u32, "signals handler", [token.0, signal as u64, 0]);
        let host = &mut self.workers[who];
        let Some(run) = host.handlers.get(&token) else { return };
        let wait = match signal {
            Signal::Term if run.deaf => return,
            Signal::Term => 1_000 + around(&mut host.rng, 300_000),
            Signal::Kill => 1 + host.rng.below(2_000),
        };
        self.probes.hit(Probe::HandlerKilled);
        self.agenda.push(self.at + wait, Event::HandlerDue(life, token, KILLED));
    }
}
