//! Every key of the store, both ways. No other module builds or parses one.
//!
//! Parts that come from outside (inbox keys, quarantine reasons) are escaped here; handler ids are safe already.

use jiff::civil::Date;
use ulid::Ulid;

use crate::model::{BlockId, BootId, HandlerId, Hour, Shard, ShardDir, Table, TraceId, WorkerName};

/// The name of an object: what it is. [`Key::path`] and [`Key::parse`] are inverse.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// `inbox/**`: raw OTLP under whatever name a collector chose; the part after `inbox/`. In a store opened as
    /// another inbox (`--inbox URL`) every object is one, and `inbox/` is not part of its path.
    Inbox(String),
    /// `<table>/shard=<dir>/hour=<hour>/<block>.parquet`
    Block(BlockKey),
    /// `latest/<2 hex>/<handler>/<start>-<trace id>-<hash of rows>.json.gz`
    Pin(PinKey),
    /// `site/…`
    Site(SiteKey),
    /// `quarantine/<reason>/<inbox key>@<etag>`: input that cannot be read, as it was.
    Quarantine(QuarantineKey),
    /// `quarantine/<reason>/<inbox key>@<etag>.error.json`: why.
    QuarantineError(QuarantineKey),
    /// `quarantine/blocks/<block>.error.json`: a block to skip.
    BadBlock(BlockId),
    /// `farm/settings/<sequence>.json`: settings, numbered versions, the highest counts.
    Settings(u64),
    /// `farm/handlers/<sequence>.json`: the catalogue, likewise.
    Catalogue(u64),
    /// `farm/workers/<name>.<boot id>.json`
    Heartbeat(WorkerName, BootId),
    /// `farm/strikes/<object id>/<boot id>`: a boot died with this object in hand. The object id is 16 hex digits.
    Strike(u64, BootId),
    /// `farm/forget/<trace id>`: a tombstone.
    Forget(TraceId),
    /// `farm/pinned/<hour>/<entries shard>.json`: the blocks whose newest traces have been pinned.
    Pinned(Hour, ShardDir),
    /// `farm/ledger/<day>/<ulid>.json`: what has been indexed of an inbox that is kept.
    Ledger(Date, Ulid),
}

/// Where a block lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockKey {
    /// Its table.
    pub table: Table,
    /// Its folder, which says its level.
    pub dir: ShardDir,
    /// The hour of all its rows.
    pub hour: Hour,
    /// Its name.
    pub block: BlockId,
}

/// A version of a trace kept beyond `keep_for`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PinKey {
    /// The id with which the entry was indexed.
    pub handler: HandlerId,
    /// The placed start of the trace's newest entry of this handler, nanoseconds since 1970.
    pub start_ns: i64,
    /// The trace.
    pub trace: TraceId,
    /// XXH3-64 of its rows: another set of rows is another version.
    pub rows: u64,
}

/// What browsers read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SiteKey {
    /// `site/handlers.json`: the list of handlers.
    Handlers,
    /// `site/parts/<entries shard>.json`: one shard's part of it.
    Part(Shard),
    /// `site/handlers/<handler>/summary.json`
    Summary(HandlerId),
    /// `site/handlers/<handler>/traces.json.gz`
    Traces(HandlerId),
    /// `site/traces/<trace id>.json.gz`: a trace too large to stand with others.
    Trace(TraceId),
    /// `site/not-found/<service>.json`: a service's 404 list. The service is the escaped one of handler ids.
    NotFound(String),
}

/// Input that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QuarantineKey {
    /// A word for why, eg `truncated`.
    pub reason: String,
    /// The inbox key.
    pub inbox: String,
    /// Which content of it.
    pub etag: String,
}

/// Where to list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// Everything of the store.
    Everything,
    /// `inbox/`
    Inbox,
    /// `<table>/`
    Table(Table),
    /// `<table>/shard=<dir>/`
    Shard(Table, ShardDir),
    /// `<table>/shard=<dir>/hour=<hour>/`
    Hour(Table, ShardDir, Hour),
    /// `latest/`
    Latest,
    /// `latest/<2 hex>/<handler>/`
    Pins(HandlerId),
    /// `site/`
    Site,
    /// `site/parts/`
    Parts,
    /// `quarantine/`
    Quarantine,
    /// `quarantine/blocks/`
    BadBlocks,
    /// The settings' versions.
    Settings,
    /// The catalogue's versions.
    Catalogue,
    /// `farm/workers/`
    Workers,
    /// `farm/strikes/`
    Strikes,
    /// `farm/forget/`
    Forget,
    /// `farm/pinned/`
    Pinned,
    /// `farm/ledger/`
    Ledger,
}

impl Key {
    /// Its path within the store.
    pub fn path(&self) -> String {
        todo!()
    }

    /// The key at `path`; `None` for a name that is not ours.
    pub fn parse(path: &str) -> Option<Self> {
        let _ = path;
        todo!()
    }
}

impl Prefix {
    /// Its path, with the closing slash (empty for [`Prefix::Everything`]).
    pub fn path(&self) -> String {
        todo!()
    }
}
