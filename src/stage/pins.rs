//! Pins: the newest traces of every handler, kept beyond `keep_for` (rule 6).
//!
//! A pin only grows. To complete one, every version of it is read, the rows found in blocks and in other pins of the
//! trace are added, and what that makes is written under a name of its own ([`rows_hash`](pin::rows_hash)). A version is
//! deleted only when a durable one has all its rows and no older start; a trace's pins only when `keep_last` newer traces
//! of the handler are durable in `latest/`. Nothing is remembered: each step begins with a listing.
//!
//! What if the process dies anywhere here, or two do this at once?
//! * Before the new version is written: nothing happened.
//! * Between the new version and the deletes: there are two versions, readers join them, the next pass deletes the one
//!   that the other contains.
//! * Two workers with different rows (one read fewer blocks): two versions, neither contains the other; the next pass
//!   reads both, writes their union, deletes both. Two with the same rows write the same name.
//! * One deletes a version while the other reads it: not found, and the other begins again; what it has written by then
//!   is a version like any other.
//! * A worker that froze between its listing and its write: the fence stops it.

pub mod sweep;
mod whole;

pub use sweep::forget;

use std::collections::{BTreeMap, HashSet};

use arrow::record_batch::RecordBatch;
use futures::{StreamExt, stream};

use super::{Desk, Fence};
use crate::error::{Report, Result, ResultExt, bail, store_kind, told};
use crate::model::{HandlerId, TraceId};
use crate::query::pin::{self, ByTrace, Pins};
use crate::query::rows::{self, Traces};
use crate::query::window::Window;
use crate::query::{AT_A_TIME, forgotten};
use crate::store::layout::PinKey;
use crate::store::{Key, StoreErrorKind};
use crate::table::view::View;

/// How many traces are held in memory at once while they are pinned. A trace has some ten rows, the largest ones
/// thousands: half a hundred are a few MiB.
const TRACES_AT_A_TIME: usize = 50;

/// A trace that must stay, under one handler.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// The id with which its entry was indexed.
    pub handler: HandlerId,
    /// The trace.
    pub trace: TraceId,
    /// The placed time of its newest entry of the handler, nanoseconds since 1970.
    pub start_ns: i64,
    /// Where its rows are looked for.
    pub window: Window,
}

/// What completing pins came to.
#[derive(Debug, Default)]
pub struct Completed {
    /// Versions written.
    pub written: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Versions deleted.
    pub deleted: u64,
    /// Pins that could not be completed, and why.
    pub failed: Vec<(HandlerId, TraceId, Report)>,
}

impl Completed {
    fn add(&mut self, other: Self) {
        self.written += other.written;
        self.bytes += other.bytes;
        self.deleted += other.deleted;
        self.failed.extend(other.failed);
    }
}

/// Completes the pin of each of `wanted`: the whole trace, all services, from the blocks of `spans` (a listing that was
/// begun after that of the entries which say that the trace must stay) and from its pins under other handlers in
/// `elsewhere`.
///
/// One that fails does not stop the others.
///
/// # Errors
/// If blocks cannot be read: then nothing is known of any of the traces.
pub async fn complete(
    desk: &Desk,
    fence: &Fence,
    spans: &View,
    elsewhere: &ByTrace<'_>,
    wanted: Vec<Wanted>,
) -> Result<Completed> {
    let mut done = Completed::default();
    let mut by_trace: BTreeMap<TraceId, Vec<Wanted>> = BTreeMap::new();
    for pin in wanted {
        by_trace.entry(pin.trace).or_default().push(pin);
    }
    let mut traces: Vec<Vec<Wanted>> = by_trace.into_values().collect();
    while !traces.is_empty() {
        let chunk: Vec<Vec<Wanted>> = traces.split_off(traces.len().saturating_sub(TRACES_AT_A_TIME));
        done.add(complete_some(desk, fence, spans, elsewhere, chunk).await?);
    }
    Ok(done)
}

