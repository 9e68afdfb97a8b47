//! The naive model: what was ever written to the inbox, and so what must still be found. It knows nothing of blocks,
//! merges or plans; it looks at the bucket with [`super::look`] and compares.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};

use super::look::Sight;
use super::spans::{Does, HOUR_NS, Made};

/// Settings are read again every minute, and no work is done with a copy older than five: so long a change may take.
const SETTINGS_MAY_BE_OLD: SignedDuration = SignedDuration::from_mins(6);

/// 2000-01-01, before which no span started.
const EARLIEST_NS: i64 = 946_684_800_000_000_000;

struct Known {
    made: Made,
    /// When the first copy arrived.
    received: Timestamp,
    /// Once past and not among the newest of any handler, it may be gone, whatever happens later.
    losable: bool,
}

/// What was written, and what the settings said.
pub struct Model {
    known: BTreeMap<u64, Known>,
    /// The tags of every inbox object ever written, by its etag (equal bytes have equal etags).
    objects: HashMap<String, BTreeSet<u64>>,
    /// Etags of objects that nobody can read: they must end in the quarantine.
    garbage: BTreeSet<String>,
    forgotten: BTreeSet<[u8; 16]>,
    /// `keep_for`, by the first hour (since 1970) for which it counts.
    pub keep_for: Vec<(i64, SignedDuration)>,
    /// `keep_last`, and since when.
    keep_last: Vec<(Timestamp, usize)>,
    /// When it was last asked what may go.
    asked: Timestamp,
    /// The ids of the handlers.
    handler_ids: HashMap<(String, Does), String>,
    /// Renamed handlers, and under which ids their entries count. No chains.
    aliases: BTreeMap<String, String>,
}

/// By handler's id, and a 404 list's path: `(placed time, trace)`, newest first.
type Newest = BTreeMap<(String, Option<String>), Vec<(i64, [u8; 16])>>;

/// The hour (since 1970) of a span: its start's if that is possible, else its end's, else the first of all.
fn placed(made: &Made, received: Timestamp) -> (i64, i64) {
    let latest = received.as_nanosecond() as i64 + HOUR_NS;
    let possible = |time: &i64| (EARLIEST_NS..=latest).contains(time);
    match [made.start_ns, made.end_ns].into_iter().find(possible) {
        Some(time) => (time.div_euclid(HOUR_NS), time),
        None => (0, received.as_nanosecond() as i64),
    }
}

impl Model {
    pub fn new(keep_for: SignedDuration, keep_last: usize) -> Self {
        Self {
            known: BTreeMap::new(),
            objects: HashMap::new(),
            garbage: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            keep_for: vec![(i64::MIN, keep_for)],
            keep_last: vec![(Timestamp::MIN, keep_last)],
            asked: Timestamp::MIN,
            handler_ids: HashMap::new(),
            aliases: BTreeMap::new(),
        }
    }

    /// An object arrived in the inbox.
    pub fn arrives(&mut self, etag: &str, spans: &[Made], now: Timestamp) {
        self.forget_what_may_go(now);
        self.objects.entry(etag.to_owned()).or_default().extend(spans.iter().map(|span| span.tag));
        for made in spans {
            if made.is_entry() {
                self.handler_ids.entry(made.handler()).or_insert_with(|| super::farm::handler_id(made));
            }
            // Last-modified has whole seconds.
            let received = Timestamp::from_second(now.as_second()).unwrap();
            let known = Known { made: made.clone(), received, losable: false };
            self.known.entry(made.tag).or_insert(known);
        }
    }

    /// An object arrived that nobody can read.
    pub fn garbage_arrives(&mut self, etag: &str) {
        self.garbage.insert(etag.to_owned());
    }

    pub fn keep_last_becomes(&mut self, keep_last: usize, now: Timestamp) {
        self.forget_what_may_go(now);
        self.keep_last.push((now, keep_last));
    }

    pub fn forget(&mut self, trace: [u8; 16], now: Timestamp) {
        self.forget_what_may_go(now);
        self.forgotten.insert(trace);
    }

