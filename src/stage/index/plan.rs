//! Which inbox objects are indexed now: a pure function of a listing.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::farm::strikes::{COMPANY, Deaths};
use crate::store::Object;
use crate::table::view::has_stood;

/// How much larger objects are once decompressed, for want of knowing: gzip'd OTLP grows six- to tenfold.
const GROWTH: u64 = 8;

/// So many objects are worth a worker, however small they are.
const MANY_OBJECTS: usize = 100;

/// What is ready and has not been taken for so long is everybody's.
const LATE: Duration = Duration::from_secs(30);

/// A name that says that its object is not finished is believed for this long; then it has been forgotten.
const UNFINISHED_FOR: Duration = Duration::from_secs(24 * 3600);

/// What the planner is told beyond the listing.
pub struct Facts<'a> {
    /// The store's time.
    pub now: Timestamp,
    /// Objects younger than this are left alone.
    pub settle: Duration,
    /// The same for what a receiver of ours wrote ([`Key::is_received`](crate::store::Key::is_received)). It stands under
    /// its name only when it is whole, and is never written again: nothing is lost if it is indexed while others still grow.
    pub settle_received: Duration,
    /// A batch is begun when its oldest object has waited this long, or when there is enough for a full one.
    pub batch_age: Duration,
    /// `--once`: nothing waits.
    pub once: bool,
    /// Objects that changed later are left (`--once`: what is there when it begins).
    pub until: Option<Timestamp>,
    /// A batch closes at this many decompressed bytes.
    pub batch_bytes: u64,
    /// Whether the ledger has this object.
    pub indexed: &'a dyn Fn(&Object) -> bool,
    /// Whether an object may be tried, or failed lately.
    pub may_try: &'a dyn Fn(&str) -> bool,
    /// How often it failed in a row.
    pub failures: &'a dyn Fn(&str) -> u32,
}

/// What a round of index would do.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Plan {
    /// Objects to index, in key order.
    pub objects: Vec<Item>,
    /// Objects that were in hand, among others, when a worker died: a few at a time.
    pub companies: Vec<Vec<Item>>,
    /// Objects that failed before, or with which workers died again: each indexed alone so that it takes no other with it.
    pub alone: Vec<Item>,
    /// Objects that are not read again, because workers died of them: to the quarantine.
    pub deadly: Vec<Item>,
    /// Objects that are left for now, and why.
    pub left: Vec<Left>,
    /// Whether a batch is due: there is enough for one, or the oldest object has waited for a minute.
    pub due: bool,
    /// When the first of those that are not indexed now will have waited long enough.
    #[serde(skip)]
    pub next: Option<Timestamp>,
    /// Names in the inbox that cannot be keys.
    pub foreign: Vec<String>,
}

/// An inbox object.
#[derive(Clone, Debug, Serialize)]
pub struct Item {
    /// Its path.
    pub path: String,
    /// Its size as stored.
    pub size_bytes: u64,
    /// How many workers died with it in hand, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deaths: Option<Deaths>,
    #[serde(skip)]
    pub(super) object: Object,
}

/// An inbox object that is left alone for now.
#[derive(Clone, Debug, Serialize)]
pub struct Left {
    /// Its path.
    pub path: String,
    /// Why.
    pub why: Why,
}

/// Why an inbox object is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It changed so lately that it may change again.
    Young,
    /// The ledger says that it has been indexed (`--keep-inbox`).
    Indexed,
    /// It failed a moment ago.
    FailedLately,
    /// Its name says that it is being uploaded (`.tmp`, `.part`, a leading dot): left alone for a day.
    Unfinished,
    /// A living peer has it in hand.
    InHand,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Young => "changed a moment ago",
            Self::Indexed => "indexed already",
            Self::FailedLately => "failed a moment ago",
            Self::Unfinished => "its name says that it is being uploaded",
            Self::InHand => "a peer has it in hand",
        })
    }
}

