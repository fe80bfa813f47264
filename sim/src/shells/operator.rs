//! The faults of the safety phase: each class is a task of its own that strikes at drawn moments
//! until the healing.

use std::sync::Arc;
use std::time::Duration;

use dtask_core::rng::Rng;
use madsim::net::NetSim;
use madsim::task::JoinHandle;

use super::clock::at;
use super::cluster::Cluster;
use super::seen;
use crate::world::config::{around, log_uniform};

/// What a link that lets nothing pass does to its streams after this long: each end's probes fail.
const PROBES: Duration = Duration::from_secs(4);

/// Starts every class that was drawn.
pub fn begin(cluster: &Arc<Cluster>) {
    let draw = cluster.draw.clone();
    if draw.net.loss_permille > 0 {
        cluster.witness.books().seen.hit(seen::LOSS);
    }
    let process = &draw.process;
    each(cluster, "kill", process.kill_every, kill_node);
    each(cluster, "stop", process.stop_every, stop_node);
    each(cluster, "pause", process.pause_every, pause_node);
    each(cluster, "clog", draw.net.clog_every, clog);
    each(cluster, "cut", draw.net.cut_every, cut);
    each(cluster, "worker kill", draw.worker.kill_every, kill_worker);
    each(cluster, "worker drain", draw.worker.drain_every, drain_worker);
    each(cluster, "worker pause", draw.worker.pause_every, pause_worker);
    each(cluster, "outage", draw.history.outage_every, outage);
    each(cluster, "revive", 1_500_000, revive);
}

/// Runs `strike` about every `mean` microseconds; zero is never.
fn each<F>(
    cluster: &Arc<Cluster>,
    label: &str,
    mean: u64,
    strike: impl Fn(Arc<Cluster>, Rng) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    if mean == 0 {
        return;
    }
    let cluster = cluster.clone();
    let mut rng = Rng::new(cluster.draw.seed).fork(label);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_micros(around(&mut rng, mean))).await;
            if cluster.witness.books().healed {
                return;
            }
            let own = rng.fork("strike");
            rng.next_u64();
            strike(cluster.clone(), own).await;
        }
    });
}

async fn kill_node(cluster: Arc<Cluster>, mut rng: Rng) {
    let place = rng.below(cluster.draw.nodes as u64) as usize;
    let power = cluster.draw.process.power && rng.chance(1, 2);
    cluster.kill_node(place, power, &mut rng);
    let down = log_uniform(&mut rng, 50_000, cluster.draw.process.down_max);
    tokio::time::sleep(Duration::from_micros(down)).await;
    cluster.start_node(place, &mut rng);
}

async fn stop_node(cluster: Arc<Cluster>, mut rng: Rng) {
    let place = rng.below(cluster.draw.nodes as u64) as usize;
    cluster.stop(place);
}

/// What ended by itself (a stop, a failed disk) comes back.
async fn revive(cluster: Arc<Cluster>, mut rng: Rng) {
    for place in cluster.draw.node_places() {
        cluster.start_node(place, &mut rng);
    }
    for place in 0..cluster.draw.workers {
        cluster.start_worker(place);
    }
}

async fn pause_node(cluster: Arc<Cluster>, mut rng: Rng) {
    let place = rng.below(cluster.draw.nodes as u64) as usize;
    let long = log_uniform(&mut rng, 50_000, cluster.draw.process.pause_max);
    {
        let mut books = cluster.witness.books();
        books.seen.hit(seen::PAUSED);
        books.note(place as u32 + 1, "is paused", [long, 0, 0]);
    }
    cluster.pause(place, true);
    tokio::time::sleep(Duration::from_micros(long)).await;
    cluster.pause(place, false);
    cluster.witness.books().note(place as u32 + 1, "resumes", [0, 0, 0]);
}

