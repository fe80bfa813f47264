//! What the log asks of a disk, as plain data.

use alloc::format;
use alloc::string::String;

use bytes::Bytes;

/// A file of the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum File {
    /// A segment in place.
    Segment(u64),
    /// A segment being prepared.
    SegmentTemp(u64),
    /// A snapshot in place.
    Snapshot(u64),
    /// A snapshot being written.
    SnapshotTemp(u64),
}

impl File {
    /// Its name in the data directory.
    pub fn name(self) -> String {
        match self {
            Self::Segment(number) => format!("segment-{number:016x}.log"),
            Self::SegmentTemp(number) => format!("segment-{number:016x}.tmp"),
            Self::Snapshot(index) => format!("snapshot-{index:016x}.bin"),
            Self::SnapshotTemp(index) => format!("snapshot-{index:016x}.tmp"),
        }
    }

    /// The file of that name; `None` for names that are not the log's.
    pub fn parse(name: &str) -> Option<Self> {
        let (stem, suffix) = name.split_once('.')?;
        let (kind, digits) = stem.split_once('-')?;
        let number = u64::from_str_radix(digits, 16).ok()?;
        let file = match (kind, suffix) {
            ("segment", "log") => Self::Segment(number),
            ("segment", "tmp") => Self::SegmentTemp(number),
            ("snapshot", "bin") => Self::Snapshot(number),
            ("snapshot", "tmp") => Self::SnapshotTemp(number),
            _ => return None,
        };
        (file.name() == name).then_some(file)
    }
}

/// One operation. They are performed in order; any that fails is a crash (P4.4), but for
/// `Remove` of a file that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskOp {
    /// Makes the file, or makes it anew, with `len` zero bytes that are written, not sparse. May
    /// be performed ahead, in the background, as long as later operations on the file wait for it.
    Create {
        /// Which.
        file: File,
        /// Its length.
        len: u64,
    },
    /// Overwrites within the file's length.
    Write {
        /// Which.
        file: File,
        /// Where.
        offset: u64,
        /// What.
        bytes: Bytes,
    },
    /// fdatasync.
    Sync {
        /// Which.
        file: File,
    },
    /// Renames.
    Rename {
        /// The old name.
        from: File,
        /// The new name.
        to: File,
    },
    /// Removes the name.
    Remove {
        /// Which.
        file: File,
    },
    /// fsync of the directory: names made, changed and removed before are durable.
    SyncDir,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_foreign_names_are_not() {
        for file in [
            File::Segment(1),
            File::SegmentTemp(u64::MAX),
            File::Snapshot(0x1f),
            File::SnapshotTemp(0),
        ] {
            assert_eq!(File::parse(&file.name()), Some(file));
        }
        for name in ["lock", "segment-1.log", "segment-+000000000000001.log", "a-0.log", "x"] {
            assert_eq!(File::parse(name), None, "{name}");
        }
    }
}
