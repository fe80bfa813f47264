//! One machine's disk: files with a live image (what the process sees) and a durable one (what a
//! power loss leaves), and a directory whose entries are durable only after its own sync.
//!
//! A power loss keeps any subset of the 512-byte sectors written since the last sync, and any
//! prefix or subset of the directory's changes. A killed process loses nothing that it wrote, but
//! what it had not synced stays at risk.

use std::collections::{BTreeMap, BTreeSet};

use dtask_core::rng::Rng;

const SECTOR: usize = 512;

#[derive(Clone, Debug, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<u32>,
}

#[derive(Clone, Debug)]
enum DirChange {
    Link(String, usize),
    Unlink(String),
    Rename(String, String),
}

/// A disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    inodes: Vec<Inode>,
    live: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    changes: Vec<DirChange>,
}

impl Disk {
    /// Creates an empty file, or empties an existing one: that stays the same file (O_TRUNC), so
    /// that its name never means another one after a power loss.
    pub fn create(&mut self, name: &str) {
        if self.exists(name) {
            return self.truncate(name, 0);
        }
        let inode = self.inodes.len();
        self.inodes.push(Inode::default());
        self.live.insert(name.to_owned(), inode);
        self.changes.push(DirChange::Link(name.to_owned(), inode));
    }

    /// Tells whether the file exists.
    pub fn exists(&self, name: &str) -> bool {
        self.live.contains_key(name)
    }

    /// Writes at `offset`; the file grows as needed and is created when it does not exist.
    pub fn write(&mut self, name: &str, offset: u64, data: &[u8]) {
        if !self.exists(name) {
            self.create(name);
        }
        let inode = &mut self.inodes[self.live[name]];
        let start = offset as usize;
        let end = start + data.len();
        let first = if start > inode.live.len() { inode.live.len() } else { start };
        if end > inode.live.len() {
            inode.live.resize(end, 0);
        }
        inode.live[start..end].copy_from_slice(data);
        if end > first {
            inode.dirty.extend((first / SECTOR) as u32..=((end - 1) / SECTOR) as u32);
        }
    }

    /// Appends.
    pub fn append(&mut self, name: &str, data: &[u8]) {
        let end = self.read(name).map_or(0, <[u8]>::len);
        self.write(name, end as u64, data);
    }

    /// Cuts or extends with zeros.
    pub fn truncate(&mut self, name: &str, len: u64) {
        let Some(&inode) = self.live.get(name) else { return };
        let inode = &mut self.inodes[inode];
        let (len, old) = (len as usize, inode.live.len());
        inode.live.resize(len, 0);
        let (low, high) = (len.min(old), len.max(old));
        if high > low {
            inode.dirty.extend((low / SECTOR) as u32..=((high - 1) / SECTOR) as u32);
        }
    }

    /// What the process sees.
    pub fn read(&self, name: &str) -> Option<&[u8]> {
        self.live.get(name).map(|&inode| self.inodes[inode].live.as_slice())
    }

    /// The names that the process sees, ascending.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.live.keys().map(String::as_str)
    }

    /// Makes a file's content durable (not its name).
    pub fn sync(&mut self, name: &str) {
        let Some(&inode) = self.live.get(name) else { return };
        let inode = &mut self.inodes[inode];
        let Inode { live, durable, dirty } = inode;
        durable.resize(live.len(), 0);
        for sector in dirty.iter() {
            copy_sector(live, durable, *sector);
        }
        dirty.clear();
    }

    /// Makes the directory durable.
    pub fn sync_dir(&mut self) {
        self.changes.clear();
        self.durable.clone_from(&self.live);
    }

    /// Renames, replacing what had the new name.
    pub fn rename(&mut self, from: &str, to: &str) {
        if let Some(inode) = self.live.remove(from) {
            self.live.insert(to.to_owned(), inode);
            self.changes.push(DirChange::Rename(from.to_owned(), to.to_owned()));
        }
    }

    /// Removes a name.
    pub fn remove(&mut self, name: &str) {
        if self.live.remove(name).is_some() {
            self.changes.push(DirChange::Unlink(name.to_owned()));
        }
    }

    /// Tells whether the file's content and name would survive a power loss as they are.
    pub fn is_durable(&self, name: &str) -> bool {
        match self.live.get(name) {
            Some(inode) => {
                self.inodes[*inode].dirty.is_empty() && self.durable.get(name) == Some(inode)
            }
            None => true,
        }
    }

    /// What a failed fsync leaves: the kernel forgets that the sectors were dirty, and keeps or
    /// drops what was in them.
    pub fn fail_sync(&mut self, name: &str, rng: &mut Rng) {
        let Some(&inode) = self.live.get(name) else { return };
        lose(&mut self.inodes[inode], rng, 1, 2);
    }

    /// Flips a bit of what lies on the platter. `false` when nothing lies there.
    pub fn rot(&mut self, name: &str, place: u64, bit: u32) -> bool {
        let Some(&inode) = self.live.get(name) else { return false };
        let Inode { live, durable, .. } = &mut self.inodes[inode];
        let (Some(seen), Some(kept)) =
            (live.get_mut(place as usize), durable.get_mut(place as usize))
        else {
            return false;
        };
        *seen ^= 1 << bit;
        *kept ^= 1 << bit;
        true
    }

    /// Power loss: any subset of what was not synced survives. Returns how many sectors were lost.
    pub fn lose_power(&mut self, rng: &mut Rng) -> usize {
        let keep_dir = rng.below(3);
        let kept = rng.below(self.changes.len() as u64 + 1) as usize;
        let mut names = self.durable.clone();
        for (place, change) in std::mem::take(&mut self.changes).into_iter().enumerate() {
            let keep = match keep_dir {
                0 => place < kept,
                1 => rng.chance(1, 2),
                _ => true,
            };
            if keep {
                change.apply(&mut names);
            }
        }
        let mut lost = 0;
        // All, none, a prefix or a random half of the sectors: the extremes matter most.
        let mode = rng.below(4);
        let used: BTreeSet<usize> = names.values().copied().collect();
        for place in used {
            let inode = &mut self.inodes[place];
            lost += match mode {
                0 => lose(inode, rng, 0, 1),
                1 => lose_tail(inode, rng),
                2 => lose(inode, rng, 1, 2),
                _ => lose(inode, rng, 7, 8),
            };
        }
        self.live = names.clone();
        self.durable = names;
        lost
    }
}

