//! The sample traces, which are in the program.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use include_dir::{Dir, DirEntry, include_dir};

use crate::error::{Result, ResultExt};
use crate::store::{Key, Store};

/// As collectors wrote them.
static SAMPLES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/samples/inbox");

/// When the last of them was written: 2026-11-22T01:18:37Z. What a collector wrote then was received then.
const RECORDED: Duration = Duration::from_secs(1_795_310_317);

/// Puts them into the inbox of `store`, which is in `folder`, with the time at which they were recorded: how many
/// objects, and their bytes. Each is whole when it is there; if the process dies before its time is set it counts as
/// received now, and the next demo puts it there once more.
///
/// # Errors
/// Those of the store and of the file system.
pub async fn put(store: &Store, folder: &Path) -> Result<(usize, u64)> {
    let (mut objects, mut bytes) = (0, 0);
    let mut dirs = vec![&SAMPLES];
    while let Some(dir) = dirs.pop() {
        for entry in dir.entries() {
            let sample = match entry {
                DirEntry::Dir(dir) => {
                    dirs.push(dir);
                    continue;
                }
                DirEntry::File(sample) => sample,
            };
            let key = Key::Inbox(sample.path().to_string_lossy().into_owned());
            store.overwrite(&key, Bytes::from_static(sample.contents())).await?;
            let path = folder.join(key.path());
            File::options()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_modified(SystemTime::UNIX_EPOCH + RECORDED))
                .context_with(|| format!("set the time of {}", path.display()))?;
            objects += 1;
            bytes += sample.contents().len() as u64;
        }
    }
    Ok((objects, bytes))
}
