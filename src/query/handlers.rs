//! What is known of handlers: the digests of visible blocks of entries, joined as the catalogue says, with their pins.
//! Publishing writes documents of it, commands print it; neither needs the other.

mod adoption;
mod pinned;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures::{StreamExt, TryStreamExt, stream};

pub use adoption::{Adopted, Adoption};
pub use pinned::{digest as digest_pins, requests};

use super::pin::Pins;
use super::{AT_A_TIME, Reader, newest, relisted};
use crate::error::{Result, ResultExt};
use crate::handler::catalogue::Catalogue;
use crate::model::{HandlerId, Shard, Table, TraceId};
use crate::stage::publish::document::{NotFound, Row, Summary};
use crate::stage::publish::summary::{self, Applied};
use crate::store::layout::{PinKey, SiteKey};
use crate::store::{Key, StoreErrorKind};
use crate::table::digest::{EntryRef, HandlerDigest};
use crate::table::read::Blocks;
use crate::table::view::{Block, Scope, View};

/// A handler with the ids that count as it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Handler {
    /// The other ids, in order.
    pub aliases: Vec<HandlerId>,
    /// What all of their entries come to.
    pub digest: HandlerDigest,
    /// All of their pins.
    pub pins: Vec<PinKey>,
}

/// Handlers by the id under which they count.
#[derive(Clone, Debug, Default)]
pub struct Handlers(pub BTreeMap<HandlerId, Handler>);

/// The digests of visible blocks, merged, by the ids with which rows were indexed; only of handlers that are `wanted`.
pub async fn digests(
    blocks: &Blocks,
    view: &View,
    wanted: impl Fn(&HandlerId) -> bool,
    in_scope: impl Fn(Shard) -> bool,
) -> Result<BTreeMap<HandlerId, HandlerDigest>> {
    let parts: Vec<(Shard, &Block)> = view.visible_parts().into_iter().filter(|(shard, _)| in_scope(*shard)).collect();
    let mut reads = stream::iter(parts)
        .map(|(shard, block)| async move {
            let digest = blocks.digest(&block.key, block.size_bytes, Some(shard)).await;
            Result::<_>::Ok(digest.context_with(|| format!("digest {}", Key::Block(block.key).path()))?)
        })
        .buffered(AT_A_TIME);
    let mut merged: BTreeMap<HandlerId, HandlerDigest> = BTreeMap::new();
    while let Some(digest) = reads.try_next().await? {
        for (id, more) in digest.handlers.iter().filter(|(id, _)| wanted(id)) {
            merged.entry(id.clone()).or_default().merge(more);
        }
    }
    Ok(merged)
}

impl Handlers {
    /// Joins digests and pins by the catalogue's aliases, hides what is to be forgotten, leaves out handlers that were
    /// removed and have not been hit since. Pure.
    pub fn join(
        digests: BTreeMap<HandlerId, HandlerDigest>,
        pins: &Pins,
        catalogue: &Catalogue,
        forgotten: &HashSet<TraceId>,
    ) -> Self {
        let mut all: BTreeMap<HandlerId, Handler> = BTreeMap::new();
        for (id, digest) in digests {
            if !catalogue.is_removed(&id, digest.last_ns) {
                all.entry(catalogue.canonical(&id).clone()).or_default().join(&id, catalogue).digest.merge(&digest);
            }
        }
        for pin in pins
            .iter()
            .filter(|pin| !forgotten.contains(&pin.trace) && !catalogue.is_removed(&pin.handler, pin.start_ns))
        {
            let handler = all.entry(catalogue.canonical(&pin.handler).clone()).or_default();
            handler.join(&pin.handler, catalogue).pins.push(pin.clone());
        }
        for handler in all.values_mut() {
            handler.pins.sort_unstable_by_key(|pin| std::cmp::Reverse((pin.start_ns, pin.trace)));
            hide(&mut handler.digest, forgotten);
        }
        Self(all)
    }

    /// Adds the handlers of the catalogue's explicit routes that nothing hit yet.
    pub fn with_explicit(mut self, adoption: &Adoption) -> Self {
        for (id, digest) in adoption.explicit() {
            let unseen = || Handler { digest: digest.clone(), ..Handler::default() };
            self.0.entry(id.clone()).or_insert_with(unseen);
        }
        self
    }
}

impl Handler {
    fn join(&mut self, id: &HandlerId, catalogue: &Catalogue) -> &mut Self {
        if catalogue.canonical(id) != id
            && let Err(at) = self.aliases.binary_search(id)
        {
            self.aliases.insert(at, id.clone());
        }
        self
    }

