//! Real bytes to begin with: entries, a log and a snapshot of a node that lived, what nodes and
//! workers say to each other, requests as callers write them. `dtask-fuzz-seeds` writes them into
//! a corpus.

use bytes::Bytes;
use dtask_core::codec::flat::EntryBuilder;
use dtask_core::codec::peer::encode_envelope;
use dtask_core::codec::worker::{encode_leader_frame, encode_worker_frame};
use dtask_core::id::{InstanceId, NodeId, RecordRef, RunNumber, Serial, SessionId, Slot, Token};
use dtask_core::log::File;
use dtask_core::rng::Rng;
use dtask_core::spec::{
    AttemptOutcome, Backoff, DstFold, DstGap, Misfire, Overlap, Profile, Recurrence, Retry, Rule,
    StopWhy,
};
use dtask_core::state::{
    Changes, Close, Command, Create, Fire, IndexKey, LEVEL, Open, Rerun, Start, State, Wish,
};
use dtask_core::time::Timestamp;
use dtask_core::worker::{Assignment, Hello, LeaderFrame, Report, WorkerFrame};
use dtask_proto::v1;
use prost::Message as _;

use crate::snapshot::walk;
use crate::{cluster, restart};

/// A target's name and an input for it.
type Seed = (&'static str, Vec<u8>);

/// Every seed.
pub fn seeds() -> Vec<Seed> {
    let mut seeds = entries();
    seeds.extend(logs());
    seeds.extend(snapshots());
    seeds.extend(
        cluster::envelopes()
            .into_iter()
            .map(|envelope| ("peer", encode_envelope(envelope).encode_to_vec())),
    );
    seeds.extend(frames());
    seeds.extend(texts());
    seeds.extend(requests());
    seeds.extend(chances());
    seeds
}

fn profile() -> Profile {
    Profile {
        kind: "exec".into(),
        queue: "default".into(),
        retry: Retry {
            max_retries: 3,
            backoff: Backoff::Exponential,
            backoff_base_ms: 1_000,
            backoff_max_ms: 600_000,
            no_retry_exit: vec![2, 127],
        },
        run_timeout_ms: 86_400_000,
    }
}

fn recurring(rule: Rule) -> Start {
    let recurrence = Recurrence {
        rule,
        misfire: Misfire::FireOnce,
        catch_up_ms: 86_400_000,
        overlap: Overlap::Skip,
    };
    let next = Some(Timestamp::from_seconds(1_020));
    Start::Recurring { recurrence: Box::new(recurrence), next }
}

fn cron() -> Rule {
    let (gap, fold) = (DstGap::Auto, DstFold::Auto);
    Rule::Cron { expr: "30 2 * * 1-5".into(), zone: "Europe/Paris".into(), gap, fold }
}

/// One command of each kind.
fn commands() -> Vec<Command<'static>> {
    let target = RecordRef { slot: Slot(0), serial: Serial(1) };
    let create = |id, start| {
        Command::Create(Create {
            id,
            name: "report",
            payload: b"{\"a\":1}",
            profile: 0,
            priority: 5,
            retry: false,
            start,
            open: Some(InstanceId(7)),
        })
    };
    let every = Rule::Every { period_ms: 60_000, start: Some(Timestamp::from_seconds(960)) };
    vec![
        Command::RegisterInstance { instance: InstanceId(7), name: "w1" },
        create("a", Start::Ready),
        create("b", Start::At(Timestamp::from_seconds(2_000))),
        create("c", recurring(every)),
        create("d", recurring(cron())),
        Command::Open(Open { target, attempt: 1, instance: InstanceId(7) }),
        Command::Close(Close {
            slot: Slot(0),
            token: Token(1),
            outcome: AttemptOutcome::Succeeded,
            started_at: Some(Timestamp::from_seconds(1_001)),
            finished_at: Some(Timestamp::from_seconds(1_002)),
            exit_code: Some(0),
            retryable: true,
            output: b"done",
            error: "",
            tail: b"line\n",
        }),
        Command::Fire(Fire {
            target: RecordRef { slot: Slot(2), serial: Serial(3) },
            revision: 1,
            fire_time: Timestamp::from_seconds(1_020),
            next: Some(Timestamp::from_seconds(1_080)),
            skip: Some("misfire"),
            also_missed: 2,
            open: None,
        }),
        Command::HistoryStored { epoch: 1, through: 3 },
        Command::HistoryDropped { through: 1 },
        Command::Cancel { target, key: None },
        Command::TimeOut { token: Token(1), target },
        Command::Trigger { target, rerun: Rerun { wish: Wish::Trigger, key: None, open: None } },
        Command::Delete { target, cancel: true },
        Command::RetireInstance { instance: InstanceId(7) },
        Command::SetAddresses { node: NodeId(1), grpc: "a:7100", http: "a:7180" },
    ]
}

