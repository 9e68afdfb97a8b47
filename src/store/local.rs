//! A directory as an object store: whole files, durable before they are visible, listed whatever their names.
//!
//! `object_store` has a local store of its own. Ours differs in what a farm needs of it:
//! - one file with an odd name, or one folder that may not be read (`lost+found`), does not fail the listing of all;
//! - unfinished files lie in one folder, apart from the objects, and those of dead processes are swept;
//! - it tells whether a process holds a file open for writing.
//!
//! A write goes: temporary file, `fsync`, hard link (which never replaces) or rename, `fsync` of every folder that
//! changed. If the process dies in between, either nothing is visible or the whole file. Two processes that create one
//! name: one link succeeds. Object identity is inode, size and time of change: it differs when a file grows or is
//! replaced.

mod writers;

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use rustix::io::Errno;

use super::{Written, layout, name};
use crate::clock::Clock;
use crate::task;
use writers::Writers;

/// Where unfinished files lie, in the store's own directory: a rename must not leave the file system. Listings of the
/// store leave it out.
const UNFINISHED: &str = ".tracefarm-unfinished";

/// Unfinished files that nobody has written to for so long are a dead process's. A single write takes minutes at most;
/// an upload that pauses for longer fails when it is finished, and its work is done again.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// Reads of whole files come in pieces of this size.
const CHUNK_BYTES: u64 = 1 << 20;

/// A directory. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Local {
    root: Arc<PathBuf>,
    clock: Clock,
    writers: Arc<Writers>,
}

impl std::fmt::Display for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Local({})", self.root.display())
    }
}

impl Local {
    /// The directory `root`, which must be there; `clock` says how old unfinished files are.
    pub(super) fn new(root: PathBuf, clock: Clock) -> Self {
        Self { root: Arc::new(root), clock, writers: Arc::default() }
    }

    /// Whether one of the directories is in the other, links followed.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let real = |local: &Self| fs::canonicalize(&*local.root).unwrap_or_else(|_| local.root.to_path_buf());
        let (a, b) = (real(self), real(other));
        a.starts_with(&b) || b.starts_with(&a)
    }

    /// Takes away what dead processes left unfinished. Best effort: what cannot be removed does no harm.
    pub(super) async fn sweep(&self) {
        let local = self.clone();
        let now = self.clock.files();
        let sweep = move || {
            for entry in fs::read_dir(local.root.join(UNFINISHED))?.flatten() {
                let Ok(meta) = entry.metadata() else { continue };
                let age = now.duration_since(changed(&meta));
                if meta.is_file() && age > jiff::SignedDuration::try_from(STALE).unwrap_or(jiff::SignedDuration::MAX) {
                    // Two sweepers at once: one finds it gone.
                    let _ = fs::remove_file(entry.path());
                }
            }
            Ok(())
        };
        let _: io::Result<()> = blocking(sweep).await;
    }

    /// Whether a process holds the file open for writing: then it goes on growing, under whatever name or none.
    pub(super) async fn is_held_open(&self, path: &Path) -> Result<bool> {
        let file = self.file(path)?;
        let (writers, now) = (self.writers.clone(), self.clock.monotonic());
        blocking(move || writers.hold_open(&fs::metadata(file)?, now)).await.map_err(|error| failed(path, error))
    }

    /// The file of an object.
    fn file(&self, path: &Path) -> Result<PathBuf> {
        let mut file = self.root.as_path().to_owned();
        for part in path.as_ref().split('/') {
            let part = name::unmark(part);
            // A path must not lead out of the directory, and a name with a slash in it would be another name.
            if matches!(&part[..], b"" | b"." | b"..") || part.iter().any(|b| matches!(b, b'/' | 0)) {
                return Err(failed(path, io::Error::new(io::ErrorKind::InvalidInput, "no file can have this name")));
            }
            file.push(std::ffi::OsString::from_vec(part));
        }
        Ok(file)
    }

    /// The files under `folder` in the order of their paths, links followed.
    fn walk(&self, folder: &Path) -> io::Result<Vec<ObjectMeta>> {
        let mut found = Vec::new();
        let Ok(start) = (if folder.is_root() { Ok(self.root.as_path().to_owned()) } else { self.file(folder) }) else {
            return Ok(found);
        };
        let mut folders = vec![(start, folder.as_ref().to_owned())];
        while let Some((folder, marked)) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                // Gone since it was listed (an hour that expired), or never there.
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    continue;
                }
                Err(error) if is_left_out(&marked, &folder, &error) => continue,
                Err(error) => return Err(at(&folder, error)),
            };
            for entry in entries {
                let entry = entry?;
                if marked.is_empty() && entry.file_name() == UNFINISHED {
                    continue;
                }
                let mut inner = marked.clone();
                if !inner.is_empty() {
                    inner.push('/');
                }
                name::mark_part(entry.file_name().as_bytes(), &mut inner);
                // Follows links. A broken one, or a file that has just gone, is no object.
                let meta = match fs::metadata(entry.path()) {
                    Ok(meta) => meta,
                    Err(error) if is_absent(&error) || is_left_out(&inner, &entry.path(), &error) => continue,
                    Err(error) => return Err(at(&entry.path(), error)),
                };
                if meta.is_dir() {
                    // A link to a folder above it would be walked for ever.
                    let looped = entry.file_type()?.is_symlink()
                        && fs::canonicalize(entry.path()).is_ok_and(|target| folder.starts_with(target));
                    if !looped {
                        folders.push((entry.path(), inner));
                    }
                } else if meta.is_file()
                    && let Ok(path) = Path::parse(&inner)
                {
                    found.push(object(path, &meta));
                }
            }
        }
        found.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        Ok(found)
    }

    fn list_after(&self, folder: Option<&Path>, after: Option<Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let local = self.clone();
        let folder = folder.cloned().unwrap_or(Path::ROOT);
        async move {
            let shown = folder.clone();
            let listed = blocking(move || {
                let mut found = local.walk(&folder)?;
                found.retain(|meta| after.as_ref().is_none_or(|after| meta.location > *after));
                Ok(found)
            });
            match listed.await {
                Ok(found) => futures::stream::iter(found.into_iter().map(Ok)).boxed(),
                Err(error) => futures::stream::iter([Err(failed(&shown, error))]).boxed(),
            }
        }
        .flatten_stream()
        .boxed()
    }

    /// A new file in the folder for unfinished ones, under a name that nobody else has.
    fn unfinished(&self) -> io::Result<Unfinished> {
        let folder = self.root.join(UNFINISHED);
        let name = folder.join(self.clock.ulid().to_string());
        let create = || File::options().write(true).create_new(true).open(&name);
        let file = match create() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&folder)?;
                create()?
            }
            file => file?,
        };
        Ok(Unfinished { file, name: SpareName(name) })
    }
}

