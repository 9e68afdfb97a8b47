//! One part: the handlers of one shard.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

use super::document::{Call, Extras, MadeFrom, Part, PartList, PartRow, Row, SUMMARY_VERSION};
use super::summary::{self, Applied, Weight};
use super::traces::{self, Shown};
use super::{Ground, Pages, Written, extras, plan};
use crate::error::{Result, ResultExt};
use crate::model::{BlockId, HandlerId, Shard, TraceId};
use crate::query::AT_A_TIME;
use crate::query::handlers::{self, Adoption, Handler, Handlers};
use crate::query::newest::shown_last;
use crate::query::rows::{self, Traces};
use crate::stage::{Desk, StageReport};
use crate::store::Key;
use crate::store::layout::SiteKey;
use crate::table::digest::HandlerDigest;
use crate::table::view::{Block, View};

/// The name under which what fails of a part is told, and waits.
pub(super) fn item(shard: Shard) -> String {
    format!("publish {shard}")
}

/// What the part of `shard` would be made from now. Pure.
pub(super) fn made_from(desk: &Desk, ground: &Ground, written: &Written, shard: Shard) -> MadeFrom {
    let names = |view: &View| {
        plan::hash_of(view.visible_parts().into_iter().map(|(shard, block)| format!("{shard}/{}", block.id())))
    };
    let (number, catalogue) = &*desk.catalogue;
    let own = |id: &HandlerId| Shard::of_handler(catalogue.canonical(id), ground.count) == shard;
    let pins = ground.pins.iter().filter(|pin| own(&pin.handler));
    let settings = &desk.settings;
    MadeFrom {
        version: SUMMARY_VERSION,
        catalogue: *number,
        settings: plan::hash_of([format!("{} {}", settings.keep_last, settings.max_handlers)]),
        entries: names(&ground.entries),
        spans: names(&ground.spans),
        pins: plan::hash_of(pins.map(|pin| Key::Pin(pin.clone()).path())),
        forgotten: plan::hash_of(&ground.forgotten),
        routes: plan::hash_of(
            elsewhere(written, ground.count, shard).map(|row| format!("{} {:?} {:?}", row.id, row.method, row.route)),
        ),
    }
}

/// The handlers that other parts have published.
fn elsewhere(written: &Written, count: u16, shard: Shard) -> impl Iterator<Item = &Row> {
    let others = written.parts.iter().filter(move |(other, _)| other.count() == count && **other != shard);
    others.filter_map(|(_, (_, part))| part.as_deref()).flat_map(|part| &part.handlers).map(|line| &line.row)
}

/// Makes the part of `shard` anew if it is stale.
pub(super) async fn publish(
    desk: &Desk,
    pages: &Pages,
    ground: &Ground,
    written: &Written,
    shard: Shard,
) -> Result<StageReport> {
    let made_from = made_from(desk, ground, written, shard);
    let before = written.part(shard);
    let documents_stand = before.is_some_and(|part| part.handlers.iter().all(|line| stands(ground, line)));
    if !plan::is_stale(before, &made_from) && documents_stand {
        return Ok(StageReport::default());
    }
    let known = know(desk, ground, written, shard).await?;
    // Up to when spans had been looked at when the part was written.
    let looked = before.and_then(|part| Timestamp::from_millisecond(part.spans_until_ms).ok());
    let looked = looked.unwrap_or(Timestamp::UNIX_EPOCH);
    let fresh = plan::fresh(&ground.spans, looked, ground.near).into_iter().map(Block::id).collect();
    Work { desk, pages, ground, shard, before, looked, fresh, known: &known }.publish(made_from).await
}

/// Whether a handler's documents are those that the part names.
fn stands(ground: &Ground, line: &PartRow) -> bool {
    ground.site.stands(&SiteKey::Summary(line.row.id.clone()), &line.summary_etag)
        && ground.site.stands(&SiteKey::Traces(line.row.id.clone()), &line.traces_etag)
}

/// What is known for one part.
struct Known {
    /// Its handlers; and 404 lists (and handlers without a route) of other parts, whose requests its routes may adopt.
    handlers: Handlers,
    adoption: Adoption,
    calls: BTreeMap<HandlerId, Vec<Call>>,
}