/// A link between any two of schedulers, workers and the clients.
async fn clog(cluster: Arc<Cluster>, mut rng: Rng) {
    let places = (cluster.draw.nodes + cluster.draw.workers_in_all() + 1) as u64;
    let one = rng.below(cluster.draw.nodes as u64) as usize;
    let other = if rng.chance(1, 2) {
        rng.below(cluster.draw.nodes as u64) as usize
    } else {
        rng.below(places) as usize
    };
    if one == other {
        return;
    }
    let long = Duration::from_micros(log_uniform(&mut rng, 100_000, cluster.draw.net.clog_max));
    let both = rng.chance(1, 2);
    let (first, second) = (cluster.machine(one), cluster.machine(other));
    let (from, to) = if rng.chance(1, 2) { (first, second) } else { (second, first) };
    let net = NetSim::current();
    {
        let mut books = cluster.witness.books();
        books.seen.hit(if both { seen::CLOGGED } else { seen::CLOGGED_ONE_WAY });
        books.note(0, "clogs a link", [one as u64, other as u64, u64::from(both)]);
    }
    net.clog_link(from, to);
    if both {
        net.clog_link(to, from);
    }
    tokio::time::sleep(long.min(PROBES)).await;
    if long > PROBES {
        let ends = [one, other].map(|place| cluster.ip(place));
        cluster.streams.cut_between(ends[0], ends[1]);
        tokio::time::sleep(long - PROBES).await;
    }
    net.unclog_link(from, to);
    net.unclog_link(to, from);
}

async fn cut(cluster: Arc<Cluster>, mut rng: Rng) {
    cluster.streams.cut_one(&cluster.witness, &mut rng);
}

async fn kill_worker(cluster: Arc<Cluster>, mut rng: Rng) {
    let place = rng.below(cluster.draw.workers as u64) as usize;
    cluster.kill_worker(place);
    let down = log_uniform(&mut rng, 50_000, 5_000_000);
    tokio::time::sleep(Duration::from_micros(down)).await;
    cluster.start_worker(place);
}

async fn drain_worker(cluster: Arc<Cluster>, mut rng: Rng) {
    let place = rng.below(cluster.draw.workers as u64) as usize;
    cluster.stop(cluster.draw.nodes + place);
}

async fn pause_worker(cluster: Arc<Cluster>, mut rng: Rng) {
    let place = rng.below(cluster.draw.workers as u64) as usize;
    let long = log_uniform(&mut rng, 100_000, cluster.draw.worker.pause_max);
    cluster.pause_worker(place, true);
    // Past the healing a frozen worker is thawed by it.
    let until = at() + long;
    while at() < until && !cluster.witness.books().healed {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.pause_worker(place, false);
}

async fn outage(cluster: Arc<Cluster>, mut rng: Rng) {
    let long = log_uniform(&mut rng, 100_000, cluster.draw.history.outage_max);
    let mut books = cluster.witness.books();
    books.history.down_until = at() + long;
    books.note(0, "database goes away", [long, 0, 0]);
}

/// Ends every fault: links, loss, pauses, outages; what is down starts.
/// Who sees to that goes on until it is aborted.
pub fn heal(cluster: &Arc<Cluster>) -> JoinHandle<()> {
    let net = NetSim::current();
    net.update_config(|config| config.packet_loss_rate = 0.0);
    let places = cluster.draw.nodes + cluster.draw.workers_in_all() + 1;
    for one in 0..places {
        for other in 0..places {
            if one != other {
                net.unclog_link(cluster.machine(one), cluster.machine(other));
            }
        }
    }
    {
        let mut books = cluster.witness.books();
        books.healed = true;
        books.history.down_until = 0;
        books.note(0, "heals", [0, 0, 0]);
    }
    for place in cluster.draw.node_places() {
        cluster.pause(place, false);
    }
    for place in 0..cluster.draw.workers_in_all() {
        cluster.pause_worker(place, false);
    }
    tokio::spawn(keep_up(cluster.clone()))
}

/// Starts what is down, and what a stop or a drain that was asked for before the healing ends.
async fn keep_up(cluster: Arc<Cluster>) {
    let mut rng = Rng::new(cluster.draw.seed).fork("heal");
    loop {
        for place in cluster.draw.node_places() {
            cluster.start_node(place, &mut rng);
        }
        for place in 0..cluster.draw.workers_in_all() {
            cluster.start_worker(place);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