    /// Two handlers of which the first can be renamed to the second.
    pub fn may_be_renamed(&self) -> Option<(String, String)> {
        let renamed = |id: &&String| self.aliases.contains_key(*id) || self.aliases.values().any(|to| to == *id);
        let is_list = |id: &&String| id.contains("/404-") || id.starts_with("odd/");
        let ids: BTreeSet<&String> = self.handler_ids.values().filter(|id| !is_list(id)).collect();
        let mut free = ids.into_iter().filter(|id| !renamed(id));
        Some((free.next()?.clone(), free.next()?.clone()))
    }

    pub fn rename(&mut self, from: String, to: String) {
        self.aliases.insert(from, to);
    }

    pub fn traces(&self) -> BTreeSet<[u8; 16]> {
        self.known.values().map(|known| known.made.trace).filter(|trace| !self.forgotten.contains(trace)).collect()
    }

    pub fn spans(&self) -> impl Iterator<Item = &Made> {
        self.known.values().map(|known| &known.made)
    }

    /// How many traces each handler has, at most, that must not be lost: what was true all the time lately.
    fn keep_last(&self, now: Timestamp) -> usize {
        let counts = |from: Timestamp| from.saturating_add(SETTINGS_MAY_BE_OLD).is_ok_and(|from| from <= now);
        let since = self.keep_last.iter().rposition(|(from, _)| counts(*from)).unwrap_or(0);
        self.keep_last[since..].iter().map(|(_, value)| *value).min().unwrap()
    }

    fn is_past(&self, known: &Known, now: Timestamp) -> bool {
        let (hour, time) = placed(&known.made, known.received);
        let end = if hour == 0 { time } else { (hour + 1) * HOUR_NS };
        let keep_for = self.keep_for.iter().rfind(|(from, _)| *from <= hour).unwrap().1;
        i128::from(end) + keep_for.as_nanos() <= now.as_nanosecond()
    }

    /// For each handler its newest traces of those that arrived.
    fn newest(&self, now: Timestamp) -> Newest {
        let mut traces: BTreeMap<_, BTreeMap<[u8; 16], i64>> = BTreeMap::new();
        for known in self.known.values().filter(|known| known.made.is_entry()) {
            // Copies of impossible times may be placed otherwise by when they were received.
            if !self.forgotten.contains(&known.made.trace) && known.made.service != "odd" {
                let (_, time) = placed(&known.made, known.received);
                // A 404 list keeps the newest trace of each path.
                let path = if let Does::Miss(path) = &known.made.does { Some(path.clone()) } else { None };
                let handler = (self.handler_ids[&known.made.handler()].clone(), path);
                let newest = traces.entry(handler).or_default().entry(known.made.trace).or_insert(time);
                *newest = time.max(*newest);
            }
        }
        let keep_last = self.keep_last(now);
        let newest = traces.into_iter().map(|(handler, traces)| {
            let mut traces: Vec<_> = traces.into_iter().map(|(trace, time)| (time, trace)).collect();
            traces.sort_unstable_by(|a, b| b.cmp(a));
            traces.truncate(if handler.1.is_some() { 1 } else { keep_last });
            (handler, traces)
        });
        newest.collect()
    }

    /// What is past and not among the newest may be gone from now on. To be called before anything changes that could
    /// make a trace one of the newest again.
    fn forget_what_may_go(&mut self, now: Timestamp) {
        // Also right before the moment from which a larger `keep_last` counts for everybody.
        let changes = self.keep_last.iter().filter_map(|(from, _)| from.saturating_add(SETTINGS_MAY_BE_OLD).ok());
        let before = SignedDuration::from_nanos(-1);
        let mut moments: Vec<Timestamp> =
            changes.map(|at| at.saturating_add(before).unwrap()).filter(|at| (self.asked..now).contains(at)).collect();
        moments.push(now);
        self.asked = now;
        for moment in moments {
            let newest = self.newest(moment).into_values().flatten();
            let newest: BTreeSet<[u8; 16]> = newest.map(|(_, trace)| trace).collect();
            let may_go = |known: &Known| self.is_past(known, moment) && !newest.contains(&known.made.trace);
            let gone: Vec<u64> = self.known.iter().filter(|(_, known)| may_go(known)).map(|(tag, _)| *tag).collect();
            for tag in gone {
                self.known.get_mut(&tag).unwrap().losable = true;
            }
        }
    }

