//! expire: whole hours go, and the newest traces of every handler are pinned before (rules 5 and 6).
//!
//! One round does what is due, in this order:
//!
//! 1. **Entries** ([`entries`]): for each hour that is past, or will be within six hours, the traces among the newest of
//!    a handler that would go with it are pinned, whole; then `farm/pinned/` says which blocks that covered; then blocks
//!    that are past go.
//! 2. **Pins** ([`sweep`](super::pins::sweep)): versions are made one, and what is no longer among the newest goes.
//! 3. **Spans** ([`spans`]): an hour's spans go when every block of entries that could need them is gone or covered;
//!    their rows of pinned traces are added to those pins first.
//!
//! Each part begins with listings of its own and a [`Fence`](super::Fence): what was decided by a listing that is too old is not done.
//! The plans ([`plan`]) are pure. Nothing is deleted without a fresh heartbeat, or before it is older than the grace, or
//! that is not understood.
//!
//! If the process dies anywhere, or two workers do this at once: pins only grow, documents say only what was completed
//! before them, and a block that is deleted twice is deleted once. A full disk or quota stops pins and documents, not
//! deletes: shards that need no pin are done first, and their blocks need no document.

mod covered;
mod entries;
pub mod plan;
mod spans;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use self::plan::{Horizon, Listed};
use super::item::item;
use super::quarantine::{self, Health};
use super::{Desk, Ledger, Round, StageReport};
use crate::error::{Report, Result, ResultExt, find, report};
use crate::model::Table;
use crate::store::{Key, Prefix, Stage, Store};
use crate::table::block::{BlockError, BlockErrorKind};
use crate::table::view::{Damaged, Scope};

/// One round. What failed is in the report, item by item; the round itself fails only if the listings do.
pub async fn run(desk: &Desk, round: &Round) -> Result<StageReport> {
    let desk = desk.for_stage(Stage::Expire);
    let mut done = StageReport::default();
    let Some(times) = Times::learn(&desk, &round.ledger).await? else {
        // Rule 8: without the store's time nothing is old.
        done.skipped += 1;
        return Ok(done);
    };
    done.add(entries::run(&desk, round, &times).await.context("expire entries")?);
    if !round.is_stopped() {
        done.add(super::pins::sweep::run(&desk, round).await.context("sweep the pins")?);
    }
    if !round.is_stopped() {
        done.add(spans::run(&desk, round, &times).await.context("expire spans")?);
    }
    Ok(done)
}

/// What a round of expiry would do, in words: what `run --dry-run` prints. Reads only.
pub async fn dry_run(desk: &Desk) -> Result<Vec<String>> {
    let desk = desk.for_stage(Stage::Expire);
    let Some(times) = Times::learn(&desk, &Ledger::default()).await? else {
        return Ok(vec!["expire: the store's time is not known yet".to_owned()]);
    };
    let horizon = times.horizon(&desk);
    let spans: Vec<Listed> =
        desk.view(&Scope::all(Table::Spans, desk.grace)).await?.blocks.iter().map(Into::into).collect();
    let view = desk.view(&Scope::all(Table::Entries, desk.grace)).await?;
    let listed: Vec<Listed> = view.blocks.iter().map(Into::into).collect();
    let covered = covered::read(&desk.store, &covered::terms(&desk).await?, |hour| horizon.is_near(hour)).await?;
    let items = plan::entries_items(&listed, &covered, &view.newer_hours(), &horizon);
    let mut lines: Vec<String> =
        items.iter().map(|item| format!("expire: pin the newest of entries {} {}", item.shard, item.hour)).collect();
    let all = listed.iter().chain(&spans);
    let past = all.filter(|block| horizon.may_go(block.key.hour, block.modified));
    lines.extend(past.map(|block| format!("expire: {}", Key::Block(block.key).path())));
    Ok(lines)
}

/// The listed blocks of a table, by name alone: their shards are not known.
async fn names(store: &Store, table: Table) -> Result<Vec<Listed>> {
    let listing = store.list(&Prefix::Table(table)).await?;
    let blocks = listing.objects.into_iter().filter_map(|object| match object.key {
        Key::Block(key) => {
            Some(Listed { key, size_bytes: object.size_bytes, modified: object.modified, shards: Vec::new() })
        }
        _ => None,
    });
    Ok(blocks.collect())
}

/// The store's time and how far behind indexing is, learned once a round.
struct Times {
    now: Timestamp,
    backlog: SignedDuration,
}

impl Times {
    /// `None` before the first heartbeat.
    async fn learn(desk: &Desk, ledger: &Ledger) -> Result<Option<Self>> {
        let Some(now) = desk.store_clock().now() else { return Ok(None) };
        let oldest = oldest_unread(desk, ledger).await.context("find the oldest object of the inbox")?;
        let backlog = oldest.map_or(SignedDuration::ZERO, |oldest| now.duration_since(oldest));
        Ok(Some(Self { now, backlog }))
    }

    fn horizon<'a>(&self, desk: &'a Desk) -> Horizon<'a> {
        Horizon { settings: &desk.settings, grace: desk.grace, now: self.now, backlog: self.backlog }
    }
}

/// When the oldest object of the inbox that has not been indexed was written: a whole listing of it. What is kept
/// (`--keep-inbox`) and on the ledger has been indexed.
async fn oldest_unread(desk: &Desk, ledger: &Ledger) -> Result<Option<Timestamp>> {
    let inbox = desk.inbox.store.list(&Prefix::Inbox).await?;
    if desk.inbox.keep {
        ledger.refresh(desk).await?;
    }
    let unread = inbox.objects.iter().filter(|object| !(desk.inbox.keep && ledger.has(object)));
    Ok(unread.map(|object| object.modified).min())
}

/// Looks again at blocks that could not be read: one that is really damaged is marked, so that its hour can go on without
/// it; the others can be read the next time.
async fn examine<'d>(desk: &Desk, suspects: impl Iterator<Item = &'d Damaged>, done: &mut StageReport) {
    for suspect in suspects {
        let path = Key::Block(suspect.key).path();
        match item(&desk.clock, &path, suspect.size_bytes, quarantine::examine(desk, suspect)).await {
            Ok(Health::Sound) => done.skipped += 1,
            Ok(Health::Damaged(why)) => {
                done.fail(path, report!("it is damaged, and left where it is: {why}").into_dynamic())
            }
            Err(cause) => done.fail(path, cause),
        }
    }
}

/// Looks again at the block that `report` says is damaged, if it says so of one.
async fn examine_blame(desk: &Desk, report: &Report, done: &mut StageReport) {
    let Some(BlockError { kind: BlockErrorKind::Corrupt, key, message }) = find::<BlockError>(report) else { return };
    let Ok(object) = desk.store.head(&Key::Block(*key)).await else { return };
    let suspect = Damaged {
        key: *key,
        size_bytes: object.size_bytes,
        modified: object.modified,
        why: message.clone(),
        marked: false,
    };
    examine(desk, std::iter::once(&suspect), done).await;
}

/// Hours with a damaged block that nobody has marked yet.
fn unread_hours(damaged: &[Damaged]) -> BTreeSet<crate::model::Hour> {
    damaged.iter().filter(|block| !block.marked).map(|block| block.key.hour).collect()
}

#[cfg(test)]
mod tests;
