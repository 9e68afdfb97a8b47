//! Every key of the store, both ways. No other module builds or parses one.
//!
//! Parts that come from outside (inbox keys, quarantine reasons) are escaped here; handler ids are safe already.

mod extra;

use std::fmt;

use jiff::civil::Date;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use ulid::Ulid;
use xxhash_rust::xxh3::xxh3_64;

pub use extra::ExtraName;

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
    /// `site/index.html`: the pages.
    Index,
    /// `site/assets/<version>/<file>`: what the pages are made of. The version is 16 hex digits; the file is of
    /// [`crate::site`], its parts are safe in a key and in a URL.
    Asset(u64, String),
    /// `site/farm.json`: who works, what waits, what fails.
    Farm,
    /// `site/handlers.json`: the list of handlers.
    Handlers,
    /// `site/parts/<entries shard>.json`: one shard's part of it.
    Part(Shard),
    /// `site/handlers/<handler>/summary.json`
    Summary(HandlerId),
    /// `site/handlers/<handler>/traces.json.gz`
    Traces(HandlerId),
    /// `site/handlers/<handler>/extra/<name>`: what the store's `publish_command` made of the handler.
    Extra(HandlerId, ExtraName),
    /// `site/traces/<trace id>.json.gz`: a trace too large to stand with others.
    Trace(TraceId),
    /// `site/not-found/<service>.json`: a service's 404 list. The service is the escaped one of handler ids.
    NotFound(String),
}

/// Input that could not be read. [`QuarantineKey::new`] makes one of any inbox key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QuarantineKey {
    /// A word for why, eg `truncated`; not `blocks`, which is a folder of its own.
    pub reason: String,
    /// The inbox key (the part after `inbox/`).
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
    /// `site/assets/`
    Assets,
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
    /// `farm/strikes/<object id>/`
    StrikesOf(u64),
    /// `farm/forget/`
    Forget,
    /// `farm/pinned/`
    Pinned,
    /// `farm/ledger/`
    Ledger,
}

/// In quarantined inbox keys: what stays as it is, beside letters and digits. Everything else is escaped, so that names
/// with line breaks, quotes or right-to-left marks are harmless in a shell and on a page. `@` and `%` are ours.
const INBOX_ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'=')
    .remove(b'+')
    .remove(b',')
    .remove(b':');

/// In etags the dot is escaped, too: a quarantined object can then never be taken for an explanation (`.error.json`).
const ETAG_ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// The longest quarantined inbox key, escaped. S3, GCS and Azure allow 1,024 bytes a key; the rest of it is ours.
const LONGEST_INBOX: usize = 600;

/// The longest part between slashes of a quarantined inbox key, escaped. File systems allow 255 bytes a name; `@<etag>`
/// and `.error.json` are added to the last.
const LONGEST_INBOX_PART: usize = 120;

/// The longest escaped etag in a name. Those of the clouds have at most 40 characters.
const LONGEST_ETAG: usize = 80;

/// Whether a farm keeps things of its own under this first part of a path.
pub(super) fn is_kept(top: &str) -> bool {
    matches!(top, "spans" | "entries" | "latest" | "site" | "quarantine" | "farm")
}

impl Key {
    /// `inbox/received/<ulid>.otlp.zst`: what a receiver took in at a time; written once, under a name of its own.
    pub fn received(name: Ulid) -> Self {
        Self::Inbox(format!("received/{name}.otlp.zst"))
    }

    /// Whether it is [`Key::received`]: such an object is put whole and never changes, in a folder, too, where others
    /// are appended to. Nobody else writes names with a ULID there by chance.
    pub fn is_received(&self) -> bool {
        let Self::Inbox(path) = self else { return false };
        let name = path.strip_prefix("received/").and_then(|name| name.strip_suffix(".otlp.zst"));
        name.is_some_and(|name| Ulid::from_string(name).is_ok_and(|ulid| Self::received(ulid) == *self))
    }

    /// Its path within the store.
    pub fn path(&self) -> String {
        self.to_string()
    }

