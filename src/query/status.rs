//! `status`: how the farm is: what waits, what stands, who works, what fails.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::{AT_A_TIME, Reader};
use crate::error::Result;
use crate::farm::Settings;
use crate::farm::heartbeat::Heartbeat;
use crate::model::{Hour, ShardDir, Table};
use crate::store::{Key, Listing, Object, Prefix, Store};
use futures::{StreamExt, TryStreamExt, stream};

/// A heartbeat that is older is a worker's that is gone.
const ALIVE: Duration = crate::farm::heartbeat::FRESH;

/// A pile of objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pile {
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How old the oldest is, in seconds, by the store's clock.
    pub oldest_seconds: Option<i64>,
}

impl Pile {
    fn of<'a>(objects: impl Iterator<Item = &'a Object>, now: Timestamp) -> Self {
        let mut pile = Self::default();
        for object in objects {
            pile.objects += 1;
            pile.bytes += object.size_bytes;
            let age = now.duration_since(object.modified).as_secs().max(0);
            pile.oldest_seconds = Some(pile.oldest_seconds.map_or(age, |oldest| oldest.max(age)));
        }
        pile
    }
}

/// The state of a farm, as listings show it.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The store.
    pub store: String,
    /// When its listing was taken, by its clock.
    pub time: Timestamp,
    /// What waits to be indexed.
    pub inbox: Pile,
    /// Blocks by table.
    pub tables: Vec<Blocks>,
    /// Pinned traces' objects.
    pub pins: Pile,
    /// Handlers with pins.
    pub pinned_handlers: u64,
    /// Input that could not be read, by reason.
    pub quarantine: BTreeMap<String, Pile>,
    /// Blocks that are damaged and skipped.
    pub damaged_blocks: Vec<String>,
    /// Traces that are being forgotten.
    pub forgetting: u64,
    /// Objects that died with a worker, and how many strikes they have in all.
    pub strikes: u64,
    /// Workers by their heartbeats.
    pub workers: Vec<Worker>,
    /// The settings that count.
    pub settings: Settings,
    /// The catalogue's number.
    pub catalogue: u64,
    /// When `site/handlers.json` was written last.
    pub published: Option<Timestamp>,
    /// What a person should do something about, in sentences.
    pub warnings: Vec<String>,
    /// What this very question asked of the store.
    pub requests: u64,
}

/// The blocks of a table.
#[derive(Clone, Debug, Serialize)]
pub struct Blocks {
    /// Which.
    pub table: String,
    /// As indexed.
    pub level0: Pile,
    /// Compacted.
    pub level1: Pile,
    /// Hours with blocks.
    pub hours: u64,
    /// The oldest hour with blocks, but for the one without times.
    pub oldest: Option<Hour>,
    /// The newest.
    pub newest: Option<Hour>,
    /// Hours and shards with something to merge.
    pub to_compact: u64,
    /// Rows whose times are impossible: bytes of the blocks that hold them.
    pub timeless_bytes: u64,
}

/// A worker, by its heartbeat.
#[derive(Clone, Debug, Serialize)]
pub struct Worker {
    /// Its name.
    pub name: String,
    /// How long ago it wrote its heartbeat.
    pub seen_seconds: i64,
    /// Whether that is soon enough to count as alive.
    pub alive: bool,
    /// The version of its program.
    pub version: Option<String>,
    /// How many inbox objects it has in hand.
    pub in_hand: usize,
}