fn entry(commands: &[Command<'_>], second: i64) -> Bytes {
    let mut builder = EntryBuilder::new(LEVEL, Timestamp::from_seconds(second));
    builder.intern(&profile());
    for command in commands {
        builder.push(command);
    }
    builder.finish()
}

fn entries() -> Vec<Seed> {
    let commands = commands();
    let mut seeds = vec![("entry", entry(&commands, 1_000).to_vec())];
    for command in commands {
        let mut bytes = Vec::new();
        dtask_core::codec::flat::command::put_command(&mut bytes, &command);
        seeds.push(("entry", bytes));
        seeds.push(("entry", entry(&[command], 1_000).to_vec()));
    }
    let mut bytes = Vec::new();
    dtask_core::codec::flat::spec::put_profile(&mut bytes, &profile());
    seeds.push(("entry", bytes));
    seeds
}

/// A log in the layout that the target reads, with its checksums as they are, or mended.
fn logs() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for rounds in [0, 1, 3, 12, 30] {
        let disk = restart::lived(rounds);
        let (mut bytes, mut snapshot, mut first) = (Vec::new(), 0, None);
        for name in disk.names() {
            match File::parse(name) {
                Some(File::Snapshot(index)) => snapshot = index as u8,
                Some(File::Segment(number)) => {
                    first.get_or_insert(number as u8);
                    let content = disk.read(name).unwrap_or_default();
                    let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
                    let end = used.next_multiple_of(8).max(crate::disk::HEADER);
                    let mut segment = content[..256].to_vec();
                    segment.extend_from_slice(&content[crate::disk::HEADER..end]);
                    bytes.extend_from_slice(&(segment.len() as u16).to_le_bytes());
                    bytes.extend_from_slice(&segment);
                }
                Some(File::SegmentTemp(_) | File::SnapshotTemp(_)) | None => {}
            }
        }
        for mend in [1, 7] {
            let mut seed = vec![mend, first.unwrap_or(1), snapshot];
            seed.extend_from_slice(&bytes);
            seeds.push(("log", seed));
        }
    }
    seeds
}

fn snapshots() -> Vec<Seed> {
    let mut state = State::new(IndexKey([7; 16]));
    let mut seeds = Vec::new();
    for (index, command) in (1..).zip(commands()) {
        let mut seed = vec![17];
        seed.extend(walk(&mut state, 4_096));
        seeds.push(("snapshot", seed));
        let mut changes = Changes::default();
        let entry = entry(&[command], 1_000 + index as i64);
        state.apply(index, &entry, &mut changes).expect("the level is ours");
    }
    seeds
}

