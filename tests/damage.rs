//! Every kind of object, damaged in every way, met by every stage and reader: nothing panics, other work goes on, a
//! person is told which object and what to do, what can be made anew is, and no delete follows from what is damaged.
#![expect(clippy::unwrap_used, reason = "these are tests")]
#![expect(dead_code, reason = "what the simulation has is shared, and not all of it is used here")]

#[path = "sim/farm.rs"]
mod farm;
#[path = "sim/look.rs"]
mod look;
#[path = "sim/model.rs"]
mod model;
#[path = "sim/spans.rs"]
mod spans;
#[path = "sim/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use farm::{Boot, STEPS, Step};
use jiff::{SignedDuration, Timestamp};
use look::Sight;
use rstest::rstest;
use spans::{Does, Form, Maker};
use tracefarm::clock::Clock;
use tracefarm::model::TraceId;
use tracefarm::query::{self, Reader};
use tracefarm::store::fault::{Bucket, Stored};
use world::{World, calm};

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Inbox,
    Level0Spans,
    Level0Entries,
    Level1Spans,
    Level1Entries,
    Pin,
    SiteHandlers,
    SitePart,
    SiteSummary,
    SiteTraces,
    SiteNotFound,
    Settings,
    Catalogue,
    Heartbeat,
    Pinned,
    Ledger,
    Quarantine,
    QuarantineError,
    Tombstone,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    /// It is gone.
    Deleted,
    /// Its second half is gone.
    Truncated,
    /// Other bytes, as many.
    Garbage,
    /// No bytes.
    Empty,
    /// It is whole; beside it stand objects that nobody knows.
    Foreign,
    /// A program of the future wrote it.
    Newer,
}

/// When the farm below was left.
const LEFT: &str = "2026-11-20T16:20:00Z";

/// A farm that has one of everything.
fn farm() -> &'static BTreeMap<String, Stored> {
    static FARM: OnceLock<BTreeMap<String, Stored>> = OnceLock::new();
    FARM.get_or_init(|| farm::simulate(build()))
}

async fn build() -> BTreeMap<String, Stored> {
    let world = World::new(1, "2026-11-20T10:20:00Z".parse().unwrap(), 1000);
    world.set(&[("keep_for", "8h"), ("keep_last", "3"), ("settle", "0s")]).await;
    catalogue(&world).await;
    let mut maker = Maker::new(3);
    let arrive = |maker: &mut Maker, form| {
        for n in 0..4 {
            let now = world.now();
            let root = maker.entry("web", Does::Serve(format!("/r{}", n % 2)), now);
            let call = maker.child(&root, "cart", Does::Serve("/c".to_owned()), 1_000_000);
            let miss = maker.entry("web", Does::Miss("/wp-login.php".to_owned()), now);
            world.arrive(&[root, call, miss], form);
        }
    };
    let work = async |name: &str, once: bool, steps: &[Step]| {
        // Each worker has chance of its own: two with one seed would use one name for two blocks.
        let clock = Clock::simulated(world.now(), xxhash_rust::xxh3::xxh3_64(name.as_bytes()));
        let client = calm(&world.bucket, name);
        let mut boot = Boot::start(&client, name, &clock).await.unwrap();
        boot.desk.once = once;
        boot.while_beating(async {
            for step in steps {
                world.drain(&boot, *step).await;
            }
        })
        .await;
    };
    arrive(&mut maker, Form::Proto);
    world.garbage("inbox/garbage.json", b"{\"resourceSpans\": [");
    work("w1", true, &STEPS).await;
    farm::pass(SignedDuration::from_mins(20)).await;
    let forgotten = maker.entry("web", Does::Serve("/r0".to_owned()), world.now());
    world.arrive(std::slice::from_ref(&forgotten), Form::Json);
    work("w2", true, &STEPS).await;
    world.forget(forgotten.trace).await;
    farm::pass(SignedDuration::from_hours(5) + SignedDuration::from_mins(30)).await;
    arrive(&mut maker, Form::Json);
    work("w3", true, &STEPS).await;
    arrive(&mut maker, Form::GzipProto);
    work("w4", false, &[Step::Index]).await;
    ledger(&world).await;
    farm::pass(LEFT.parse::<Timestamp>().unwrap().duration_since(world.now())).await;
    arrive(&mut maker, Form::Proto);
    world.verdict("building the farm");
    world.bucket.objects()
}

