//! The tasks that clients submit, as the wire has them.

use bytes::Bytes;
use dtask_core::rng::Rng;
use dtask_proto::v1;

use crate::world::config::log_uniform;
use crate::world::worker::KINDS;

/// When a task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At once.
    Now,
    /// About this moment, in microseconds since 1970.
    About(i64),
    /// Again and again.
    Recurring(i64),
}

/// A task of client `client`, its `number`th.
pub fn draw(
    rng: &mut Rng,
    client: usize,
    number: u64,
    payload_max: u64,
    when: When,
) -> v1::TaskSpec {
    let size = log_uniform(rng, 1, payload_max) as usize;
    let mut spec = v1::TaskSpec {
        id: format!("c{client}-{number}"),
        r#type: KINDS[rng.below(3) as usize].to_owned(),
        payload: Bytes::from(format!("\"{}\"", "x".repeat(size))),
        queue: if rng.chance(1, 4) { "other" } else { "" }.to_owned(),
        priority: Some(rng.below(10) as u32),
        max_retries: Some(rng.below(4) as u32),
        backoff: if rng.chance(1, 2) { v1::Backoff::Fixed } else { v1::Backoff::Exponential }
            as i32,
        backoff_base: Some(log_uniform(rng, 10, 1_000) as i64),
        backoff_max: Some(4_000),
        timeout: Some(log_uniform(rng, 1_000, 10_000) as i64),
        ..v1::TaskSpec::default()
    };
    match when {
        When::Now => {}
        When::About(wall) => spec.at = Some(wall + rng.below(6_000_000) as i64 - 1_000_000),
        When::Recurring(wall) => recur(rng, wall, &mut spec),
    }
    spec
}

fn recur(rng: &mut Rng, wall: i64, spec: &mut v1::TaskSpec) {
    let zone = if rng.chance(1, 2) { "UTC" } else { "Europe/Paris" };
    match rng.below(4) {
        0 | 1 => {
            spec.every = Some(1_000 * (1 + rng.below(5)) as i64);
            spec.starts_at = rng.chance(2, 3).then_some(wall);
        }
        2 => spec.cron_expr = format!("*/{} * * * * *", [1, 2, 5][rng.below(3) as usize]),
        _ => spec.cron_expr = format!("*/{} * * * *", 1 + rng.below(2)),
    }
    if !spec.cron_expr.is_empty() {
        spec.timezone = zone.to_owned();
    }
    spec.misfire = if rng.chance(1, 2) { v1::Misfire::Skip } else { v1::Misfire::FireOnce } as i32;
    spec.overlap = if rng.chance(1, 2) { v1::Overlap::Allow } else { v1::Overlap::Skip } as i32;
    spec.catch_up = Some(log_uniform(rng, 1_000, 86_400_000) as i64);
}

/// One of the liveness phase's fresh tasks.
pub fn fresh(number: usize) -> v1::TaskSpec {
    v1::TaskSpec {
        id: format!("fresh-{number}"),
        r#type: KINDS[3].to_owned(),
        payload: Bytes::from_static(b"\"fresh\""),
        queue: "fresh".to_owned(),
        priority: Some(9),
        max_retries: Some(3),
        backoff: v1::Backoff::Fixed as i32,
        backoff_base: Some(100),
        backoff_max: Some(100),
        timeout: Some(10_000),
        ..v1::TaskSpec::default()
    }
}
