//! Is a file still being written?
//!
//! The Collector's file exporter keeps its file open and appends to it: a file deleted under it would take all that it
//! writes afterwards with it. Linux tells who holds a file open in `/proc/<pid>/fd`. (A lease, `F_SETLEASE`, would be
//! asked of the kernel directly, but no safe interface to it exists, and it needs the same rights.)
//!
//! Limits: processes of other users are seen only by root or with `CAP_SYS_PTRACE`, those of other containers or
//! machines not at all. There the time to settle after the last change (5 min for local files) is all that guards;
//! run the worker as the Collector's user, or let the Collector rotate its files.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A file, by its device and its number there.
type File = (u64, u64);

/// How long a look at all processes counts. A look costs milliseconds, and thousands of files are asked about one after
/// the other. Who opens a file and appends to it did so long before (it has settled for minutes); that somebody opens
/// one for the first time right after the look can happen as well right after any other question.
const LOOK_LASTS: Duration = Duration::from_secs(1);

/// Which files processes have open for writing, as last seen.
#[derive(Debug, Default)]
pub(super) struct Writers(Mutex<Option<(Duration, HashSet<File>)>>);

impl Writers {
    /// Whether a process that we may look at, even ourselves, holds the file of `meta` open for writing. `now` is the
    /// monotonic time.
    pub(super) fn hold_open(&self, meta: &fs::Metadata, now: Duration) -> io::Result<bool> {
        let file = (meta.dev(), meta.ino());
        // Held while somebody looks, so that twenty who ask at once look once.
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, open)) = &*seen
            && now.saturating_sub(*at) < LOOK_LASTS
            && !open.contains(&file)
        {
            return Ok(false);
        }
        // Never seen, too long ago, or open then: it may have been closed since.
        let open = open_for_writing()?;
        let is_open = open.contains(&file);
        *seen = Some((now, open));
        Ok(is_open)
    }
}

/// Every file that a process holds open for writing, of those processes that we may look at.
fn open_for_writing() -> io::Result<HashSet<File>> {
    let mut open = HashSet::new();
    let processes = match fs::read_dir("/proc") {
        Ok(processes) => processes,
        // Not Linux.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(open),
        Err(error) => return Err(error),
    };
    for process in processes.flatten() {
        if !process.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        // Another user's, or gone meanwhile.
        let Ok(handles) = fs::read_dir(process.path().join("fd")) else { continue };
        for handle in handles.flatten() {
            let Ok(meta) = fs::metadata(handle.path()) else { continue };
            let info = process.path().join("fdinfo").join(handle.file_name());
            if meta.is_file() && fs::read_to_string(info).is_ok_and(|info| writes(&info)) {
                open.insert((meta.dev(), meta.ino()));
            }
        }
    }
    Ok(open)
}

/// Whether the handle described by an `fdinfo` file was opened for writing (proc_pid_fdinfo(5): octal flags, of which the
/// last two bits are 0 for reading only).
fn writes(info: &str) -> bool {
    info.lines()
        .find_map(|line| line.strip_prefix("flags:"))
        .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok())
        .is_some_and(|flags| flags & 0o3 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_held_as_long_as_it_is_open_for_writing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("traces.jsonl");
        let writer = fs::File::create(&path).unwrap();
        let meta = fs::metadata(&path).unwrap();
        let (writers, second) = (Writers::default(), Duration::from_secs(1));
        assert!(writers.hold_open(&meta, second).unwrap());
        drop(writer);
        let _reader = fs::File::open(&path).unwrap();
        assert!(!writers.hold_open(&meta, second).unwrap(), "what was open is looked at again");
        let _writer = fs::File::options().append(true).open(&path).unwrap();
        assert!(!writers.hold_open(&meta, second).unwrap(), "the last look counts for a second");
        assert!(writers.hold_open(&meta, 2 * second).unwrap());
    }
}
