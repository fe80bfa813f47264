//! Worker instances (P7.2) and the nodes' addresses (P3.6).

use crate::id::{InstanceId, NodeId};
use crate::limits;
use crate::state::row::{self, kind};
use crate::state::{Applied, Refusal, State};

impl State {
    pub(super) fn register(&mut self, id: InstanceId, name: &str) -> Result<Applied, Refusal> {
        if name.len() > 4 * limits::NAME_CHARS_MAX {
            return Err(Refusal::Malformed);
        }
        match self.instances.at(id) {
            Some(known) if known.retired => self.set_retired(id, false),
            Some(_) => {}
            None if self.instances.len() >= limits::INSTANCES_MAX => return Err(Refusal::Full),
            None => {
                self.instances.insert(id, name, false);
                self.enter_instance(id);
            }
        }
        Ok(Applied::Done)
    }

    pub(super) fn retire(&mut self, id: InstanceId) -> Result<Applied, Refusal> {
        let Some(known) = self.instances.at(id) else { return Err(Refusal::UnknownInstance) };
        if known.open > 0 {
            return Err(Refusal::Running);
        }
        if !known.retired {
            self.set_retired(id, true);
        }
        self.drop_instance_if_unused(id);
        Ok(Applied::Done)
    }

    /// Forgets a retired instance that no attempt in memory names.
    pub(super) fn drop_instance_if_unused(&mut self, id: InstanceId) {
        if self.instances.at(id).is_some_and(|known| known.retired && known.held == 0) {
            self.leave_instance(id);
            self.instances.remove(id);
        }
    }

    fn set_retired(&mut self, id: InstanceId, retired: bool) {
        self.leave_instance(id);
        if let Some(known) = self.instances.at_mut(id) {
            known.retired = retired;
        }
        self.enter_instance(id);
    }

    fn enter_instance(&mut self, id: InstanceId) {
        let row = self.instance_row(id);
        self.digest.add(row);
    }

    fn leave_instance(&mut self, id: InstanceId) {
        let row = self.instance_row(id);
        self.digest.subtract(row);
    }

    fn instance_row(&mut self, id: InstanceId) -> u128 {
        let Some(known) = self.instances.at(id) else { return 0 };
        self.digest
            .row(kind::INSTANCE, |out| row::put_instance(out, id, &known.name, known.retired))
    }

    pub(super) fn set_addresses(
        &mut self,
        node: NodeId,
        grpc: &str,
        http: &str,
    ) -> Result<Applied, Refusal> {
        if grpc.len() > limits::ADDRESS_BYTES_MAX || http.len() > limits::ADDRESS_BYTES_MAX {
            return Err(Refusal::Malformed);
        }
        match self.addresses.get(&node) {
            Some((grpc, http)) => {
                let row = self
                    .digest
                    .row(kind::ADDRESSES, |out| row::put_addresses(out, node, grpc, http));
                self.digest.subtract(row);
            }
            None if self.addresses.len() >= limits::NODES_MAX => return Err(Refusal::Full),
            None => {}
        }
        let row = self.digest.row(kind::ADDRESSES, |out| row::put_addresses(out, node, grpc, http));
        self.digest.add(row);
        self.addresses.insert(node, (grpc.into(), http.into()));
        Ok(Applied::Done)
    }
}
