//! inbox → level 0: objects are fetched, decoded, sorted and written as blocks; then they leave the inbox.
//!
//! The order of the writes is the promise: spans blocks, then entries blocks, then the quarantine, then the inbox (or the
//! ledger). A worker that dies between any two leaves the objects in the inbox. They are indexed again, and rule 3 makes
//! equal rows one; if all blocks of its batch stand, whoever finds it dead removes them instead
//! ([`Intent`]). Nothing is remembered from one round to the next but what failed lately.
//!
//! What becomes of which object:
//!
//! | object | |
//! | --- | --- |
//! | spans only | indexed, deleted |
//! | spans and bad parts | the spans indexed; the whole object, as it was, and an error document in the quarantine; deleted |
//! | nothing readable | the same, without spans |
//! | empty, blank lines, `{}` | deleted: there is nothing in it to keep |
//! | cut while it was fetched | left; what came of it may stand in a block already |
//! | gone or written over since the listing | what the GET says counts; gone is fine |
//! | changed since the GET | indexed, left: it is indexed again |
//! | in the hand of a living peer | left to it |
//! | a local file that some process holds open | left until it is closed |
//! | in hand when a worker died, and all blocks of its batch stand | deleted |
//! | in hand when a worker died otherwise | indexed with few others; when another died, alone |
//! | in hand, alone, when a third worker died | to the quarantine, unread |
//! | named like an unfinished upload (`.tmp`, `.part`, a leading dot) | left for a day, then as any other |
//! | spans of an hour with handler rules of a newer program | left, whole, and reported |

mod batch;
mod body;
pub mod plan;
mod write;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

pub use plan::{Facts, Plan};

use self::batch::{Batch, Intake, Source, Terms};
use self::plan::Item;
use self::write::{Blocks, Gone};
use super::item::{is_over_budget, item};
use super::{CLOCKS_DIFFER, Desk, Fence, Fenced, Round, StageReport, forget, lanes};
use crate::error::{Report, Result, bail, report, store_kind};
use crate::farm::Settings;
use crate::farm::intent::Intent;
use crate::farm::record::Backlog;
use crate::farm::settings::Span;
use crate::farm::strikes::{self, Hands, Held};
use crate::otlp::Limits;
use crate::otlp::bad::{BadPart, reason};
use crate::otlp::redact::Redact;
use crate::store::{Key, Listing, Object, Prefix, Stage};

/// One listing is at most this many pages of 1000: a backlog is worked off from its first keys on.
pub(crate) const LISTED_OBJECTS: usize = 100_000;

/// A listing is worked through for at most this long; then what came since is looked at, too.
pub(crate) const LISTING_LASTS: Duration = Duration::from_secs(60);

/// Settings older than this are not indexed by: a change of `shards` or `rules` counts two hours ahead, so that every
/// worker has it in time.
pub(crate) const SETTINGS_LAST: Duration = Duration::from_secs(300);

/// The item of a batch that took longer than its budget.
const BATCH: &str = "a batch of inbox objects";

/// Under this name the setbacks count batches that were too slow: each halves the next ones.
const SLOW_BATCH: &str = "index: a batch";

/// Lists the inbox and says what a round would do with my slice of it. Changes nothing.
pub async fn plan(desk: &Desk, round: &Round) -> Result<Plan> {
    Ok(list(desk, round).await?.0)
}

