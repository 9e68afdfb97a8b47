//! Is a file still being written?
//!
//! The Collector's file exporter keeps its file open and appends to it: a file deleted under it would take all that it
//! writes afterwards with it. Linux tells who holds a file open in `/proc/<pid>/fd`. (A lease, `F_SETLEASE`, would be
//! asked of the kernel directly, but no safe interface to it exists, and it needs the same rights.)
//!
//! Limits: processes of other users are seen only by root or with `CAP_SYS_PTRACE`, those of other containers or
//! machines not at all. There the time to settle after the last change (5 min for local files) is all that guards;
//! run the worker as the Collector's user, or let the Collector rotate its files.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

/// Whether a process that we may look at, even ourselves, holds the file of `meta` open for writing.
pub(super) fn holds_open(meta: &fs::Metadata) -> io::Result<bool> {
    let processes = match fs::read_dir("/proc") {
        Ok(processes) => processes,
        // Not Linux.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    for process in processes.flatten() {
        if !process.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        // Another user's, or gone meanwhile.
        let Ok(handles) = fs::read_dir(process.path().join("fd")) else { continue };
        for handle in handles.flatten() {
            let Ok(open) = fs::metadata(handle.path()) else { continue };
            if open.dev() == meta.dev() && open.ino() == meta.ino() {
                let info = process.path().join("fdinfo").join(handle.file_name());
                if fs::read_to_string(info).is_ok_and(|info| writes(&info)) {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
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
        assert!(holds_open(&meta).unwrap());
        drop(writer);
        let _reader = fs::File::open(&path).unwrap();
        assert!(!holds_open(&meta).unwrap());
    }
}
