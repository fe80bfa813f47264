//! The files of a data directory, and `DiskOp`s performed on them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use dtask_core::log::{DiskOp, File};

/// Zeros written at once when a file is preallocated.
static ZEROS: [u8; 1 << 18] = [0; 1 << 18];

/// The segments' bytes by number, and the names of the log's other files, ascending.
type Content = (BTreeMap<u64, Vec<u8>>, Vec<File>);

/// An open data directory. The lock is held as long as this lives.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    handle: fs::File,
    _lock: fs::File,
    open: BTreeMap<File, fs::File>,
    /// Files that are being preallocated in the background.
    prepared: BTreeMap<File, JoinHandle<io::Result<fs::File>>>,
}

/// An operation that failed, in words for the one line that the process prints.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {}: {source}", path.display())]
pub(super) struct DiskError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Directory {
    /// Makes the directory if it is not there, and locks it; `None` when it is locked.
    pub(super) fn lock(path: &Path) -> Result<Option<Self>, DiskError> {
        let failed = |doing| move |source| DiskError { doing, path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(failed("cannot make"))?;
        let lock = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .map_err(failed("cannot write to"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(source)) => return Err(failed("cannot lock")(source)),
        }
        let handle = fs::File::open(path).map_err(failed("cannot open"))?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            // The directory's own name must survive a crash too.
            fs::File::open(parent)
                .and_then(|parent| parent.sync_all())
                .map_err(failed("cannot sync the parent of"))?;
        }
        Ok(Some(Self {
            path: path.to_owned(),
            handle,
            _lock: lock,
            open: BTreeMap::new(),
            prepared: BTreeMap::new(),
        }))
    }

    /// Reads the whole log.
    pub(super) fn read(&self) -> Result<Content, DiskError> {
        let mut segments = BTreeMap::new();
        let mut others = Vec::new();
        let entries = fs::read_dir(&self.path).map_err(|e| self.error("cannot list", None, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| self.error("cannot list", None, e))?;
            let Some(file) = entry.file_name().to_str().and_then(File::parse) else { continue };
            match file {
                File::Segment(number) => {
                    let bytes = fs::read(entry.path())
                        .map_err(|e| self.error("cannot read", Some(file), e))?;
                    segments.insert(number, bytes);
                }
                File::SegmentTemp(_) | File::Snapshot(_) | File::SnapshotTemp(_) => {
                    others.push(file);
                }
            }
        }
        others.sort_unstable();
        Ok((segments, others))
    }

    /// The path of a file.
    pub(super) fn path_of(&self, file: File) -> PathBuf {
        self.path.join(file.name())
    }

    /// Performs operations in order.
    pub(super) fn perform(&mut self, ops: Vec<DiskOp>) -> Result<(), DiskError> {
        for op in ops {
            match op {
                DiskOp::Create { file, len } => self.prepare(file, len),
                DiskOp::Write { file, offset, bytes } => {
                    let result = self.file(file).and_then(|open| open.write_all_at(&bytes, offset));
                    result.map_err(|e| self.error("cannot write", Some(file), e))?;
                }
                DiskOp::Sync { file } => {
                    let result = self.file(file).and_then(|open| open.sync_data());
                    result.map_err(|e| self.error("cannot sync", Some(file), e))?;
                }
                DiskOp::Rename { from, to } => self.rename(from, to)?,
                DiskOp::Remove { file } => self.remove(file)?,
                DiskOp::SyncDir => {
                    self.handle
                        .sync_all()
                        .map_err(|e| self.error("cannot sync the directory", None, e))?;
                }
            }
        }
        Ok(())
    }

    /// Preallocation takes tens of milliseconds: it happens beside the log's own writes, and the
    /// first operation that needs the file waits for it.
    fn prepare(&mut self, file: File, len: u64) {
        self.open.remove(&file);
        self.prepared.remove(&file).map(JoinHandle::join);
        let path = self.path_of(file);
        let work = move || preallocate(&path, len);
        let thread = std::thread::Builder::new().name("log-prepare".to_owned());
        // Without a thread to spare the first use tells the error.
        if let Ok(handle) = thread.spawn(work) {
            self.prepared.insert(file, handle);
        }
    }

    fn file(&mut self, file: File) -> io::Result<&fs::File> {
        if let Some(work) = self.prepared.remove(&file) {
            let made = work.join().map_err(|_| io::Error::other("preallocation panicked"))??;
            self.open.insert(file, made);
        }
        let path = self.path_of(file);
        match self.open.entry(file) {
            std::collections::btree_map::Entry::Occupied(open) => Ok(open.into_mut()),
            std::collections::btree_map::Entry::Vacant(place) => {
                Ok(place.insert(fs::OpenOptions::new().write(true).open(path)?))
            }
        }
    }

    fn rename(&mut self, from: File, to: File) -> Result<(), DiskError> {
        let open = self.file(from).map(|_| ());
        open.and_then(|()| fs::rename(self.path_of(from), self.path_of(to)))
            .map_err(|e| self.error("cannot rename", Some(from), e))?;
        // The open file goes by its new name; the segment before it is not written any more.
        let moved = self.open.remove(&from);
        self.open.clear();
        self.open.extend(moved.map(|open| (to, open)));
        Ok(())
    }

    fn remove(&mut self, file: File) -> Result<(), DiskError> {
        self.open.remove(&file);
        self.prepared.remove(&file).map(JoinHandle::join);
        match fs::remove_file(self.path_of(file)) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.error("cannot remove", Some(file), error)),
        }
    }

    fn error(&self, doing: &'static str, file: Option<File>, source: io::Error) -> DiskError {
        let path = file.map_or_else(|| self.path.clone(), |file| self.path_of(file));
        DiskError { doing, path, source }
    }
}

impl DiskError {
    pub(super) fn new(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self { doing, path: path.to_owned(), source }
    }
}

/// Zeros, written and synced: later overwrites change no metadata.
fn preallocate(path: &Path, len: u64) -> io::Result<fs::File> {
    let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    let mut left = len;
    while left > 0 {
        let some = left.min(ZEROS.len() as u64);
        file.write_all(&ZEROS[..some as usize])?;
        left -= some;
    }
    file.sync_data()?;
    Ok(file)
}