/// The error, with the place: a listing names only where it began.
fn at(place: &std::path::Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", place.display()))
}

/// Whether nothing stands at the end of a link, or where a file stood a moment ago.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || Errno::from_io_error(error) == Some(Errno::LOOP)
}

/// Whether a listing goes on without what it may not read: `lost+found`, a folder in the inbox. What is read later is
/// late, no more. But of what a farm keeps a listing is whole or fails: without its settings, a pin or a block of
/// entries it would look as if something else could go.
fn is_left_out(marked: &str, place: &std::path::Path, error: &io::Error) -> bool {
    let top = marked.split('/').next().unwrap_or_default();
    let leaves_out = error.kind() == io::ErrorKind::PermissionDenied && !top.is_empty() && !layout::is_kept(top);
    if leaves_out {
        tracing::warn!(path = %place.display(), "cannot read a part of the store or the inbox: left out");
    }
    leaves_out
}

/// A file on its way; removed unless it is finished.
#[derive(Debug)]
struct Unfinished {
    file: File,
    name: SpareName,
}

impl Unfinished {
    /// Makes the file durable, then visible as `target`, over another only if `replace`.
    fn finish(self, target: &std::path::Path, replace: bool) -> io::Result<fs::Metadata> {
        let Self { file, name } = self;
        // Content before name: a file that is seen is whole, even after a power cut.
        file.sync_all()?;
        let meta = file.metadata()?;
        // And closed: who finds an inbox object open takes it for one that somebody still writes, and looks again after
        // ten seconds.
        drop(file);
        let place = || if replace { fs::rename(&name.0, target) } else { fs::hard_link(&name.0, target) };
        let folder = target.parent().unwrap_or(target);
        // A folder that empties is removed by nobody, but a person might between these two lines: then once more.
        for attempt in 0.. {
            match place() {
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < 3 => make_folder(folder)?,
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        // If the machine dies before this line is done, the write was not acknowledged: either outcome is right.
        sync_folder(folder)?;
        Ok(meta)
    }
}

/// What a file is called until it is finished.
#[derive(Debug)]
struct SpareName(PathBuf);

impl Drop for SpareName {
    fn drop(&mut self) {
        // After a rename there is nothing; after a link, or a failure, this is the spare name.
        let _ = fs::remove_file(&self.0);
    }
}

/// Makes a folder and those above it; durable with all names above it when this returns.
fn make_folder(folder: &std::path::Path) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut next = Some(folder);
    while let Some(folder) = next.filter(|folder| !folder.exists()) {
        missing.push(folder);
        next = folder.parent();
    }
    fs::create_dir_all(folder)?;
    missing.iter().filter_map(|folder| folder.parent()).try_for_each(sync_folder)
}

fn sync_folder(folder: &std::path::Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[async_trait]
impl ObjectStore for Local {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let target = self.file(path)?;
        let replace = match options.mode {
            PutMode::Create => false,
            PutMode::Overwrite => true,
            PutMode::Update(_) => return Err(not_offered("a conditional overwrite")),
        };
        let local = self.clone();
        let written = blocking(move || {
            let mut unfinished = local.unfinished()?;
            payload.iter().try_for_each(|part| unfinished.file.write_all(part))?;
            unfinished.finish(&target, replace)
        });
        written.await.map(|meta| put_result(&meta)).map_err(|error| failed(path, error))
    }

    async fn put_multipart_opts(&self, path: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let target = self.file(path)?;
        let local = self.clone();
        let unfinished = blocking(move || local.unfinished()).await.map_err(|error| failed(path, error))?;
        Ok(Box::new(Parts { unfinished: Some(Arc::new(unfinished)), target, path: path.clone(), end: 0 }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let file = self.file(path)?;
        let opened = blocking(move || {
            let file = File::open(file)?;
            let meta = file.metadata()?;
            // A folder opens like a file, but is none.
            if meta.is_file() { Ok((file, meta)) } else { Err(io::ErrorKind::NotFound.into()) }
        });
        let (file, meta) = opened.await.map_err(|error| failed(path, error))?;
        let meta = object(path.clone(), &meta);
        options.check_preconditions(&meta)?;
        let range = match options.range {
            Some(range) => range.as_range(meta.size).map_err(|error| failed(path, io::Error::other(error)))?,
            None => 0..meta.size,
        };
        let payload = GetResultPayload::Stream(chunks(file, path.clone(), range.clone()));
        Ok(GetResult { payload, meta, range, attributes: Default::default(), extensions: Default::default() })
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let file = self.file(path)?;
        let ranges = ranges.to_vec();
        let read = blocking(move || {
            let mut file = File::open(file)?;
            ranges.into_iter().map(|range| read_range(&mut file, &range)).collect()
        });
        read.await.map_err(|error| failed(path, error))
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let local = self.clone();
        paths
            .then(move |path| {
                let local = local.clone();
                async move {
                    let path = path?;
                    let file = local.file(&path)?;
                    // The folder is not synced: a file that comes back after a power cut is deleted again, as every
                    // delete of a farm may be repeated.
                    blocking(move || fs::remove_file(file)).await.map_err(|error| failed(&path, error))?;
                    Ok(path)
                }
            })
            .boxed()
    }

    fn list(&self, folder: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_after(folder, None)
    }

    fn list_with_offset(&self, folder: Option<&Path>, after: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_after(folder, Some(after.clone()))
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(not_offered("a listing of folders"))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(not_offered("copying"))
    }
}

/// A file that is written in parts.
#[derive(Debug)]
struct Parts {
    /// Until it is finished; shared with the parts that are being written.
    unfinished: Option<Arc<Unfinished>>,
    target: PathBuf,
    path: Path,
    end: u64,
}

#[async_trait]
impl MultipartUpload for Parts {
    fn put_part(&mut self, part: PutPayload) -> UploadPart {
        use std::os::unix::fs::FileExt;
        let path = self.path.clone();
        let mut at = self.end;
        self.end += part.content_length() as u64;
        let Some(unfinished) = self.unfinished.clone() else {
            return futures::future::ready(Err(failed(&path, io::Error::other("the upload is over")))).boxed();
        };
        async move {
            let write = blocking(move || {
                part.iter().try_for_each(|piece| {
                    unfinished.file.write_all_at(piece, at)?;
                    at += piece.len() as u64;
                    Ok(())
                })
            });
            write.await.map_err(|error| failed(&path, error))
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let target = self.target.clone();
        // A part still being written holds the file, too: then it is not whole.
        let whole = self.unfinished.take().and_then(Arc::into_inner);
        let unfinished =
            whole.ok_or_else(|| failed(&self.path, io::Error::other("parts are missing, or the upload is over")))?;
        // Never over another: more than other stores promise of an upload in parts.
        let finished = blocking(move || unfinished.finish(&target, false)).await;
        finished.map(|meta| put_result(&meta)).map_err(|error| failed(&self.path, error))
    }

    async fn abort(&mut self) -> Result<()> {
        self.unfinished = None;
        Ok(())
    }
}

/// Runs `work` where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    match task::blocking(move || Ok(work())).await {
        Ok(outcome) => outcome,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the program is stopping")),
    }
}

fn read_range(file: &mut File, range: &Range<u64>) -> io::Result<Bytes> {
    let wanted = range.end.saturating_sub(range.start);
    file.seek(SeekFrom::Start(range.start))?;
    let mut bytes = Vec::with_capacity(usize::try_from(wanted.min(64 << 20)).unwrap_or(0));
    file.take(wanted).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < wanted {
        let error = format!(
            "it ends at {}, bytes {}..{} were asked for",
            range.start + bytes.len() as u64,
            range.start,
            range.end
        );
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error));
    }
    Ok(bytes.into())
}

