//! Registered worker instances (P7.2). One that was retired is kept until history has every
//! attempt that it ran: their rows show its name.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use crate::id::InstanceId;

/// One life of a worker process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Instance {
    /// The worker's name.
    pub(super) name: Box<str>,
    /// No new attempt goes to it.
    pub(super) retired: bool,
    /// Its running attempts. Derived.
    pub(super) open: u32,
    /// Its attempts in memory, closed ones too. Derived.
    pub(super) held: u32,
}

/// The registry.
#[derive(Debug, Default)]
pub(super) struct Instances(BTreeMap<InstanceId, Instance>);

impl Instances {
    pub(super) fn at(&self, id: InstanceId) -> Option<&Instance> {
        self.0.get(&id)
    }

    pub(super) fn at_mut(&mut self, id: InstanceId) -> Option<&mut Instance> {
        self.0.get_mut(&id)
    }

    /// Tells whether new attempts may go to it.
    pub(super) fn accepts(&self, id: InstanceId) -> bool {
        self.0.get(&id).is_some_and(|instance| !instance.retired)
    }

    pub(super) fn insert(&mut self, id: InstanceId, name: &str, retired: bool) {
        self.0.insert(id, Instance { name: name.into(), retired, open: 0, held: 0 });
    }

    pub(super) fn remove(&mut self, id: InstanceId) {
        self.0.remove(&id);
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (InstanceId, &Instance)> {
        self.0.iter().map(|(&id, instance)| (id, instance))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