fn frames() -> Vec<Seed> {
    let hello = Hello {
        name: "w1".into(),
        instance: InstanceId(77),
        slots: 4,
        kinds: vec!["exec".into()],
        queues: vec!["mail".into()],
        labels: vec!["zone=a".into()],
        tokens: vec![Token(3)],
        draining: false,
    };
    let report = Report {
        token: Token(4),
        outcome: AttemptOutcome::Failed,
        started_at: Some(Timestamp::from_seconds(1)),
        finished_at: Some(Timestamp::from_seconds(2)),
        exit_code: Some(1),
        retryable: false,
        output: Bytes::from_static(b"{}"),
        error: "exit code 1".into(),
        tail: Bytes::from_static(b"tail"),
    };
    let data = Bytes::from_static(b"out");
    let worker = [
        WorkerFrame::Hello(hello),
        WorkerFrame::Heartbeat { seq: 2, tokens: vec![Token(3), Token(4)] },
        WorkerFrame::Started(vec![(Token(3), Timestamp::from_seconds(1))]),
        WorkerFrame::Reports(vec![report]),
        WorkerFrame::Output { token: Token(3), offset: 9, data, end: true },
        WorkerFrame::Draining,
    ];
    let assignment = Assignment {
        token: Token(5),
        task_id: "a".into(),
        task_name: "report".into(),
        run: RunNumber(1),
        attempt: 1,
        kind: "exec".into(),
        payload: Bytes::from_static(b"{\"command\":[\"ls\"]}"),
        scheduled_for: Timestamp::from_seconds(1),
        run_timeout_ms: 60_000,
    };
    let leader = [
        LeaderFrame::Welcome {
            session: SessionId(1),
            lease_ttl_ms: 15_000,
            heartbeat_ms: 3_000,
            extends: vec![Token(3)],
        },
        LeaderFrame::NotLeader { leader: Some((NodeId(2), "b:7100".into())) },
        LeaderFrame::Refused { reason: "no".into() },
        LeaderFrame::Open(vec![assignment]),
        LeaderFrame::Renewed { seq: 2, extends: vec![Token(3)] },
        LeaderFrame::Stop { token: Token(3), why: StopWhy::Cancelled },
        LeaderFrame::Acknowledged(vec![(Token(3), Token(4))]),
        LeaderFrame::Follow { token: Token(3), offset: 0 },
        LeaderFrame::Unfollow { token: Token(3) },
    ];
    let first = |byte: u8, rest: Vec<u8>| [vec![byte], rest].concat();
    let said = worker
        .into_iter()
        .map(|frame| first(0, encode_worker_frame(Some(SessionId(1)), frame).encode_to_vec()));
    let heard =
        leader.into_iter().map(|frame| first(1, encode_leader_frame(frame).encode_to_vec()));
    said.chain(heard).map(|seed| ("frames", seed)).collect()
}

fn texts() -> Vec<Seed> {
    let crons = [
        "30 2 * * 1-5\nEurope/Paris\n1h30m\n2026-03-29T02:30:00",
        "*/15 0-6,22 L * *\nAmerica/New_York\n250ms\n2026-03-01T09:00:00+02:00",
        "0 0 29 2 *\nUTC\n7d\n2026-10-25 02:30",
        "0 30 9 15W * ? 2030\nAsia/Kathmandu\n3650d\n1969-12-31T23:59:59Z",
        "@daily\nPacific/Apia\n0s\n2011-12-30T10:00:00",
        "0 12 * JAN-MAR MON#2,FRIL\nAustralia/Lord_Howe\n1w2d\n9999-12-31T00:00:00Z",
        "5 4 LW * 7\nAfrica/Casablanca\n90m\ntomorrow",
    ];
    let mut seeds: Vec<Seed> = Vec::new();
    for (text, choice) in crons.iter().zip([0, 13, 26, 39, 52, 65, 78]) {
        seeds.push(("cron", [&[choice], text.as_bytes()].concat()));
    }
    let files = [
        "output = \"json\"\nserver = [\"a:7100\", \"b:7100\"]\n\n[serve]\nid = 1\ndata = \"d\"\ngrpc = \"127.0.0.1:7100\"\ninsecure = true\npeer = [\"1=a:7100\"]\n",
        "[work]\nname = \"w1\"\nslots = 16\n",
        "[serve]\nhistory = \"none\"\nidd = 3\n",
        "[serv]\n",
        "server = 1.5\n",
    ];
    seeds.extend(files.iter().map(|text| ("config", text.as_bytes().to_vec())));
    seeds
}