impl DirChange {
    fn apply(self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link(name, inode) => {
                names.insert(name, inode);
            }
            Self::Unlink(name) => {
                names.remove(&name);
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(&from) {
                    names.insert(to, inode);
                }
            }
        }
    }
}

/// Keeps each dirty sector `parts` times in `whole`; the rest falls back to the durable image.
fn lose(inode: &mut Inode, rng: &mut Rng, parts: u64, whole: u64) -> usize {
    let dirty = std::mem::take(&mut inode.dirty);
    let kept: Vec<u32> = dirty.iter().copied().filter(|_| rng.chance(parts, whole)).collect();
    settle(inode, &kept);
    dirty.len() - kept.len()
}

/// Keeps a prefix of the dirty sectors: the torn tail.
fn lose_tail(inode: &mut Inode, rng: &mut Rng) -> usize {
    let dirty = std::mem::take(&mut inode.dirty);
    let count = rng.below(dirty.len() as u64 + 1) as usize;
    let kept: Vec<u32> = dirty.iter().copied().take(count).collect();
    settle(inode, &kept);
    dirty.len() - kept.len()
}

fn settle(inode: &mut Inode, kept: &[u32]) {
    let Inode { live, durable, dirty: _ } = inode;
    for &sector in kept {
        let end = ((sector as usize + 1) * SECTOR).min(live.len());
        if durable.len() < end {
            durable.resize(end, 0);
        }
        copy_sector(live, durable, sector);
    }
    live.clone_from(durable);
}

fn copy_sector(from: &[u8], to: &mut [u8], sector: u32) {
    let start = sector as usize * SECTOR;
    let end = (start + SECTOR).min(from.len()).min(to.len());
    if start < end {
        to[start..end].copy_from_slice(&from[start..end]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synced_bytes_survive_a_power_loss() {
        for seed in 0..50 {
            let mut disk = Disk::default();
            disk.write("a", 0, &[1; 2_000]);
            disk.sync("a");
            disk.sync_dir();
            disk.write("a", 2_000, &[2; 3_000]);
            disk.lose_power(&mut Rng::new(seed));
            assert_eq!(disk.read("a").map(|bytes| &bytes[..2_000]), Some(&[1; 2_000][..]));
        }
    }

    #[test]
    fn an_unsynced_name_may_be_lost_with_its_synced_bytes() {
        let lost = (0..50).filter(|&seed| {
            let mut disk = Disk::default();
            disk.write("a", 0, &[1; 10]);
            disk.sync("a");
            disk.lose_power(&mut Rng::new(seed));
            !disk.exists("a")
        });
        assert!(lost.count() > 5);
    }

    #[test]
    fn a_renamed_file_that_was_emptied_and_synced_is_whole_or_not_there() {
        for seed in 0..200 {
            let mut disk = Disk::default();
            let rng = &mut Rng::new(seed);
            disk.write("temp", 0, &[9; 2_000]);
            disk.lose_power(rng);
            disk.create("temp");
            disk.write("temp", 0, &[1; 2_000]);
            disk.sync("temp");
            disk.rename("temp", "a");
            disk.lose_power(rng);
            if let Some(bytes) = disk.read("a") {
                assert_eq!(bytes, [1; 2_000], "seed {seed}");
            }
        }
    }

    #[test]
    fn unsynced_sectors_are_lost_in_any_subset() {
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let mut disk = Disk::default();
            disk.write("a", 0, &[0; 1_536]);
            disk.sync("a");
            disk.sync_dir();
            disk.write("a", 0, &[7; 1_536]);
            disk.lose_power(&mut Rng::new(seed));
            let image = disk.read("a").map(<[u8]>::to_vec).unwrap_or_default();
            seen.insert(image.chunks(512).map(|sector| sector[0]).collect::<Vec<_>>());
        }
        assert_eq!(seen.len(), 8);
    }
}
