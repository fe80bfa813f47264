//! A proxy before a PostgreSQL server that loses the answer to a COMMIT, or the COMMIT itself: what
//! a client then knows of its transaction is nothing.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use anyhow::Result;

/// Where the next COMMIT's connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nowhere.
    Never,
    /// Before the server hears of it.
    BeforeCommit,
    /// When the server has committed and answers.
    BeforeAnswer,
}

/// The proxy. Its threads end with the process.
#[derive(Debug)]
pub struct Cutter {
    port: u16,
    plan: Arc<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    next: AtomicU8,
    cuts: AtomicU32,
}

impl Cutter {
    /// Listens on a port of its own and leads to `server` on this machine.
    ///
    /// # Errors
    /// No port is free.
    pub fn before(server: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let plan = Arc::new(Plan::default());
        let shared = plan.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let plan = shared.clone();
                std::thread::spawn(move || {
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", server)) {
                        // An end that is gone ends the other.
                        let _ = relay(&client, &server, &plan);
                        let _ = client.shutdown(Shutdown::Both);
                        let _ = server.shutdown(Shutdown::Both);
                    }
                });
            }
        });
        Ok(Self { port, plan })
    }

    /// Where it listens.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What becomes of the next COMMIT.
    pub fn next(&self, cut: Cut) {
        self.plan.next.store(cut as u8, Ordering::SeqCst);
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> u32 {
        self.plan.cuts.load(Ordering::SeqCst)
    }
}

impl Plan {
    /// What becomes of this COMMIT; the plan is used up.
    fn take(&self) -> Cut {
        match self.next.swap(Cut::Never as u8, Ordering::SeqCst) {
            1 => Cut::BeforeCommit,
            2 => Cut::BeforeAnswer,
            _ => Cut::Never,
        }
    }
}

/// Passes bytes on in both directions until one end is gone or a COMMIT is cut. COMMIT is a simple
/// query (`Q`, length, text, NUL) that a driver sends as one piece when nothing else is due.
fn relay(client: &TcpStream, server: &TcpStream, plan: &Plan) -> std::io::Result<()> {
    let muted = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = answers(server, client, &muted);
            let _ = client.shutdown(Shutdown::Both);
        });
        let asked = questions(client, server, plan, &muted);
        if asked.is_err() {
            client.shutdown(Shutdown::Both)?;
        }
        // The server ends the connection, and with it the other thread.
        server.shutdown(if asked.is_err() { Shutdown::Both } else { Shutdown::Write })?;
        asked
    })
}

fn questions(
    mut client: &TcpStream,
    mut server: &TcpStream,
    plan: &Plan,
    muted: &AtomicBool,
) -> std::io::Result<()> {
    let mut piece = vec![0; 64 << 10];
    loop {
        let length = client.read(&mut piece)?;
        if length == 0 {
            return Ok(());
        }
        if piece[..length].ends_with(b"COMMIT\0") {
            match plan.take() {
                Cut::Never => {}
                Cut::BeforeCommit => {
                    plan.cuts.fetch_add(1, Ordering::SeqCst);
                    return Err(std::io::ErrorKind::ConnectionAborted.into());
                }
                Cut::BeforeAnswer => {
                    plan.cuts.fetch_add(1, Ordering::SeqCst);
                    muted.store(true, Ordering::SeqCst);
                }
            }
        }
        server.write_all(&piece[..length])?;
    }
}

/// Ends before the first answer that comes when it is muted.
fn answers(
    mut server: &TcpStream,
    mut client: &TcpStream,
    muted: &AtomicBool,
) -> std::io::Result<()> {
    let mut piece = vec![0; 64 << 10];
    loop {
        let length = server.read(&mut piece)?;
        if length == 0 || muted.load(Ordering::SeqCst) {
            return Ok(());
        }
        client.write_all(&piece[..length])?;
    }
}
