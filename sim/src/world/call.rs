//! Callers' questions on their way: asked at a node, forwarded once when it does not lead, answered
//! or given up.

use std::collections::BTreeMap;

use dtask_core::id::Ticket;
use dtask_core::node::{Input, Rejection, Reply, Request};

use super::World;
use super::client::Purpose;
use super::event::{Event, Life};
use super::trace::Probe;

/// A node that is asked aside has this long to say something.
const ASIDE_PATIENCE_MICROS: u64 = 5_000_000;

/// A question on its way.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which client asks, and what for.
    pub client: usize,
    /// What the client will do with the answer.
    pub purpose: Purpose,
    /// Kept for the forward.
    pub request: Request,
    /// Where it was asked.
    pub node: usize,
    /// The node that forwards, in this life.
    pub via: Option<Life>,
    /// How often it was tried.
    pub tries: u32,
    /// How often its node looked at history for it.
    pub looks: u32,
    /// Term that the World's newest known leader had when it was asked.
    pub asked_at: u64,
}

/// All questions on their way.
#[derive(Debug, Default)]
pub struct Calls {
    next: u64,
    open: BTreeMap<Ticket, Call>,
}

impl Calls {
    fn add(&mut self, call: Call) -> Ticket {
        self.next += 1;
        let ticket = Ticket(self.next);
        self.open.insert(ticket, call);
        ticket
    }

    pub(super) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Call> {
        self.open.get_mut(&ticket)
    }

    /// How many are on their way.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Tells whether a submit of this id is on its way.
    pub fn has_submit_of(&self, id: &str) -> bool {
        self.open.values().any(|call| match &call.request {
            Request::Submit(tasks) | Request::Resubmit(tasks) => {
                tasks.iter().any(|task| &*task.id == id)
            }
            _ => false,
        })
    }

    /// Tells whether another with the same request id is on its way.
    pub fn has_one_like(&self, request: &Request) -> bool {
        let id = id_of(request);
        id.is_some() && self.open.values().any(|call| id_of(&call.request) == id)
    }

    /// Tells whether none is.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

impl World {
    /// A client asks a node; the answer, or its absence, comes back to the client.
    pub(super) fn call(&mut self, call: Call, patience: u64) {
        let (node, request) = (call.node, call.request.clone());
        let place = self.config.nodes + self.workers.len();
        let ticket = self.calls.add(call);
        self.agenda.push(self.at + patience, Event::CallTimeout(ticket));
        if self.net.passes(self.at, place, node) {
            let at = self.at + self.net.delay();
            self.agenda.push(at, Event::Ask(node, ticket, Box::new(request), false));
        }
    }

    /// Asks a certain node, only to see what it says.
    pub(super) fn aside(&mut self, node: usize, request: Request) {
        let (purpose, asked_at) = (Purpose::Aside, self.at);
        let call =
            Call { client: 0, purpose, request, node, via: None, tries: 0, looks: 0, asked_at };
        self.call(call, ASIDE_PATIENCE_MICROS);
    }

    /// A question arrives at a node.
    pub(super) fn ask_arrives(
        &mut self,
        node: usize,
        ticket: Ticket,
        request: Box<Request>,
        forwarded: bool,
    ) {
        if !self.nodes[node].is_up() {
            let reason = "connection refused".into();
            let reply = Reply::Rejected(Rejection::Unavailable { reason });
            let at = self.at + self.net.delay();
            self.agenda.push(at, Event::Answer(ticket, Box::new(reply)));
            return;
        }
        if self.nodes[node].paused_until > self.at {
            self.nodes[node].backlog.push(Event::Ask(node, ticket, request, forwarded));
            return;
        }
        if !self.calls.open.contains_key(&ticket) {
            return;
        }
        self.note(node as u32 + 1, request_name(&request), [ticket.0, u64::from(forwarded), 0]);
        self.node_feed(node, Input::Ask { ticket, request: *request, forwarded });
    }