async fn complete_some(
    desk: &Desk,
    fence: &Fence,
    spans: &View,
    elsewhere: &ByTrace<'_>,
    chunk: Vec<Vec<Wanted>>,
) -> Result<Completed> {
    let mut traces = Traces::new();
    for pin in chunk.iter().flatten() {
        traces.entry(pin.trace).and_modify(|window| *window = window.join(pin.window)).or_insert(pin.window);
    }
    let found = whole::whole_traces(desk, spans, elsewhere, traces).await?;
    // Asked after the rows were read and before anything is written: a tombstone that is set from here on finds the
    // pin when `forget` sweeps again.
    let forgotten = forgotten(&desk.store).await?;
    // A handler's pins one after the other, so that each sees what the one before wrote.
    let mut by_handler: BTreeMap<HandlerId, Vec<Wanted>> = BTreeMap::new();
    for pin in chunk.into_iter().flatten().filter(|pin| !forgotten.contains(&pin.trace)) {
        by_handler.entry(pin.handler.clone()).or_default().push(pin);
    }
    let found = &found;
    let mut handlers = stream::iter(by_handler)
        .map(|(handler, pins)| async move {
            let mut done = Completed::default();
            for Wanted { trace, start_ns, .. } in pins {
                let rows = found.get(&trace).cloned().into_iter().collect();
                match add_rows(desk, fence, &handler, trace, Some(start_ns), rows).await {
                    Ok(more) => done.add(more),
                    Err(report) => done.failed.push((handler.clone(), trace, report)),
                }
            }
            done
        })
        .buffer_unordered(AT_A_TIME);
    let mut done = Completed::default();
    while let Some(more) = handlers.next().await {
        done.add(more);
    }
    Ok(done)
}

/// Adds `found` to the pin of `trace` under `handler` and raises its start to `start_ns`; without either, its versions
/// are made one. If there is no row at all nothing is written.
pub async fn add_rows(
    desk: &Desk,
    fence: &Fence,
    handler: &HandlerId,
    trace: TraceId,
    start_ns: Option<i64>,
    found: Vec<RecordBatch>,
) -> Result<Completed> {
    let what = || format!("pin trace {trace} of {handler}");
    let listed = Pins::of_handler(&desk.store, handler).await?;
    let Versions { read, damaged } = Versions::read(desk, listed.versions(handler, trace)).await.context_with(what)?;

    let mut parts = found;
    parts.extend(read.iter().map(|(_, rows)| rows.clone()));
    let starts = read.iter().map(|(version, _)| version.start_ns).chain(start_ns);
    let (Some(rows), Some(start_ns)) = (rows::union(&parts).context_with(what)?, starts.max()) else {
        return Ok(Completed::default());
    };
    let hash = pin::rows_hash(&rows).context_with(what)?;
    let whole = PinKey { handler: handler.clone(), start_ns, trace, rows: hash };

    let mut done = Completed::default();
    if !read.iter().any(|(version, _)| *version == whole) {
        let body = crate::task::cpu(move || pin::encode(&rows)).await.context_with(what)?;
        let bytes = body.len() as u64;
        fence.allows_write().context_with(what)?;
        let key = Key::Pin(whole.clone());
        if damaged.contains(&whole) {
            // The name promises exactly these rows, and nobody can read them there. They are all in blocks or other
            // versions, which stand at least until this pin is written: dying between the two lines loses nothing.
            fence.allows_delete().context_with(what)?;
            desk.store.delete(&key).await.context_with(what)?;
        }
        match desk.store.create(&key, body).await {
            Ok(_) => {}
            // Another worker wrote the same rows, in another program's spelling. The versions below are deleted on the
            // strength of that object, so it is read first.
            Err(taken) if taken.kind == StoreErrorKind::AlreadyExists => {
                let there = pin::read(&desk.store, &whole).await.context_with(what)?;
                if pin::rows_hash(&there).context_with(what)? != hash {
                    bail!("{} does not hold the rows that its name promises", key.path());
                }
            }
            Err(failed) => return Err(failed).context_with(what)?,
        }
        done.written += 1;
        done.bytes += bytes;
    }
    // `whole` is durable here. It has every row of the versions that were read, and none of them a newer start: they may
    // go. A damaged one stays: nobody knows what only it holds.
    for (version, _) in read.iter().filter(|(version, _)| *version != whole) {
        fence.allows_delete().context_with(what)?;
        desk.store.delete(&Key::Pin(version.clone())).await.context_with(what)?;
        done.deleted += 1;
    }
    Ok(done)
}

/// The versions of a pin.
struct Versions {
    read: Vec<(PinKey, RecordBatch)>,
    damaged: HashSet<PinKey>,
}

impl Versions {
    /// Reads every version.
    ///
    /// # Errors
    /// Those of the store; not found if another worker deletes one right now: the pin is left for the next round.
    async fn read(desk: &Desk, versions: &[PinKey]) -> Result<Self> {
        let mut all = Self { read: Vec::new(), damaged: HashSet::new() };
        for version in versions {
            match pin::read(&desk.store, version).await {
                Ok(rows) => all.read.push((version.clone(), rows)),
                Err(report) if store_kind(&report).is_some() => return Err(report),
                Err(report) => {
                    // One error, one record: it is handled here, by going on with what can be read.
                    tracing::error!(pin = %Key::Pin(version.clone()).path(), failure = told(&report), "a pin is damaged and left as it is");
                    all.damaged.insert(version.clone());
                }
            }
        }
        Ok(all)
    }
}
