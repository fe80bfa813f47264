//! The PostgreSQL server that other tests rely on does what it is told.
#![cfg(not(madsim))]

use std::time::{Duration, Instant};

use dtask_tests::postgres::{Postgres, Stop};

#[test]
fn a_server_keeps_what_was_committed_through_every_way_of_stopping() {
    let mut server = Postgres::start().expect("PostgreSQL starts");
    server.psql("dtask", "CREATE TABLE kept (n integer)").expect("creates");
    let insert = |server: &Postgres, n: u32| {
        server.psql("dtask", &format!("INSERT INTO kept VALUES ({n})")).expect("inserts");
    };
    insert(&server, 1);
    for (n, mode) in [(2, Stop::Smart), (3, Stop::Fast), (4, Stop::Immediate)] {
        server.stop(mode).expect("stops");
        assert!(server.psql("dtask", "SELECT 1").is_err(), "{mode:?} leaves it running");
        server.start_again().expect("starts again");
        insert(&server, n);
    }
    server.kill().expect("dies");
    server.start_again().expect("recovers");
    assert_eq!(server.psql("dtask", "SELECT sum(n) FROM kept").expect("answers"), "10");
}

#[test]
fn a_dump_brings_back_what_was_there_and_nothing_later() {
    let server = Postgres::start().expect("PostgreSQL starts");
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("dump");
    server.psql("dtask", "CREATE TABLE kept AS SELECT 1 AS n").expect("creates");
    server.dump("dtask", &file).expect("dumps");
    server.psql("dtask", "INSERT INTO kept VALUES (2)").expect("inserts");
    server.restore("dtask", &file).expect("restores");
    assert_eq!(server.psql("dtask", "SELECT sum(n) FROM kept").expect("answers"), "1");
}

#[test]
fn a_frozen_server_answers_nothing_until_it_thaws() {
    let server = Postgres::start().expect("PostgreSQL starts");
    server.freeze().expect("freezes");
    let begin = Instant::now();
    let thawed = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            server.psql("dtask", "SELECT 1").expect("answers");
            begin.elapsed()
        });
        std::thread::sleep(Duration::from_millis(300));
        server.thaw().expect("goes on");
        asking.join().expect("it answers")
    });
    assert!(thawed >= Duration::from_millis(300), "answered after {thawed:?}");
}
