//! A TCP proxy of the test's own, whose connections can be made slow, narrow, silent in one or both
//! directions, or be reset in mid-stream.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Bytes that are moved at once.
const CHUNK: usize = 16 << 10;
/// Chunks between the two ends of a direction: what a long line holds.
const CHUNKS_MAX: usize = 256;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From who connected.
    There,
    /// To who connected.
    Back,
}

/// What one direction suffers.
#[derive(Debug, Default)]
struct Faults {
    delay_us: AtomicU64,
    jitter_us: AtomicU64,
    bytes_per_s: AtomicU64,
    loss_permille: AtomicU64,
    silent: AtomicBool,
}

/// A listening proxy; it and its connections end when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: String,
    lines: Arc<Lines>,
    listener: JoinHandle<()>,
}

#[derive(Debug)]
struct Lines {
    there: Faults,
    back: Faults,
    /// Rises when every open connection is to be reset.
    resets: watch::Sender<u64>,
    /// Rises when the far ends alone are to be reset: who connected is not told.
    halves: watch::Sender<u64>,
    open: Mutex<Vec<JoinHandle<()>>>,
}

impl Proxy {
    /// Listens on loopback for `target`, a `host:port`.
    pub fn new(runtime: &Handle, port: u16, target: String) -> Result<Self> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", port))?;
        listener.set_nonblocking(true)?;
        let lines = Arc::new(Lines {
            there: Faults::default(),
            back: Faults::default(),
            resets: watch::channel(0).0,
            halves: watch::channel(0).0,
            open: Mutex::new(Vec::new()),
        });
        let (address, shared) = (listener.local_addr()?.to_string(), lines.clone());
        let listener = runtime.spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            while let Ok((near, _)) = listener.accept().await {
                let line = tokio::spawn(line(near, target.clone(), shared.clone()));
                let mut open = shared.open.lock().unwrap_or_else(PoisonError::into_inner);
                open.retain(|other| !other.is_finished());
                open.push(line);
            }
        });
        Ok(Self { address, lines, listener })
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    fn faults(&self, way: Way) -> &Faults {
        match way {
            Way::There => &self.lines.there,
            Way::Back => &self.lines.back,
        }
    }

    /// Every chunk takes this long, and up to `jitter` longer, in each direction.
    pub fn delay(&self, delay: Duration, jitter: Duration) {
        for way in [Way::There, Way::Back] {
            self.faults(way).delay_us.store(delay.as_micros() as u64, Ordering::Relaxed);
            self.faults(way).jitter_us.store(jitter.as_micros() as u64, Ordering::Relaxed);
        }
    }

    /// This many chunks in a thousand are lost and come by TCP's own repeat, 200 ms later; what
    /// follows them waits, as on a real line.
    pub fn lose(&self, permille: u64) {
        for way in [Way::There, Way::Back] {
            self.faults(way).loss_permille.store(permille, Ordering::Relaxed);
        }
    }

    /// No more than this in each direction; 0 is no bound.
    pub fn narrow(&self, bytes_per_s: u64) {
        for way in [Way::There, Way::Back] {
            self.faults(way).bytes_per_s.store(bytes_per_s, Ordering::Relaxed);
        }
    }

    /// Nothing passes one way until told otherwise; connections stay.
    pub fn silence(&self, way: Way, silent: bool) {
        self.faults(way).silent.store(silent, Ordering::Relaxed);
    }

    /// Resets every connection at both ends, wherever its bytes are.
    pub fn reset(&self) {
        self.lines.resets.send_modify(|count| *count += 1);
    }

    /// Resets the far ends; who connected is left with an open connection to nobody.
    pub fn halve(&self) {
        self.lines.halves.send_modify(|count| *count += 1);
    }

    /// As if nothing had happened, for connections that are left and new ones.
    pub fn heal(&self) {
        self.delay(Duration::ZERO, Duration::ZERO);
        self.lose(0);
        self.narrow(0);
        self.silence(Way::There, false);
        self.silence(Way::Back, false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
        let mut open = self.lines.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.drain(..).for_each(|line| line.abort());
    }
}

/// One connection, until an end closes it or it is reset.
async fn line(near: TcpStream, target: String, lines: Arc<Lines>) {
    let (mut resets, mut halves) = (lines.resets.subscribe(), lines.halves.subscribe());
    let Ok(far) = TcpStream::connect(&target).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (mut near_read, mut near_write) = near.into_split();
    let (mut far_read, mut far_write) = far.into_split();
    tokio::select! {
        biased;
        _ = resets.changed() => {}
        _ = halves.changed() => {
            forget(&far_read);
            drop((far_read, far_write));
            let _ = resets.changed().await;
            forget(&near_read);
            return;
        }
        _ = async {
            let there = pump(&mut near_read, &mut far_write, &lines.there);
            let back = pump(&mut far_read, &mut near_write, &lines.back);
            tokio::join!(there, back)
        } => return,
    }
    forget(&near_read);
    forget(&far_read);
}

/// Closing this connection sends a reset and drops what is under way.
fn forget(end: &OwnedReadHalf) {
    let _ = end.as_ref().set_zero_linger();
}

/// Moves bytes one way until the reading end is closed or the writing one refuses.
async fn pump(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, faults: &Faults) {
    let (sender, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15 ^ u64::from(std::process::id()));
    let read = async move {
        let mut due = Instant::now();
        loop {
            let mut chunk = vec![0; CHUNK];
            let Ok(len) = from.read(&mut chunk).await else { break };
            if len == 0 {
                break;
            }
            chunk.truncate(len);
            // In order: a chunk never overtakes the one before it.
            due = due.max(Instant::now() + faults.flight(&mut chance));
            if sender.send((due, chunk)).await.is_err() {
                break;
            }
        }
    };
    let write = async move {
        while let Some((due, chunk)) = chunks.recv().await {
            tokio::time::sleep_until(due).await;
            while faults.silent.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let rate = faults.bytes_per_s.load(Ordering::Relaxed);
            if let Some(us) = (chunk.len() as u64 * 1_000_000).checked_div(rate) {
                tokio::time::sleep(Duration::from_micros(us)).await;
            }
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}

impl Faults {
    fn flight(&self, chance: &mut Chance) -> Duration {
        let jitter = self.jitter_us.load(Ordering::Relaxed);
        let mut us = self.delay_us.load(Ordering::Relaxed) + chance.below(jitter + 1);
        if chance.below(1_000) < self.loss_permille.load(Ordering::Relaxed) {
            us += 200_000;
        }
        Duration::from_micros(us)
    }
}

/// xorshift: enough to scatter delays.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