async fn know(desk: &Desk, ground: &Ground, written: &Written, shard: Shard) -> Result<Known> {
    let (_, catalogue) = &*desk.catalogue;
    let count = ground.count;
    let own = |id: &HandlerId| Shard::of_handler(catalogue.canonical(id), count) == shard;
    // Requests that may be adopted stand in other parts, too.
    let rows: Vec<Row> = elsewhere(written, count, shard).cloned().collect();
    let lists = written.parts.values().filter_map(|(_, part)| part.as_deref()).flat_map(|part| &part.not_found);
    let mut foreign: BTreeSet<HandlerId> = lists.map(|list| list.row.handler.clone()).collect();
    if !catalogue.routes.is_empty() {
        foreign.extend(rows.iter().filter(|row| row.kind == "http" && row.route.is_none()).map(|row| row.id.clone()));
    }
    let wanted = |id: &HandlerId| own(id) || foreign.contains(id);
    // With the same number of shards a handler's rows are in its own; those of ids that count as it, and of the lists,
    // in theirs. Hours that had another number of shards may have them anywhere.
    let mut shards: BTreeSet<Shard> = BTreeSet::from([shard]);
    let others = catalogue.aliases.keys().filter(|alias| own(alias)).chain(&foreign);
    shards.extend(others.map(|id| Shard::of_handler(id, count)));
    let in_scope = |shard: Shard| shard.count() != count || shards.contains(&shard);
    let digests = handlers::digests(&desk.blocks, &ground.entries, wanted, in_scope).await?;
    let handlers = Handlers::join(digests, &ground.pins, catalogue, &ground.forgotten);
    let adoption = Adoption::of(&handlers, catalogue, &rows);
    let mut handlers = handlers.with_explicit(&adoption);
    handlers.0.retain(|id, _| own(id));
    let calls = super::calls::read(&desk.blocks, &ground.spans, &handlers).await?;
    Ok(Known { handlers, adoption, calls })
}

/// What some handlers came to.
struct Chunked {
    lines: Vec<(HandlerId, PartRow)>,
    bytes_out: u64,
    /// OTLP/JSON that was held in memory.
    held_bytes: usize,
}

struct Work<'a> {
    desk: &'a Desk,
    pages: &'a Pages,
    ground: &'a Ground,
    shard: Shard,
    before: Option<&'a Part>,
    /// Up to when spans were looked at for it.
    looked: Timestamp,
    /// The blocks of spans that may have rows that are new since then.
    fresh: HashSet<BlockId>,
    known: &'a Known,
}