async fn list(desk: &Desk, round: &Round) -> Result<(Plan, Listing)> {
    let Some(now) = desk.store_clock().now() else {
        bail!("the store's time is not known yet: the first heartbeat is missing");
    };
    let keep = desk.inbox.keep;
    if keep {
        // Before the listing: a page that another worker writes after it speaks of objects that may not be on it.
        round.ledger.refresh(desk).await?;
    }
    // A kept inbox only grows, and what has been indexed stands before what is new: all of it is listed.
    let listed = match keep {
        true => desk.inbox.store.list(&Prefix::Inbox).await?,
        false => desk.inbox.store.list_some(&Prefix::Inbox, None, LISTED_OBJECTS).await?,
    };
    let objects: Vec<Object> = listed.objects.iter().filter(|o| matches!(o.key, Key::Inbox(_))).cloned().collect();
    let waits = objects.iter().filter(|object| !(keep && round.ledger.has(object)));
    desk.heart.record().waits(Backlog { kept: keep, ..Backlog::of(waits, listed.began, listed.more) });
    let settle = if desk.inbox.grows() { desk.settings.settle_growing } else { desk.settings.settle };
    let settles = |setting: Span| desk.pace.settle.unwrap_or(setting.0);
    let facts = Facts {
        now,
        settle: settles(settle),
        settle_received: settles(desk.settings.settle),
        batch_age: desk.pace.batch_age,
        once: desk.once,
        until: round.until,
        batch_bytes: desk.settings.batch_bytes,
        indexed: &|object| keep && round.ledger.has(object),
        may_try: &|path| round.setbacks.may_try(path),
        failures: &|path| round.setbacks.times(path),
    };
    let bytes = objects.iter().map(|object| object.size_bytes).sum();
    let late_at = plan::late_at(&objects, &facts);
    let weight = |object: &Object| object.size_bytes;
    let mine = match late_at {
        _ if desk.once => round.slice(objects, weight),
        // From the other end: those who had it are not to be waited for.
        Some(late_at) if late_at <= now => round.reversed().slice(objects, weight),
        _ => {
            let sharers = plan::sharers(objects.len(), bytes, facts.batch_bytes, round.peers);
            round.slice_among(sharers, objects, weight)
        }
    };
    let mut plan = Plan::new(mine, &facts);
    plan.next = plan.next.into_iter().chain(late_at.filter(|late_at| *late_at > now)).min();
    plan.foreign.clone_from(&listed.foreign);
    // Only when something is to be read.
    if plan.due && plan.items().next().is_some() {
        let ids = plan.items().map(|item| strikes::object_id(&item.path)).collect();
        let deaths = round.strikes.of(&desk.store, &ids).await?;
        plan.judge(|path| deaths.get(&strikes::object_id(path)).copied());
        if let Some(held) = held(round) {
            let held = held.by_others(&desk.heart, &desk.store).await?;
            plan.leave(|path| held.contains(path));
        }
    }
    Ok((plan, listed))
}

/// What peers have in hand counts where there are some; a run that finishes their part does not wait for them.
fn held(round: &Round) -> Option<Held> {
    (round.peers > 1).then(|| round.held.clone())
}

/// Indexes my slice of one listing of the inbox, batch by batch, for at most a minute (`--once`: to its end).
///
/// # Errors
/// When nothing can be indexed: the settings are too old, the store does not answer.
pub async fn run(desk: &Desk, round: &Round) -> Result<StageReport> {
    let started = desk.clock.monotonic();
    if started.saturating_sub(desk.settings_read) > SETTINGS_LAST {
        bail!("the settings were last read more than 5 minutes ago: nothing is indexed by them");
    }
    let fence = Fence::begin(desk);
    let (plan, listed) = list(desk, round).await?;
    let left = plan.left.len() as u64;
    let rests_until = plan.only_waits().then(|| rests_until(desk, &plan, &listed, started)).flatten();
    let mut report = StageReport { skipped: left, ..StageReport::default() };
    if desk.inbox.keep && !listed.more {
        report.deleted += round.ledger.forget_gone(desk, &listed.objects, &fence).await?;
    }
    if plan.items().next().is_none() || !plan.due {
        report.rests_until = rests_until;
        return Ok(report);
    }
    if !round.setbacks.may_try(BATCH) {
        report.skipped += plan.items().count() as u64;
        return Ok(report);
    }
    round.monitor.begin(Stage::Index, plan.items().count() as u64, plan.bytes());
    let suspects = plan.items().filter(|item| item.deaths.is_some()).map(|item| item.path.clone()).collect();
    let indexer = Indexer { desk, round, terms: terms(desk, round).await?, started, suspects };
    let outcome = indexer.all(plan, &mut report).await;
    round.monitor.end(Stage::Index);
    outcome?;
    report.more |= listed.more;
    if !report.more && report.failed.is_empty() && report.skipped == left {
        report.rests_until = rests_until;
    }
    Ok(report)
}

