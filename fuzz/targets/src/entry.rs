//! An entry of the replicated log from arbitrary bytes: what can be read is canonical, so writing
//! it again gives the same bytes.

use dtask_core::codec::flat::command::{put_command, read_command};
use dtask_core::codec::flat::spec::{put_profile, read_profile};
use dtask_core::codec::flat::{EntryBuilder, EntryRef};

use crate::meter;

/// A command of six bytes is a value of some two hundred.
const FACTOR: usize = 64;

/// Reads the bytes as an entry, as one command and as one profile.
pub(crate) fn run(data: &[u8]) {
    meter::bounded(data.len(), FACTOR, || {
        entry(data);
        if let Ok(command) = read_command(data) {
            let mut again = Vec::new();
            put_command(&mut again, &command);
            assert_eq!(again, data, "{command:?}");
        }
        if let Ok(profile) = read_profile(data) {
            let mut again = Vec::new();
            put_profile(&mut again, &profile);
            assert_eq!(again, data, "{profile:?}");
        }
    });
}

fn entry(data: &[u8]) {
    let Ok(entry) = EntryRef::parse(data) else { return };
    let mut again = EntryBuilder::new(entry.level(), entry.at());
    let mut whole = true;
    for number in 0..entry.profile_bytes().len() {
        match entry.profile(number as u16) {
            // One that stands twice is written once.
            Ok(profile) => whole &= usize::from(again.intern(&profile)) == number,
            Err(_) => whole = false,
        }
    }
    let mut len = 0;
    for command in entry.commands() {
        len += 1;
        match command {
            Ok(command) => {
                again.push(&command);
            }
            Err(_) => whole = false,
        }
    }
    assert_eq!(len, entry.len());
    if whole {
        assert_eq!(again.bytes(), data.len());
        assert_eq!(again.finish(), data);
    }
}
