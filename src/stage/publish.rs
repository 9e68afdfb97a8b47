//! publish: entries, spans, latest → `site/` (see [`document`] for what stands there).
//!
//! A shard of the handlers (by the hash of their ids, and the number of shards that counts now) is a *part*. A part is
//! stale when the listing says other things than it was made from ([`MadeFrom`](document::MadeFrom)). Then the digests of
//! visible blocks are joined, and of each handler is told whether anything that its documents are made of changed; only
//! those are written, some dozens to hundreds together ([`chunk`]). The part is written last: it names what it was made from
//! and each document's etag. What there was no time for waits for the next round, and the part stays stale.
//! A farm that takes in millions of spans a second has so many blocks as indexed that not all of them are asked for every
//! trace: what of a trace is shown only when it has been merged says [`plan::Near`].
//! Then come the extras that a user's own program makes of handlers ([`extras`]). Rank 0 joins the parts to
//! `site/handlers.json`, and sees to it that the pages of this version stand ([`assets`]).
//!
//! All of it is derived and may be written over (rule 7). If the process dies anywhere, or two publish the same part at
//! once, a part and its documents may not belong together: the etags tell, and the part is made again. Nothing is
//! written by a listing older than half the grace. What is to be forgotten is left out of everything that is written
//! after its tombstone, and the tombstone makes every part stale.

mod assets;
mod calls;
pub(crate) mod chunk;
mod command;
pub mod document;
pub mod extras;
pub mod farm;
pub mod folder;
mod list;
mod listed;
mod pages;
mod part;
pub mod plan;
mod standing;
pub mod summary;
mod traces;

use std::collections::{BTreeSet, HashSet};

use std::time::Duration;

use jiff::Timestamp;

use self::listed::Listed;
pub use self::pages::Pages;
use self::pages::{Left, Written};
use super::item::item;
use super::{Desk, Fence, Round, StageReport};
use crate::error::{Result, ResultExt};
use crate::model::{Hour, Shard, Table, TraceId};
use crate::query::forgotten;
use crate::query::pin::Pins;
use crate::store::layout::SiteKey;
use crate::store::{Key, Prefix, Stage, Store};
use crate::table::view::{Scope, View};

/// One round: the parts of my slice that are due and stale, then, at rank 0, the list. What failed is in the report.
pub async fn run(desk: &Desk, round: &Round) -> Result<StageReport> {
    let desk = desk.for_stage(Stage::Publish);
    let mut done = StageReport::default();
    // Objects are dated by the store, never moved by `--now`.
    let (Some(now), Some(unmoved)) = (desk.store_clock().now(), desk.store_clock().unmoved()) else {
        done.skipped += 1;
        return Ok(done);
    };
    let count = *desk.settings.shards.at(Hour::of(now));
    let written = round.pages.written(&desk.store).await?;
    let every = desk.pace.publish_every;
    let every = every.unwrap_or_else(|| plan::publish_every(&desk.settings, written.handlers(count)));
    let began = desk.clock.monotonic();
    let looked = round.pages.looked(began);
    let ages = written.parts.iter().map(|(shard, (object, _))| {
        let age = Duration::try_from(unmoved.duration_since(object.modified)).unwrap_or_default();
        (*shard, looked.get(shard).map_or(age, |looked| age.min(*looked)))
    });
    // There was not time enough for all of them: they are due at once.
    let left = round.pages.left(Left::Pages).into_iter().map(|shard| (shard, Duration::MAX));
    let mine = round.slice(Shard::all(count).collect(), |_| 1);
    // Extras are left over only from parts that were looked at before.
    let mut extras = round.pages.left(Left::Extras);
    extras.retain(|shard| mine.contains(shard));
    let due = plan::due(mine, &ages.chain(left).collect(), every, desk.once);
    extras.extend(&due);
    round.monitor.begin(Stage::Publish, due.len() as u64, 0);
    if !due.is_empty() && !round.is_stopped() {
        let mut listed = None;
        for shard in due {
            let name = part::item(shard);
            if round.is_stopped() || !round.setbacks.may_try(&name) {
                done.skipped += 1;
                continue;
            }
            // Listed anew when the parts before took half of the time for which a listing is good.
            let ground = match listed.take_if(|ground: &mut Ground| !ground.fence.is_half_spent()) {
                Some(ground) => ground,
                None => Ground::list(&desk, count).await.context("list what pages are made from")?,
            };
            let ground = listed.insert(ground);
            let work = part::publish(&desk, &round.pages, ground, &written, shard);
            match item(&desk.clock, &name, ground.bytes(), work).await {
                Ok(report) => {
                    round.pages.leave(Left::Pages, shard, report.more);
                    if report.failed.is_empty() {
                        round.pages.look(shard, began);
                        round.setbacks.done(&name);
                    } else {
                        round.setbacks.failed(&name);
                    }
                    done.add(report);
                }
                Err(report) => {
                    round.setbacks.failed(&name);
                    done.fail(name, report);
                }
            }
            round.monitor.advance(Stage::Publish, 1, 0);
        }
    }
    round.monitor.end(Stage::Publish);
    let has_extras = !desk.settings.publish_command.is_empty() || written.has_extras();
    if has_extras && !extras.is_empty() && !round.is_stopped() {
        done.add(extras::run(&desk, round, &extras).await?);
    }
    if round.rank == 0 && !round.is_stopped() {
        // Parts that were written just now are not on the listing.
        let written = (!done.did_something()).then_some(written);
        let name = "publish site/handlers.json";
        let mut is_new = false;
        match item(&desk.clock, name, 0, list::publish(&desk, &round.pages, count, now, written)).await {
            Ok(report) => {
                is_new = report.did_something();
                done.add(report);
            }
            Err(report) => done.fail(name, report),
        }
        let name = "publish site/farm.json";
        match item(&desk.clock, name, 0, farm::publish(&desk, &round.pages, is_new, unmoved)).await {
            Ok(report) => done.add(report),
            Err(report) => done.fail(name, report),
        }
        let name = "publish site/index.html";
        match item(&desk.clock, name, 0, assets::publish(&desk, &round.pages, unmoved)).await {
            Ok(report) => done.add(report),
            Err(report) => done.fail(name, report),
        }
    }
    Ok(done)
}

