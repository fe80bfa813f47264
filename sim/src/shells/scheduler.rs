//! One life of a scheduler process: its disk is opened, its relay bound, and the runtime's own life
//! of a node runs until it ends.

use std::sync::Arc;

use dtask_core::id::NodeId;
use dtask_core::node::{Addresses, Node, NodeConfig};
use dtask_core::rng::Rng;
use dtask_runtime::history::HistoryHandle;
use dtask_runtime::serve::host::Ended;
use dtask_runtime::serve::inbox::inbox;
use dtask_runtime::serve::life::{Life, live};

use super::clock::Skewed;
use super::cluster::{self, Cluster};
use super::observed::Observed;
use super::reader::SimReader;
use super::{disk, relay, seen};
use crate::check::Violation;

/// Lives until it is stopped, halts, or its disk fails.
pub async fn life(cluster: Arc<Cluster>, place: usize) {
    let witness = cluster.witness.clone();
    let number = witness.books().nodes[place].life;
    let mut rng = Rng::new(cluster.draw.seed).fork(&format!("node {place} life {number}"));
    let (handle, inbox) = inbox();
    let opened = disk::open(
        &cluster.platters[place],
        place,
        &cluster.draw,
        &mut rng,
        cluster.sabotage,
        (witness.clone(), handle.clone()),
    );
    let opened = match opened {
        Ok(opened) => opened,
        Err(violation) => return witness.books().judge(Err(violation)),
    };
    witness.books().node_starts(place, &opened.recovered);
    let config = config(&cluster, place, &mut rng, opened.recovered.incarnation);
    let peers = config.peers.iter().map(|(id, at)| (*id, at.to_string())).collect();
    let streams = cluster.streams.clone();
    let (public, own) = (cluster::grpc(place), cluster::inner(place));
    tokio::spawn(relay::serve(public, own, streams, cluster.sabotage));
    let history = match HistoryHandle::start(cluster.database.writer(), handle.clone()) {
        Ok(history) => history,
        Err(error) => return witness.books().judge(Err(Violation::new("L7", error.to_string()))),
    };
    let ended = live(
        Life {
            id: NodeId(place as u64 + 1),
            machine: Observed::new(Node::new(config, opened.recovered), place, witness.clone()),
            clock: Skewed::of(&cluster.draw, place),
            disk: opened.disk,
            durable: opened.durable,
            history,
            read: Some(Arc::new(SimReader(cluster.database.clone()))),
            peers,
            handle,
            inbox,
            grpc: own,
            http: cluster::http(place),
        },
        cluster.stopping(place),
    )
    .await;
    let mut books = witness.books();
    match ended {
        Ok(Ended::ShutDown) => books.seen.hit(seen::STOPPED),
        Ok(Ended::DiskFailed) => {}
        Ok(Ended::Halted(reason)) => books.judge(Err(Violation::new("L7", reason))),
        Err(error) => books.judge(Err(Violation::new("L7", error.to_string()))),
    }
    books.node_ends(place, "ends");
}

fn config(
    cluster: &Cluster,
    place: usize,
    rng: &mut Rng,
    incarnation: dtask_core::id::Incarnation,
) -> NodeConfig {
    let id = |place: usize| NodeId(place as u64 + 1);
    let voters = cluster.draw.node_places().map(id).collect();
    let address = |place: usize| cluster::grpc(place).to_string().into();
    NodeConfig {
        addresses: Addresses {
            grpc: address(place),
            http: cluster::http(place).to_string().into(),
        },
        peers: cluster.draw.node_places().map(|place| (id(place), address(place))).collect(),
        snapshot_log_bytes_min: cluster.draw.snapshot_log_bytes,
        ..NodeConfig::new(id(place), voters, incarnation, rng.next_u64())
    }
}
