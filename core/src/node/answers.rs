//! Answers from this node's own state: to reads that a ReadIndex round has cleared, or that may be
//! stale.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::io::Effect;
use super::request::{ClusterView, NodeView, Reply, Request, Role, TaskFilter};
use super::{Node, clocks};
use crate::id::{NodeId, RecordRef, Ticket};
use crate::machine::Outbox;
use crate::state::view::{TaskStatus, TaskView, WaitCode, WaitView};
use crate::time::Now;

/// Slots that one list looks at: bounds the turn; the caller goes on from the cursor.
const WALK_SLOTS_MAX: usize = 2_000;

impl Node {
    /// Answers a read from state.
    pub(super) fn answer(
        &mut self,
        now: Now,
        ticket: Ticket,
        request: Request,
        out: &mut Outbox<Effect>,
    ) {
        let reply = match request {
            Request::Task { id, .. } => self.task(&id),
            Request::Tasks { ids: Some(ids), .. } => {
                let found = ids.iter().filter_map(|id| self.state.find(id));
                let tasks = found.filter_map(|task| self.view(task)).collect();
                let deleted = ids.iter().filter(|id| self.state.is_deleted(id)).cloned().collect();
                Reply::Tasks { tasks, deleted, next: None }
            }
            Request::Tasks { ids: None, filter, cursor, limit, .. } => {
                self.walk_tasks(&filter, cursor, limit)
            }
            Request::Attempts { id, .. } => self.attempts(&id),
            Request::Wait { id, run } => match self.waits.wait(ticket, &id, run, &self.state) {
                Some(reply) => reply,
                None => return,
            },
            Request::Barrier => {
                Reply::Applied { index: self.state.applied_index(), changes: self.state.changes() }
            }
            Request::Cluster => Reply::Cluster(Box::new(self.cluster_view())),
            Request::Follow { id, token, offset } => match &mut self.leader {
                Some(leader) => {
                    leader.follow((ticket, &id, token, offset), &self.state, out);
                    return;
                }
                None => Reply::Rejected(self.not_leader()),
            },
            Request::Workers => match &self.leader {
                Some(leader) => leader.workers(now),
                None => Reply::Rejected(self.not_leader()),
            },
            // Writes never come here: they are the leader's.
            Request::Submit(_)
            | Request::Resubmit(_)
            | Request::Cancel { .. }
            | Request::Claim { .. }
            | Request::Trigger { .. }
            | Request::Delete { .. } => Reply::Rejected(self.not_leader()),
        };
        out.push(Effect::Answer { ticket, reply });
    }

    fn task(&self, id: &str) -> Reply {
        match self.state.find(id).and_then(|task| self.view(task)) {
            Some(view) => Reply::Task(Box::new(view)),
            None => Reply::missing(id, &self.state),
        }
    }

    fn view(&self, task: RecordRef) -> Option<TaskView> {
        let mut view = self.state.task_view(task)?;
        match &self.leader {
            Some(leader) => leader.explain(&mut view),
            None if self.role.leader.is_none() && view.status == TaskStatus::Ready => {
                view.wait = Some(WaitView {
                    code: WaitCode::NoLeader,
                    message: "no node leads".into(),
                    since: view.updated_at,
                    until: None,
                });
            }
            // Only the leader knows its workers.
            None => {}
        }
        Some(view)
    }

    /// Attempts of a deleted task stay to be read in history.
    fn attempts(&self, id: &str) -> Reply {
        let Some(task) = self.state.find(id) else {
            return Reply::not_live(&self.state);
        };
        match self.view(task) {
            Some(view) => Reply::Attempts {
                task: Box::new(view),
                runs: self.state.run_views(task),
                attempts: self.state.attempt_views(task),
            },
            None => Reply::not_live(&self.state),
        }
    }

    /// A bounded walk over slots; `next` is where to go on, also when nothing matched so far.
    fn walk_tasks(&self, filter: &TaskFilter, cursor: u64, limit: u32) -> Reply {
        let mut tasks = Vec::new();
        let next = self.state.walk_tasks(cursor, WALK_SLOTS_MAX, |task| {
            if let Some(view) = self.view(task).filter(|view| matches(filter, view)) {
                tasks.push(view);
            }
            tasks.len() < limit as usize
        });
        Reply::Tasks { tasks, deleted: Vec::new(), next }
    }

    pub(super) fn cluster_view(&self) -> ClusterView {
        let (clocks, _) = self.vitals.clocks(self.now);
        let median = clocks::median(&clocks);
        let standing = self.consensus.standing();
        let conf = self.consensus.conf();
        let progress = self.consensus.progress();
        let members: Vec<NodeId> = if conf.voters.is_empty() {
            self.config.voters.clone()
        } else {
            conf.voters.iter().chain(&conf.learners).copied().collect()
        };
        let node = |id: NodeId| {
            let (grpc, http) = self.state.addresses(id).unwrap_or(("", ""));
            let peer = progress.iter().find(|peer| peer.id == id);
            let leads = standing.leader == Some(id);
            let own = id == self.config.id;
            NodeView {
                id,
                grpc: if grpc.is_empty() {
                    self.address(id).unwrap_or_default()
                } else {
                    grpc.into()
                },
                http: http.into(),
                role: match (leads, own) {
                    (true, _) => Role::Leader,
                    (false, true) => standing.role,
                    (false, false) if conf.learners.contains(&id) => Role::Learner,
                    (false, false) => Role::Follower,
                },
                match_index: peer.map(|peer| peer.match_index),
                alive: if own { Some(true) } else { peer.map(|peer| peer.alive) },
                clock_offset_ms: if own { Some(0) } else { self.vitals.ahead(self.now, id) }
                    .map(|ahead| (ahead - median) / 1_000),
                diverged: match own {
                    true => self.diverged.is_some(),
                    false => self.diverged.is_none() && self.marks.differs(id),
                },
            }
        };
        ClusterView {
            cluster: self.consensus.cluster_id(),
            node: self.config.id,
            leader: standing.leader,
            term: standing.term,
            commit_index: self.consensus.commit_index(),
            applied_index: self.state.applied_index(),
            digest: self.state.digest(),
            history_lag: self.state.changes().saturating_sub(self.state.stored()),
            outbox_bytes_max: self.config.outbox_bytes_max,
            changes: self.state.changes(),
            live_tasks: self.state.live_tasks(),
            attempts_opened: self.state.attempts_opened(),
            attempts_running: self.state.attempts_running(),
            nodes: members.into_iter().map(node).collect(),
            conf,
            at: self.state.at(),
        }
    }
}

fn matches(filter: &TaskFilter, view: &TaskView) -> bool {
    let same = |wanted: &Option<Box<str>>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
    (filter.statuses.is_empty() || filter.statuses.contains(&view.status))
        && same(&filter.kind, &view.profile.kind)
        && same(&filter.queue, &view.profile.queue)
        && same(&filter.name, &view.name)
        && filter.created_after.is_none_or(|after| view.created_at >= after)
        && filter.created_before.is_none_or(|before| view.created_at < before)
}