/// Which parts a round would look at and which of them are stale, in words: what `run --dry-run` prints. Reads only.
pub async fn dry_run(desk: &Desk) -> Result<Vec<String>> {
    let desk = desk.for_stage(Stage::Publish);
    let Some(now) = desk.store_clock().now() else {
        return Ok(vec!["publish: the store's time is not known yet".to_owned()]);
    };
    let count = *desk.settings.shards.at(Hour::of(now));
    let written = Pages::default().written(&desk.store).await?;
    let ground = Ground::list(&desk, count).await?;
    let mut lines = Vec::new();
    for shard in Shard::all(count) {
        let made_from = part::made_from(&desk, &ground, &written, shard);
        let part = written.part(shard);
        if plan::is_stale(part, &made_from) {
            lines.push(format!("publish: {shard}"));
        }
        let extras = part.map_or(0, |part| extras::count_due(&desk, part, &ground.site));
        if extras > 0 {
            lines.push(format!("publish: extras of {extras} handlers of {shard}"));
        }
    }
    Ok(lines)
}

/// Makes every page stale (`tracefarm rebuild`): without its part no document counts as made. The pages stay until the
/// workers have made them again; how many parts there were.
pub async fn rebuild(store: &Store) -> Result<u64> {
    let parts = store.list(&Prefix::Parts).await?;
    for part in &parts.objects {
        store.delete(&part.key).await?;
    }
    Ok(parts.objects.len() as u64)
}

/// Deletes the documents that hold one of `traces` alone, and those that no part names (they may hold it, and nobody will
/// write them anew): `forget`'s part for `site/`. Documents that hold it with others are written anew by the next round,
/// because the tombstone makes their parts stale.
pub async fn forget(desk: &Desk, traces: &BTreeSet<TraceId>, fence: &Fence) -> Result<u64> {
    let mut deleted = 0;
    for trace in traces {
        let key = Key::Site(SiteKey::Trace(*trace));
        if desk.store.head(&key).await.is_ok() {
            fence.allows_delete()?;
            desk.store.delete(&key).await?;
            deleted += 1;
        }
    }
    if let Some(now) = desk.store_clock().now() {
        let count = *desk.settings.shards.at(Hour::of(now));
        deleted += list::tidy(desk, fence, &Pages::default().written(&desk.store).await?, count, now).await?.deleted;
    }
    Ok(deleted)
}

/// What all parts are made from, as it was listed.
struct Ground {
    /// How long that can be relied on.
    fence: Fence,
    /// How many shards there are now.
    count: u16,
    entries: View,
    spans: View,
    pins: Pins,
    forgotten: HashSet<TraceId>,
    site: Listed,
    /// Where traces are looked for in blocks as indexed.
    near: Option<plan::Near>,
}

impl Ground {
    async fn list(desk: &Desk, count: u16) -> Result<Self> {
        let fence = Fence::begin(desk);
        let entries = desk.view(&Scope::all(Table::Entries, desk.grace)).await?;
        // After the entries: what they refer to was written before them.
        let spans = desk.view(&Scope::all(Table::Spans, desk.grace)).await?;
        // After the blocks: rows that left them in the meantime are in pins that were written before.
        let pins = Pins::all(&desk.store).await?;
        let forgotten = forgotten(&desk.store).await?;
        let site = Listed::now(&desk.store).await?;
        let level0 = spans.blocks.iter().filter(|block| block.is_level0());
        let level0 = level0.map(|block| (block.meta.times, block.size_bytes));
        let near = plan::Near::of(level0, desk.many_blocks, plan::most_bytes(desk.grace));
        Ok(Self { fence, count, entries, spans, pins, forgotten, site, near })
    }

    /// How much a part may have to look at, at most.
    fn bytes(&self) -> u64 {
        [&self.entries, &self.spans].iter().flat_map(|view| &view.blocks).map(|block| block.size_bytes).sum()
    }

    /// A moment before which everything on the listing of spans was written.
    fn spans_began(&self) -> Timestamp {
        self.spans.began
    }
}

#[cfg(test)]
mod tests;