    /// The tags that are in an inbox object.
    fn in_inbox(&self, sight: &Sight) -> BTreeSet<u64> {
        let inbox = sight.others.iter().filter(|(path, _)| path.starts_with("inbox/"));
        inbox.filter_map(|(_, stored)| self.objects.get(&stored.etag)).flatten().copied().collect()
    }

    /// What must hold at every moment: no span is lost, no newest trace is lost.
    pub fn check(&mut self, sight: &Sight, now: Timestamp) -> Vec<String> {
        self.forget_what_may_go(now);
        let mut wrong: Vec<String> = sight.damaged.iter().map(|what| format!("damaged: {what}")).collect();
        let inbox = self.in_inbox(sight);
        let blocks: BTreeSet<u64> = sight.visible("spans").map(|(_, row)| row.tag).collect();
        let entries: BTreeSet<_> =
            sight.visible("entries").map(|(_, row)| (row.trace, row.span, row.handler.as_str())).collect();
        let told = |known: &Known| self.describe(known);
        for (tag, known) in &self.known {
            if self.forgotten.contains(&known.made.trace) || inbox.contains(tag) || self.is_past(known, now) {
                continue;
            }
            if !blocks.contains(tag) {
                wrong.push(format!("lost span: {} is neither in the inbox nor in a visible block", told(known)));
            }
            if known.made.is_entry() {
                let id = self.handler_ids[&known.made.handler()].as_str();
                if !entries.contains(&(known.made.trace, known.made.span, id)) {
                    wrong.push(format!("lost entry: {} is not among the entries of {id}", told(known)));
                }
            }
        }

        let mut pins: BTreeMap<(&str, &str), BTreeSet<u64>> = BTreeMap::new();
        let mut pinned_anywhere: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for pin in &sight.pins {
            pins.entry((&pin.handler, &pin.trace)).or_default().extend(&pin.tags);
            pinned_anywhere.entry(&pin.trace).or_default().extend(&pin.tags);
        }
        for ((id, _), traces) in self.newest(now) {
            for (rank, (_, trace)) in traces.into_iter().enumerate() {
                let hex = hex(&trace);
                let pinned = pins.get(&(id.as_str(), hex.as_str()));
                // A trace that has entered this handler only lately is pinned for it before that entry goes; until then
                // what is gone from the blocks may stand in pins of other handlers alone.
                let enters = |(tag, known): (&u64, &Known)| {
                    let made = &known.made;
                    let stands = inbox.contains(tag) || entries.contains(&(trace, made.span, id.as_str()));
                    made.trace == trace && made.is_entry() && self.handler_ids[&made.handler()] == id && stands
                };
                let elsewhere = pinned_anywhere.get(hex.as_str()).filter(|_| pinned.is_none());
                let elsewhere = elsewhere.filter(|_| self.known.iter().any(enters));
                for (tag, known) in self.known.iter().filter(|(_, known)| known.made.trace == trace) {
                    let found = inbox.contains(tag)
                        || blocks.contains(tag)
                        || pinned.or(elsewhere).is_some_and(|tags| tags.contains(tag))
                        || known.losable;
                    if !found {
                        let what = if pinned.is_some() { "its pin lacks it" } else { "it has no pin" };
                        let told = told(known);
                        wrong.push(format!("newest trace not whole: {id} #{rank} {hex}: {told}, {what}"));
                    }
                }
            }
        }
        for etag in &self.garbage {
            if !sight.others.iter().any(|(path, stored)| &stored.etag == etag && path_keeps_input(path)) {
                wrong.push(format!(
                    "lost input: the unreadable object {etag} is neither in the inbox nor in quarantine"
                ));
            }
        }
        wrong
    }

