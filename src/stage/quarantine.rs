//! Input that cannot be read, kept as it was, and why (`quarantine/`); blocks that cannot be read, marked.
//!
//! Nothing here decides what is bad, and nothing is ever deleted from the quarantine but by `forget` and by people.

use bytes::Bytes;
use futures::StreamExt;
use serde::{Deserialize, Serialize};

use super::Desk;
use crate::error::{Result, ResultExt, find, is_not_found, report};
use crate::otlp::BadPart;
use crate::store::layout::QuarantineKey;
use crate::store::{Key, Object, StoreError, StoreErrorKind};
use crate::table::block::{BlockError, BlockErrorKind};
use crate::table::view::Damaged;

/// What stands beside an object in the quarantine: `quarantine/<reason>/<inbox key>@<etag>.error.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorDocument {
    /// The inbox object's path.
    pub object: String,
    /// Which content of it.
    pub etag: String,
    /// Its size in bytes, as stored.
    pub size_bytes: u64,
    /// When it was last modified, by the store's clock.
    pub modified: jiff::Timestamp,
    /// Who met it.
    pub worker: String,
    /// When, by that worker's clock.
    pub time: jiff::Timestamp,
    /// Spans that could be read, and were indexed.
    pub spans: u64,
    /// How many parts could not be read.
    pub bad_parts: u64,
    /// The first hundred of them.
    pub parts: Vec<PartDocument>,
    /// Where the object itself is: in the quarantine, or, with `--keep-inbox`, still in the inbox.
    pub kept_in: KeptIn,
}

/// Where a quarantined object's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeptIn {
    /// Beside the error document, under its name without `.error.json`.
    Quarantine,
    /// Where it was: the inbox is kept.
    Inbox,
}

/// A part that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartDocument {
    /// A word for why.
    pub reason: String,
    /// Where in the object.
    pub at: String,
    /// What is wrong.
    pub message: String,
}

/// What stands in `quarantine/blocks/<block>.error.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockDocument {
    /// The block's path. It is left where it is and skipped; delete this document to have it tried again.
    pub block: String,
    /// What is wrong.
    pub message: String,
    /// Who met it.
    pub worker: String,
    /// When, by that worker's clock.
    pub time: jiff::Timestamp,
}

/// An object as it was.
pub enum Original {
    /// Its bytes.
    Bytes(Bytes),
    /// Too large to be held: it is read once more.
    Object,
}

/// Puts `object` into the quarantine for `bad` (its parts; of `bad_count`, the first hundred), durable when this
/// returns. Done twice, or by two workers at once, it is the same object under the same name; the error document is
/// the first one's.
///
/// # Errors
/// [`StoreErrorKind::Changed`] if the object is no longer what was read: it is left for a later cycle.
pub async fn put(
    desk: &Desk,
    object: &Object,
    original: Original,
    bad: &[BadPart],
    bad_count: u64,
    spans: u64,
) -> Result<()> {
    let reason = bad.first().map_or("unreadable", |part| part.reason);
    let Key::Inbox(inbox) = &object.key else {
        return Err(report!("{} is not an inbox object", object.key.path()));
    };
    let key = QuarantineKey::new(reason, inbox, &object.etag);
    let document = ErrorDocument {
        object: object.key.path(),
        etag: object.etag.clone(),
        size_bytes: object.size_bytes,
        modified: object.modified,
        worker: desk.worker.to_string(),
        time: desk.clock.wall(),
        spans,
        bad_parts: bad_count,
        parts: bad.iter().map(part_document).collect(),
        kept_in: if desk.inbox.keep { KeptIn::Inbox } else { KeptIn::Quarantine },
    };
    // The object first: an error document without its object would say that something is kept that is not. A crash
    // between the two leaves the inbox object, which comes here again.
    if !desk.inbox.keep {
        copy(desk, object, original, &Key::Quarantine(key.clone())).await?;
    }
    let body = serde_json::to_vec_pretty(&document).context("write an error document")?;
    existing_is_fine(desk.store.create(&Key::QuarantineError(key), body.into()).await)?;
    Ok(())
}

fn part_document(part: &BadPart) -> PartDocument {
    PartDocument { reason: part.reason.to_owned(), at: part.at.clone(), message: part.message.clone() }
}

async fn copy(desk: &Desk, object: &Object, original: Original, to: &Key) -> Result<()> {
    match original {
        Original::Bytes(bytes) => existing_is_fine(desk.store.create(to, bytes).await)?,
        Original::Object => {
            let (mut body, now) = desk.inbox.store.get_stream(&object.key).await?;
            if now.etag != object.etag {
                let (kind, path) = (StoreErrorKind::Changed, object.key.path());
                return Err(report!(StoreError { kind, operation: "read again", path, source: None }).into_dynamic());
            }
            // The name holds the etag, so a second upload under it brings the same bytes.
            let mut upload = desk.store.create_large(to).await?;
            while let Some(chunk) = body.next().await {
                upload.write(chunk?).await?;
            }
            existing_is_fine(upload.finish().await)?;
        }
    }
    Ok(())
}

/// What a second look at a block found.
pub enum Health {
    /// It can be read (or is gone): what was seen before was a broken answer, not a broken block.
    Sound,
    /// It cannot, and has been marked.
    Damaged(String),
}

/// Reads a suspicious block whole. If it cannot be read it is marked, so that it is skipped and reported until a person
/// deletes the mark; the block itself is left where it is. Two workers that do this at once write one mark.
///
/// # Errors
/// Those of the store: then nothing is known of the block.
pub async fn examine(desk: &Desk, suspect: &Damaged) -> Result<Health> {
    let (key, size_bytes) = (suspect.key, suspect.size_bytes);
    let read = async {
        let mut rows = desk.blocks.rows(&key, size_bytes, None).await?;
        while let Some(batch) = rows.next().await {
            batch?;
        }
        Result::<()>::Ok(())
    };
    let why = match read.await {
        Ok(()) => return Ok(Health::Sound),
        Err(report) if is_not_found(&report) => return Ok(Health::Sound),
        Err(report) => match find::<BlockError>(&report) {
            Some(error) if error.kind == BlockErrorKind::Corrupt => error.message.clone(),
            // Its hour is left alone.
            Some(_) => return Ok(Health::Sound),
            None => return Err(report),
        },
    };
    let document = BlockDocument {
        block: Key::Block(key).path(),
        message: why.clone(),
        worker: desk.worker.to_string(),
        time: desk.clock.wall(),
    };
    let body = serde_json::to_vec_pretty(&document).context("write an error document")?;
    existing_is_fine(desk.store.create(&Key::BadBlock(key.block), body.into()).await)?;
    Ok(Health::Damaged(why))
}

/// Another worker, or an earlier try, was first: its document says the same of the same object.
fn existing_is_fine(written: Result<Object, StoreError>) -> Result<(), StoreError> {
    match written {
        Err(error) if error.kind != StoreErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
