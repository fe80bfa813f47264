//! Triggers, retries, and tasks that come back from history, as naively.

use super::{Entity, Model, Stand};
use crate::id::{InstanceId, RecordRef};
use crate::state::{Again, Applied, Deed, Key, Refusal, Rerun, Wish};

impl Entity {
    /// A one-shot that has ended stands for itself and its one run; from here on for runs.
    fn become_task_of_runs(&mut self) {
        let Stand::Done(status) = self.stand else { panic!("it has not ended: {self:?}") };
        self.runs = 1;
        self.last = Some((1, status, self.attempts));
        (self.attempts, self.failures) = (0, 0);
    }
}

impl Model {
    pub(super) fn rerun(
        &mut self,
        target: RecordRef,
        rerun: Rerun<'_>,
    ) -> Result<Applied, Refusal> {
        self.once(rerun.key, |model| model.trigger(target, rerun.wish, rerun.open))
    }

    /// Acts, unless the request came before.
    pub(super) fn once(
        &mut self,
        key: Option<Key<'_>>,
        act: impl FnOnce(&mut Self) -> Result<Applied, Refusal>,
    ) -> Result<Applied, Refusal> {
        if let Some(answer) = self.asked_before(key) {
            return answer;
        }
        let answer = act(self)?;
        self.requests.extend(key.map(|key| (key.request.into(), key.content)));
        Ok(answer)
    }

    fn asked_before(&self, key: Option<Key<'_>>) -> Option<Result<Applied, Refusal>> {
        let key = key?;
        let same = *self.requests.get(key.request)? == key.content;
        Some(if same { Ok(Applied::Repeated { live: None }) } else { Err(Refusal::RequestReused) })
    }

    pub(super) fn again(&mut self, again: &Again<'_>) -> Result<Applied, Refusal> {
        let serial = again.serial.0;
        if let Deed::Run(rerun) = again.deed
            && let Some(answer) = self.asked_before(rerun.key)
        {
            return answer;
        }
        let held = self.entities.iter().find(|(_, e)| e.parent.is_none() && e.id == again.id);
        match held.map(|(&held, _)| held) {
            Some(held) if held != serial => return Err(Refusal::Stale),
            Some(_) => {}
            None => {
                let Some((known, gone, entry)) = self.ended.get(again.id) else {
                    return Err(Refusal::Stale);
                };
                // What left memory within this entry left after history was read.
                if *known != serial || *entry == self.entries {
                    return Err(Refusal::Stale);
                }
                if gone.deleted {
                    return Err(Refusal::NotFound);
                }
                let mut back = gone.clone();
                back.slot = self.lowest_slot();
                if back.runs == 0 && back.overlap.is_none() {
                    back.become_task_of_runs();
                }
                if let Deed::Run(Rerun { wish: Wish::Retry(run), .. }) = again.deed
                    && (run.0 == 0 || run.0 > back.runs)
                {
                    return Err(Refusal::NoSuchRun);
                }
                if let Deed::Run(Rerun { wish: Wish::RetryLatest, .. }) = again.deed
                    && back.runs == 0
                {
                    return Err(Refusal::NoSuchRun);
                }
                self.entities.insert(serial, back);
            }
        }
        let target = self.reference(serial);
        match again.deed {
            Deed::Run(rerun) => self.rerun(target, rerun),
            Deed::Delete { cancel } => self.delete(target, cancel),
        }
    }

    fn trigger(
        &mut self,
        target: RecordRef,
        wish: Wish,
        open: Option<InstanceId>,
    ) -> Result<Applied, Refusal> {
        let serial = self.find(target)?;
        let entity = &self.entities[&serial];
        match entity.stand {
            Stand::Waiting(_) | Stand::Ready(_) if wish != Wish::Trigger => Err(Refusal::Running),
            Stand::Waiting(_) => {
                let opened = self.ready(serial, open);
                Ok(Applied::Fired { run: Some(target), opened })
            }
            Stand::Ready(_) => Ok(Applied::Fired { run: Some(target), opened: None }),
            Stand::Running(_) => Err(Refusal::Running),
            Stand::Done(_) if entity.parent.is_some() => Err(Refusal::Terminal),
            Stand::Done(_) if entity.deleted => Err(Refusal::NotFound),
            Stand::Done(_) => {
                let own_run = entity.runs == 0 && entity.overlap.is_none();
                self.check_wish(wish, serial, if own_run { 1 } else { entity.runs })?;
                if own_run {
                    self.at_mut(serial).become_task_of_runs();
                }
                self.split_first_run(serial);
                let task = self.at_mut(serial);
                (task.stand, task.cancel) = (Stand::Scheduled, false);
                Ok(self.run(serial, false, open))
            }
            Stand::Scheduled if entity.cancel => Err(Refusal::Terminal),
            Stand::Scheduled => {
                if entity.overlap.is_none()
                    && let Some(&only) = self.live_runs(serial).first()
                {
                    return self.trigger(self.reference(only), wish, open);
                }
                self.check_wish(wish, serial, entity.runs)?;
                Ok(self.run(serial, false, open))
            }
        }
    }

    /// A run that is to be repeated exists, and has ended.
    fn check_wish(&self, wish: Wish, serial: u64, runs: u32) -> Result<(), Refusal> {
        let run = match wish {
            Wish::Trigger => return Ok(()),
            Wish::RetryLatest => runs,
            Wish::Retry(run) => run.0,
        };
        if run == 0 || run > runs {
            return Err(Refusal::NoSuchRun);
        }
        let live = self.live_runs(serial);
        if live.iter().any(|live| self.entities[live].number == run) {
            return Err(Refusal::Running);
        }
        Ok(())
    }

    /// A one-shot's only run so far becomes a record of its own.
    fn split_first_run(&mut self, serial: u64) {
        let task = &self.entities[&serial];
        let (true, 1, Some((1, status, attempts))) = (task.overlap.is_none(), task.runs, task.last)
        else {
            return;
        };
        let child = Entity {
            slot: self.lowest_slot(),
            parent: Some(serial),
            number: 1,
            stand: Stand::Done(status),
            attempts,
            deleted: false,
            ..task.clone()
        };
        self.insert(child);
    }
}