impl Work<'_> {
    async fn publish(&self, mut made_from: MadeFrom) -> Result<StageReport> {
        let mut done = StageReport::default();
        let (dropped, others) = self.cut();
        let shown: BTreeMap<&HandlerId, &Handler> =
            self.known.handlers.0.iter().filter(|(id, _)| !dropped.contains(*id)).collect();
        let before: BTreeMap<&HandlerId, &PartRow> =
            self.before.into_iter().flat_map(|part| &part.handlers).map(|line| (&line.row.id, line)).collect();

        let shown_of = shown.iter().map(|(id, known)| (*id, *known, self.keep_last(id)));
        let traces = traces::shown(shown_of, self.ground.near);
        let stale_traces = self.stale_traces(&traces, &before).await?;
        let mut lines: BTreeMap<HandlerId, PartRow> = BTreeMap::new();
        let mut todo: Vec<(HandlerId, bool)> = Vec::new();
        for id in shown.keys() {
            let inputs = self.inputs(id)?;
            let old = before.get(id);
            let stale_summary = old.is_none_or(|line| {
                line.inputs != inputs || !self.ground.site.stands(&SiteKey::Summary((*id).clone()), &line.summary_etag)
            });
            if let Some(old) = old {
                lines.insert((*id).clone(), (*old).clone());
            }
            if stale_summary || stale_traces.contains(*id) {
                todo.push(((*id).clone(), stale_summary));
            }
        }
        // Those come first that were written longest ago: whom there was no time for the last time, or who failed.
        todo.sort_by_cached_key(|(id, _)| self.written(id));
        let mut left = &todo[..];
        let mut size = self.pages.chunk(self.desk.memory_bytes);
        while !left.is_empty() {
            if !size.has_time(self.ground.fence.left()) {
                // What there was time for counts, and is not made again; the part stays stale.
                tracing::info!(part = %self.shard, handlers = left.len(), "the rest of the pages waits for the next round");
                made_from.entries.clear();
                done.skipped += left.len() as u64;
                done.more = true;
                break;
            }
            let began = self.desk.clock.monotonic();
            let (chunk, rest) = left.split_at(size.handlers().min(left.len()));
            left = rest;
            let outcome = self.write(chunk, &traces, &stale_traces, &lines).await;
            let took = self.desk.clock.monotonic() - began;
            match outcome {
                Ok(Chunked { lines: written, bytes_out, held_bytes }) => {
                    size.done(chunk.len(), held_bytes, took);
                    done.done += written.len() as u64;
                    done.bytes_out += bytes_out;
                    lines.extend(written);
                }
                Err(report) => {
                    size.failed(took);
                    // The others are published all the same; the part stays stale, so that these are tried again.
                    made_from.entries.clear();
                    let names: Vec<&str> = chunk.iter().map(|(id, _)| id.as_str()).collect();
                    let report = report.context(format!("publish {}", names.join(" "))).into_dynamic();
                    done.fail(item(self.shard), report);
                }
            }
        }
        self.pages.keep_chunk(size);
        let lists = self.lists(&mut done).await?;
        let gone =
            self.before.into_iter().flat_map(|part| &part.handlers).filter(|line| !shown.contains_key(&line.row.id));
        for line in gone {
            let pages = [SiteKey::Summary(line.row.id.clone()), SiteKey::Traces(line.row.id.clone())];
            for key in pages.into_iter().chain(extras::keys(line)) {
                self.ground.fence.allows_delete()?;
                self.desk.store.delete(&Key::Site(key)).await?;
                done.deleted += 1;
            }
        }
        let listed: BTreeSet<&str> = lists.iter().map(|list| list.row.list.as_str()).collect();
        let gone = self.before.into_iter().flat_map(|part| &part.not_found).map(|list| &list.row.list);
        for list in gone.filter(|list| !listed.contains(list.as_str())) {
            self.ground.fence.allows_delete()?;
            self.desk.store.delete(&Key::Site(SiteKey::NotFound(list.clone()))).await?;
            done.deleted += 1;
        }
        // If the traces of a handler could not be looked at, spans that are new now are new the next time, too.
        let until = if made_from.entries.is_empty() { self.looked } else { self.ground.spans_began() };
        let part = Part {
            made_from,
            spans_until_ms: until.as_millisecond(),
            handlers: lines.into_values().collect(),
            others,
            not_found: lists,
        };
        // Last: what it names stands.
        let body = serde_json::to_vec(&part).context("write a part of the list of handlers")?;
        done.bytes_out += body.len() as u64;
        self.ground.fence.allows_write()?;
        self.desk.store.overwrite(&Key::Site(SiteKey::Part(self.shard)), body.into()).await?;
        done.done += 1;
        Ok(done)
    }

    fn keep_last(&self, id: &HandlerId) -> usize {
        shown_last(&self.desk.settings, &self.desk.catalogue.1, id)
    }

    /// A part shows its share of a service's busiest handlers and half as many more, because hashing is not even; the
    /// list cuts exactly.
    fn cut(&self) -> (BTreeSet<HandlerId>, Vec<super::document::Others>) {
        let most = self.desk.settings.max_handlers as usize;
        let count = usize::from(self.ground.count);
        let share = if count == 1 { most } else { most * 3 / (2 * count) + 20 };
        let weights = self.known.handlers.0.iter().filter(|(id, _)| !id.is_not_found()).map(|(id, known)| Weight {
            service: if known.digest.service.is_empty() {
                id.service().to_owned()
            } else {
                known.digest.service.clone()
            },
            id: id.clone(),
            count: known.digest.count,
            errors: known.digest.errors,
        });
        summary::cut(weights, share)
    }

    /// A hash of all that a handler's summary is made of.
    fn inputs(&self, id: &HandlerId) -> Result<String> {
        let known = &self.known.handlers.0.get(id);
        let pins = known.map(|known| known.pins.iter().map(|pin| Key::Pin(pin.clone()).path()).collect::<Vec<_>>());
        let all = serde_json::to_vec(&(
            (SUMMARY_VERSION, self.desk.catalogue.0, self.keep_last(id)),
            known.map(|known| (&known.aliases, &known.digest)),
            pins,
            self.known.adoption.of_handler(id),
            self.known.calls.get(id),
        ));
        Ok(format!("{:016x}", xxh3_64(&all.context("hash what a summary is made of")?)))
    }

    /// The handlers whose traces are not those that were written, or may have more spans now.
    async fn stale_traces(
        &self,
        traces: &BTreeMap<HandlerId, Shown>,
        before: &BTreeMap<&HandlerId, &PartRow>,
    ) -> Result<BTreeSet<HandlerId>> {
        let mut stale = BTreeSet::new();
        let mut same = Traces::new();
        for (id, shown) in traces {
            let as_written = before.get(id).is_some_and(|line| {
                line.traces == shown.hash() && self.ground.site.stands(&SiteKey::Traces(id.clone()), &line.traces_etag)
            });
            if as_written {
                same.extend(&shown.traces);
            } else {
                stale.insert(id.clone());
            }
        }
        if same.is_empty() {
            return Ok(stale);
        }
        let spans = &self.ground.spans;
        let parts = rows::wanted(spans, &same).into_iter().filter(|(block, _)| self.fresh.contains(&block.id()));
        let mut grown: BTreeSet<TraceId> = BTreeSet::new();
        let reads = stream::iter(parts).map(|(block, traces)| async move {
            let rows = self.desk.blocks.traces(&block.key, block.size_bytes, &traces).await;
            Result::<_>::Ok(rows.context_with(|| format!("look for new spans in {}", Key::Block(block.key).path()))?)
        });
        let mut reads = reads.buffer_unordered(AT_A_TIME);
        while let Some(found) = reads.try_next().await? {
            grown.extend(rows::by_trace(&found)?.into_iter().map(|(trace, _)| trace));
        }
        let has_grown = |shown: &Shown| shown.traces.keys().any(|trace| grown.contains(trace));
        stale.extend(traces.iter().filter(|(_, shown)| has_grown(shown)).map(|(id, _)| id.clone()));
        Ok(stale)
    }

    /// When one of a handler's documents was written last.
    fn written(&self, id: &HandlerId) -> Option<Timestamp> {
        let documents = [SiteKey::Summary(id.clone()), SiteKey::Traces(id.clone())];
        documents.iter().filter_map(|key| self.ground.site.written(key)).max()
    }

    /// Writes the stale documents of some handlers.
    async fn write(
        &self,
        chunk: &[(HandlerId, bool)],
        shown: &BTreeMap<HandlerId, Shown>,
        stale_traces: &BTreeSet<HandlerId>,
        lines: &BTreeMap<HandlerId, PartRow>,
    ) -> Result<Chunked> {
        let stale: BTreeMap<HandlerId, Shown> = chunk
            .iter()
            .filter(|(id, _)| stale_traces.contains(id))
            .filter_map(|(id, _)| Some((id.clone(), shown.get(id)?.clone())))
            .collect();
        // The traces first: a summary names what stands.
        let standing = stale.keys().filter_map(|id| {
            let line = lines.get(id)?;
            let stands = self.ground.site.stands(&SiteKey::Traces(id.clone()), &line.traces_etag);
            stands.then(|| (id.clone(), (line.traces_body.clone(), line.traces_etag.clone())))
        });
        let (desk, spans, standing) = (self.desk, &self.ground.spans, standing.collect());
        let (traces, held_bytes) =
            traces::write(desk, &self.ground.fence, spans, &stale, &standing, &self.fresh).await?;
        let mut bytes_out: u64 = traces.values().map(|written| written.bytes).sum();
        let summaries = stream::iter(chunk).map(|(id, stale_summary)| {
            let traces = traces.get(id);
            async move {
                let old = lines.get(id);
                let (row, inputs, summary_etag, length) = match old {
                    Some(old) if !stale_summary => (old.row.clone(), old.inputs.clone(), old.summary_etag.clone(), 0),
                    _ => self.write_summary(id, old.and_then(|old| old.extras.as_ref())).await?,
                };
                let line = PartRow {
                    row,
                    inputs,
                    summary_etag,
                    traces: match traces {
                        Some(_) => shown.get(id).map(Shown::hash).unwrap_or_default(),
                        None => old.map(|old| old.traces.clone()).unwrap_or_default(),
                    },
                    traces_body: match traces {
                        Some(written) => written.body.clone(),
                        None => old.map(|old| old.traces_body.clone()).unwrap_or_default(),
                    },
                    traces_etag: match traces {
                        Some(written) => written.etag.clone(),
                        None => old.map(|old| old.traces_etag.clone()).unwrap_or_default(),
                    },
                    large: match traces {
                        Some(written) => written.large.iter().map(ToString::to_string).collect(),
                        None => old.map(|old| old.large.clone()).unwrap_or_default(),
                    },
                    extras: old.and_then(|old| old.extras.clone()),
                };
                Result::<_>::Ok((id.clone(), line, length))
            }
        });
        let mut summaries = summaries.buffer_unordered(AT_A_TIME);
        let mut written = Vec::with_capacity(chunk.len());
        while let Some((id, line, length)) = summaries.try_next().await? {
            bytes_out += length;
            written.push((id, line));
        }
        Ok(Chunked { lines: written, bytes_out, held_bytes })
    }

    /// Writes a summary, with the extras that stand so far.
    async fn write_summary(&self, id: &HandlerId, extras: Option<&Extras>) -> Result<(Row, String, String, u64)> {
        let unknown = Handler::default();
        let known = self.known.handlers.0.get(id).unwrap_or(&unknown);
        let keep_last = self.keep_last(id);
        let hidden = known.pins_to_show(keep_last);
        let pinned: HandlerDigest = handlers::digest_pins(&self.desk.store, &self.desk.settings, &hidden).await?;
        let calls = self.known.calls.get(id).cloned().unwrap_or_default();
        let adopted = self.known.adoption.of_handler(id);
        let applied = Applied::of(id, &self.desk.catalogue, keep_last);
        let mut summary = summary::summary(id, known, &pinned, adopted, calls, applied);
        (summary.extras, summary.extra_error) = extras::shown(id, extras);
        let body = Bytes::from(serde_json::to_vec(&summary).context("write a summary")?);
        let length = body.len() as u64;
        self.ground.fence.allows_write()?;
        let object = self.desk.store.overwrite(&Key::Site(SiteKey::Summary(id.clone())), body).await?;
        Ok((summary.handler, self.inputs(id)?, object.etag, length))
    }

    /// Writes the 404 lists that changed; the lines of all.
    async fn lists(&self, done: &mut StageReport) -> Result<Vec<PartList>> {
        let before: BTreeMap<&HandlerId, &PartList> =
            self.before.into_iter().flat_map(|part| &part.not_found).map(|list| (&list.row.handler, list)).collect();
        let mut lists = Vec::new();
        for (id, known) in self.known.handlers.0.iter().filter(|(id, _)| id.is_not_found()) {
            let document = summary::not_found(id, known, &self.known.adoption, self.desk.catalogue.0);
            let body = Bytes::from(serde_json::to_vec(&document).context("write a 404 list")?);
            let inputs = format!("{:016x}", xxh3_64(&body));
            let key = SiteKey::NotFound(document.list.list.clone());
            let etag = match before.get(id) {
                Some(old) if old.inputs == inputs && self.ground.site.stands(&key, &old.etag) => old.etag.clone(),
                _ => {
                    done.bytes_out += body.len() as u64;
                    done.done += 1;
                    self.ground.fence.allows_write()?;
                    self.desk.store.overwrite(&Key::Site(key), body).await?.etag
                }
            };
            lists.push(PartList { row: document.list, inputs, etag });
        }
        Ok(lists)
    }
}