    /// The key at `path`; `None` for a name that is not ours, or not written as we write it (every object has one key).
    pub fn parse(path: &str) -> Option<Self> {
        let key = Self::read(path)?;
        // Numbers without their zeros, ids in capitals, escapes that need not be: one test for all of them.
        (key.path() == path).then_some(key)
    }

    fn read(path: &str) -> Option<Self> {
        let (top, rest) = path.split_once('/')?;
        Some(match top {
            // A name that ends in a slash is the mark that consoles leave for an empty folder: nobody's data.
            "inbox" if rest.is_empty() || rest.ends_with('/') => return None,
            "inbox" => Self::Inbox(rest.to_owned()),
            "spans" | "entries" => Self::Block(BlockKey::read(top, rest)?),
            "latest" => Self::Pin(PinKey::read(rest)?),
            "site" => Self::Site(SiteKey::read(rest)?),
            "quarantine" => Self::read_quarantine(rest)?,
            "farm" => Self::read_farm(rest)?,
            _ => return None,
        })
    }

    fn read_quarantine(rest: &str) -> Option<Self> {
        let (reason, rest) = rest.split_once('/')?;
        if reason == BLOCKS {
            return rest.strip_suffix(".error.json")?.parse().ok().map(Self::BadBlock);
        }
        let (name, explains) = match rest.strip_suffix(".error.json") {
            Some(name) => (name, true),
            None => (rest, false),
        };
        let (inbox, etag) = name.rsplit_once('@')?;
        let unescape = |text: &str| percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned());
        let key = QuarantineKey { reason: reason.to_owned(), inbox: unescape(inbox)?, etag: unescape(etag)? };
        Some(if explains { Self::QuarantineError(key) } else { Self::Quarantine(key) })
    }

    fn read_farm(rest: &str) -> Option<Self> {
        let (kind, rest) = rest.split_once('/')?;
        let json = || rest.strip_suffix(".json");
        Some(match kind {
            "settings" => Self::Settings(json()?.parse().ok()?),
            "handlers" => Self::Catalogue(json()?.parse().ok()?),
            "workers" => {
                let (name, boot) = json()?.split_once('.')?;
                Self::Heartbeat(name.parse().ok()?, boot.parse().ok()?)
            }
            "strikes" => {
                let (object, boot) = rest.split_once('/')?;
                Self::Strike(u64::from_str_radix(object, 16).ok()?, boot.parse().ok()?)
            }
            "forget" => Self::Forget(rest.parse().ok()?),
            "pinned" => {
                let (hour, shard) = json()?.split_once('/')?;
                Self::Pinned(hour.parse().ok()?, shard.parse().ok()?)
            }
            "ledger" => {
                let (day, entry) = json()?.split_once('/')?;
                Self::Ledger(day.parse().ok()?, Ulid::from_string(entry).ok()?)
            }
            _ => return None,
        })
    }
}

/// The folder in `quarantine/` that is no reason.
const BLOCKS: &str = "blocks";

/// The path within the store, as [`Key::path`].
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inbox(path) => write!(f, "inbox/{path}"),
            Self::Block(key) => key.fmt(f),
            Self::Pin(key) => key.fmt(f),
            Self::Site(key) => key.fmt(f),
            Self::Quarantine(key) => key.fmt(f),
            Self::QuarantineError(key) => write!(f, "{key}.error.json"),
            Self::BadBlock(block) => write!(f, "quarantine/{BLOCKS}/{block}.error.json"),
            // Ten digits sort as text as they do as numbers for the next ten billion changes.
            Self::Settings(sequence) => write!(f, "farm/settings/{sequence:010}.json"),
            Self::Catalogue(sequence) => write!(f, "farm/handlers/{sequence:010}.json"),
            Self::Heartbeat(name, boot) => write!(f, "farm/workers/{name}.{boot}.json"),
            Self::Strike(object, boot) => write!(f, "farm/strikes/{object:016x}/{boot}"),
            Self::Forget(trace) => write!(f, "farm/forget/{trace}"),
            Self::Pinned(hour, shard) => write!(f, "farm/pinned/{hour}/{shard}.json"),
            Self::Ledger(day, entry) => write!(f, "farm/ledger/{day}/{entry}.json"),
        }
    }
}