/// Somebody has renamed a handler.
async fn catalogue(world: &World) {
    use tracefarm::handler::catalogue::Catalogue;
    let store = farm::store(&calm(&world.bucket, "admin"), world.bucket.clock());
    let made = Maker::new(9).entry("web", Does::Serve("/old".to_owned()), world.now());
    let now = Maker::new(9).entry("web", Does::Serve("/r0".to_owned()), world.now());
    let (old, new) = (farm::handler_id(&made), farm::handler_id(&now));
    tracefarm::farm::documents::change::<Catalogue>(&store, |_, catalogue| {
        let mut catalogue = catalogue.clone();
        catalogue.aliases.insert(old.parse().unwrap(), new.parse().unwrap());
        Ok(catalogue)
    })
    .await
    .unwrap();
}

/// Somebody has run a worker that keeps its inbox.
async fn ledger(world: &World) {
    let clock = Clock::simulated(world.now(), 77);
    let client = calm(&world.bucket, "keeper");
    let mut boot = Boot::start(&client, "keeper", &clock).await.unwrap();
    boot.desk.once = true;
    boot.desk.inbox.keep = true;
    let made = Maker::new(77).entry("web", Does::Serve("/kept".to_owned()), world.now());
    world.arrive(&[made], Form::Proto);
    world.drain(&boot, Step::Index).await;
}

impl Kind {
    /// An object of this kind.
    fn pick(self, objects: &BTreeMap<String, Stored>) -> String {
        let fits = |path: &&String| match self {
            Self::Inbox => path.starts_with("inbox/"),
            Self::Level0Spans => path.starts_with("spans/shard=all/"),
            Self::Level0Entries => path.starts_with("entries/shard=all/"),
            Self::Level1Spans => path.starts_with("spans/shard=000-of-001/hour=2026-11-20T10"),
            Self::Level1Entries => path.starts_with("entries/shard=000-of-001/hour=2026-11-20T10"),
            Self::Pin => path.starts_with("latest/"),
            Self::SiteHandlers => *path == "site/handlers.json",
            Self::SitePart => path.starts_with("site/parts/"),
            Self::SiteSummary => path.starts_with("site/handlers/") && path.ends_with("/summary.json"),
            Self::SiteTraces => path.starts_with("site/handlers/") && path.ends_with("/traces.json.gz"),
            Self::SiteNotFound => path.starts_with("site/not-found/"),
            Self::Settings => path.starts_with("farm/settings/"),
            Self::Catalogue => path.starts_with("farm/handlers/"),
            Self::Heartbeat => path.starts_with("farm/workers/"),
            Self::Pinned => path.starts_with("farm/pinned/"),
            Self::Ledger => path.starts_with("farm/ledger/"),
            Self::Quarantine => path.starts_with("quarantine/") && !path.ends_with(".error.json"),
            Self::QuarantineError => path.starts_with("quarantine/") && path.ends_with(".error.json"),
            Self::Tombstone => path.starts_with("farm/forget/"),
        };
        let found = objects.keys().rfind(|path| fits(path)).cloned();
        found.unwrap_or_else(|| panic!("the farm has no {self:?}: {:#?}", objects.keys().collect::<Vec<_>>()))
    }

    /// Without it nobody knows where rows go: workers stop, loudly.
    fn stops_everything(self, damage: Damage) -> bool {
        matches!(self, Self::Settings | Self::Catalogue) && !matches!(damage, Damage::Deleted | Damage::Foreign)
    }

    /// It holds what cannot be made anew, so a person must hear of it.
    fn is_precious(self) -> bool {
        matches!(
            self,
            Self::Level0Spans | Self::Level0Entries | Self::Level1Spans | Self::Level1Entries | Self::Pin | Self::Inbox
        )
    }

    fn is_made_anew(self) -> bool {
        matches!(
            self,
            Self::SiteHandlers
                | Self::SitePart
                | Self::SiteSummary
                | Self::SiteTraces
                | Self::SiteNotFound
                | Self::Pinned
        )
    }
}