fn requests() -> Vec<Seed> {
    let spec = v1::TaskSpec {
        id: "a".into(),
        name: "report".into(),
        r#type: "exec".into(),
        queue: "mail".into(),
        payload: Bytes::from_static(b"{}"),
        priority: Some(7),
        cron_expr: "30 2 * * 1-5".into(),
        timezone: "Europe/Paris".into(),
        max_retries: Some(3),
        backoff_base: Some(500),
        no_retry_exit: vec![2, 1],
        timeout: Some(60_000),
        ..v1::TaskSpec::default()
    };
    let first = |byte: u8, rest: Vec<u8>| [vec![byte], rest].concat();
    let submit = v1::SubmitTaskRequest { task: Some(spec.clone()), ..Default::default() };
    let every = v1::TaskSpec { cron_expr: String::new(), every: Some(60_000), ..spec.clone() };
    let batch = v1::SubmitTasksRequest { tasks: vec![spec, every], ..Default::default() };
    let list = v1::ListTasksRequest {
        status: vec![1, 2, 3],
        page_size: Some(50),
        ..v1::ListTasksRequest::default()
    };
    let mut seeds = vec![
        ("requests", first(0, submit.encode_to_vec())),
        ("requests", first(1, batch.encode_to_vec())),
        ("requests", first(2, list.encode_to_vec())),
        ("requests", first(3, v1::GetTaskRequest { id: "a".into(), stale: true }.encode_to_vec())),
        (
            "requests",
            first(
                4,
                v1::CancelTaskRequest { id: "a".into(), run: Some(2), ..Default::default() }
                    .encode_to_vec(),
            ),
        ),
    ];
    let bodies: [(u8, &str); 10] = [
        (0, r#"{"type":"exec","payload":{"command":["echo","hi"]}}"#),
        (0, r#"{"id":"a","type":"http","every":"1h30m","priority":9,"overlap":"allow"}"#),
        (
            0,
            r#"{"type":"exec","cron_expr":"0 9 * * 1-5","timezone":"Europe/Paris","dst_gap":"next"}"#,
        ),
        (0, r#"{"type":"exec","at":"2026-03-01T09:00:00Z","max_retries":2,"no_retry_exit":[1,2]}"#),
        (2, r#"{"tasks":[{"type":"a"},{"type":"b","max_retry":3}]}"#),
        (3, r#"{"status":["running"],"page_size":5,"created_after":"2026-01-01T00:00:00Z"}"#),
        (4, "status=pending,running&queue=mail&page_size=7&consistency=stale&name=a%20b"),
        (5, "task_id=a&page_token=00000011.e.5"),
        (6, "id=a&timeout=30s"),
        (7, "order-17order 18"),
    ];
    seeds.extend(bodies.map(|(kind, text)| ("json", first(kind, text.as_bytes().to_vec()))));
    seeds
}

/// Targets that draw their case from bytes begin with bytes by chance.
fn chances() -> Vec<Seed> {
    let targets = ["cron_oracle", "apply", "restart", "node_peer", "worker", "sessions", "world"];
    let mut seeds = Vec::new();
    for target in targets {
        let mut rng = Rng::new(7).fork(target);
        for len in [24, 100, 400, 1_000] {
            seeds.push((target, (0..len).map(|_| rng.next_u64() as u8).collect()));
        }
    }
    // Steps of a cluster that mostly works, and one that mostly does not.
    let mut rng = Rng::new(7).fork("cluster");
    for len in [30, 120, 400] {
        let mut calm = vec![0];
        calm.extend((0..len).map(|_| {
            let busy = 240 + rng.below(12) as u8;
            if rng.chance(1, 4) { 168 + rng.below(30) as u8 } else { busy }
        }));
        seeds.push(("cluster", calm));
        let mut wild = vec![1];
        wild.extend((0..len).map(|_| rng.next_u64() as u8));
        seeds.push(("cluster", wild));
    }
    seeds
}
