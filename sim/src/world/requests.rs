//! Requests with an id of their own, and how clients repeat them (P8.3).

use dtask_core::id::RunNumber;
use dtask_core::node::Request;
use dtask_core::state::Wish;

use super::call::{Call, id_of};
use super::client::Client;

impl Client {
    /// A trigger or a retry, of a task that lives or ended long ago; or an earlier one once more.
    pub(super) fn draw_trigger(&mut self, who: usize, id: Box<str>, forgets: bool) -> Request {
        if let Some(asked) = self.asked.clone().filter(|_| self.rng.chance(1, 4)) {
            return marked_request(asked);
        }
        let wish = match self.rng.below(4) {
            0 | 1 => Wish::Trigger,
            2 => Wish::RetryLatest,
            _ => Wish::Retry(RunNumber(1 + self.rng.below(3) as u32)),
        };
        let request = self.draw_request_id(who, forgets);
        self.keep(Request::Trigger { id, wish, request, retry: false, past: None })
    }

    /// A cancel, or an earlier request once more.
    pub(super) fn draw_cancel(&mut self, who: usize, id: Box<str>, forgets: bool) -> Request {
        if let Some(asked) = self.asked.clone().filter(|_| self.rng.chance(1, 4)) {
            return marked_request(asked);
        }
        let request = self.draw_request_id(who, forgets);
        self.keep(Request::Cancel { id, run: None, request, retry: false })
    }

    /// A claim: a new one, a repeat, or another content under an id that may stand for anything.
    pub(super) fn draw_claim(&mut self, who: usize) -> Request {
        self.requests += u64::from(self.requests == 0 || self.rng.chance(1, 2));
        let number = 1 + self.rng.below(self.requests.min(4));
        let request = format!("r{who}-{}", self.requests + 1 - number).into();
        Request::Claim { request, content: self.rng.below(2) }
    }

    /// A new id, none, or where nothing is forgotten too soon one that stands for something else.
    fn draw_request_id(&mut self, who: usize, forgets: bool) -> Option<Box<str>> {
        let named = self.rng.chance(1, 2);
        let known = !forgets && self.requests > 0 && self.rng.chance(1, 6);
        self.requests += u64::from(named && !known);
        named.then(|| format!("r{who}-{}", self.requests).into())
    }

    fn keep(&mut self, request: Request) -> Request {
        if id_of(&request).is_some() {
            self.asked = Some(request.clone());
        }
        request
    }
}

/// The same question, as its caller asks it when it does not know what became of it (P8.2).
pub(super) fn marked(call: Call) -> Call {
    Call { request: marked_request(call.request), ..call }
}

fn marked_request(request: Request) -> Request {
    match request {
        Request::Submit(tasks) => Request::Resubmit(tasks),
        Request::Trigger { id, wish, request, retry: _, past } => {
            Request::Trigger { id, wish, request, retry: true, past }
        }
        Request::Cancel { id, run, request, retry: _ } => {
            Request::Cancel { id, run, request, retry: true }
        }
        other => other,
    }
}