impl Damage {
    fn to(self, bucket: &Bucket, path: &str) {
        let body = bucket.read(path).unwrap().body;
        match self {
            Self::Deleted => {
                bucket.remove(path);
            }
            Self::Truncated => bucket.put(path, body.slice(..body.len() / 2)),
            Self::Garbage => {
                let garbage: Vec<u8> = (0..body.len().max(8)).map(|n| (n * 7919 % 251) as u8).collect();
                bucket.put(path, garbage);
            }
            Self::Empty => bucket.put(path, Bytes::new()),
            Self::Foreign => {
                let folder = path.rsplit_once('/').unwrap().0;
                for name in
                    ["README.txt", "01KA8Z3V5Y.parquet", "_SUCCESS", "x.json", "00000000000000000000-zz-q.json.gz"]
                {
                    bucket.put(&format!("{folder}/{name}"), "not ours");
                }
            }
            Self::Newer => bucket.put(path, newer(path, &body)),
        }
    }
}

/// The object as a later program would write it.
fn newer(path: &str, body: &Bytes) -> Vec<u8> {
    if path.ends_with(".parquet") {
        // The footer's words are JSON text: a digit for a digit.
        let at = memchr::memmem::find(body, b"\"format\":1").unwrap();
        let mut body = body.to_vec();
        body[at + 9] = b'9';
        return body;
    }
    if path.ends_with(".json")
        && let Ok(serde_json::Value::Object(mut document)) = serde_json::from_slice(body)
    {
        document.insert("from_the_future".to_owned(), serde_json::json!({"format": 9}));
        return serde_json::to_vec(&document).unwrap();
    }
    body.to_vec()
}

/// The spans that stand in blocks other than `except`, but for those that are to be forgotten.
fn tags(sight: &Sight, except: Option<&str>) -> BTreeSet<u64> {
    let blocks = sight.blocks.iter().filter(|block| except.is_none_or(|path| !path.contains(&block.name)));
    let rows = blocks.filter(|block| block.table == "spans").flat_map(|block| &block.rows);
    let stays = |row: &&look::Row| !sight.others.contains_key(&format!("farm/forget/{}", model::hex(&row.trace)));
    rows.filter(stays).map(|row| row.tag).collect()
}

#[rstest]
fn nothing_is_lost_beyond_what_is_damaged(
    #[values(
        Kind::Inbox,
        Kind::Level0Spans,
        Kind::Level0Entries,
        Kind::Level1Spans,
        Kind::Level1Entries,
        Kind::Pin,
        Kind::SiteHandlers,
        Kind::SitePart,
        Kind::SiteSummary,
        Kind::SiteTraces,
        Kind::SiteNotFound,
        Kind::Settings,
        Kind::Catalogue,
        Kind::Heartbeat,
        Kind::Pinned,
        Kind::Ledger,
        Kind::Quarantine,
        Kind::QuarantineError,
        Kind::Tombstone
    )]
    kind: Kind,
    #[values(Damage::Deleted, Damage::Truncated, Damage::Garbage, Damage::Empty, Damage::Foreign, Damage::Newer)]
    damage: Damage,
) {
    let farm = farm();
    // What is logged is told to a person, too.
    let log = Log::default();
    let writer = log.clone();
    let logs = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(logs, || farm::simulate(case(farm, kind, damage, &log)));
}

