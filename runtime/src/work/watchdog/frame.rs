//! What goes through the pipes: frames of sixteen bytes, which a pipe never tears (`PIPE_BUF`).

use dtask_core::time::Instant;
use rustix::process::Pid;

/// Length of every frame.
pub(super) const FRAME_BYTES: usize = 16;

/// One word to the watchdog, or of a launcher to the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Kill everything then, unless told otherwise. The monotonic clock of this machine.
    Until(Instant),
    /// A process group that must not outlive the deadline.
    Watch(Pid),
    /// A process group that is over.
    Forget(Pid),
    /// A launcher could not become its handler: errno.
    Failed(Pid, i32),
}

impl Frame {
    pub(super) fn bytes(self) -> [u8; FRAME_BYTES] {
        let (kind, detail, value) = match self {
            Self::Until(at) => (1, 0, at.as_micros()),
            Self::Watch(pid) => (2, 0, pid.as_raw_nonzero().get() as u64),
            Self::Forget(pid) => (3, 0, pid.as_raw_nonzero().get() as u64),
            Self::Failed(pid, errno) => (4, errno, pid.as_raw_nonzero().get() as u64),
        };
        let mut bytes = [0; FRAME_BYTES];
        bytes[..4].copy_from_slice(&i32::to_le_bytes(kind));
        bytes[4..8].copy_from_slice(&detail.to_le_bytes());
        bytes[8..].copy_from_slice(&value.to_le_bytes());
        bytes
    }

    pub(super) fn read(bytes: [u8; FRAME_BYTES]) -> Option<Self> {
        let [k0, k1, k2, k3, d0, d1, d2, d3, value @ ..] = bytes;
        let value = u64::from_le_bytes(value);
        let pid = || Pid::from_raw(i32::try_from(value).ok()?);
        match i32::from_le_bytes([k0, k1, k2, k3]) {
            1 => Some(Self::Until(Instant::from_micros(value))),
            2 => Some(Self::Watch(pid()?)),
            3 => Some(Self::Forget(pid()?)),
            4 => Some(Self::Failed(pid()?, i32::from_le_bytes([d0, d1, d2, d3]))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_were() {
        let pid = Pid::from_raw(4_711).expect("not zero");
        for frame in [
            Frame::Until(Instant::from_micros(u64::MAX)),
            Frame::Watch(pid),
            Frame::Forget(pid),
            Frame::Failed(pid, 2),
        ] {
            assert_eq!(Frame::read(frame.bytes()), Some(frame));
        }
        assert_eq!(Frame::read([0; FRAME_BYTES]), None);
        let mut nobody = Frame::Watch(pid).bytes();
        nobody[8..].fill(0);
        assert_eq!(Frame::read(nobody), None, "group 0 would be the watchdog's own");
    }
}
