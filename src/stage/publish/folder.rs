//! The folder of one run of `publish_command`.
//!
//! | in it | |
//! | --- | --- |
//! | `traces.json` | what the command has as its standard input |
//! | `summary.json` | the handler's summary |
//! | `extra/` | the folder that the command runs in: what it leaves there is uploaded |
//! | `home/`, `tmp/` | `HOME` and `TMPDIR` |
//!
//! Everything in it was written by a program that reads hostile text: names and kinds of files are believed by nobody.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use rustix::fs::OFlags;

use crate::error::{Result, ResultExt, bail, report};
use crate::store::layout::ExtraName;

/// The most extras of a handler.
pub const MOST_FILES: usize = 100;

/// The largest single file, temporary ones included.
pub const MOST_FILE_BYTES: u64 = 32 << 20;

/// All extras of a handler together.
pub const MOST_BYTES: u64 = 64 << 20;

/// How many folders deep an extra may lie.
const MOST_DEPTH: usize = 8;

/// What may lie on the disk while the command runs, temporary files included, `traces.json` not: looked at now and then,
/// so more for a moment. Files that were deleted and are held open are not seen.
const MOST_DISK_BYTES: u64 = 256 << 20;

/// So many files and folders while it runs, and so deep.
const MOST_DISK_FILES: usize = 10_000;
const MOST_DISK_DEPTH: usize = 32;

/// What the command has as its standard input.
pub fn traces(folder: &Path) -> PathBuf {
    folder.join("traces.json")
}

/// The handler's summary.
pub fn summary(folder: &Path) -> PathBuf {
    folder.join("summary.json")
}

/// Where the command runs.
pub fn extra(folder: &Path) -> PathBuf {
    folder.join("extra")
}

/// `HOME`: an empty one, so that no tool finds credentials or leaves its caches among the extras.
pub fn home(folder: &Path) -> PathBuf {
    folder.join("home")
}

/// `TMPDIR`
pub fn tmp(folder: &Path) -> PathBuf {
    folder.join("tmp")
}

/// The folder; it goes when this is dropped, unless a guard has it.
pub struct Folder {
    path: PathBuf,
    guarded: bool,
}

impl Folder {
    /// A new one with the input in it. `gzipped` is a handler's `traces.json.gz`.
    ///
    /// # Errors
    /// Those of the file system; that it is no gzip.
    pub fn new(gzipped: &Bytes, handler_summary: &Bytes) -> Result<Self> {
        let path = tempfile::Builder::new().prefix("tracefarm-").tempdir().context("make a temporary folder")?.keep();
        let folder = Self { path, guarded: false };
        for inner in [extra(&folder.path), home(&folder.path), tmp(&folder.path)] {
            DirBuilder::new().mode(0o700).create(inner).context("make a temporary folder")?;
        }
        fs::write(summary(&folder.path), handler_summary).context("write the summary for the command")?;
        let mut file = File::create_new(traces(&folder.path)).context("write the traces for the command")?;
        io::copy(&mut MultiGzDecoder::new(&gzipped[..]), &mut file).context("write the traces for the command")?;
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A guard removes it if the worker cannot: while that is so, dropping this leaves the folder, in which processes may
    /// still be at work.
    pub fn guarded(&mut self, guarded: bool) {
        self.guarded = guarded;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.guarded {
            // What cannot be removed is left to whoever sweeps /tmp.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Says so if there is more in the folder at `path` than may be. The command is at work meanwhile: what vanishes between
/// two looks is not counted.
///
/// # Errors
/// What is too much.
pub fn measure(path: &Path) -> Result<()> {
    let (mut bytes, mut files) = (0, 0);
    let mut todo = [extra(path), home(path), tmp(path)].map(|path| (path, 1)).to_vec();
    while let Some((folder, depth)) = todo.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            files += 1;
            bytes += meta.len();
            if files > MOST_DISK_FILES || bytes > MOST_DISK_BYTES || depth > MOST_DISK_DEPTH {
                bail!(
                    "it had more than {MOST_DISK_FILES} files, {} in all, or {MOST_DISK_DEPTH} folders within each other \
                     on the disk",
                    bytesize::ByteSize(MOST_DISK_BYTES)
                );
            }
            if meta.is_dir() {
                todo.push((entry.path(), depth + 1));
            }
        }
    }
    Ok(())
}

/// A file that the command left.
#[derive(Debug)]
pub struct Left {
    /// Its name.
    pub name: ExtraName,
    /// Where it lies.
    pub path: PathBuf,
}

/// What the command left, by name. It has ended.
///
/// # Errors
/// Whatever is no plain file with a proper name, or too much: then nothing of it counts.
pub fn left(path: &Path) -> Result<Vec<Left>> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    let mut todo = vec![(extra(path), String::new(), 0)];
    while let Some((folder, prefix, depth)) = todo.pop() {
        for entry in fs::read_dir(&folder).context("look for what the command wrote")? {
            let entry = entry.context("look for what the command wrote")?;
            let Some(name) = entry.file_name().to_str().map(|name| format!("{prefix}{name}")) else {
                bail!("it wrote a file whose name is not UTF-8: {prefix}{:?}", entry.file_name());
            };
            // Not followed, if it is a link.
            let meta = entry.metadata().context("look for what the command wrote")?;
            if meta.is_dir() {
                if depth >= MOST_DEPTH {
                    bail!("it wrote more than {MOST_DEPTH} folders within each other");
                }
                todo.push((entry.path(), format!("{name}/"), depth + 1));
                continue;
            }
            if !meta.is_file() {
                bail!("it left {name:?}, which is a link or a device and no file");
            }
            bytes += meta.len();
            let extra = ExtraName::new(&name).map_err(|why| report!("it wrote {name:?}, which {why}"))?;
            found.push(Left { name: extra, path: entry.path() });
            if found.len() > MOST_FILES || bytes > MOST_BYTES {
                bail!("it wrote more than {MOST_FILES} files, or more than {}", bytesize::ByteSize(MOST_BYTES));
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The bytes of a file that was left.
///
/// # Errors
/// Those of the file system; that it is no plain file, or larger than a file may be.
pub fn read(file: &Left) -> Result<Bytes> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let reading = || format!("read {:?}, which the command wrote", file.name.as_str());
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(&file.path);
    let opened = opened.context_with(reading)?;
    if !opened.metadata().context_with(reading)?.is_file() {
        bail!("{:?} is no file", file.name.as_str());
    }
    let mut body = Vec::new();
    opened.take(MOST_FILE_BYTES + 1).read_to_end(&mut body).context_with(reading)?;
    if body.len() as u64 > MOST_FILE_BYTES {
        bail!("it wrote {:?}, which is larger than {}", file.name.as_str(), bytesize::ByteSize(MOST_FILE_BYTES));
    }
    Ok(body.into())
}
