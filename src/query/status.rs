//! `status`: how the farm is: what waits, what stands, who works, what fails.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, civil};
#[cfg(test)]
use schemars::JsonSchema;
use serde::Serialize;

use super::{AT_A_TIME, Reader};
use crate::error::Result;
use crate::farm::heartbeat::{Heart, Heartbeat};
use crate::farm::record::{Backlog, Failing, Vitals};
use crate::farm::strikes::Strike;
use crate::farm::{Settings, slice};
use crate::model::{HandlerId, Hour, ShardDir, Table};
use crate::stage::compact;
use crate::stage::expire::plan::pinned_from;
use crate::stage::publish::document::Part;
use crate::store::layout::{QuarantineKey, SiteKey};
use crate::store::{Key, Listing, Object, Prefix, Stage, Store};
use crate::table::view::Scope;

/// A heartbeat that is older is a worker's that is gone.
const ALIVE: Duration = crate::farm::heartbeat::FRESH;
/// What waits longer is late.
const LATE_SECONDS: i64 = 15 * 60;
/// A worker finds its place within this time of its start, unless something keeps it out.
const WAITS_FOR_A_PLACE: SignedDuration = SignedDuration::from_secs(90);
/// So many objects in quarantine are named for each reason.
const EXAMPLES: usize = 3;
/// So many strikes are read: a batch that killed a worker leaves hundreds.
const READ_STRIKES: usize = 200;

/// A pile of objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(JsonSchema))]
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
    /// What is in the inbox.
    pub inbox: Pile,
    /// Blocks by table.
    pub tables: Vec<Blocks>,
    /// Pinned traces' objects.
    pub pins: Pile,
    /// Handlers with pins.
    pub pinned_handlers: u64,
    /// From when on the newest traces of the oldest hour are pinned; none if nothing is indexed.
    pub pins_from: Option<Timestamp>,
    /// What waits in an inbox that is kept, as a worker has told; without one everything in the inbox waits.
    pub backlog: Option<Backlog>,
    /// Input that could not be read, by reason.
    pub quarantine: BTreeMap<String, Quarantined>,
    /// Blocks that are damaged and skipped.
    pub damaged_blocks: Vec<String>,
    /// Traces that are being forgotten.
    pub forgetting: u64,
    /// Objects that workers died with, those with the most lonely deaths first.
    pub strikes: Vec<Struck>,
    /// Workers by their heartbeats, of which the dead ones' stay for a day.
    pub workers: Vec<Worker>,
    /// How many of the living have which version.
    pub versions: BTreeMap<String, u64>,
    /// What the workers have spent today (UTC), as far as their heartbeats tell: those that ended well told nobody.
    pub today: Today,
    /// The settings that count.
    pub settings: Settings,
    /// The catalogue's number.
    pub catalogue: u64,
    /// When `site/handlers.json` was written last.
    pub published: Option<Timestamp>,
    /// Handlers of which `publish_command` made nothing when it was last run, and why.
    pub extra_errors: BTreeMap<HandlerId, String>,
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
    /// Hours and shards with something to merge, now or once it is due: not what has been merged and only stands for the
    /// grace.
    pub to_compact: u64,
    /// Rows whose times are impossible: bytes of the blocks that hold them.
    pub timeless_bytes: u64,
}

/// Input that could not be read, for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Quarantined {
    /// The objects: those of an inbox that is kept have no bytes here.
    #[serde(flatten)]
    pub pile: Pile,
    /// The error documents of the newest, at most three.
    pub newest: Vec<String>,
}

/// An object that workers died with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Struck {
    /// Its path, or the hash of it where no strike could be read.
    pub object: String,
    /// How many workers died with it in hand.
    pub strikes: u32,
    /// How many of them had nothing else in hand: with the third it goes to the quarantine.
    pub alone: u32,
}

