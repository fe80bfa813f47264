//! The network: which message arrives, when, and how often. Peers' messages are datagrams here
//! (lost, late, twice, out of order), which is harsher than the streams of the real thing; worker
//! and client connections keep their order and break as a whole.

use dtask_core::rng::Rng;

use super::config::{NetFaults, around};

/// A machine on the network. Nodes first, then workers, then clients.
pub type Place = usize;

/// The network.
#[derive(Debug)]
pub struct Net {
    rng: Rng,
    faults: NetFaults,
    places: usize,
    /// `until[from * places + to]`: nothing passes before this moment.
    until: Vec<u64>,
}

impl Net {
    /// A network of `places` machines without partitions.
    pub fn new(rng: Rng, faults: NetFaults, places: usize) -> Self {
        Self { rng, faults, places, until: vec![0; places * places] }
    }

    /// Tells whether messages pass at `at`.
    pub fn passes(&self, at: u64, from: Place, to: Place) -> bool {
        self.until[from * self.places + to] <= at
    }

    /// Cuts one direction until `until`.
    pub fn cut(&mut self, from: Place, to: Place, until: u64) {
        let cell = &mut self.until[from * self.places + to];
        *cell = (*cell).max(until);
    }

    /// Mends everything and stops every further fault.
    pub fn heal(&mut self) {
        self.until.fill(0);
        self.faults =
            NetFaults { delay_micros: self.faults.delay_micros.min(5_000), ..NetFaults::default() };
    }

    /// Cuts everything to and from `place` for good.
    pub fn isolate(&mut self, place: Place) {
        for other in 0..self.places {
            if other != place {
                self.cut(place, other, u64::MAX);
                self.cut(other, place, u64::MAX);
            }
        }
    }

    /// When copies of a datagram sent at `at` arrive: none, one or two moments.
    pub fn datagram(&mut self, at: u64, from: Place, to: Place) -> [Option<u64>; 2] {
        if !self.passes(at, from, to) || self.rng.chance(self.faults.drop_permille, 1_000) {
            return [None, None];
        }
        let first = at + self.delay();
        let again = self.rng.chance(self.faults.duplicate_permille, 1_000).then(|| {
            // Much later now and then: a copy that outlives the term it was sent in.
            let far = if self.rng.chance(1, 10) { 20_000_000 } else { 200_000 };
            first + self.rng.below(far)
        });
        [Some(first), again]
    }

    /// How long a piece of a stream takes.
    pub fn delay(&mut self) -> u64 {
        let spike = self.rng.chance(self.faults.spike_permille, 1_000);
        let far = if spike { self.rng.below(1_000_000) } else { 0 };
        1 + self.faults.delay_micros / 4 + around(&mut self.rng, self.faults.delay_micros) + far
    }
}
