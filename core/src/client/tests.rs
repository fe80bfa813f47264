//! Calls, told as facts.

use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::machine::Driver;

struct Call {
    driver: Driver<Client>,
    now: Now,
}

impl Call {
    fn new(repeat: Repeat) -> Self {
        let config = CallConfig {
            servers: vec!["a:1".into(), "b:1".into()],
            repeat,
            patience: Duration::from_secs(10),
            try_timeout: Duration::from_secs(3),
            rounds_max: 2,
            seed: 1,
        };
        let now = Now { mono: Instant::from_micros(9_000_000), ..Now::default() };
        Self { driver: Driver::new(Client::new(config)), now }
    }

    fn wake(&mut self) -> Vec<Effect> {
        self.driver.wake(self.now);
        self.driver.flush(self.now);
        self.driver.effects().collect()
    }

    fn advance(&mut self, span: Duration) -> Vec<Effect> {
        self.now.mono = self.now.mono + span;
        self.wake()
    }

    fn end(&mut self, attempt: u32, verdict: Verdict) -> Vec<Effect> {
        self.driver.feed(self.now, Input::Ended { attempt: TryId(attempt), verdict });
        self.wake()
    }

    /// Sleeps as the call wants until it does something.
    fn sleep(&mut self) -> Vec<Effect> {
        for _ in 0..10 {
            let span = self.driver.sleep(self.now).expect("the call is not over");
            let effects = self.advance(span);
            if !effects.is_empty() {
                return effects;
            }
        }
        panic!("the call spins");
    }
}

fn sent(attempt: u32, server: &str) -> Vec<Effect> {
    vec![Effect::Send { attempt: TryId(attempt), server: server.into(), again: false }]
}

/// The same, marked as a re-send (P8.2).
fn sent_again(attempt: u32, server: &str) -> Vec<Effect> {
    vec![Effect::Send { attempt: TryId(attempt), server: server.into(), again: true }]
}

fn done(outcome: Outcome) -> Vec<Effect> {
    vec![Effect::Done(outcome)]
}

#[test]
fn an_answer_ends_the_call() {
    let mut call = Call::new(Repeat::Once);
    assert_eq!(call.wake(), sent(1, "a:1"));
    let outcome = Outcome::Answered { attempt: TryId(1), server: "a:1".into() };
    assert_eq!(call.end(1, Verdict::Answered), done(outcome));
    assert_eq!(call.driver.sleep(call.now), None);
}

#[test]
fn a_hint_is_followed_at_once() {
    let mut call = Call::new(Repeat::Once);
    call.wake();
    let effects = call.end(1, Verdict::NotLeader { leader: Some("c:1".into()) });
    assert_eq!(effects, sent(2, "c:1"));
}

#[test]
fn nodes_that_point_at_each_other_are_asked_ever_later() {
    let mut call = Call::new(Repeat::Once);
    let mut effects = call.wake();
    let mut tries = 0;
    while effects != done(Outcome::Unreachable) {
        tries += 1;
        effects = call.end(tries, Verdict::NotLeader { leader: Some("b:1".into()) });
        if effects.is_empty() {
            effects = call.sleep();
        }
    }
    assert!((10..80).contains(&tries), "{tries} tries in 10 s");
}

#[test]
fn when_no_node_is_reached_the_call_gives_up_after_its_rounds_and_nothing_was_done() {
    let mut call = Call::new(Repeat::Once);
    assert_eq!(call.wake(), sent(1, "a:1"));
    assert_eq!(call.end(1, Verdict::Unreachable), sent(2, "b:1"), "no wait within a round");
    assert_eq!(call.end(2, Verdict::Unreachable), []);
    assert_eq!(call.sleep(), sent(3, "a:1"));
    assert_eq!(call.end(3, Verdict::Unreachable), sent(4, "b:1"));
    assert_eq!(call.end(4, Verdict::Unreachable), done(Outcome::Unreachable));
}

#[test]
fn a_lost_answer_to_a_request_without_an_id_leaves_the_outcome_unknown() {
    let mut call = Call::new(Repeat::Once);
    call.wake();
    assert_eq!(call.end(1, Verdict::Unknown), done(Outcome::Unknown));
}

#[test]
fn a_lost_answer_to_a_request_with_an_id_is_asked_for_again() {
    let mut call = Call::new(Repeat::SameId);
    call.wake();
    assert_eq!(call.end(1, Verdict::Unknown), []);
    assert_eq!(call.sleep(), sent_again(2, "b:1"));
    let outcome = Outcome::Answered { attempt: TryId(2), server: "b:1".into() };
    assert_eq!(call.end(2, Verdict::Answered), done(outcome));
}

#[test]
fn once_an_answer_was_lost_the_outcome_stays_unknown_however_the_rest_ends() {
    let mut call = Call::new(Repeat::SameId);
    call.wake();
    call.end(1, Verdict::Unknown);
    call.sleep();
    assert_eq!(call.end(2, Verdict::Unreachable), sent_again(3, "a:1"));
    call.end(3, Verdict::Unreachable);
    call.sleep();
    call.end(4, Verdict::Unreachable);
    assert_eq!(call.end(5, Verdict::Unreachable), done(Outcome::Unknown));
}

#[test]
fn a_read_without_an_answer_has_done_nothing() {
    let mut call = Call::new(Repeat::Read);
    call.wake();
    let mut all = vec![];
    while !call.driver.machine().is_done() {
        all = call.sleep();
    }
    assert_eq!(all.last(), Some(&Effect::Done(Outcome::Unreachable)));
}

#[test]
fn a_node_that_takes_too_long_is_abandoned_for_the_next() {
    let mut call = Call::new(Repeat::SameId);
    call.wake();
    assert_eq!(call.advance(Duration::from_secs(3)), [Effect::Abandon { attempt: TryId(1) }]);
    assert_eq!(call.sleep(), sent_again(2, "b:1"));
    assert_eq!(call.end(1, Verdict::Answered), [], "its late answer is another sending's");
}

#[test]
fn patience_ends_the_call_exactly() {
    let mut call = Call::new(Repeat::SameId);
    let begin = call.now.mono;
    call.wake();
    while !call.driver.machine().is_done() {
        call.sleep();
    }
    assert_eq!(call.now.mono.since(begin), Duration::from_secs(10));
}

#[test]
fn a_busy_node_is_asked_again_when_it_says() {
    let mut call = Call::new(Repeat::Once);
    call.wake();
    assert_eq!(call.end(1, Verdict::Busy { retry_after_ms: 700 }), []);
    assert_eq!(call.driver.sleep(call.now), Some(Duration::from_millis(700)));
    assert_eq!(call.sleep(), sent(2, "a:1"));
    call.end(2, Verdict::Busy { retry_after_ms: 60_000 });
    call.sleep();
    call.end(3, Verdict::Busy { retry_after_ms: 60_000 });
    assert_eq!(call.sleep(), done(Outcome::Busy));
}