/// Log lines as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn case(farm: &BTreeMap<String, Stored>, kind: Kind, damage: Damage, log: &Log) {
    let bucket = Bucket::new(Clock::simulated(LEFT.parse().unwrap(), 2), 1000);
    bucket.restore(farm.clone());
    let path = kind.pick(farm);
    let mut eyes = look::Eyes::default();
    let before = tags(&eyes.look(&bucket.objects()), Some(&path));
    damage.to(&bucket, &path);
    let damaged = bucket.read(&path);

    // Somebody goes on sending.
    let fresh = Maker::new(1234).entry("web", Does::Serve("/fresh".to_owned()), bucket.now());
    bucket.put("inbox/zz/fresh.binpb", spans::object(std::slice::from_ref(&fresh), Form::Proto));

    let mut said = String::new();
    for round in 0..3 {
        said += &rounds(&bucket, round).await;
        // The grace passes.
        farm::pass(SignedDuration::from_mins(11)).await;
    }

    said += &String::from_utf8_lossy(&log.0.lock().unwrap());
    let sight = eyes.look(&bucket.objects());
    let after = tags(&sight, None);
    let lost: Vec<_> = before.difference(&after).collect();
    assert!(lost.is_empty(), "{kind:?} {damage:?}: {path}: lost the spans {lost:?}\n{said}\n{}", bucket.log());
    let indexed = sight.visible("spans").any(|(_, row)| row.trace == fresh.trace);
    if kind.stops_everything(damage) {
        assert!(!indexed && said.contains(&path), "{kind:?} {damage:?}: {path} is not named:\n{said}");
        assert_eq!(bucket.read(&path).map(|stored| stored.body), damaged.map(|stored| stored.body));
        return;
    }
    assert!(indexed, "{kind:?} {damage:?}: {path}: other work does not go on\n{said}");
    assert!(!said.contains("panicked"), "{said}");
    if damage == Damage::Foreign {
        let folder = path.rsplit_once('/').unwrap().0;
        let stays = |name: &str| bucket.read(&format!("{folder}/{name}")).is_some();
        // In the inbox nothing is foreign: what cannot be read goes to the quarantine. And any name may be a 404 list's.
        let foreign: &[&str] = match kind {
            Kind::Inbox => &[],
            Kind::SiteNotFound => &["README.txt", "_SUCCESS"],
            _ => &["README.txt", "_SUCCESS", "x.json"],
        };
        assert!(foreign.iter().all(|name| stays(name)), "{kind:?}: {path}: what is not ours was deleted\n{said}");
        return;
    }
    let unreadable = matches!(damage, Damage::Truncated | Damage::Garbage | Damage::Empty);
    if kind.is_precious() && unreadable && !(kind == Kind::Inbox) {
        assert!(said.contains(&path), "{kind:?} {damage:?}: {path} is not named:\n{said}");
        let now = bucket.read(&path).map(|stored| stored.body);
        assert_eq!(now, damaged.clone().map(|stored| stored.body), "{path} was touched");
    }
    if kind.is_made_anew() && damage != Damage::Newer {
        let made = bucket.read(&path).map(|stored| stored.body);
        assert!(made.is_some() && made != damaged.map(|stored| stored.body), "{path} is not made anew:\n{said}");
    }
}

/// Every stage and reader once; all that a person would be told.
async fn rounds(bucket: &Bucket, round: u64) -> String {
    let mut said = String::new();
    let client = calm(bucket, "w9");
    let clock = Clock::simulated(bucket.now(), 1000 + round);
    let mut boot = match Boot::start(&client, "w9", &clock).await {
        Ok(boot) => boot,
        Err(report) => return format!("start: {report}\n"),
    };
    boot.desk.once = true;
    boot.while_beating(async {
        for step in STEPS {
            match boot.step(step).await {
                Ok(report) => {
                    for failure in report.failed {
                        said += &format!("{step:?}: {}: {}\n", failure.item, failure.report);
                    }
                }
                Err(report) => said += &format!("{step:?}: {report}\n"),
            }
        }
    })
    .await;
    said += &read(bucket, &boot).await;
    for (path, stored) in bucket.objects() {
        if path.starts_with("quarantine/") && path.ends_with(".error.json") {
            said += &format!("{path}: {}\n", String::from_utf8_lossy(&stored.body));
        }
    }
    said
}

/// Every reader once.
async fn read(bucket: &Bucket, boot: &Boot) -> String {
    let mut said = String::new();
    let mut tell = |what: &str, outcome: Result<(), tracefarm::error::Report>| {
        if let Err(report) = outcome {
            said += &format!("{what}: {report}\n");
        }
    };
    let reader = Reader::from(&boot.desk);
    let sight = look::Eyes::default().look(&bucket.objects());
    let traces: BTreeSet<_> = sight.visible("spans").map(|(_, row)| row.trace).collect();
    for trace in traces {
        tell("get", query::trace::find(&reader, TraceId(trace)).await.map(drop));
    }
    said
}