impl Plan {
    /// Sorts `objects` (of one listing, in key order) into those to index and those to leave.
    pub fn new(objects: Vec<Object>, facts: &Facts<'_>) -> Self {
        let mut plan = Self::default();
        for object in objects {
            let path = object.key.path();
            match why_not(&path, &object, facts) {
                // What the ledger has is no news: a kept archive has a million of those.
                Some(Why::Indexed) => {}
                Some(why) => {
                    if why == Why::Young {
                        plan.next = plan.next.into_iter().chain(ready(&object, facts)).min();
                    }
                    plan.left.push(Left { path, why });
                }
                None => {
                    let list = if (facts.failures)(&path) > 0 { &mut plan.alone } else { &mut plan.objects };
                    list.push(Item { path, size_bytes: object.size_bytes, deaths: None, object });
                }
            }
        }
        let oldest = plan.items().map(|item| item.object.modified).min();
        let enough = plan.bytes().saturating_mul(GROWTH) >= facts.batch_bytes;
        plan.due = facts.once || enough || oldest.is_some_and(|oldest| has_waited(oldest, facts.now, facts.batch_age));
        let waiting = oldest.filter(|_| !plan.due).and_then(|oldest| oldest.checked_add(facts.batch_age).ok());
        plan.next = plan.next.into_iter().chain(waiting).min();
        plan
    }

    /// Whether those that are left only have to grow older.
    pub fn only_waits(&self) -> bool {
        self.left.iter().all(|left| matches!(left.why, Why::Young | Why::Unfinished))
    }

    /// Sorts out objects with which workers died: `deaths` says how many, or none if nobody did.
    pub fn judge(&mut self, deaths: impl Fn(&str) -> Option<Deaths>) {
        for item in self.objects.iter_mut().chain(&mut self.alone) {
            item.deaths = deaths(&item.path);
        }
        let mut suspects: Vec<Item> = self.objects.extract_if(.., |item| item.deaths.is_some()).collect();
        let company: Vec<Item> =
            suspects.extract_if(.., |item| item.deaths.is_some_and(Deaths::allow_company)).collect();
        self.companies = company.chunks(COMPANY).map(<[Item]>::to_vec).collect();
        self.alone.append(&mut suspects);
        self.deadly.extend(self.alone.extract_if(.., |item| item.deaths.is_some_and(Deaths::are_deadly)));
        // Who merely was there when a worker died comes before who was there alone: these may kill this one, too.
        self.alone.sort_by_key(|item| item.deaths.map(|deaths| deaths.alone));
    }

    /// Leaves what peers have in hand.
    pub fn leave(&mut self, held: impl Fn(&str) -> bool) {
        let lists = [&mut self.objects, &mut self.alone, &mut self.deadly];
        for list in lists.into_iter().chain(&mut self.companies) {
            let theirs = list.extract_if(.., |item| held(&item.path));
            self.left.extend(theirs.map(|item| Left { path: item.path, why: Why::InHand }));
        }
    }

    /// Everything to index.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.objects.iter().chain(self.companies.iter().flatten()).chain(&self.alone).chain(&self.deadly)
    }

    /// Their bytes as stored.
    pub fn bytes(&self) -> u64 {
        self.items().map(|item| item.size_bytes).sum()
    }
}

/// As [`has_stood`]; no time at all has always passed, however far the clocks are apart.
fn has_waited(since: Timestamp, now: Timestamp, time: Duration) -> bool {
    time.is_zero() || has_stood(since, now, time)
}

fn settle(object: &Object, facts: &Facts<'_>) -> Duration {
    if object.key.is_received() { facts.settle_received } else { facts.settle }
}

/// When an object will have waited long enough.
fn ready(object: &Object, facts: &Facts<'_>) -> Option<Timestamp> {
    object.modified.checked_add(settle(object, facts).max(facts.batch_age)).ok()
}

/// When `objects` are late, if whoever has them does not take them: it may be busy with a merge, or hang. (While an object
/// is left for good, for a newer program, all are late: then everybody has its slice, which costs more and does no harm.)
pub fn late_at(objects: &[Object], facts: &Facts<'_>) -> Option<Timestamp> {
    let waits = objects.iter().filter(|object| !(facts.indexed)(object) && !is_unfinished(&object.key.path()));
    waits.filter_map(|object| ready(object, facts)).min()?.checked_add(LATE).ok()
}

/// Among how many of `peers` a listing of so many objects and bytes is shared out: as many as have a whole batch each, or
/// so many objects that to ask for them takes seconds, and one at least.
///
/// A batch waits for a minute for company because it costs three heartbeats, two blocks and a handful of listings whatever
/// is in it, and each block the readers and mergers of blocks. Were a trickle shared out among twenty, there would be
/// twenty of all that a minute. (And collectors name objects by time: who has the first slice has what is oldest, again
/// and again, and makes a batch of each few seconds.)
///
/// Peers that see other listings do some work twice or leave it to each other until they list again, within a minute.
/// What the first ones do not take, because they are dead or busy, is everybody's as soon as it is late ([`late_at`]).
pub fn sharers(objects: usize, bytes: u64, batch_bytes: u64, peers: usize) -> usize {
    let batches = bytes.saturating_mul(GROWTH) / batch_bytes.max(1);
    let batches = usize::try_from(batches).unwrap_or(usize::MAX);
    batches.max(objects / MANY_OBJECTS).clamp(1, peers.max(1))
}