    /// What holds when one worker has had time and nothing to fear: nothing is left over.
    pub fn check_at_rest(&mut self, sight: &Sight, now: Timestamp) -> Vec<String> {
        let mut wrong = self.check(sight, now);
        wrong.extend(self.check_site(sight, now));
        for path in sight.others.keys().filter(|path| path.starts_with("inbox/")) {
            wrong.push(format!("left over in the inbox: {path}"));
        }
        for block in sight.hidden() {
            wrong.push(format!("left over: {}/{}/{} has been replaced", block.table, block.hour, block.name));
        }
        for block in sight.blocks.iter().filter(|block| block.shard == "all") {
            wrong.push(format!("left over in level 0: {}/{}/{}", block.table, block.hour, block.name));
        }

        let mut rows: BTreeMap<(u64, &str), usize> = BTreeMap::new();
        let mut entry_rows: BTreeMap<([u8; 16], [u8; 8], &str), usize> = BTreeMap::new();
        for block in &sight.blocks {
            for row in &block.rows {
                match block.table.as_str() {
                    "spans" => *rows.entry((row.tag, &block.hour)).or_default() += 1,
                    _ => *entry_rows.entry((row.trace, row.span, &block.hour)).or_default() += 1,
                }
                if self.forgotten.contains(&row.trace) {
                    wrong.push(format!("forgotten, but in {}/{}: trace {}", block.table, block.name, hex(&row.trace)));
                }
            }
        }
        for ((tag, hour), count) in rows.into_iter().filter(|(_, count)| *count > 1) {
            wrong.push(format!("{count} rows: {} in {hour}", self.describe(&self.known[&tag])));
        }
        for ((trace, span, hour), count) in entry_rows {
            let revisions = self.spans().filter(|made| made.trace == trace && made.span == span).count();
            if count > revisions {
                let trace = hex(&trace);
                wrong.push(format!("{count} rows for {revisions} revisions: an entry of {trace} in {hour}"));
            }
        }

        let hour_is_past = |hour: &str| {
            let hour: tracefarm::model::Hour = hour.parse().unwrap();
            let number = i64::from(hour.number());
            let keep_for = self.keep_for.iter().rfind(|(from, _)| *from <= number).unwrap().1;
            number != 0 && hour.end() + keep_for + SignedDuration::from_hours(1) < now
        };
        let mut past: Vec<_> = sight.blocks.iter().filter(|block| hour_is_past(&block.hour)).collect();
        past.dedup_by_key(|block| (block.table.clone(), block.hour.clone()));
        for block in past {
            wrong.push(format!("left over: {}/{} is past", block.table, block.hour));
        }
        let hours: BTreeSet<&str> = sight.blocks.iter().map(|block| block.hour.as_str()).collect();
        for path in sight.others.keys().filter(|path| path.starts_with("farm/pinned/")) {
            if !hours.contains(path.split('/').nth(2).unwrap()) {
                wrong.push(format!("left over: {path}, whose hour has no block"));
            }
        }

        let mut pins: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
        for pin in &sight.pins {
            *pins.entry(&pin.handler).or_default().entry(&pin.trace).or_default() += 1;
            if self.forgotten.iter().any(|trace| hex(trace) == pin.trace) {
                wrong.push(format!("forgotten, but pinned: {} {}", pin.handler, pin.trace));
            }
        }
        let most = self.keep_last.last().unwrap().1;
        for (handler, traces) in pins {
            if traces.len() > most && !handler.contains("/404-") {
                wrong.push(format!("left over: {} pinned traces of {handler}, keep_last is {most}", traces.len()));
            }
            for (trace, versions) in traces.into_iter().filter(|(_, versions)| *versions > 1) {
                wrong.push(format!("left over: {versions} versions of the pin of {trace} for {handler}"));
            }
        }
        for (path, stored) in sight.others.iter().filter(|(path, _)| path.starts_with("site/")) {
            let body = text(path, &stored.body);
            for trace in self.forgotten.iter().filter(|trace| body.contains(&hex(trace.as_slice()))) {
                wrong.push(format!("forgotten, but in {path}: trace {}", hex(trace)));
            }
        }
        wrong
    }