/// Looks at everything by listing it; only heartbeats are read. `inbox` is where collectors write.
pub async fn status(reader: &Reader, inbox: &Store) -> Result<Status> {
    let before = requests(reader, inbox);
    let listing = inbox.list(&Prefix::Inbox).await?;
    let now = listing.began;
    let waiting = Pile::of(listing.objects.iter(), now);
    let mut tables = Vec::new();
    for table in Table::BOTH {
        tables.push(blocks(table, &reader.store.list(&Prefix::Table(table)).await?, now));
    }
    let latest = reader.store.list(&Prefix::Latest).await?;
    let handlers = latest
        .objects
        .iter()
        .filter_map(|object| if let Key::Pin(pin) = &object.key { Some(&pin.handler) } else { None });
    let pinned_handlers = handlers.collect::<std::collections::BTreeSet<_>>().len() as u64;
    let (quarantine, damaged_blocks) = quarantine(&reader.store.list(&Prefix::Quarantine).await?, now);
    let forgetting = reader.store.list(&Prefix::Forget).await?.objects.len() as u64;
    let strikes = reader.store.list(&Prefix::Strikes).await?.objects.len() as u64;
    let workers = workers(reader, now).await?;
    let site = Key::Site(crate::store::layout::SiteKey::Handlers);
    let mut status = Status {
        store: reader.store.url().to_owned(),
        time: now,
        inbox: waiting,
        tables,
        pins: Pile::of(latest.objects.iter(), now),
        pinned_handlers,
        quarantine,
        damaged_blocks,
        forgetting,
        strikes,
        workers,
        settings: (*reader.settings).clone(),
        catalogue: reader.catalogue.0,
        published: reader.store.head(&site).await.ok().map(|object| object.modified),
        warnings: Vec::new(),
        requests: 0,
    };
    status.warnings = warnings(&status);
    status.requests = requests(reader, inbox).saturating_sub(before);
    Ok(status)
}

fn requests(reader: &Reader, inbox: &Store) -> u64 {
    let own = reader.store.meter().snapshot().total().requests;
    if inbox.url() == reader.store.url() { own } else { own + inbox.meter().snapshot().total().requests }
}

fn blocks(table: Table, listing: &Listing, now: Timestamp) -> Blocks {
    let keys = || {
        listing.objects.iter().filter_map(|object| match object.key {
            Key::Block(key) => Some((key, object)),
            _ => None,
        })
    };
    let mut by_place: BTreeMap<(Hour, ShardDir), u64> = BTreeMap::new();
    for (key, _) in keys() {
        *by_place.entry((key.hour, key.dir)).or_default() += 1;
    }
    let hours: std::collections::BTreeSet<Hour> = by_place.keys().map(|(hour, _)| *hour).collect();
    let timed = || hours.iter().filter(|hour| **hour != Hour::EPOCH);
    // More than one block of a shard and hour: files of one merge look like that, too, until their footers are read.
    let to_compact = by_place.iter().filter(|((_, dir), count)| *dir == ShardDir::All || **count > 1).count();
    let of_level = |level0: bool| {
        Pile::of(keys().filter(|(key, _)| (key.dir == ShardDir::All) == level0).map(|(_, object)| object), now)
    };
    Blocks {
        table: table.to_string(),
        level0: of_level(true),
        level1: of_level(false),
        hours: hours.len() as u64,
        oldest: timed().next().copied(),
        newest: timed().next_back().copied(),
        to_compact: to_compact as u64,
        timeless_bytes: keys().filter(|(key, _)| key.hour == Hour::EPOCH).map(|(_, object)| object.size_bytes).sum(),
    }
}

fn quarantine(listing: &Listing, now: Timestamp) -> (BTreeMap<String, Pile>, Vec<String>) {
    let mut by_reason: BTreeMap<String, Vec<&Object>> = BTreeMap::new();
    let mut damaged = Vec::new();
    for object in &listing.objects {
        match &object.key {
            Key::Quarantine(key) => by_reason.entry(key.reason.clone()).or_default().push(object),
            Key::BadBlock(block) => damaged.push(block.to_string()),
            _ => {}
        }
    }
    let piles = by_reason.into_iter().map(|(reason, objects)| (reason, Pile::of(objects.into_iter(), now)));
    (piles.collect(), damaged)
}