fn why_not(path: &str, object: &Object, facts: &Facts<'_>) -> Option<Why> {
    let unfinished = is_unfinished(path) && !has_stood(object.modified, facts.now, UNFINISHED_FOR);
    let young = match facts.until {
        Some(until) => object.modified > until,
        None => !facts.once && !has_waited(object.modified, facts.now, settle(object, facts)),
    };
    if (facts.indexed)(object) {
        Some(Why::Indexed)
    } else if unfinished {
        Some(Why::Unfinished)
    } else if young {
        Some(Why::Young)
    } else if !(facts.may_try)(path) {
        Some(Why::FailedLately)
    } else {
        None
    }
}

/// Whether a name says that its object is being written and will get another: what uploaders and `rsync` do.
fn is_unfinished(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    name.starts_with('.') || name.ends_with('~') || matches!(ending, "tmp" | "temp" | "part" | "partial")
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, bytes) = (self.items().count(), bytesize::ByteSize(self.bytes()));
        let when = if self.due || count == 0 { "" } else { ", once the oldest has waited for a minute" };
        writeln!(f, "index: {count} objects, {bytes}{when}")?;
        for item in self.items() {
            writeln!(f, "  index {} ({})", item.path, bytesize::ByteSize(item.size_bytes))?;
        }
        for left in &self.left {
            writeln!(f, "  leave {}: {}", left.path, left.why)?;
        }
        self.foreign.iter().try_for_each(|path| writeln!(f, "  leave {path:?}: not a name that can be read back"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::farm::strikes::DEADLY;
    use crate::store::Key;

    fn object(path: &str, modified: i64) -> Object {
        let key = Key::Inbox(path.to_owned());
        Object { key, size_bytes: 100, modified: Timestamp::from_second(modified).unwrap(), etag: "e".to_owned() }
    }

    fn facts(now: i64) -> Facts<'static> {
        Facts {
            now: Timestamp::from_second(now).unwrap(),
            settle: Duration::from_secs(10),
            settle_received: Duration::from_secs(10),
            batch_age: Duration::from_secs(60),
            once: false,
            until: None,
            batch_bytes: 1 << 20,
            indexed: &|_| false,
            may_try: &|_| true,
            failures: &|_| 0,
        }
    }

    #[test]
    fn a_suspect_is_indexed_alone_and_its_third_lonely_death_is_enough() {
        let listing = ["a", "b", "c", "d", "e"].map(|path| object(path, 1_000)).to_vec();
        let deaths = |path: &str| match path {
            "inbox/b" => Some(Deaths { alone: DEADLY - 1, in_company: 1 }),
            "inbox/c" | "inbox/e" => Some(Deaths { alone: 0, in_company: 2 }),
            "inbox/d" => Some(Deaths { alone: DEADLY, in_company: 2 }),
            _ => None,
        };
        let mut plan = Plan::new(listing, &facts(1_100));
        plan.judge(deaths);
        let paths = |items: &[Item]| items.iter().map(|item| item.path.clone()).collect::<Vec<_>>();
        assert_eq!(
            (paths(&plan.objects), paths(&plan.deadly)),
            (vec!["inbox/a".to_owned()], vec!["inbox/d".to_owned()])
        );
        assert_eq!(paths(&plan.alone), ["inbox/c", "inbox/e", "inbox/b"]);
        plan.leave(|path| ["inbox/a", "inbox/d", "inbox/e"].contains(&path));
        assert_eq!(plan.items().map(|item| item.path.as_str()).collect::<Vec<_>>(), ["inbox/c", "inbox/b"]);
        assert!(plan.left.iter().all(|left| left.why == Why::InHand) && plan.left.len() == 3);
    }

    #[test]
    fn who_died_among_others_once_is_indexed_a_few_at_a_time() {
        let listing: Vec<Object> = (0..40).map(|n| object(&format!("{n:02}"), 1_000)).collect();
        let mut plan =
            Plan::new(listing.clone(), &Facts { failures: &|path| u32::from(path.ends_with("00")), ..facts(1_100) });
        plan.judge(|path| (path != "inbox/39").then_some(Deaths { alone: 0, in_company: 1 }));
        let sizes: Vec<usize> = plan.companies.iter().map(Vec::len).collect();
        assert_eq!(
            (plan.objects.len(), sizes, plan.alone.len()),
            (1, vec![COMPANY, COMPANY, 6], 1),
            "what failed is alone"
        );
        assert_eq!(plan.items().count(), listing.len());
        plan.leave(|path| path != "inbox/20");
        assert_eq!(plan.items().map(|item| item.path.as_str()).collect::<Vec<_>>(), ["inbox/20"]);
    }

    #[test]
    fn an_object_settles_and_a_batch_waits_a_minute_for_company() {
        let listing = || vec![object("a", 1_000), object("b", 1_030)];
        let plan = Plan::new(listing(), &facts(1_035));
        assert_eq!((plan.objects.len(), plan.left.len(), plan.due), (1, 1, false));
        assert_eq!(plan.left[0].why, Why::Young);
        let second = |second| Timestamp::from_second(second).ok();
        assert_eq!(plan.next, second(1_060), "when the first has waited for a minute");
        let plan = Plan::new(listing(), &facts(1_060));
        assert_eq!((plan.objects.len(), plan.due, plan.next), (2, true, None));
        let plan = Plan::new(listing(), &Facts { settle: Duration::from_secs(90), ..facts(1_095) });
        assert_eq!((plan.objects.len(), plan.due, plan.next), (1, true, second(1_120)), "when it has settled");
        let plan = Plan::new(listing(), &Facts { batch_bytes: 1_600, ..facts(1_045) });
        assert!(plan.due, "enough for a batch");
        let plan = Plan::new(listing(), &Facts { once: true, ..facts(1_000) });
        assert_eq!((plan.objects.len(), plan.due), (2, true), "nothing waits");
        let eager = Facts {
            settle: Duration::ZERO,
            settle_received: Duration::ZERO,
            batch_age: Duration::ZERO,
            ..facts(1_000)
        };
        let plan = Plan::new(listing(), &eager);
        assert_eq!((plan.objects.len(), plan.due), (2, true), "also what is dated after the clock");
    }

    #[test]
    fn a_listing_is_shared_by_as_many_as_have_a_batch_each() {
        let batches = |batches: u64| batches * (1 << 20) / GROWTH;
        let cases = [
            (1, 0, 20, 1),
            (1, batches(1), 20, 1),
            (9, batches(3) + 5, 20, 3),
            (9, batches(30), 20, 20),
            (9, u64::MAX, 0, 1),
            (399, batches(1), 20, 3),
        ];
        for (objects, bytes, peers, expected) in cases {
            assert_eq!(sharers(objects, bytes, 1 << 20, peers), expected, "{objects}, {bytes} bytes, {peers} peers");
        }
        assert_eq!(sharers(1, 1, 0, 20), 8);
    }

    #[test]
    fn what_a_receiver_wrote_does_not_wait_for_those_that_grow() {
        let name = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let growing = ["traces.json", "received/traces.otlp.zst", &format!("received/{name}.json")];
        let all = growing
            .iter()
            .chain(&[format!("received/{name}.otlp.zst").as_str()])
            .map(|path| object(path, 1_000))
            .collect();
        let plan = Plan::new(all, &Facts { settle: Duration::from_secs(300), ..facts(1_020) });
        let paths: Vec<_> = plan.objects.iter().map(|item| item.path.as_str()).collect();
        assert_eq!(paths, [format!("inbox/received/{name}.otlp.zst")]);
        assert_eq!(plan.left.len(), growing.len());
    }

    #[test]
    fn what_is_not_to_be_indexed_now_is_left() {
        let listing = vec![object("x/.hidden", 0), object("x/up.gz.tmp", 0), object("_SUCCESS", 0), object("tmp", 0)];
        let plan = Plan::new(listing.clone(), &facts(1_000));
        let left: Vec<_> = plan.left.iter().map(|left| left.why).collect();
        assert_eq!(left, [Why::Unfinished, Why::Unfinished]);
        assert_eq!(Plan::new(listing.clone(), &facts(100_000)).objects.len(), 4, "forgotten uploads");
        let plan = Plan::new(listing.clone(), &Facts { indexed: &|_| true, ..facts(100_000) });
        assert!(plan.objects.is_empty() && plan.left.is_empty());
        let plan = Plan::new(listing.clone(), &Facts { may_try: &|_| false, ..facts(100_000) });
        assert_eq!(plan.left.len(), 4);
        let plan = Plan::new(listing, &Facts { failures: &|path| u32::from(path.ends_with("tmp")), ..facts(100_000) });
        assert_eq!((plan.objects.len(), plan.alone.len()), (2, 2));
    }
}