/// Until when nothing of a listing that was begun at `listed` can be due once `plan` is done: what comes later waits for
/// a minute, too. As there may be enough for a batch sooner, whoever has some of it looks again after half of one for each
/// page of the listing (it is the long ones that cost). An eager worker does not rest.
///
/// What a peer does not take until it is late is looked at when it is. If the peers change, everybody looks at once.
fn rests_until(desk: &Desk, plan: &Plan, listing: &Listing, listed: Duration) -> Option<Duration> {
    let age = desk.pace.batch_age;
    let now = desk.store_clock().now().filter(|_| !age.is_zero())?;
    let pages = listing.objects.len() as u32 / 1000 + 1;
    let has_some = plan.items().next().is_some() || !plan.left.is_empty();
    let again = listed + if has_some { age.min(desk.pace.longest_pause * pages) } else { age };
    let due = plan.next.map(|next| Duration::try_from(next.duration_since(now)).unwrap_or_default() + CLOCKS_DIFFER);
    Some(due.map_or(again, |due| again.min(desk.clock.monotonic() + due)))
}

/// Decompressed bytes of a batch, at most, with so much memory: a batch is its rows as they come, once more sorted, and
/// the blocks made of them.
pub(crate) fn batch_bytes(settings: &Settings, memory_bytes: usize) -> u64 {
    settings.batch_bytes.min(memory_bytes as u64 / 6)
}

/// What the rows of a batch take in memory, at most.
pub(crate) fn rows_bytes(memory_bytes: usize) -> usize {
    memory_bytes / 4
}

async fn terms(desk: &Desk, round: &Round) -> Result<Terms> {
    let settings = desk.settings.clone();
    let memory = desk.memory_bytes;
    let batch_bytes = batch_bytes(&settings, memory) >> round.setbacks.times(SLOW_BATCH).min(10);
    Ok(Terms {
        redact: Redact::new(&settings.redact_drop, &settings.redact_hash)?,
        limits: Limits { message_bytes: settings.max_message_bytes as usize, ..Limits::default() },
        forget: Arc::new(forget::traces(desk).await?),
        settings,
        batch_bytes: batch_bytes.max(1 << 20),
        rows_bytes: rows_bytes(memory),
        fetched_bytes: memory / 16,
    })
}

/// One round at work.
struct Indexer<'a> {
    desk: &'a Desk,
    round: &'a Round,
    terms: Terms,
    started: Duration,
    /// Objects that have strikes.
    suspects: HashSet<String>,
}