    /// A node answers: the host forwards a refusal by a node that does not lead, once.
    pub(super) fn answer_leaves(&mut self, node: usize, ticket: Ticket, reply: Reply) {
        let Some(call) = self.calls.open.get_mut(&ticket) else { return };
        if let Reply::Rejected(Rejection::NotLeader { leader: Some((leader, _)) }) = &reply
            && call.via.is_none()
        {
            let to = (leader.0 as usize).wrapping_sub(1);
            if to < self.config.nodes && self.net.passes(self.at, node, to) {
                call.via = Some(Life { who: node, life: self.nodes[node].life });
                let request = Box::new(call.request.clone());
                self.probes.hit(Probe::Forwarded);
                let at = self.at + self.net.delay();
                self.agenda.push(at, Event::Ask(to, ticket, request, true));
                return;
            }
        }
        let reply = match reply {
            Reply::NotLive { stored, ended } => {
                match self.edge_looks(node, ticket, (stored, ended)) {
                    Some(reply) => reply,
                    None => return,
                }
            }
            reply => reply,
        };
        let Some(call) = self.calls.open.get(&ticket) else { return };
        let call = call.clone();
        if let Err(violation) = self.judge_answer(node, &call, &reply) {
            self.violate(violation);
            return;
        }
        if call.purpose == Purpose::Aside {
            self.flood_answered(&reply);
        }
        let client = self.config.nodes + self.workers.len();
        let passes = match call.via {
            Some(via) => {
                self.net.passes(self.at, node, via.who) && self.net.passes(self.at, via.who, client)
            }
            None => self.net.passes(self.at, node, client),
        };
        if passes {
            let hops = if call.via.is_some() { self.net.delay() } else { 0 };
            let at = self.at + self.net.delay() + hops;
            self.agenda.push(at, Event::Answer(ticket, Box::new(reply)));
        }
    }

    /// An answer arrives at the caller, unless the node that forwarded has died.
    pub(super) fn answer_arrives(&mut self, ticket: Ticket, reply: Reply) {
        let Some(call) = self.calls.open.get(&ticket) else { return };
        if let Some(via) = call.via
            && (self.nodes[via.who].life != via.life || !self.nodes[via.who].is_up())
        {
            return;
        }
        let Some(call) = self.calls.open.remove(&ticket) else { return };
        self.note(201 + call.client as u32, reply_name(&reply), [ticket.0, 0, 0]);
        self.client_answered(call, reply);
    }

    /// A caller gives up: what happened is unknown to it.
    pub(super) fn call_times_out(&mut self, ticket: Ticket) {
        let Some(call) = self.calls.open.remove(&ticket) else { return };
        self.note(201 + call.client as u32, "gives up", [ticket.0, 0, 0]);
        if self.nodes[call.node].is_up() {
            self.node_feed(call.node, Input::Abandon { ticket });
        }
        self.client_gives_up(call);
    }
}

/// A request's own id.
pub(super) fn id_of(request: &Request) -> Option<&str> {
    match request {
        Request::Trigger { request, .. } | Request::Cancel { request, .. } => request.as_deref(),
        Request::Claim { request, .. } => Some(request),
        _ => None,
    }
}

fn request_name(request: &Request) -> &'static str {
    match request {
        Request::Submit(_) => "ask submit",
        Request::Resubmit(_) => "ask submit again",
        Request::Task { .. } => "ask task",
        Request::Tasks { .. } => "ask tasks",
        Request::Attempts { .. } => "ask attempts",
        Request::Wait { .. } => "ask wait",
        Request::Cancel { .. } => "ask cancel",
        Request::Claim { .. } => "ask claim",
        Request::Trigger { .. } => "ask trigger",
        Request::Delete { .. } => "ask delete",
        Request::Follow { .. } => "ask follow",
        Request::Workers => "ask workers",
        Request::Cluster => "ask cluster",
        Request::Barrier => "ask barrier",
    }
}

fn reply_name(reply: &Reply) -> &'static str {
    match reply {
        Reply::Submitted(_) => "hears submitted",
        Reply::Task(_) => "hears task",
        Reply::Claimed => "hears claimed",
        Reply::Tasks { .. } => "hears tasks",
        Reply::Attempts { .. } => "hears attempts",
        Reply::NotLive { .. } => "hears not live",
        Reply::Repeated { .. } => "hears repeated",
        Reply::Output { .. } => "hears output",
        Reply::Workers(_) => "hears workers",
        Reply::Cluster(_) => "hears cluster",
        Reply::Applied { .. } => "hears applied",
        Reply::Rejected(_) => "hears no",
    }
}
