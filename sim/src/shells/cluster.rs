//! Who is where: madsim's nodes, their addresses, and how they are killed and started again.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use dtask_core::rng::Rng;
use madsim::runtime::{Handle, NodeHandle};
use madsim::task::NodeId as Machine;
use tokio::sync::watch;

use super::books::Witness;
use super::database::Database;
use super::disk::Platters;
use super::draw::Draw;
use super::relay::Streams;
use super::run::Sabotage;
use super::{scheduler, seen, worker};

/// What every part of a run shares.
pub struct Cluster {
    /// What was drawn.
    pub draw: Arc<Draw>,
    /// The books.
    pub witness: Witness,
    /// Breaks the shells for a canary.
    pub sabotage: Sabotage,
    /// Disks by node.
    pub platters: Vec<Platters>,
    /// The database.
    pub database: Database,
    /// Open connections.
    pub streams: Streams,
    /// Asks a node, or after them a worker, to stop in order; remade at each start.
    pub stops: Mutex<Vec<watch::Sender<bool>>>,
    /// madsim's nodes: schedulers, workers, the clients.
    pub machines: Mutex<Vec<Machine>>,
    handle: Handle,
}

/// Where a node's callers reach its gRPC.
pub fn grpc(place: usize) -> SocketAddr {
    SocketAddr::new(address(0, place), 7171)
}

/// Where its own server listens, behind the relay.
pub fn inner(place: usize) -> SocketAddr {
    SocketAddr::new(address(0, place), 7172)
}

/// Where its HTTP listens.
pub fn http(place: usize) -> SocketAddr {
    SocketAddr::new(address(0, place), 7180)
}

fn address(net: u8, place: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, net, u8::try_from(place + 1).unwrap_or(u8::MAX)))
}

impl Cluster {
    /// Makes every machine; schedulers and the load's workers start at once.
    pub fn start(witness: Witness, draw: Arc<Draw>, sabotage: Sabotage) -> Arc<Self> {
        let handle = Handle::current();
        let base = handle.create_node().name("database").ip(address(3, 0)).build();
        let rng = Rng::new(draw.seed).fork("history");
        let history = draw.history.clone();
        let places = draw.nodes + draw.workers_in_all();
        let cluster = Arc::new(Self {
            database: Database::new(witness.clone(), base, history, sabotage, rng),
            platters: draw.node_places().map(|_| Platters::default()).collect(),
            streams: Streams::default(),
            stops: Mutex::new((0..places).map(|_| watch::channel(false).0).collect()),
            machines: Mutex::default(),
            witness,
            sabotage,
            handle,
            draw,
        });
        for place in cluster.draw.node_places() {
            let own = cluster.clone();
            let life = move || scheduler::life(own.clone(), place);
            let node = cluster.handle.create_node().name(format!("n{}", place + 1));
            cluster.made(node.ip(address(0, place)).init(life).build());
        }
        for place in 0..cluster.draw.workers_in_all() {
            let own = cluster.clone();
            let spare = place >= cluster.draw.workers;
            let life = move || {
                let own = own.clone();
                async move {
                    if !spare || own.witness.books().healed {
                        worker::life(own, place).await;
                    }
                }
            };
            let node = cluster.handle.create_node().name(format!("w{}", place + 1));
            cluster.made(node.ip(address(1, place)).init(life).build());
        }
        cluster
    }

    fn made(&self, node: NodeHandle) {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner).push(node.id());
    }

    /// Makes the machine of the clients.
    pub fn client_machine<F: Future<Output = ()> + 'static>(
        &self,
        life: impl Fn() -> F + Send + Sync + 'static,
    ) {
        let node = self.handle.create_node().name("clients").ip(address(2, 0));
        self.made(node.init(life).build());
    }

    /// madsim's node of a place: schedulers, then workers, then the clients.
    pub fn machine(&self, place: usize) -> Machine {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)[place]
    }

    /// How to be asked to stop, in a new life of a place.
    pub fn stopping(&self, place: usize) -> watch::Receiver<bool> {
        let (stop, stopping) = watch::channel(false);
        self.stops.lock().unwrap_or_else(PoisonError::into_inner)[place] = stop;
        stopping
    }

    /// Asks the process at a place to stop.
    pub fn stop(&self, place: usize) {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner)[place].send_replace(true);
    }

    /// Kills a scheduler that runs; with `power` its machine loses what was not synced.
    pub fn kill_node(&self, place: usize, power: bool, rng: &mut Rng) {
        if !self.witness.books().nodes[place].up {
            return;
        }
        self.handle.resume(self.machine(place));
        self.handle.kill(self.machine(place));
        let lost = self.platters[place].crash(power, rng);
        let mut books = self.witness.books();
        books.seen.hit(seen::KILLED);
        if lost > 0 {
            books.seen.hit(seen::POWER_LOST);
        }
        books.node_ends(place, "is killed");
    }

    /// Starts a scheduler that is down.
    pub fn start_node(&self, place: usize, rng: &mut Rng) {
        if self.witness.books().nodes[place].up {
            return;
        }
        // What an ended life left under way, and its sockets.
        self.handle.kill(self.machine(place));
        self.platters[place].crash(false, rng);
        self.handle.restart(self.machine(place));
    }

    /// Kills a worker that runs, with its handlers.
    pub fn kill_worker(&self, place: usize) {
        if !self.witness.books().workers[place].up {
            return;
        }
        let machine = self.machine(self.draw.nodes + place);
        self.handle.resume(machine);
        self.handle.kill(machine);
        let mut books = self.witness.books();
        let worker = &mut books.workers[place];
        (worker.up, worker.paused) = (false, false);
        books.seen.hit(seen::WORKER_VANISHED);
        books.note(101 + place as u32, "vanishes", [0, 0, 0]);
    }

    /// Starts a worker that is down.
    pub fn start_worker(&self, place: usize) {
        if self.witness.books().workers[place].up {
            return;
        }
        let machine = self.machine(self.draw.nodes + place);
        self.handle.kill(machine);
        self.handle.restart(machine);
    }

    /// Freezes the process of a place; `false` thaws it.
    pub fn pause(&self, place: usize, paused: bool) {
        match paused {
            true => self.handle.pause(self.machine(place)),
            false => self.handle.resume(self.machine(place)),
        }
    }

    /// Freezes or thaws a worker.
    pub fn pause_worker(&self, place: usize, paused: bool) {
        {
            let mut books = self.witness.books();
            let worker = &mut books.workers[place];
            if worker.paused == paused || (paused && !worker.up) {
                return;
            }
            worker.paused = paused;
            if paused {
                books.seen.hit(seen::WORKER_PAUSED);
            } else {
                worker.thawed_at = Some(super::clock::at());
            }
            books.note(101 + place as u32, "is paused", [u64::from(paused), 0, 0]);
        }
        self.pause(self.draw.nodes + place, paused);
    }

    /// The address of a place, as streams name it.
    pub fn ip(&self, place: usize) -> IpAddr {
        match place.checked_sub(self.draw.nodes) {
            None => address(0, place),
            Some(worker) if worker < self.draw.workers_in_all() => address(1, worker),
            Some(_) => address(2, 0),
        }
    }

    /// Ends every process, so that nothing is left when the run ends.
    pub fn end(&self) {
        for machine in self.machines.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            self.handle.resume(*machine);
            self.handle.kill(*machine);
        }
    }
}