impl Indexer<'_> {
    async fn all(&self, plan: Plan, report: &mut StageReport) -> Result<()> {
        let (heart, store) = (&self.desk.heart, &self.desk.store);
        let hands = |items: &[Item]| {
            let paths = items.iter().map(|item| item.path.clone());
            Hands::new(heart, store, held(self.round), paths)
        };
        let in_hand = hands(&plan.objects);
        self.batches(plan.objects, in_hand, report).await?;
        for company in plan.companies {
            let in_hand = hands(&company);
            self.batches(company, in_hand, report).await?;
        }
        for item in plan.alone {
            if self.is_over(report) {
                return Ok(());
            }
            let in_hand = match item.deaths {
                Some(_) => Hands::of_suspect(heart, store, held(self.round), &item.path),
                None => hands(std::slice::from_ref(&item)),
            };
            self.batches(vec![item], in_hand, report).await?;
        }
        for item in plan.deadly {
            if self.is_over(report) {
                return Ok(());
            }
            self.convict(item, report).await;
        }
        Ok(())
    }

    /// Puts an object that killed workers into the quarantine, unread.
    async fn convict(&self, item: Item, report: &mut StageReport) {
        let fence = Fence::begin(self.desk);
        let deaths = item.deaths.unwrap_or_default().alone;
        let message = format!(
            "{deaths} workers died, one after the other, while they had nothing but this object in hand: it is not read \
             again. Put it back into the inbox to try it with a newer program, or with more memory"
        );
        self.round.warn(&self.desk.clock, Stage::Index, &format!("{} goes to quarantine: {message}", item.path));
        let bad = vec![BadPart { reason: reason::DEADLY, at: "the object".to_owned(), message }];
        let source = Source { object: item.object, whole: None, bad, bad_count: 1, spans: 0 };
        self.finish(&fence, vec![source], report).await;
    }

    async fn batches(&self, items: Vec<Item>, mut in_hand: Hands, report: &mut StageReport) -> Result<()> {
        let mut intake = Intake::new(self.desk.inbox.store.clone(), items, self.terms.clone());
        while !self.is_over(report) {
            // Each batch is an item of its own: what it deletes was decided by the answers that delivered its bytes
            // (asked again at the delete) and by blocks that it wrote itself.
            let fence = Fence::begin(self.desk);
            let batch = async {
                let Some(batch) = intake.next(&mut in_hand).await? else { return Ok(false) };
                if self.round.is_stopped() {
                    return Ok(false);
                }
                self.batch(&mut intake, &mut in_hand, batch, &fence, report).await?;
                Ok(true)
            };
            match item(&self.desk.clock, BATCH, self.terms.batch_bytes, batch).await {
                Ok(true) => self.round.setbacks.done(BATCH),
                Ok(false) => break,
                // What it had fetched is in the inbox, whatever it has written of it; its other objects are not begun.
                Err(cause) if is_over_budget(&cause) => {
                    self.round.setbacks.failed(SLOW_BATCH);
                    self.fail(report, BATCH.to_owned(), cause);
                    break;
                }
                Err(cause) => {
                    // The worker goes on with other work: what it dies of then, these did not do. If they cannot be put
                    // down either, that is the same trouble, and the round ends with it.
                    let _ = in_hand.empty().await;
                    return Err(cause);
                }
            }
            in_hand.put_down(intake.open_path());
        }
        in_hand.empty().await
    }

    fn is_over(&self, report: &mut StageReport) -> bool {
        let late = !self.desk.once && self.desk.clock.monotonic() - self.started > LISTING_LASTS;
        report.more |= late;
        late || self.round.is_stopped() || !self.round.setbacks.may_try(BATCH)
    }

    async fn batch(
        &self,
        intake: &mut Intake,
        in_hand: &mut Hands,
        batch: Batch,
        fence: &Fence,
        report: &mut StageReport,
    ) -> Result<()> {
        let Batch { rows, sources, failed, bytes_in, vanished, held } = batch;
        for path in held {
            self.round.setbacks.failed(&path);
            report.skipped += 1;
        }
        for failure in failed {
            self.round.setbacks.failed(&failure.item);
            report.failed.push(failure);
        }
        let count = rows.num_rows() as u64;
        // Its objects could not be deleted any more (or not be noted), and are indexed again: its blocks would only be
        // rows that stand twice.
        if let Err(fenced) = fence.allows_delete() {
            self.fenced(&fenced, report);
            report.skipped += sources.len() as u64;
            intake.give_up_open();
            return Ok(());
        }
        let written = async {
            // What a suspect is to be blamed for must not happen while it is said to be innocent.
            let at_a_time = if in_hand.are_alone() { 1 } else { lanes() };
            let mut blocks = Blocks::new(self.desk, rows, at_a_time).await?;
            while blocks.encode(self.desk.memory_bytes / 16).await? {
                in_hand.intend(None).await?;
                blocks.write_spans(self.desk).await?;
                in_hand.fear().await?;
            }
            in_hand.intend(self.intent(&blocks, &sources)).await?;
            blocks.write_spans(self.desk).await?;
            blocks.write_entries(self.desk).await?;
            Ok(blocks)
        };
        match written.await {
            Ok(blocks) => {
                report.bytes_out += blocks.bytes;
                report.traces += blocks.traces;
                report.handlers.extend(blocks.handlers);
            }
            // The store's trouble is everybody's: the round ends, and its objects are not to blame.
            Err(report) if store_kind(&report).is_some() => return Err(report),
            // Something in these rows cannot be written. Next time each object is tried alone, so that the others get
            // through.
            Err(cause) => {
                let finished = sources.into_iter().map(|source| source.object.key.path());
                for path in finished.chain(intake.give_up_open()) {
                    self.fail(report, path, report!("sort and write its rows: {cause}"));
                }
                return Ok(());
            }
        }
        // An object that goes on in the next batch has rows in this one, and that batch has a fence of its own.
        if fence.allows_delete().is_err() {
            intake.give_up_open();
        }
        report.rows_in += count;
        report.rows_out += count;
        report.bytes_in += bytes_in;
        report.skipped += vanished;
        self.finish(fence, sources, report).await;
        Ok(())
    }

    /// What peers are to know should this worker die now. A bad object goes to the quarantine first, and one of a kept inbox
    /// to the ledger: those are done again.
    fn intent(&self, blocks: &Blocks, sources: &[Source]) -> Option<Intent> {
        let leave = sources.iter().filter(|source| source.bad_count == 0 && !self.desk.inbox.keep);
        Intent::new(&blocks.keys, leave.map(|source| &source.object))
    }

    /// What is left to do for objects whose rows are durable.
    async fn finish(&self, fence: &Fence, sources: Vec<Source>, report: &mut StageReport) {
        let bytes: u64 = sources.iter().map(|source| source.object.size_bytes).sum();
        let objects = sources.len() as u64;
        let mut late = None;
        for (object, gone) in write::finish(self.desk, &self.round.ledger, fence, sources).await {
            let path = object.key.path();
            match gone {
                Gone::Done => {
                    self.desk.heart.record().indexed(&object);
                    self.round.setbacks.done(&path);
                    report.done += 1;
                    report.deleted += u64::from(!self.desk.inbox.keep);
                    // Not before: an object that was not reached, or is still there, has proved nothing. Strikes that
                    // stay because we die here are swept a day later.
                    if self.suspects.contains(&path)
                        && let Err(cause) = strikes::forgive(&self.desk.store, &path).await
                    {
                        report.fail(path, cause);
                    }
                }
                // Not to be read again in a loop while somebody goes on writing it.
                Gone::Stays => {
                    self.round.setbacks.failed(&path);
                    report.skipped += 1;
                }
                Gone::Late(fenced) => {
                    late = Some(fenced);
                    report.skipped += 1;
                }
                Gone::Failed(cause) => self.fail(report, path, cause),
            }
        }
        if let Some(fenced) = late {
            self.fenced(&fenced, report);
        }
        self.round.monitor.advance(Stage::Index, objects, bytes);
    }

    fn fail(&self, report: &mut StageReport, path: String, cause: Report) {
        self.round.setbacks.failed(&path);
        report.fail(path, cause);
    }

    /// The objects of a batch that was too slow stay and are indexed again, in smaller batches.
    fn fenced(&self, fenced: &Fenced, report: &mut StageReport) {
        if let Fenced::Late { .. } = fenced {
            self.round.setbacks.failed(SLOW_BATCH);
        }
        report.more = true;
        let message = format!("inbox objects that have been indexed stay for now: {fenced}");
        self.round.warn(&self.desk.clock, Stage::Index, &message);
    }
}
