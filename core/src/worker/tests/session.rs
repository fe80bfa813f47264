//! Finding the leader, staying with it, and leaving a silent one.

use super::*;
use crate::worker::config::{BACKOFF_QUICK_MAX, QUICK_TRIES};

#[test]
fn the_first_wake_connects_to_the_first_server() {
    let mut bench = Bench::new(1);
    assert_eq!(bench.driver.sleep(bench.now), Some(Duration::ZERO));
    let (server, hello) = bench.greet();
    assert_eq!(&*server, "a:1");
    assert_eq!((hello.instance, hello.slots), (InstanceId(77), 1));
}

#[test]
fn a_node_that_does_not_lead_sends_the_worker_to_the_leader_at_once() {
    let mut bench = Bench::new(1);
    bench.greet();
    let before = bench.now;
    let effects =
        bench.hear(LeaderFrame::NotLeader { leader: Some((NodeId(9), "leader:1".into())) });
    assert!(effects.contains(&Effect::Disconnect { connection: ConnectionId(1) }));
    assert_eq!(connect(effects[1].clone()), Some((ConnectionId(2), "leader:1".into())));
    assert_eq!(bench.now, before);
}

#[test]
fn nodes_that_point_at_each_other_do_not_make_a_storm() {
    let mut bench = Bench::new(1);
    let mut tries = 0;
    let begin = bench.now.mono;
    while bench.now.mono.since(begin) < secs(10) {
        bench.greet();
        tries += 1;
        bench.hear(LeaderFrame::NotLeader { leader: Some((NodeId(9), "other:1".into())) });
    }
    assert!(tries < 120, "{tries} tries in 10 s");
}

#[test]
fn without_a_hint_the_next_server_is_asked_ever_later() {
    let mut bench = Bench::new(1);
    let mut asked = vec![];
    let mut waits = vec![];
    for _ in 0..QUICK_TRIES + 12 {
        let before = bench.now.mono;
        let (server, _) = bench.greet();
        waits.push(bench.now.mono.since(before));
        asked.push(server);
        bench.hear(LeaderFrame::NotLeader { leader: None });
    }
    assert_eq!(asked[..4].iter().map(|s| &**s).collect::<Vec<_>>(), ["a:1", "b:1", "c:1", "a:1"]);
    let quick = waits[QUICK_TRIES as usize];
    assert!(quick <= BACKOFF_QUICK_MAX, "an election is not outwaited: {quick:?}");
    let last = waits.last().expect("many tries");
    assert!((secs(1)..=secs(2)).contains(last), "{last:?}");
}

#[test]
fn a_dead_machine_is_given_up_within_a_second() {
    let mut bench = Bench::new(1);
    bench.wake();
    let effects = bench.advance(secs(1));
    assert!(effects.contains(&Effect::Disconnect { connection: ConnectionId(1) }));
    assert_eq!(
        effects.into_iter().find_map(connect),
        Some((ConnectionId(2), "b:1".into())),
        "the first retry has no wait"
    );
}

#[test]
fn an_unanswered_hello_is_given_up() {
    let mut bench = Bench::new(1);
    bench.greet();
    let effects = bench.advance(secs(3));
    assert!(effects.contains(&Effect::Disconnect { connection: ConnectionId(1) }));
}

#[test]
fn a_session_whose_heartbeats_go_unanswered_is_left_before_the_fence() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    let all = bench.live_through(secs(8));
    let (at, _) = all
        .iter()
        .find(|(_, effect)| matches!(effect, Effect::Disconnect { .. }))
        .expect("a silent leader is left");
    assert_eq!(*at, secs(7), "sent at 3 s, silent for 4 s");
    assert!(timed_signals(&all).is_empty());
}

#[test]
fn heartbeats_go_on_without_attempts() {
    let mut bench = Bench::joined(1);
    for seq in 1..=5 {
        assert_eq!(heartbeats(&bench.advance(secs(3))), [(seq, vec![])]);
        bench.hear(LeaderFrame::Renewed { seq, extends: vec![] });
    }
}

#[test]
fn frames_of_an_older_connection_are_dropped() {
    let mut bench = Bench::joined(1);
    let old = bench.connection;
    bench.cut();
    bench.join(vec![]);
    let frame = LeaderFrame::Open(vec![assignment(5)]);
    assert_eq!(bench.say(Input::Frame { connection: old, frame }), []);
    assert_eq!(bench.say(Input::Disconnected { connection: old }), []);
    assert!(bench.driver.machine().is_joined());
}

#[test]
fn frames_before_the_welcome_end_the_connection() {
    let mut bench = Bench::new(1);
    bench.greet();
    let effects = bench.open([5]);
    assert_eq!(effects[0], Effect::Disconnect { connection: ConnectionId(1) });
    assert!(starts(&effects).is_empty());
}

#[test]
fn every_frame_but_the_hello_names_the_session() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    bench.driver.feed(bench.now, Input::Started { token: Token(5) });
    let mut effects = bench.succeed(5);
    effects.extend(bench.advance(secs(3)));
    let sessions: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send { session, .. } => Some(*session),
            _ => None,
        })
        .collect();
    assert_eq!(sessions, [Some(SessionId(1)); 2]);
}

#[test]
fn a_refused_worker_stops_its_handlers_and_ends() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    bench.cut();
    bench.greet();
    let effects = bench.hear(LeaderFrame::Refused { reason: "too many workers".into() });
    assert_eq!(signals(&effects), [(5, Signal::Term)]);
    let effects = bench.end(5, Ending::failure("", true));
    let farewell = Farewell::Refused { reason: "too many workers".into() };
    assert_eq!(effects.last(), Some(&Effect::Done(farewell)));
    assert_eq!(bench.driver.sleep(bench.now), None);
}