impl BlockKey {
    fn read(table: &str, rest: &str) -> Option<Self> {
        let (dir, rest) = rest.strip_prefix("shard=")?.split_once('/')?;
        let (hour, name) = rest.strip_prefix("hour=")?.split_once('/')?;
        Some(Self {
            table: table.parse().ok()?,
            dir: dir.parse().ok()?,
            hour: hour.parse().ok()?,
            block: name.strip_suffix(".parquet")?.parse().ok()?,
        })
    }
}

impl fmt::Display for BlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, dir, hour, block } = self;
        write!(f, "{table}/shard={dir}/hour={hour}/{block}.parquet")
    }
}

/// `<2 hex>` of `latest/`: spreads handlers over 256 folders, so that no listing of one is ever long.
fn pins_folder(handler: &HandlerId) -> String {
    format!("{:02x}", xxh3_64(handler.as_str().as_bytes()) & 0xff)
}

impl PinKey {
    fn read(rest: &str) -> Option<Self> {
        let (folder, rest) = rest.split_once('/')?;
        let (handler, name) = rest.rsplit_once('/')?;
        let mut parts = name.strip_suffix(".json.gz")?.rsplitn(3, '-');
        let rows = u64::from_str_radix(parts.next()?, 16).ok()?;
        let trace = parts.next()?.parse().ok()?;
        let start_ns = parts.next()?.parse().ok()?;
        let handler: HandlerId = handler.parse().ok()?;
        (folder == pins_folder(&handler)).then_some(Self { handler, start_ns, trace, rows })
    }
}

impl fmt::Display for PinKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { handler, start_ns, trace, rows } = self;
        // Twenty digits: times sort as text. (Times before 1970 do not, but rows are never placed there.)
        write!(f, "latest/{}/{handler}/{start_ns:020}-{trace}-{rows:016x}.json.gz", pins_folder(handler))
    }
}

impl SiteKey {
    fn read(rest: &str) -> Option<Self> {
        match rest {
            "farm.json" => return Some(Self::Farm),
            "handlers.json" => return Some(Self::Handlers),
            "index.html" => return Some(Self::Index),
            _ => {}
        }
        // As `HandlerId` has it: safe in a key as it is.
        let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
        let fits = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(safe);
        let (kind, rest) = rest.split_once('/')?;
        Some(match kind {
            "assets" => {
                let (version, file) = rest.split_once('/')?;
                let version = u64::from_str_radix(version, 16).ok()?;
                file.split('/').all(fits).then(|| Self::Asset(version, file.to_owned()))?
            }
            "parts" => Self::Part(rest.strip_suffix(".json")?.parse().ok()?),
            "handlers" => {
                // A handler's id has one slash.
                let (end, _) = rest.match_indices('/').nth(1)?;
                let (handler, name) = (rest[..end].parse().ok()?, &rest[end + 1..]);
                match name {
                    "summary.json" => Self::Summary(handler),
                    "traces.json.gz" => Self::Traces(handler),
                    _ => Self::Extra(handler, ExtraName::read(name.strip_prefix("extra/")?)?),
                }
            }
            "traces" => Self::Trace(rest.strip_suffix(".json.gz")?.parse().ok()?),
            "not-found" => {
                let service = rest.strip_suffix(".json")?;
                Self::NotFound(fits(service).then(|| service.to_owned())?)
            }
            _ => return None,
        })
    }
}