/// What was spent on a day.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Today {
    /// The day, UTC.
    #[cfg_attr(test, schemars(with = "String"))]
    pub day: civil::Date,
    /// Requests, every attempt counted.
    pub requests: u64,
    /// Their list price in US dollars; 0 for a local store.
    pub dollars: f64,
}

/// A worker, by its heartbeat.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Worker {
    /// Its name.
    pub name: String,
    /// How long ago it wrote its heartbeat.
    pub seen_seconds: i64,
    /// Whether that is soon enough to count as alive.
    pub alive: bool,
    /// The version of its program.
    pub version: Option<String>,
    /// When it started, by its own clock.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub started: Option<Timestamp>,
    /// How many inbox objects it has in hand.
    pub in_hand: usize,
    /// Whether it may run `publish_command`.
    pub publish_command: bool,
    /// Its part of the work; none if it is dead, has no place, or does not say.
    pub slice: Option<Slice>,
    /// Whether it has no place among its peers though it has had the time to find one.
    pub kept_out: bool,
    /// What it says of itself; none if its program does not.
    pub vitals: Option<Vitals>,
}

/// A part of the work: of every sorted list what lies between two fractions of its weight.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Slice {
    /// From this fraction on …
    pub from: f64,
    /// … to that.
    pub until: f64,
    /// Of these shards it makes the pages: the first and the last; none if there are more workers than shards and it has
    /// none.
    pub shards: Option<(u16, u16)>,
}

impl Slice {
    /// That of the `rank`th of so many peers; none if there is no such.
    pub fn of(rank: usize, peers: usize, shards: u16) -> Option<Self> {
        if rank >= peers {
            return None;
        }
        let bound = |rank: usize| rank as f64 / peers as f64;
        let mine = slice::slice(&vec![1; shards.into()], rank, peers);
        // Below `shards`, so they fit.
        let shards = (!mine.is_empty()).then(|| (mine.start as u16, mine.end as u16 - 1));
        Some(Self { from: bound(rank), until: bound(rank + 1), shards })
    }
}

impl Status {
    /// What waits to be indexed.
    pub fn waiting(&self) -> Pile {
        match &self.backlog {
            Some(told) => {
                let oldest_seconds = (told.objects > 0).then_some(told.oldest_seconds);
                Pile { objects: told.objects, bytes: told.bytes, oldest_seconds }
            }
            None => self.inbox.clone(),
        }
    }

    /// What fails, and at whose hands: what failed most often first.
    pub fn failing(&self) -> Vec<(&Worker, &Failing)> {
        let of_worker = |worker| {
            vitals(worker).into_iter().flat_map(move |vitals| vitals.failing.iter().map(move |item| (worker, item)))
        };
        let mut failing: Vec<_> = self.living().flat_map(of_worker).collect();
        failing.sort_by(|(_, a), (_, b)| b.times.cmp(&a.times).then(a.since.cmp(&b.since)));
        failing
    }

    /// The workers that are alive.
    pub fn living(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter().filter(|worker| worker.alive)
    }
}

fn vitals(worker: &Worker) -> Option<&Vitals> {
    worker.vitals.as_ref()
}