async fn workers(reader: &Reader, now: Timestamp) -> Result<Vec<Worker>> {
    let listing = reader.store.list(&Prefix::Workers).await?;
    let reads = stream::iter(listing.objects).map(|object| async move {
        // A heartbeat that went right now, or is another program's, is told by its name alone.
        let says = reader.store.get(&object.key).await.ok();
        let says = says.and_then(|(body, _)| serde_json::from_slice::<Heartbeat>(&body).ok());
        let Key::Heartbeat(name, _) = &object.key else { return Ok(None) };
        let age = now.duration_since(object.modified).as_secs().max(0);
        Result::<_>::Ok(Some(Worker {
            name: name.to_string(),
            seen_seconds: age,
            alive: age < i64::try_from(ALIVE.as_secs()).unwrap_or(i64::MAX),
            version: says.as_ref().map(|says| says.version.clone()),
            in_hand: says.map_or(0, |says| says.in_hand.len()),
        }))
    });
    let workers: Vec<Option<Worker>> = reads.buffered(AT_A_TIME).try_collect().await?;
    Ok(workers.into_iter().flatten().collect())
}

/// What a person should do something about: pure.
fn warnings(status: &Status) -> Vec<String> {
    let mut warnings = Vec::new();
    let age = status.inbox.oldest_seconds.unwrap_or(0);
    if status.inbox.objects > 0 && !status.workers.iter().any(|worker| worker.alive) {
        warnings.push(format!(
            "{} objects wait in the inbox and no worker is alive: start one with `tracefarm run`.",
            status.inbox.objects
        ));
    } else if age > 15 * 60 {
        warnings.push(format!("The oldest object of the inbox is {} minutes old: start more workers.", age / 60));
    }
    let bad: u64 = status.quarantine.values().map(|pile| pile.objects).sum();
    if bad > 0 {
        warnings.push(format!(
            "{bad} objects could not be read, or not all of them: see `quarantine/`, each has an .error.json beside it."
        ));
    }
    if !status.damaged_blocks.is_empty() {
        warnings.push(format!(
            "{} blocks are damaged and skipped: see `quarantine/blocks/`; restore them from a backup.",
            status.damaged_blocks.len()
        ));
    }
    let shards = *status.settings.shards.last();
    for blocks in &status.tables {
        let hours = blocks.hours.max(1) * u64::from(shards);
        if blocks.level1.bytes / hours > 1 << 30 {
            warnings.push(format!(
                "An hour and shard of {} has more than 1 GiB: `tracefarm settings set shards={}`.",
                blocks.table,
                u32::from(shards) * 2
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BlockId, Shard};
    use crate::store::layout::BlockKey;

    #[test]
    fn blocks_are_counted_by_level_and_hours_with_something_to_merge() {
        let now: Timestamp = "2026-11-22T14:00:00Z".parse().unwrap();
        let hour: Hour = "2026-11-22T13".parse().unwrap();
        let shard = ShardDir::One(Shard::new(0, 1).unwrap());
        let places = [
            (hour, ShardDir::All),
            (hour, shard),
            (hour.previous(), shard),
            (hour.previous(), shard),
            (Hour::EPOCH, shard),
        ];
        let objects = places.into_iter().enumerate().map(|(number, (hour, dir))| Object {
            key: Key::Block(BlockKey {
                table: Table::Spans,
                dir,
                hour,
                block: BlockId::new(ulid::Ulid(number as u128)),
            }),
            size_bytes: 10,
            modified: now - jiff::SignedDuration::from_secs(number as i64),
            etag: String::new(),
        });
        let listing = Listing { objects: objects.collect(), ..Listing::default() };
        let blocks = blocks(Table::Spans, &listing, now);
        assert_eq!(blocks.level0, Pile { objects: 1, bytes: 10, oldest_seconds: Some(0) });
        assert_eq!(blocks.level1, Pile { objects: 4, bytes: 40, oldest_seconds: Some(4) });
        assert_eq!((blocks.hours, blocks.to_compact, blocks.timeless_bytes), (3, 2, 10));
        assert_eq!((blocks.oldest, blocks.newest), (Some(hour.previous()), Some(hour)));
    }
}
