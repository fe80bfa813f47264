//! Ready runs: an intrusive first-in-first-out list for each match class (queue, type) and
//! priority. Any run leaves in constant time; classes are merged by the ready sequence that each
//! run took, so a million runs that no worker can take never stand before another class.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::facts::ClassId;
use super::record::{NONE, Phase};
use super::slab::Slab;

/// 0..=9.
pub(super) const PRIORITIES: usize = 10;

#[derive(Clone, Copy, Debug)]
struct Ends {
    head: u32,
    tail: u32,
}

/// The runs of one queue and type.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) queue: Box<str>,
    pub(super) kind: Box<str>,
    pub(super) len: usize,
    lists: [Ends; PRIORITIES],
    refs: u32,
}

/// All match classes. Derived: rebuilt from the records' sequences.
#[derive(Debug, Default)]
pub(super) struct Classes {
    classes: Vec<Option<Class>>,
    free: Vec<u32>,
    by_name: BTreeMap<Box<str>, BTreeMap<Box<str>, ClassId>>,
    nonempty: BTreeSet<ClassId>,
}

impl Classes {
    /// Finds or makes a class and counts one more profile of it.
    pub(super) fn retain(&mut self, queue: &str, kind: &str) -> ClassId {
        if let Some(class) = self.find(queue, kind) {
            if let Some(held) = self.at_mut(class) {
                held.refs += 1;
            }
            return class;
        }
        let lists = [Ends { head: NONE, tail: NONE }; PRIORITIES];
        let new = Class { queue: queue.into(), kind: kind.into(), len: 0, lists, refs: 1 };
        let class = match self.free.pop() {
            Some(number) => {
                self.classes[number as usize] = Some(new);
                ClassId(number)
            }
            None => {
                self.classes.push(Some(new));
                ClassId((self.classes.len() - 1) as u32)
            }
        };
        self.by_name.entry(queue.into()).or_default().insert(kind.into(), class);
        class
    }

    /// Counts one profile less; a class without any is forgotten (its lists are empty then).
    pub(super) fn release(&mut self, class: ClassId) {
        let Some(held) = self.at_mut(class) else { return };
        held.refs -= 1;
        if held.refs > 0 {
            return;
        }
        if let Some(gone) = self.classes[class.0 as usize].take() {
            if let Some(kinds) = self.by_name.get_mut(&gone.queue) {
                kinds.remove(&gone.kind);
                if kinds.is_empty() {
                    self.by_name.remove(&gone.queue);
                }
            }
            self.free.push(class.0);
        }
    }

    pub(super) fn find(&self, queue: &str, kind: &str) -> Option<ClassId> {
        self.by_name.get(queue)?.get(kind).copied()
    }

    pub(super) fn at(&self, class: ClassId) -> Option<&Class> {
        self.classes.get(class.0 as usize)?.as_ref()
    }

    /// Classes that have a ready run, ascending.
    pub(super) fn nonempty(&self) -> impl Iterator<Item = ClassId> + '_ {
        self.nonempty.iter().copied()
    }

    /// Appends a run to its list. Its phase is `Ready` with the sequence set.
    pub(super) fn push(&mut self, slab: &mut Slab, class: ClassId, slot: u32) {
        let Some(record) = slab.at(slot) else { return };
        let priority = usize::from(record.priority).min(PRIORITIES - 1);
        let Some(held) = self.at_mut(class) else { return };
        let before = held.lists[priority].tail;
        held.lists[priority].tail = slot;
        if before == NONE {
            held.lists[priority].head = slot;
        }
        held.len += 1;
        if held.len == 1 {
            self.nonempty.insert(class);
        }
        link(slab, before, |_, next| *next = slot);
        link(slab, slot, |prev, next| (*prev, *next) = (before, NONE));
    }

    /// Takes a run out of its list, wherever it stands.
    pub(super) fn remove(&mut self, slab: &mut Slab, class: ClassId, slot: u32) {
        let Some(record) = slab.at(slot) else { return };
        let Phase::Ready { prev, next, .. } = record.phase else { return };
        let priority = usize::from(record.priority).min(PRIORITIES - 1);
        let Some(held) = self.at_mut(class) else { return };
        if prev == NONE {
            held.lists[priority].head = next;
        }
        if next == NONE {
            held.lists[priority].tail = prev;
        }
        held.len -= 1;
        if held.len == 0 {
            self.nonempty.remove(&class);
        }
        link(slab, prev, |_, link| *link = next);
        link(slab, next, |link, _| *link = prev);
    }

    /// The slots of a class by priority, then sequence.
    pub(super) fn walk<'a>(
        &'a self,
        slab: &'a Slab,
        class: ClassId,
    ) -> impl Iterator<Item = u32> + 'a {
        let lists = self.at(class).map_or([NONE; PRIORITIES], |held| held.lists.map(|l| l.head));
        lists.into_iter().rev().flat_map(move |head| {
            core::iter::successors((head != NONE).then_some(head), move |&slot| {
                match slab.at(slot)?.phase {
                    Phase::Ready { next, .. } if next != NONE => Some(next),
                    Phase::Ready { .. }
                    | Phase::Waiting { .. }
                    | Phase::Running
                    | Phase::Scheduled
                    | Phase::Done(_) => None,
                }
            })
        })
    }

    fn at_mut(&mut self, class: ClassId) -> Option<&mut Class> {
        self.classes.get_mut(class.0 as usize)?.as_mut()
    }
}

fn link(slab: &mut Slab, slot: u32, change: impl FnOnce(&mut u32, &mut u32)) {
    if let Some(record) = slab.at_mut(slot)
        && let Phase::Ready { prev, next, .. } = &mut record.phase
    {
        change(prev, next);
    }
}