/// Looks at everything by listing it; only heartbeats, strikes and the footers of blocks that may be merged are read, and
/// where there is a `publish_command` the parts of the list of handlers. `inbox` is where collectors write.
pub async fn status(reader: &Reader, inbox: &Store) -> Result<Status> {
    let before = requests(reader, inbox);
    let listing = inbox.list(&Prefix::Inbox).await?;
    let now = listing.began;
    let in_inbox = Pile::of(listing.objects.iter(), now);
    let mut tables = Vec::new();
    for table in Table::BOTH {
        let to_compact = to_compact(reader, table, now).await?;
        let listing = reader.store.list(&Prefix::Table(table)).await?;
        tables.push(blocks(table, &listing, to_compact, now));
    }
    let latest = reader.store.list(&Prefix::Latest).await?;
    let handlers = latest
        .objects
        .iter()
        .filter_map(|object| if let Key::Pin(pin) = &object.key { Some(&pin.handler) } else { None });
    let pinned_handlers = handlers.collect::<BTreeSet<_>>().len() as u64;
    let (quarantine, damaged_blocks) = quarantine(&reader.store.list(&Prefix::Quarantine).await?, now);
    let forgetting = reader.store.list(&Prefix::Forget).await?.objects.len() as u64;
    let strikes = strikes(reader).await?;
    let workers = workers(&reader.store, None, *reader.settings.shards.last(), now).await?;
    let backlog = backlog(&workers).filter(|backlog| backlog.kept);
    let mut versions = BTreeMap::new();
    for worker in workers.iter().filter(|worker| worker.alive) {
        *versions.entry(worker.version.clone().unwrap_or_else(|| "unknown".to_owned())).or_default() += 1;
    }
    let today = today(&workers, now);
    let oldest_entries = tables.iter().filter(|blocks| blocks.table == Table::Entries.to_string());
    let oldest_entries = oldest_entries.filter_map(|blocks| blocks.oldest).min();
    let site = Key::Site(SiteKey::Handlers);
    let mut status = Status {
        store: reader.store.url().to_owned(),
        time: now,
        inbox: in_inbox,
        backlog,
        tables,
        pins: Pile::of(latest.objects.iter(), now),
        pinned_handlers,
        pins_from: oldest_entries.map(|hour| pinned_from(&reader.settings, hour)),
        quarantine,
        damaged_blocks,
        forgetting,
        strikes,
        workers,
        versions,
        today,
        settings: (*reader.settings).clone(),
        catalogue: reader.catalogue.0,
        published: reader.store.head(&site).await.ok().map(|object| object.modified),
        extra_errors: extra_errors(reader, now).await?,
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

/// What waits to be merged.
async fn to_compact(reader: &Reader, table: Table, now: Timestamp) -> Result<u64> {
    let (grace, keep_for) = (reader.settings.grace.0, reader.settings.keep_for.clone());
    let view = reader.view(&Scope::all(table, grace).unsettled()).await?;
    // As a worker's plan has it.
    let now = now.saturating_add(reader.clock.offset()).unwrap_or(now);
    let facts = compact::Facts { now, grace, once: false, keep_for, forced: BTreeSet::new() };
    Ok(compact::plan::waiting(&view, &facts))
}

fn blocks(table: Table, listing: &Listing, to_compact: u64, now: Timestamp) -> Blocks {
    let keys = || {
        listing.objects.iter().filter_map(|object| match object.key {
            Key::Block(key) => Some((key, object)),
            _ => None,
        })
    };
    let hours: BTreeSet<Hour> = keys().map(|(key, _)| key.hour).collect();
    let timed = || hours.iter().filter(|hour| **hour != Hour::EPOCH);
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
        to_compact,
        timeless_bytes: keys().filter(|(key, _)| key.hour == Hour::EPOCH).map(|(_, object)| object.size_bytes).sum(),
    }
}

/// What is in quarantine, by reason; and the blocks that are skipped.
pub(crate) fn quarantine(listing: &Listing, now: Timestamp) -> (BTreeMap<String, Quarantined>, Vec<String>) {
    // An object and its explanation are one; an inbox that is kept has only the explanation here.
    let mut by_reason: BTreeMap<&str, BTreeMap<&QuarantineKey, Object>> = BTreeMap::new();
    let mut damaged = Vec::new();
    for object in &listing.objects {
        match &object.key {
            Key::Quarantine(key) => drop(by_reason.entry(&key.reason).or_default().insert(key, object.clone())),
            Key::QuarantineError(key) => {
                let explained = Object { size_bytes: 0, ..object.clone() };
                by_reason.entry(&key.reason).or_default().entry(key).or_insert(explained);
            }
            Key::BadBlock(block) => damaged.push(block.to_string()),
            _ => {}
        }
    }
    let of_reason = |(reason, objects): (&str, BTreeMap<&QuarantineKey, Object>)| {
        let pile = Pile::of(objects.values(), now);
        let mut newest: Vec<_> = objects.into_iter().collect();
        newest.sort_by_key(|(_, object)| std::cmp::Reverse(object.modified));
        let newest = newest.into_iter().take(EXAMPLES).map(|(key, _)| Key::QuarantineError(key.clone()).path());
        (reason.to_owned(), Quarantined { pile, newest: newest.collect() })
    };
    (by_reason.into_iter().map(of_reason).collect(), damaged)
}

/// The workers by their heartbeats, at `now`: a listing and a read of each. Of a worker who asks, `me`, what it says now
/// counts, not what it said last.
pub(crate) async fn workers(store: &Store, me: Option<&Heart>, shards: u16, now: Timestamp) -> Result<Vec<Worker>> {
    let listing = store.list(&Prefix::Workers).await?;
    let reads = stream::iter(listing.objects).map(|object| async move {
        let Key::Heartbeat(name, _) = &object.key else { return None };
        let says: Option<Heartbeat> = match me.filter(|me| me.key() == object.key) {
            Some(me) => Some(me.says()),
            // One that went right now, or is another program's, is told by its name alone.
            None => store.get(&object.key).await.ok().and_then(|(body, _)| serde_json::from_slice(&body).ok()),
        };
        let seen_seconds = now.duration_since(object.modified).as_secs().max(0);
        let alive = seen_seconds < ALIVE.as_secs().cast_signed();
        let vitals = says.as_ref().and_then(|says| says.vitals.clone());
        let started = says.as_ref().map(|says| says.started);
        let has_no_place = vitals.as_ref().is_some_and(|vitals| vitals.rank.is_none());
        let has_waited = started.is_some_and(|started| now.duration_since(started) > WAITS_FOR_A_PLACE);
        let place = vitals.as_ref().filter(|_| alive).and_then(|vitals| Some((vitals.rank?, vitals.peers)));
        Some(Worker {
            name: name.to_string(),
            seen_seconds,
            alive,
            version: says.as_ref().map(|says| says.version.clone()),
            started,
            in_hand: says.as_ref().map_or(0, |says| says.in_hand.len()),
            publish_command: says.is_some_and(|says| says.publish_command),
            slice: place.and_then(|(rank, peers)| Slice::of(rank, peers, shards)),
            kept_out: alive && has_no_place && has_waited,
            vitals,
        })
    });
    Ok(reads.buffered(AT_A_TIME).filter_map(std::future::ready).collect().await)
}

/// What waits to be indexed, as the one says that was seen last; programs of an older version do not say.
pub(crate) fn backlog(workers: &[Worker]) -> Option<Backlog> {
    let alive = workers.iter().filter(|worker| worker.alive);
    let told = alive.filter_map(|worker| Some((worker.seen_seconds, worker.vitals.as_ref()?.backlog?)));
    told.min_by_key(|(seen, _)| *seen).map(|(_, backlog)| backlog)
}

async fn strikes(reader: &Reader) -> Result<Vec<Struck>> {
    let listing = reader.store.list(&Prefix::Strikes).await?;
    let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
    for object in &listing.objects {
        if let Key::Strike(id, _) = object.key {
            *counts.entry(id).or_default() += 1;
        }
    }
    let reads = stream::iter(listing.objects.into_iter().take(READ_STRIKES)).map(|object| async move {
        let Key::Strike(id, _) = object.key else { return None };
        let (body, _) = reader.store.get(&object.key).await.ok()?;
        Some((id, serde_json::from_slice::<Strike>(&body).ok()?))
    });
    let read: Vec<(u64, Strike)> = reads.buffered(AT_A_TIME).filter_map(std::future::ready).collect().await;
    let of_object = |(id, strikes): (u64, u32)| {
        let mine = || read.iter().filter(|(of, _)| *of == id).map(|(_, strike)| strike);
        let object = mine().next().map_or_else(|| format!("{id:016x}"), |strike| strike.object.clone());
        Struck { object, strikes, alone: mine().filter(|strike| strike.alone).count() as u32 }
    };
    let mut struck: Vec<Struck> = counts.into_iter().map(of_object).collect();
    struck.sort_by(|a, b| (b.alone, b.strikes).cmp(&(a.alone, a.strikes)).then_with(|| a.object.cmp(&b.object)));
    Ok(struck)
}

/// What the workers have spent on the day of `now`, as far as they tell.
pub(crate) fn today(workers: &[Worker], now: Timestamp) -> Today {
    let mut today = Today { day: now.to_zoned(TimeZone::UTC).date(), requests: 0, dollars: 0.0 };
    for vitals in workers.iter().filter_map(vitals).filter(|vitals| vitals.day == Some(today.day)) {
        today.requests += vitals.day_requests;
        today.dollars += vitals.day_dollars;
    }
    today
}

/// What the parts tell of runs of `publish_command`.
async fn extra_errors(reader: &Reader, now: Timestamp) -> Result<BTreeMap<HandlerId, String>> {
    let mut errors = BTreeMap::new();
    if reader.settings.publish_command.is_empty() {
        return Ok(errors);
    }
    let count = *reader.settings.shards.at(Hour::of(now));
    for object in reader.store.list(&Prefix::Parts).await?.objects {
        let Key::Site(SiteKey::Part(shard)) = object.key else { continue };
        if shard.count() != count {
            continue;
        }
        // One that went right now, or is another program's, tells nothing.
        let Ok((body, _)) = reader.store.get(&object.key).await else { continue };
        let Ok(part) = serde_json::from_slice::<Part>(&body) else { continue };
        let failed = part.handlers.into_iter().filter_map(|line| Some((line.row.id, line.extras?.error?)));
        errors.extend(failed);
    }
    Ok(errors)
}

/// What a person should do something about, and what: pure.
fn warnings(status: &Status) -> Vec<String> {
    let mut warnings = Vec::new();
    let waiting = status.waiting();
    let age = waiting.oldest_seconds.unwrap_or(0);
    if waiting.objects > 0 && status.living().next().is_none() {
        warnings.push(format!(
            "{} objects wait in the inbox and no worker is alive: start one with `tracefarm run`.",
            waiting.objects
        ));
    } else if age > LATE_SECONDS {
        let help = match status.failing().iter().any(|(_, item)| item.stage == Stage::Index.name()) {
            true => "see why objects fail, above",
            false => "start more workers",
        };
        warnings.push(format!("The oldest object that waits is {} minutes old: {help}.", age / 60));
    }
    for worker in status.living() {
        let Some(vitals) = &worker.vitals else { continue };
        if vitals.failing_cycles > 1 {
            warnings.push(format!(
                "{} has failed {} cycles in a row and gives up after 10: see its log.",
                worker.name, vitals.failing_cycles
            ));
        }
        if worker.kept_out {
            warnings.push(format!(
                "{} has no place among the workers: another one has its name (--name), or --peers does not know it.",
                worker.name
            ));
        }
    }
    if status.versions.len() > 1 {
        let versions: Vec<String> =
            status.versions.iter().map(|(version, count)| format!("{version} ({count})")).collect();
        warnings.push(format!(
            "Workers of several versions share the work, {}: finish the update before you set `rules`.",
            versions.join(", ")
        ));
    }
    if let Some(worst) = status.strikes.first() {
        warnings.push(format!(
            "Workers died with {} objects in hand, which are now indexed a few at a time or alone; the worst is {}: give the \
             workers more memory (--memory), or take it out of the inbox; with the third death alone it goes to quarantine.",
            status.strikes.len(),
            worst.object
        ));
    }
    let bad: u64 = status.quarantine.values().map(|reason| reason.pile.objects).sum();
    if bad > 0 {
        warnings.push(format!(
            "{bad} objects could not be read, or not all of them: see `quarantine/`, each has an .error.json beside it; \
             put them back into the inbox with a program that can, or delete them."
        ));
    }
    if !status.damaged_blocks.is_empty() {
        warnings.push(format!(
            "{} blocks are damaged and skipped: see `quarantine/blocks/`; restore them from a backup.",
            status.damaged_blocks.len()
        ));
    }
    if !status.settings.publish_command.is_empty() {
        let may_not = status.living().filter(|worker| !worker.publish_command).count();
        if may_not > 0 {
            warnings.push(format!(
                "The setting `publish_command` is set, but {may_not} of {} workers may not run it: start them with \
                 --allow-publish-command, or unset it.",
                status.living().count()
            ));
        }
    }
    if !status.extra_errors.is_empty() {
        warnings.push(format!("`publish_command` failed for {} handlers.", status.extra_errors.len()));
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
    use crate::stage::index;
    use crate::stage::testing::{START, Sent, World, clean};
    use crate::store::layout::BlockKey;

    #[test]
    fn blocks_are_counted_by_level_and_hour() {
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
        let blocks = blocks(Table::Spans, &listing, 0, now);
        assert_eq!(blocks.level0, Pile { objects: 1, bytes: 10, oldest_seconds: Some(0) });
        assert_eq!(blocks.level1, Pile { objects: 4, bytes: 40, oldest_seconds: Some(4) });
        assert_eq!((blocks.hours, blocks.timeless_bytes), (3, 10));
        assert_eq!((blocks.oldest, blocks.newest), (Some(hour.previous()), Some(hour)));
    }

    #[test]
    fn a_slice_is_shards_or_a_part_of_one() {
        assert_eq!(Slice::of(1, 4, 16).unwrap(), Slice { from: 0.25, until: 0.5, shards: Some((4, 7)) });
        assert_eq!(Slice::of(0, 1, 1).unwrap(), Slice { from: 0.0, until: 1.0, shards: Some((0, 0)) });
        let few = [0, 1, 2, 3].map(|rank| Slice::of(rank, 4, 2).unwrap().shards);
        assert_eq!(few, [Some((0, 0)), None, Some((1, 1)), None], "more workers than shards");
        assert_eq!(Slice::of(4, 4, 16), None);
    }

    #[test]
    fn an_object_in_quarantine_counts_once_whether_it_or_only_its_explanation_is_there() {
        let now: Timestamp = "2026-11-22T14:00:00Z".parse().unwrap();
        let key = |name: &str| QuarantineKey::new("truncated", name, "1");
        let keys = [
            (Key::Quarantine(key("a")), 10),
            (Key::QuarantineError(key("a")), 11),
            (Key::QuarantineError(key("kept")), 12),
            (Key::Quarantine(key("b")), 13),
        ];
        let objects = keys.into_iter().map(|(key, age)| {
            let modified = now - SignedDuration::from_secs(age);
            Object { key, size_bytes: 100, modified, etag: String::new() }
        });
        let listing = Listing { objects: objects.collect(), ..Listing::default() };
        let (by_reason, _) = quarantine(&listing, now);
        let expected = Quarantined {
            pile: Pile { objects: 3, bytes: 200, oldest_seconds: Some(13) },
            newest: ["a@1", "kept@1", "b@1"].map(|name| format!("quarantine/truncated/{name}.error.json")).to_vec(),
        };
        assert_eq!(by_reason["truncated"], expected);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_merged_and_only_stands_for_the_grace_waits_no_more() {
        let world = World::new();
        world.send("one", &[Sent::request(1, 1, "/a", START)]);
        world.sleep(61).await;
        let at = world.desk().await;
        let waits = async || {
            let tables = status(&Reader::from(&at.desk), &at.desk.store).await.unwrap().tables;
            tables.iter().map(|table| (table.level0.objects, table.to_compact)).collect::<Vec<_>>()
        };
        clean(index::run(&at.desk, &at.round).await.unwrap());
        assert_eq!(waits().await, [(1, 1), (1, 1)]);
        clean(compact::run(&at.desk, &at.round).await.unwrap());
        assert_eq!(waits().await, [(1, 0), (1, 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_is_kept_out_if_it_has_no_place_some_time_after_its_start() {
        let world = World::new();
        let at = world.desk().await;
        let heart = &at.desk.heart;
        let kept_out = async |rank| {
            heart.record().placed(rank, 1);
            heart.beat(&at.desk.store).await.unwrap();
            let now = at.desk.store_clock().unmoved().unwrap();
            workers(&at.desk.store, None, 1, now).await.unwrap()[0].kept_out
        };
        assert!(!kept_out(None).await);
        world.sleep(WAITS_FOR_A_PLACE.as_secs() as u64 + 1).await;
        assert_eq!((kept_out(None).await, kept_out(Some(0)).await), (true, false));
    }

    /// A farm in the middle of an update: heartbeats of the program before this one say less, and count.
    #[tokio::test(start_paused = true)]
    async fn workers_of_two_versions_are_told_side_by_side() {
        let world = World::new();
        let at = world.desk().await;
        let heart = &at.desk.heart;
        heart.record().begin(&at.desk.store, &at.desk.store);
        heart.record().placed(Some(1), 2);
        heart.record().waits(Backlog { objects: 3, oldest_seconds: 2_000, kept: true, ..Backlog::default() });
        // The second tells of the first.
        heart.beat(&at.desk.store).await.unwrap();
        heart.beat(&at.desk.store).await.unwrap();
        let boot = "01KA8Z3V5Y7N0M2B4C6D8F0G1H";
        let older = r#""started":"2026-11-22T14:00:00Z","in_hand":["inbox/1"],"period_seconds":15}"#;
        let older = format!(r#"{{"name":"older","boot":"{boot}","version":"0.0.9",{older}"#);
        world.bucket.put(&format!("farm/workers/older.{boot}.json"), older);
        for (object, boot, alone) in [("inbox/a", boot, true), ("inbox/b", boot, false)] {
            let strike = format!(
                r#"{{"object":"{object}","alone":{alone},"worker":"x","version":"1","last_seen":"2026-11-22T14:00:00Z"}}"#
            );
            let id = crate::farm::strikes::object_id(object);
            world.bucket.put(&format!("farm/strikes/{id:016x}/{boot}"), strike);
        }
        world.bucket.put(&format!("farm/strikes/{:016x}/{boot}", 1), "unreadable");

        let status = status(&Reader::from(&at.desk), &at.desk.store).await.unwrap();
        let [older, mine] = &status.workers[..] else { panic!("{:?}", status.workers) };
        assert_eq!((older.alive, older.in_hand, &older.slice, &older.vitals), (true, 1, &None, &None));
        let vitals = mine.vitals.as_ref().unwrap();
        assert_eq!((vitals.rank, vitals.peers), (Some(1), 2));
        assert_eq!(mine.slice, Slice::of(1, 2, 1));
        assert_eq!(status.versions.len(), 2);
        assert!(status.today.requests > 0);
        assert_eq!(status.waiting(), Pile { objects: 3, bytes: 0, oldest_seconds: Some(2_000) });
        let struck: Vec<(&str, u32, u32)> =
            status.strikes.iter().map(|struck| (struck.object.as_str(), struck.strikes, struck.alone)).collect();
        assert_eq!(struck, [("inbox/a", 1, 1), ("0000000000000001", 1, 0), ("inbox/b", 1, 0)]);
        for told in ["33 minutes old: start more workers", "0.0.9 (1)", "the worst is inbox/a"] {
            assert!(status.warnings.iter().any(|warning| warning.contains(told)), "{told}: {:?}", status.warnings);
        }
    }
}
