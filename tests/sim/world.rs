//! A world: one bucket, what was written to its inbox, and somebody who looks after every change whether anything was
//! lost.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tracefarm::clock::Clock;
use tracefarm::farm::{Settings, documents};
use tracefarm::handler::catalogue::Catalogue;
use tracefarm::model::{HandlerId, TraceId};
use tracefarm::query::trace::Lookup;
use tracefarm::query::{self, Reader};
use tracefarm::stage::Unwatched;
use tracefarm::store::Key;
use tracefarm::store::fault::{Bucket, CallKind, Client, Faults};

use super::farm::{Boot, STEPS, Step, while_beating};
use super::look::{Eyes, Sight, rows};
use super::model::{Model, hex};
use super::spans::{Form, Made, object};

/// Clones are the same world.
#[derive(Clone)]
pub struct World {
    pub bucket: Bucket,
    /// Where files of level 1 end.
    pub file_bytes: u64,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    model: Model,
    eyes: Eyes,
    wrong: Vec<String>,
    objects: u64,
}

impl World {
    /// An empty world. `page_size` is that of listings.
    pub fn new(seed: u64, start: Timestamp, page_size: usize) -> Self {
        let bucket = Bucket::new(Clock::simulated(start, seed), page_size);
        // What counts until somebody sets something.
        let model = Model::new(SignedDuration::from_hours(7 * 24), 10);
        let inner = Inner { model, eyes: Eyes::default(), wrong: Vec::new(), objects: 0 };
        let world = Self { bucket, file_bytes: 1 << 30, inner: Arc::new(Mutex::new(inner)) };
        let watched = world.clone();
        world.bucket.watch(move |call, objects| {
            // Only what goes, or is replaced, can be lost.
            let of_data = ["spans/", "entries/", "latest/", "inbox/"].iter().any(|dir| call.path.starts_with(dir));
            let replaces = (call.path.starts_with("spans/") || call.path.starts_with("entries/"))
                && !call.path.contains("/shard=all/");
            if of_data && (call.kind == CallKind::Delete || replaces) {
                let now = watched.bucket.now();
                let mut inner = watched.inner();
                let Inner { model, eyes, wrong, .. } = &mut *inner;
                // One loss is told once, at the call that made it.
                if wrong.is_empty() {
                    let found = model.check(&eyes.look(objects), now);
                    wrong.extend(found.into_iter().map(|what| format!("{what}\n    after {call}")));
                }
            }
        });
        world
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn now(&self) -> Timestamp {
        self.bucket.now()
    }

    /// What the model knows, to ask or to tell.
    pub fn model<T>(&self, ask: impl FnOnce(&mut Model) -> T) -> T {
        ask(&mut self.inner().model)
    }

    /// What is in the bucket now.
    pub fn sight(&self) -> Sight {
        let objects = self.bucket.objects();
        self.inner().eyes.look(&objects)
    }

    /// Something is wrong.
    pub fn wrong(&self, what: String) {
        self.inner().wrong.push(what);
    }

    /// Whether something has gone wrong already.
    pub fn is_wrong(&self) -> bool {
        !self.inner().wrong.is_empty()
    }

    /// A collector writes an object with these spans.
    pub fn arrive(&self, spans: &[Made], form: Form) -> String {
        let number = {
            let mut inner = self.inner();
            inner.objects += 1;
            inner.objects
        };
        // Names that sort in no order of time, as collectors choose them.
        let path = format!("inbox/{:02x}/traces_{number}.bin", number.wrapping_mul(0x9e37) % 251);
        self.arrive_at(&path, object(spans, form), spans);
        path
    }

    /// A collector writes these bytes, which hold these spans, maybe over another object.
    pub fn arrive_at(&self, path: &str, body: Vec<u8>, spans: &[Made]) {
        let now = self.now();
        let mut inner = self.inner();
        // The model first: the watcher must never see an object that it does not know.
        let etag = etag(&body);
        inner.model.arrives(&etag, spans, now);
        drop(inner);
        self.bucket.put(path, body);
    }

    /// Somebody writes what nobody can read.
    pub fn garbage(&self, path: &str, body: &[u8]) {
        self.inner().model.garbage_arrives(&etag(body));
        self.bucket.put(path, body.to_vec());
    }

    /// An object that killed workers must be in the quarantine for that, and nothing else may.
    pub fn only_in_quarantine(&self, path: &str) {
        let found = self.bucket.paths("quarantine/");
        let kept: Vec<&String> = found.iter().filter(|found| !found.ends_with(".error.json")).collect();
        let name = path.strip_prefix("inbox/").unwrap();
        let is_it = |found: &&String| found.starts_with("quarantine/deadly/") && found.contains(name);
        if kept.len() != 1 || !kept.iter().all(is_it) || found.len() != 2 {
            self.wrong(format!("in quarantine, where {path} alone should be: {found:?}"));
        }
    }

    /// Somebody reads a trace: what is in no inbox object when they begin, and still to be kept when they end, they see.
    pub async fn read(&self, reader: &Reader, trace: [u8; 16]) {
        let sight = self.sight();
        let begun = self.now();
        let readable = self.model(|model| model.readable(trace, &sight));
        let found = query::trace::find(reader, TraceId(trace)).await;
        let now = self.now();
        let must = self.model(|model| model.must_be_seen(readable, now));
        let seen: BTreeSet<u64> = match &found {
            Ok(Lookup::Found(found)) => rows("spans", &found.rows).into_iter().map(|row| row.tag).collect(),
            Ok(_) => BTreeSet::new(),
            // The store did not answer.
            Err(_) => return,
        };
        let missed: Vec<_> = must.difference(&seen).collect();
        if !missed.is_empty() {
            let what = format!("a reader of {} from {begun} to {now} misses the spans {missed:?}", hex(&trace));
            self.wrong(format!("{what}; it saw {seen:?}"));
        }
    }

    /// `tracefarm settings set`.
    pub async fn set(&self, values: &[(&str, &str)]) {
        let now = self.now();
        let store = super::farm::store(&calm(&self.bucket, "admin"), self.bucket.clock());
        let values: Vec<_> = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let (_, settings) = Settings::set(&store, &values, now).await.unwrap();
        let changes = settings.keep_for.changes().iter().enumerate();
        let keep_for = changes.map(|(n, change)| {
            let from = if n == 0 { i64::MIN } else { i64::from(change.from.number()) };
            (from, SignedDuration::try_from(change.value.0).unwrap())
        });
        let keep_for = keep_for.collect();
        self.model(|model| {
            model.keep_for = keep_for;
            model.keep_last_becomes(settings.keep_last as usize, now);
        });
    }

    /// `tracefarm handlers rename`, of some handler that has no other name yet.
    pub async fn rename(&self) {
        let Some((from, to)) = self.model(|model| model.may_be_renamed()) else { return };
        let store = super::farm::store(&calm(&self.bucket, "admin"), self.bucket.clock());
        let (old, new): (HandlerId, HandlerId) = (from.parse().unwrap(), to.parse().unwrap());
        documents::change::<Catalogue>(&store, |_, catalogue| {
            let mut catalogue = catalogue.clone();
            catalogue.aliases.insert(old.clone(), new.clone());
            Ok(catalogue)
        })
        .await
        .unwrap();
        self.model(|model| model.rename(from, to));
    }

    /// `tracefarm forget`: the tombstone. The workers' sweeps do the rest.
    pub async fn forget(&self, trace: [u8; 16]) {
        let store = super::farm::store(&calm(&self.bucket, "admin"), self.bucket.clock());
        store.create(&Key::Forget(TraceId(trace)), "{}".into()).await.unwrap();
        let now = self.now();
        self.model(|model| model.forget(trace, now));
    }

    /// Brings everything to rest with one worker that has time and nothing to fear, and looks whether anything is left
    /// over.
    pub async fn rest(&self, seed: u64) {
        let clock = Clock::simulated(self.now(), seed);
        let client = self.bucket.client("rest", Faults::CALM.script(seed));
        let mut boot = match Boot::start(&client, "rest", &clock).await {
            Ok(boot) => boot,
            Err(error) => return self.wrong(format!("cannot start at rest: {error}")),
        };
        (boot.desk.once, boot.desk.file_bytes) = (true, self.file_bytes);
        let (heart, store) = (boot.heart.clone(), boot.store.clone());
        while_beating(&heart, &store, self.quiesce(&mut boot)).await;
        self.check_at_rest();
        self.check_as_users_do(&boot).await;
    }

    async fn quiesce(&self, boot: &mut Boot) {
        let pause = boot.desk.grace + std::time::Duration::from_secs(90);
        let mut unchanged = 0;
        for _ in 0..40 {
            let before = self.bucket.objects();
            if let Err(error) = boot.refresh().await {
                return self.wrong(format!("cannot read the settings at rest: {error}"));
            }
            for step in STEPS {
                self.drain(boot, step).await;
            }
            boot.clock.sleep(pause).await;
            let after = self.bucket.objects();
            let names = |objects: &std::collections::BTreeMap<String, _>| {
                objects.keys().filter(|path| !path.starts_with("farm/workers/")).cloned().collect::<Vec<_>>()
            };
            // Twice: a pass that only waited for the grace changes nothing, and the next one does.
            unchanged = if names(&before) == names(&after) { unchanged + 1 } else { 0 };
            if unchanged == 2 {
                return;
            }
        }
        self.wrong("does not come to rest".to_owned());
    }

    /// Rounds of a stage until nothing is left that can be done at once.
    pub async fn drain(&self, boot: &Boot, step: Step) {
        for _ in 0..200 {
            match boot.step(step).await {
                Ok(report) => {
                    for failure in &report.failed {
                        self.wrong(format!("{step:?} failed at rest: {}: {}", failure.item, failure.report));
                    }
                    if !report.more || self.is_wrong() {
                        return;
                    }
                }
                Err(error) => return self.wrong(format!("{step:?} failed at rest: {error}")),
            }
        }
        self.wrong(format!("{step:?} has always more to do"));
    }

    /// `tracefarm check`: it must agree that all is well.
    async fn check_as_users_do(&self, boot: &Boot) {
        match query::check::check(&Reader::from(&boot.desk), &Unwatched).await {
            Ok(check) => {
                for violation in check.violations {
                    self.wrong(format!("check at rest: {}: {}", violation.object, violation.what));
                }
                if (check.inbox, check.duplicates) != (0, 0) {
                    let (inbox, twice) = (check.inbox, check.duplicates);
                    self.wrong(format!("check at rest: {inbox} objects in the inbox, {twice} rows stand twice"));
                }
            }
            Err(error) => self.wrong(format!("check at rest failed: {error}")),
        }
    }

    fn check_at_rest(&self) {
        let (now, objects) = (self.now(), self.bucket.objects());
        let mut inner = self.inner();
        let Inner { model, eyes, wrong, .. } = &mut *inner;
        wrong.extend(model.check_at_rest(&eyes.look(&objects), now));
        wrong.extend(self.bucket.breaches());
    }

    /// Fails with everything that a person needs if something went wrong. `told` says how to see it again.
    pub fn verdict(&self, told: &str) {
        let inner = self.inner();
        if inner.wrong.is_empty() {
            return;
        }
        let path = std::env::temp_dir().join(format!("tracefarm-sim-{}.log", told.replace([' ', '='], "-")));
        let log = self.bucket.log();
        std::fs::write(&path, &log).unwrap();
        let lines: Vec<&str> = log.lines().filter(|line| !line.contains(" farm/workers/")).collect();
        let last = lines[lines.len().saturating_sub(40)..].join("\n");
        let wrong = inner.wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
        let count = inner.wrong.len();
        drop(inner);
        panic!("{told}: {count} things are wrong\n{wrong}\nall calls: {}\nthe last calls:\n{last}\n", path.display());
    }
}

fn etag(body: &[u8]) -> String {
    format!("\"{:016x}\"", xxhash_rust::xxh3::xxh3_64(body))
}

/// A client whose calls go well and take no time.
pub fn calm(bucket: &Bucket, name: &str) -> Client {
    bucket.client(name, Box::new(|_| tracefarm::store::fault::Fate::calm()))
}
