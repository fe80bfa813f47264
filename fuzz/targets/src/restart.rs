//! A node restarts from a disk on which a real life was written and then anything happened:
//! bytes changed, files cut, renamed or gone, checksums mended or not. It starts, or says in
//! words why not; what it starts with is consistent, and it takes time and a peer's word.

use std::collections::BTreeMap;

use arbitrary::{Arbitrary as _, Result, Unstructured};
use dtask_core::id::Ticket;
use dtask_core::log::File;
use dtask_core::node::{Input, Request};
use dtask_core::spec::Draft;
use dtask_sim::world::disk::Disk;

use crate::disk::{mend_header, mend_records};
use crate::host::{Host, clock};

/// Lives a little, damages, restarts.
pub(crate) fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let mut host = Host::new(1, 1);
    let mut time = 0;
    host.start().expect("an empty disk");
    let rounds = u.int_in_range(0..=60_u64).unwrap_or(0);
    for round in 0..rounds {
        live(&mut host, &mut time, round);
    }
    host.crash(None);
    if damage(&mut host.disk, &mut u).is_err() {
        // The input ends: what was done so far counts.
    }
    if let Err(reason) = host.start() {
        assert!(!reason.is_empty());
        return;
    }
    for round in 0..12 {
        if host.driver.is_none() {
            return;
        }
        live(&mut host, &mut time, 1_000 + round);
    }
    if let Some(node) = host.node() {
        node.state().audit().expect("what it goes on with is consistent");
    }
}

/// The disk of a node that lived for some rounds.
pub(crate) fn lived(rounds: u64) -> Disk {
    let mut host = Host::new(1, 1);
    let mut time = 0;
    host.start().expect("an empty disk");
    for round in 0..rounds {
        live(&mut host, &mut time, round);
    }
    host.disk
}

fn live(host: &mut Host, time: &mut u64, round: u64) {
    *time += 100_000;
    let now = clock(*time);
    let id = format!("t{round}");
    let payload = vec![b'p'; 200].into();
    let draft = Draft { id: &id, kind: "noop", payload, ..Draft::default() };
    let request = Request::Submit(vec![draft.check().expect("a valid task")]);
    let ask = Input::Ask { ticket: Ticket(round), request, forwarded: false };
    host.turn(now, [Input::Wake, ask]);
    for _ in 0..2 {
        let inputs = host.sync();
        host.turn(now, inputs);
        let inputs = host.history();
        host.turn(now, inputs);
    }
}

fn damage(disk: &mut Disk, u: &mut Unstructured<'_>) -> Result<()> {
    for _ in 0..u.int_in_range(0..=6)? {
        let names: Vec<String> = disk.names().map(str::to_owned).collect();
        if names.is_empty() {
            return Ok(());
        }
        let name = names[u.choose_index(names.len())?].clone();
        let len = disk.read(&name).map_or(0, <[u8]>::len) as u64;
        match u.int_in_range(0..=9)? {
            0 => disk.remove(&name),
            1 => disk.truncate(&name, u.int_in_range(0..=len)?),
            2 => {
                let other = names[u.choose_index(names.len())?].clone();
                disk.rename(&name, &other);
            }
            3 => {
                let number = u.int_in_range(0..=20)?;
                let files = [File::Segment(number), File::Snapshot(number)];
                disk.rename(&name, &u.choose(&files)?.name());
            }
            4 => disk.rename(&name, &File::Segment(u64::arbitrary(u)?).name()),
            kind => {
                // Most of what counts stands early in a file.
                let at = if kind < 7 {
                    u.int_in_range(0..=len.min(300))?
                } else {
                    u.int_in_range(0..=len)?
                };
                let count = usize::from(u.int_in_range(1..=8_u8)?).min(u.len());
                let bytes = u.bytes(count)?.to_vec();
                let fits = bytes.len().min((len - at.min(len)) as usize);
                disk.write(&name, at, &bytes[..fits]);
            }
        }
    }
    if bool::arbitrary(u)? {
        mend(disk, bool::arbitrary(u)?);
    }
    Ok(())
}

/// Checksums, and the chain's links, as if the log had been written so.
fn mend(disk: &mut Disk, link: bool) {
    let mut segments = BTreeMap::new();
    for name in disk.names() {
        if let Some(File::Segment(number)) = File::parse(name) {
            segments.insert(number, disk.read(name).unwrap_or_default().to_vec());
        }
    }
    let mut chain = None;
    for (number, mut bytes) in segments {
        if bytes.len() < crate::disk::HEADER {
            continue;
        }
        mend_header(&mut bytes, number, link, &mut chain);
        mend_records(&mut bytes, link, &mut chain);
        disk.write(&File::Segment(number).name(), 0, &bytes);
    }
}
