//! A whole World run, short, whose faults, sizes and workload come from the bytes instead of a
//! seed's draw: combinations that no profile draws, judged by every checker of the World.

use arbitrary::{Arbitrary as _, Result, Unstructured};
use dtask_sim::world::config::{Config, Profile};
use dtask_sim::world::{Sabotage, World};

/// Runs the World that the bytes describe.
pub(crate) fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let Ok(config) = config(&mut u) else { return };
    let shown = format!("{config:?}");
    let outcome = World::new(config, Sabotage::Honest).run();
    if let Some(violation) = outcome.failure {
        panic!("{violation}\n{}\n{shown}", outcome.tail);
    }
}

fn config(u: &mut Unstructured<'_>) -> Result<Config> {
    let seed = u64::from(u16::arbitrary(u)?);
    let profile = *u.choose(&Profile::HUNTING)?;
    let mut config = Config::draw(seed, profile);
    config.nodes = *u.choose(&[1, 3, 3, 5])?;
    config.workers = u.int_in_range(0..=3)?;
    config.slots_max = u.int_in_range(1..=4)?;
    // Short lives: several hundred a minute instead of a few.
    config.safety_micros = u.int_in_range(1_000_000..=12_000_000)?;
    config.load.clients = u.int_in_range(1..=3)?;
    config.load.think_micros = spread(u, 50_000, 2_000_000)?;
    for weight in &mut config.load.weights {
        *weight = u64::from(u8::arbitrary(u)? % 30);
    }
    config.load.weights[0] += 1;
    config.load.handler_max = spread(u, 1_000, 10_000_000)?;
    config.snapshot_log_bytes = spread(u, 1_000, 100_000)?;
    config.segment_bytes = spread(u, 8_192, 65_536)?;
    config.piece_bytes = spread(u, 64, 65_536)?;
    config.turn_micros = spread(u, 1, 20_000)?;
    faults(u, &mut config)?;
    Ok(config)
}

fn faults(u: &mut Unstructured<'_>, config: &mut Config) -> Result<()> {
    config.net.delay_micros = spread(u, 50, 60_000)?;
    config.net.drop_permille = maybe(u, 1, 300)?;
    config.net.duplicate_permille = maybe(u, 1, 400)?;
    config.net.spike_permille = maybe(u, 1, 200)?;
    config.net.partition_every = maybe(u, 500_000, 8_000_000)?;
    config.net.partition_max = spread(u, 100_000, 8_000_000)?;
    config.process.crash_every = maybe(u, 400_000, 8_000_000)?;
    config.process.down_max = spread(u, 50_000, 4_000_000)?;
    config.process.power_loss = bool::arbitrary(u)?;
    config.process.between_effects = bool::arbitrary(u)?;
    config.process.pause_every = maybe(u, 1_000_000, 8_000_000)?;
    config.disk.sync_micros = spread(u, 50, 40_000)?;
    config.disk.lossy = bool::arbitrary(u)?;
    config.disk.fail_per_10k = maybe(u, 1, 20)?;
    config.worker.death_every = maybe(u, 500_000, 8_000_000)?;
    config.worker.reset_every = maybe(u, 500_000, 8_000_000)?;
    config.worker.drain_every = maybe(u, 1_000_000, 8_000_000)?;
    config.worker.hang_permille = maybe(u, 1, 300)?;
    config.worker.fail_permille = maybe(u, 1, 900)?;
    config.history.outage_every = maybe(u, 500_000, 8_000_000)?;
    config.history.ack_lost_permille = maybe(u, 1, 400)?;
    config.history.fail_permille = maybe(u, 1, 400)?;
    Ok(())
}

/// A number whose size is spread evenly over the powers of two.
fn spread(u: &mut Unstructured<'_>, low: u64, high: u64) -> Result<u64> {
    let byte = u64::from(u8::arbitrary(u)?);
    let doublings = (high / low).ilog2();
    let whole = low << (byte * u64::from(doublings) / 256);
    Ok((whole + whole * (byte % 16) / 16).min(high))
}

fn maybe(u: &mut Unstructured<'_>, low: u64, high: u64) -> Result<u64> {
    if bool::arbitrary(u)? { spread(u, low, high) } else { Ok(0) }
}