/// The bytes of `range`, in pieces.
fn chunks(file: File, path: Path, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
    futures::stream::try_unfold((file, path, range), |(mut file, path, range)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let (piece, rest) = (range.start..range.end.min(range.start + CHUNK_BYTES), range.end);
        let end = piece.end;
        let read = blocking(move || {
            let bytes = read_range(&mut file, &piece)?;
            Ok((file, bytes))
        });
        match read.await {
            Ok((file, bytes)) => Ok(Some((bytes, (file, path, end..rest)))),
            Err(error) => Err(failed(&path, error)),
        }
    })
    .boxed()
}

fn object(location: Path, meta: &fs::Metadata) -> ObjectMeta {
    let last_modified = meta.modified().unwrap_or(std::time::UNIX_EPOCH).into();
    ObjectMeta { location, last_modified, size: meta.len(), e_tag: Some(etag(meta)), version: None }
}

fn etag(meta: &fs::Metadata) -> String {
    format!("{:x}-{:x}-{:x}.{:09}", meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec())
}

fn put_result(meta: &fs::Metadata) -> PutResult {
    let mut result = PutResult { e_tag: Some(etag(meta)), version: None, extensions: Default::default() };
    result.extensions.insert(Written(changed(meta)));
    result
}

fn changed(meta: &fs::Metadata) -> Timestamp {
    meta.modified().ok().and_then(|time| Timestamp::try_from(time).ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn failed(path: &Path, error: io::Error) -> Error {
    let (path, source) = (path.to_string(), Box::new(error));
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::NotFound { path, source },
        io::ErrorKind::AlreadyExists => Error::AlreadyExists { path, source },
        io::ErrorKind::PermissionDenied => Error::PermissionDenied { path, source },
        _ => Error::Generic { store: "local", source },
    }
}

fn not_offered(operation: &str) -> Error {
    Error::NotImplemented { operation: operation.to_owned(), implementer: "a local store".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_farm_keeps_is_listed_whole_or_not_at_all() {
        let refused = io::Error::from(io::ErrorKind::PermissionDenied);
        let place = std::path::Path::new("/somewhere");
        for marked in ["lost+found", "inbox", "inbox/2026/private", "otlp"] {
            assert!(is_left_out(marked, place, &refused), "{marked}");
            assert!(!is_left_out(marked, place, &io::Error::other("a disk that fails")), "{marked}");
        }
        for marked in ["", "spans", "entries/shard=all", "latest/0a", "farm/settings", "quarantine", "site"] {
            assert!(!is_left_out(marked, place, &refused), "{marked}");
        }
    }

    /// Whoever finds it open takes it for one that others still write, and leaves it for a while.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_file_that_is_seen_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let local = Local::new(folder.path().to_owned(), Clock::system(jiff::SignedDuration::ZERO));
        let is_open = |meta: &fs::Metadata| {
            let open =
                fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|handle| fs::metadata(handle.path()).ok());
            open.into_iter().any(|open| (open.dev(), open.ino()) == (meta.dev(), meta.ino()))
        };
        for number in 0..50 {
            let path = Path::from(format!("inbox/{number}"));
            let file = local.file(&path).unwrap();
            let seen =
                blocking(move || Ok((0..10_000_000).find_map(|_| fs::metadata(&file).ok()).map(|meta| is_open(&meta))));
            let put = local.put_opts(&path, "x".into(), PutMode::Create.into());
            let (seen, put) = tokio::join!(seen, put);
            assert_eq!((seen.unwrap(), put.is_ok()), (Some(false), true), "{number}");
        }
    }

    /// Links that lead nowhere, or round in a circle, are no objects.
    #[tokio::test]
    async fn broken_links_are_no_objects() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("farm")).unwrap();
        for (link, target) in [("gone", "nothing"), ("circle", "circle"), ("through", "file/inner")] {
            std::os::unix::fs::symlink(target, folder.path().join("farm").join(link)).unwrap();
        }
        fs::write(folder.path().join("farm/file"), "x").unwrap();
        let local = Local::new(folder.path().to_owned(), Clock::system(jiff::SignedDuration::ZERO));
        let found = local.walk(&Path::from("farm")).unwrap();
        assert_eq!(found.iter().map(|meta| meta.location.as_ref()).collect::<Vec<_>>(), ["farm/file"]);
    }
}