impl fmt::Display for SiteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index => f.write_str("site/index.html"),
            Self::Asset(version, file) => write!(f, "site/assets/{version:016x}/{file}"),
            Self::Farm => f.write_str("site/farm.json"),
            Self::Handlers => f.write_str("site/handlers.json"),
            Self::Part(shard) => write!(f, "site/parts/{shard}.json"),
            Self::Summary(handler) => write!(f, "site/handlers/{handler}/summary.json"),
            Self::Traces(handler) => write!(f, "site/handlers/{handler}/traces.json.gz"),
            Self::Extra(handler, name) => write!(f, "site/handlers/{handler}/extra/{name}"),
            Self::Trace(trace) => write!(f, "site/traces/{trace}.json.gz"),
            Self::NotFound(service) => write!(f, "site/not-found/{service}.json"),
        }
    }
}

impl QuarantineKey {
    /// The place for content `etag` of the inbox object `inbox`. A name that would be too long for a store is cut, and
    /// a hash of the whole put in place of the rest; the explanation beside the object holds it in full.
    pub fn new(reason: &str, inbox: &str, etag: &str) -> Self {
        let escaped = escape_inbox(inbox);
        let too_long = escaped.len() > LONGEST_INBOX || escaped.split('/').any(|part| part.len() > LONGEST_INBOX_PART);
        let inbox = if too_long {
            let kept: String = inbox
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' })
                .take(LONGEST_INBOX_PART - 20)
                .collect();
            format!("{kept}-{:016x}", xxh3_64(inbox.as_bytes()))
        } else {
            inbox.to_owned()
        };
        let etag = match utf8_percent_encode(etag, ETAG_ESCAPED).to_string() {
            long if long.len() > LONGEST_ETAG => format!("{:016x}", xxh3_64(etag.as_bytes())),
            _ => etag.to_owned(),
        };
        Self { reason: reason.to_owned(), inbox, etag }
    }
}

impl fmt::Display for QuarantineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let etag = utf8_percent_encode(&self.etag, ETAG_ESCAPED);
        write!(f, "quarantine/{}/{}@{etag}", self.reason, escape_inbox(&self.inbox))
    }
}

/// An inbox key as it stands in `quarantine/`: folders stay folders, but for those that a file system or a client could
/// misunderstand (`//`, `.`, `..`, a slash at either end).
fn escape_inbox(inbox: &str) -> String {
    let parts: Vec<_> = inbox.split('/').collect();
    let mut escaped = String::with_capacity(inbox.len() + 8);
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            // A slash is a folder's only between two parts that are something.
            let folder = !part.is_empty() && !parts[i - 1].is_empty();
            escaped.push_str(if folder { "/" } else { "%2F" });
        }
        match *part {
            "." => escaped.push_str("%2E"),
            ".." => escaped.push_str("%2E%2E"),
            part => escaped.extend(utf8_percent_encode(part, INBOX_ESCAPED)),
        }
    }
    escaped
}

impl Prefix {
    /// Its path, with the closing slash (empty for [`Prefix::Everything`]).
    pub fn path(&self) -> String {
        match self {
            Self::Everything => String::new(),
            Self::Inbox => "inbox/".to_owned(),
            Self::Table(table) => format!("{table}/"),
            Self::Shard(table, dir) => format!("{table}/shard={dir}/"),
            Self::Hour(table, dir, hour) => format!("{table}/shard={dir}/hour={hour}/"),
            Self::Latest => "latest/".to_owned(),
            Self::Pins(handler) => format!("latest/{}/{handler}/", pins_folder(handler)),
            Self::Site => "site/".to_owned(),
            Self::Assets => "site/assets/".to_owned(),
            Self::Parts => "site/parts/".to_owned(),
            Self::Quarantine => "quarantine/".to_owned(),
            Self::BadBlocks => format!("quarantine/{BLOCKS}/"),
            Self::Settings => "farm/settings/".to_owned(),
            Self::Catalogue => "farm/handlers/".to_owned(),
            Self::Workers => "farm/workers/".to_owned(),
            Self::Strikes => "farm/strikes/".to_owned(),
            Self::StrikesOf(object) => format!("farm/strikes/{object:016x}/"),
            Self::Forget => "farm/forget/".to_owned(),
            Self::Pinned => "farm/pinned/".to_owned(),
            Self::Ledger => "farm/ledger/".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