    /// The pinned traces that are among its newest `keep`, but that no digest shows: newest first.
    pub fn pins_to_show(&self, keep: usize) -> Vec<&PinKey> {
        let shown: HashSet<&str> = self.digest.newest.iter().map(|entry| entry.trace_id.as_str()).collect();
        let in_blocks = self.digest.newest.iter().filter_map(|entry| Some((entry.time_ns, entry.trace()?)));
        let pinned = self.pins.iter().map(|pin| (pin.start_ns, pin.trace));
        let newest: BTreeSet<TraceId> =
            newest::newest(in_blocks.chain(pinned), keep).into_iter().map(|(_, trace)| trace).collect();
        let hidden = |pin: &&PinKey| newest.contains(&pin.trace) && !shown.contains(pin.trace.to_string().as_str());
        self.pins.iter().filter(hidden).collect()
    }
}

/// Takes what is to be forgotten off a digest's references. Its counts go when compaction drops the rows.
fn hide(digest: &mut HandlerDigest, forgotten: &HashSet<TraceId>) {
    if forgotten.is_empty() {
        return;
    }
    let stays = |entry: &EntryRef| entry.trace().is_none_or(|trace| !forgotten.contains(&trace));
    for list in [&mut digest.newest, &mut digest.newest_errors, &mut digest.slowest] {
        list.retain(stays);
    }
    for errors in digest.error_types.values_mut() {
        errors.example = errors.example.take().filter(stays);
    }
    digest.paths.retain(|path| stays(&path.newest));
}

/// Everything that commands show of handlers, from one listing.
pub struct Overview {
    handlers: Handlers,
    adoption: Adoption,
    reader: Reader,
}

impl Overview {
    /// Of all handlers, or of one service's (as escaped in ids).
    pub async fn read(reader: &Reader) -> Result<Self> {
        relisted(|| Self::read_once(reader)).await
    }

    async fn read_once(reader: &Reader) -> Result<Self> {
        let view = reader.view(&Scope::all(Table::Entries, reader.settings.grace.0)).await?;
        let digests = digests(&reader.blocks, &view, |_| true, |_| true).await?;
        let pins = Pins::all(&reader.store).await?;
        let (_, catalogue) = &*reader.catalogue;
        let handlers = Handlers::join(digests, &pins, catalogue, &reader.forgotten().await?);
        let adoption = Adoption::of(&handlers, catalogue, &[]);
        Ok(Self { handlers: handlers.with_explicit(&adoption), adoption, reader: reader.clone() })
    }

    /// The ids of all handlers, 404 lists included.
    pub fn ids(&self) -> impl Iterator<Item = &HandlerId> {
        self.handlers.0.keys()
    }

    /// Whether there is such a handler, or one that it counts as.
    pub fn knows(&self, id: &HandlerId) -> bool {
        let (_, catalogue) = &*self.reader.catalogue;
        self.handlers.0.contains_key(catalogue.canonical(id))
    }

    /// A line for each handler, by service, the busiest first. Of one that lives in pins alone the newest pin is read
    /// for its name.
    pub async fn rows(&self) -> Result<Vec<Row>> {
        let ids: Vec<&HandlerId> = self.ids().filter(|id| !id.is_not_found()).collect();
        let rows = stream::iter(ids)
            .map(|id| async move { Result::<_>::Ok(self.summary_of(id, 1).await?.map(|summary| summary.handler)) });
        let rows: Vec<Option<Row>> = rows.buffered(AT_A_TIME).try_collect().await?;
        let mut rows: Vec<Row> = rows.into_iter().flatten().collect();
        summary::sort(&mut rows);
        Ok(rows)
    }

    /// One handler in full, by its id or an alias.
    pub async fn summary(&self, id: &HandlerId) -> Result<Option<Summary>> {
        let (_, catalogue) = &*self.reader.catalogue;
        let id = catalogue.canonical(id);
        let Some(mut summary) = self.summary_of(id, newest::shown_last(&self.reader.settings, catalogue, id)).await?
        else {
            return Ok(None);
        };
        if !self.reader.settings.publish_command.is_empty() {
            // These are not told by anything else.
            match self.reader.store.get(&Key::Site(SiteKey::Summary(id.clone()))).await {
                Ok((body, _)) => {
                    let published: Option<Summary> = serde_json::from_slice(&body).ok();
                    let told = published.map(|published| (published.extras, published.extra_error));
                    (summary.extras, summary.extra_error) = told.unwrap_or_default();
                }
                Err(missing) if missing.kind == StoreErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(summary))
    }

    async fn summary_of(&self, id: &HandlerId, keep: usize) -> Result<Option<Summary>> {
        let Some(known) = self.handlers.0.get(id) else { return Ok(None) };
        let pinned = pinned::digest(&self.reader.store, &self.reader.settings, &known.pins_to_show(keep)).await?;
        let applied = Applied::of(id, &self.reader.catalogue, keep);
        Ok(Some(summary::summary(id, known, &pinned, self.adoption.of_handler(id), Vec::new(), applied)))
    }

    /// The 404 lists, by service.
    pub fn not_found(&self) -> Vec<NotFound> {
        let (number, _) = &*self.reader.catalogue;
        let lists = self.handlers.0.iter().filter(|(id, _)| id.is_not_found());
        lists.map(|(id, known)| summary::not_found(id, known, &self.adoption, *number)).collect()
    }
}
