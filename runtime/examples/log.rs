//! Measures the log store: `cargo run --release -p dtask-runtime --example log -- [DIRECTORY]`.
//!
//! For each size, records one at a time (each waits for its fsync), then with 64 under way, as a
//! busy leader has them. The last column is the mean time of a write.

#[cfg(madsim)]
fn main() {}

#[cfg(not(madsim))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = match std::env::args().nth(1) {
        Some(path) => tempfile::tempdir_in(path)?,
        None => tempfile::tempdir()?,
    };
    println!("{:>9} {:>9} {:>12} {:>12}", "bytes", "under way", "writes/s", "us a write");
    for size in [1 << 10, 16 << 10, 64 << 10] {
        for under_way in [1, 64] {
            let path = directory.path().join(format!("{size}-{under_way}"));
            measure(&path, size, under_way)?;
        }
    }
    Ok(())
}

#[cfg(not(madsim))]
fn measure(
    path: &std::path::Path,
    size: usize,
    under_way: u64,
) -> Result<(), Box<dyn std::error::Error>> {
    use std::time::{Duration, Instant};

    use dtask_core::consensus::{HardState, LogEntry};
    use dtask_core::id::NodeId;
    use dtask_core::log::Persist;
    use dtask_runtime::log_store::{Options, open};
    use dtask_runtime::serve::ports::Disk as _;

    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut log = open(path, &Options::new(NodeId(1), None), |_| ())?;
    let data = bytes::Bytes::from(vec![7; size]);
    let began = Instant::now();
    let (mut sent, mut durable) = (0, 0);
    while began.elapsed() < Duration::from_secs(2) {
        while sent < durable + under_way {
            sent += 1;
            let entry = LogEntry { index: sent, term: 1, conf_change: false, data: data.clone() };
            log.store.persist(Persist {
                n: sent,
                hard_state: HardState { term: 1, vote: 1, commit: sent - 1 },
                entries: vec![entry],
                fact: None,
            });
        }
        runtime.block_on(log.durable.changed())?;
        durable = *log.durable.borrow_and_update();
    }
    let seconds = began.elapsed().as_secs_f64();
    let rate = durable as f64 / seconds;
    println!("{size:>9} {under_way:>9} {rate:>12.0} {:>12.1}", 1e6 / rate);
    drop(log);
    std::fs::remove_dir_all(path)?;
    Ok(())
}