    /// The tags of a trace that a reader who begins now must find: they are in no inbox object any more.
    pub fn readable(&self, trace: [u8; 16], sight: &Sight) -> BTreeSet<u64> {
        let inbox = self.in_inbox(sight);
        let of_trace = self.known.iter().filter(|(_, known)| known.made.trace == trace);
        of_trace.map(|(tag, _)| *tag).filter(|tag| !inbox.contains(tag)).collect()
    }

    /// Those of `tags` that nobody may miss: not forgotten, and not past or of a handler's newest.
    pub fn must_be_seen(&mut self, tags: BTreeSet<u64>, now: Timestamp) -> BTreeSet<u64> {
        self.forget_what_may_go(now);
        let newest: BTreeSet<[u8; 16]> = self.newest(now).into_values().flatten().map(|(_, trace)| trace).collect();
        let stays = |tag: &u64| {
            let known = &self.known[tag];
            let pinned = newest.contains(&known.made.trace) && !known.losable;
            !self.forgotten.contains(&known.made.trace) && (pinned || !self.is_past(known, now))
        };
        tags.into_iter().filter(stays).collect()
    }

    /// How many entries of each handler have not expired at `now`: of revisions one.
    fn entries(&self, now: Timestamp) -> BTreeMap<&str, usize> {
        let mut keys: BTreeMap<&str, BTreeSet<_>> = BTreeMap::new();
        for known in self.known.values().filter(|known| known.made.is_entry() && known.made.service != "odd") {
            if !self.is_past(known, now) && !self.forgotten.contains(&known.made.trace) {
                let id = &self.handler_ids[&known.made.handler()];
                let id = self.aliases.get(id).unwrap_or(id);
                keys.entry(id).or_default().insert((known.made.trace, known.made.span));
            }
        }
        keys.into_iter().map(|(id, keys)| (id, keys.len())).collect()
    }

    /// At rest the list of handlers counts every entry once. It may be somewhat older than the last hour that expired.
    fn check_site(&self, sight: &Sight, now: Timestamp) -> Vec<String> {
        let Some(list) = sight.others.get("site/handlers.json") else {
            return vec!["there is no site/handlers.json at rest".to_owned()];
        };
        let list: serde_json::Value = serde_json::from_slice(&list.body).unwrap();
        let count = |row: &serde_json::Value, id: &str| {
            (row[id].as_str().unwrap().to_owned(), row["count"].as_u64().unwrap_or_default() as usize)
        };
        let each = |name: &str| list[name].as_array().cloned().unwrap_or_default();
        let mut counted: BTreeMap<String, usize> = each("handlers").iter().map(|row| count(row, "id")).collect();
        counted.extend(each("not_found").iter().map(|row| count(row, "handler")));
        let (least, most) = (self.entries(now), self.entries(now - SignedDuration::from_mins(45)));
        let ids: BTreeSet<&str> = counted.keys().map(String::as_str).chain(most.keys().copied()).collect();
        let wrong = ids.into_iter().filter(|id| !id.starts_with("odd/")).filter_map(|id| {
            let counts = |of: &BTreeMap<&str, usize>| of.get(id).copied().unwrap_or_default();
            let (least, most, found) = (counts(&least), counts(&most), counted.get(id).copied().unwrap_or_default());
            let told = format!("site/handlers.json counts {found} entries of {id}, there are {least} to {most}");
            (!(least..=most).contains(&found)).then_some(told)
        });
        wrong.collect()
    }

    fn describe(&self, known: &Known) -> String {
        let Known { made, received, .. } = known;
        let (hour, _) = placed(made, *received);
        let hour = tracefarm::model::Hour::from_number(hour as i32);
        format!("span {} of trace {} ({:?}, {hour}, received {received})", made.tag, hex(&made.trace), made.does)
    }
}

fn path_keeps_input(path: &str) -> bool {
    path.starts_with("inbox/") || path.starts_with("quarantine/")
}

fn text(path: &str, body: &[u8]) -> String {
    use std::io::Read;
    if !path.ends_with(".gz") {
        return String::from_utf8_lossy(body).into_owned();
    }
    let mut text = String::new();
    let read = flate2::read::MultiGzDecoder::new(body).read_to_string(&mut text);
    read.unwrap_or_else(|error| panic!("{path}: {error}"));
    text
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
