//! Extras: what the store's `publish_command` makes of handlers, beside their pages.
//!
//! The pages come first and wait for nothing: this looks at the parts as they stand, and runs the command for each
//! handler whose extras were made by another command, or of other traces or another summary. Then it uploads what the
//! command wrote, names it in the summary, deletes what is no longer written, and at the end writes the part anew, which
//! names the extras and their etags. A run that failed is named there, too; the extras of before stay.
//!
//! If the process dies anywhere, or two do this at once, extras and part may not belong together: the etags tell, those
//! extras go and are made again. Extras that no part names are swept with other such documents. They may hold what is to
//! be forgotten: where there is a new tombstone, extras that are not of what is shown now go before anything else is
//! tried, whoever may run the command.
//!
//! Runs begin in the first quarter of the grace and take at most another, so that the fence does not come down between a
//! run and its upload; the rest is left to the next round, which comes at once.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use xxhash_rust::xxh3::xxh3_64;

use super::command::Runner;
use super::document::{Extra, ExtraFile, Extras, Part, PartRow, Summary};
use super::folder::{self, Folder};
use super::listed::Listed;
use super::pages::Left;
use crate::error::{Report, Result, ResultExt, bail};
use crate::model::{HandlerId, Shard};
use crate::stage::item::item;
use crate::stage::{Desk, Fence, Round, StageReport, lanes};
use crate::store::layout::{ExtraName, SiteKey};
use crate::store::{Key, Stage};
use crate::task;

/// After so many failures, and nothing else, the command itself is broken: the others wait.
const HOPELESS: u32 = 8;

/// Makes the extras of `shards` whose parts stand.
pub(super) async fn run(desk: &Desk, round: &Round, shards: &BTreeSet<Shard>) -> Result<StageReport> {
    let mut done = StageReport::default();
    let fence = Fence::begin(desk);
    let began = desk.clock.monotonic();
    let written = round.pages.written(&desk.store).await?;
    let parts = || shards.iter().filter_map(|shard| Some((*shard, written.part(*shard)?)));
    let words = &desk.settings.publish_command;
    if !words.is_empty() && desk.guard.is_none() {
        round.warn(&desk.clock, Stage::Publish, NOT_ALLOWED);
    }
    let listed = Listed::now(&desk.store).await.context("list the pages")?;
    for (shard, part) in parts() {
        let work = Work {
            desk,
            round,
            fence: &fence,
            until: (!desk.grace.is_zero()).then(|| began + desk.grace / 4),
            listed: &listed,
            // Those that its pages were made without, not those of now: the command sees what the pages show.
            forgotten: &part.made_from.forgotten,
            done: AtomicU32::new(0),
            failed: AtomicU32::new(0),
        };
        done.add(work.part(shard, part).await?);
    }
    Ok(done)
}

/// What a person is told who set the command and did not allow it.
pub const NOT_ALLOWED: &str = "the store's `publish_command` is set, but this worker was not started with \
                               --allow-publish-command: it makes no extras";

/// What is to be done about a handler's extras.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// They are as they should be.
    Nothing,
    /// There is no command any more: they go.
    Drop,
    /// They are to be made; the old ones stay until then.
    Make,
    /// Those that stand must go first.
    Remake,
}

/// What is due of the handler in `line`. Pure.
fn due(line: &PartRow, words: &[String], forgotten: &str, listed: &Listed) -> Due {
    let Some(extras) = &line.extras else { return if words.is_empty() { Due::Nothing } else { Due::Make } };
    let stands = |file: &ExtraFile| key(&line.row.id, &file.name).is_some_and(|key| listed.stands(&key, &file.etag));
    let all_stand = extras.files.iter().all(stands);
    if words.is_empty() {
        Due::Drop
    } else if extras.error.is_none() && all_stand && extras.made_from == made_from(line, words) {
        Due::Nothing
    } else if extras.forgotten != forgotten || !all_stand {
        Due::Remake
    } else {
        Due::Make
    }
}

/// A hash of all that a handler's extras are made of.
fn made_from(line: &PartRow, words: &[String]) -> String {
    let all = [words.join("\0"), line.inputs.clone(), line.traces_body.clone()].join("\n");
    format!("{:016x}", xxh3_64(all.as_bytes()))
}

fn key(id: &HandlerId, name: &str) -> Option<SiteKey> {
    Some(SiteKey::Extra(id.clone(), ExtraName::new(name).ok()?))
}

/// The keys of all extras that a line names.
pub(super) fn keys(line: &PartRow) -> impl Iterator<Item = SiteKey> {
    line.extras.iter().flat_map(|extras| &extras.files).filter_map(|file| key(&line.row.id, &file.name))
}

/// The extras as a summary tells them.
pub(super) fn shown(id: &HandlerId, extras: Option<&Extras>) -> (Vec<Extra>, Option<String>) {
    let files = extras.into_iter().flat_map(|extras| &extras.files).filter_map(|file| {
        Some(Extra {
            name: file.name.clone(),
            key: Key::Site(key(id, &file.name)?).path(),
            bytes: file.bytes,
            content_type: mime_guess::from_path(&file.name).first_or_octet_stream().to_string(),
        })
    });
    (files.collect(), extras.and_then(|extras| extras.error.clone()))
}

/// How many handlers of a part have something to be done. Reads nothing.
pub(super) fn count_due(desk: &Desk, part: &Part, listed: &Listed) -> usize {
    let (words, forgotten) = (&desk.settings.publish_command, &part.made_from.forgotten);
    let due = |line: &&PartRow| due(line, words, forgotten, listed) != Due::Nothing;
    part.handlers.iter().filter(due).count()
}

struct Work<'a> {
    desk: &'a Desk,
    round: &'a Round,
    fence: &'a Fence,
    /// No run begins later.
    until: Option<Duration>,
    listed: &'a Listed,
    forgotten: &'a str,
    done: AtomicU32,
    failed: AtomicU32,
}

/// What came of a handler.
struct Made {
    extras: Option<Extras>,
    /// Of the summary, if it was written anew.
    summary_etag: Option<String>,
    bytes: u64,
    deleted: u64,
    /// Why the command failed.
    failed: Option<Report>,
}

impl Work<'_> {
    async fn part(&self, shard: Shard, part: &Part) -> Result<StageReport> {
        let mut done = StageReport::default();
        let words = &self.desk.settings.publish_command;
        let all = format!("publish extras of {shard}");
        // Some pages of a part of which not all could be made may be older than its tombstones.
        let is_whole = !part.made_from.entries.is_empty();
        let may_make = self.desk.guard.is_some() && is_whole && self.round.setbacks.may_try(&all);
        let mut todo: Vec<(usize, &PartRow, Due)> = Vec::new();
        for (number, line) in part.handlers.iter().enumerate() {
            match due(line, words, self.forgotten, self.listed) {
                Due::Nothing => {}
                Due::Make if !may_make => done.skipped += u64::from(self.desk.guard.is_some()),
                due => todo.push((number, line, due)),
            }
        }
        // Those that may hold what must go first, those that failed last.
        todo.sort_by_key(|(_, line, due)| (*due == Due::Make, self.round.setbacks.times(&name(&line.row.id))));
        let mut handlers = part.handlers.clone();
        let making = stream::iter(todo).map(|(number, line, due)| async move {
            let work = self.handler(line, due, may_make);
            (number, line, item(&self.desk.clock, &name(&line.row.id), 0, work).await)
        });
        let mut making = making.buffer_unordered(lanes());
        while let Some((number, line, made)) = making.next().await {
            let name = name(&line.row.id);
            let made = match made {
                Ok(Some(made)) => made,
                Ok(None) => {
                    done.skipped += 1;
                    continue;
                }
                Err(report) => {
                    self.round.setbacks.failed(&name);
                    done.fail(name, report);
                    continue;
                }
            };
            done.bytes_out += made.bytes;
            done.deleted += made.deleted;
            match made.failed {
                None => {
                    self.round.setbacks.done(&name);
                    done.done += 1;
                }
                Some(report) => {
                    self.round.setbacks.failed(&name);
                    done.fail(name, report);
                }
            }
            handlers[number].extras = made.extras;
            if let Some(etag) = made.summary_etag {
                handlers[number].summary_etag = etag;
            }
        }
        drop(making);
        if self.is_hopeless() {
            self.round.setbacks.failed(&all);
        } else if may_make {
            self.round.setbacks.done(&all);
            done.more = self.is_late();
            self.round.pages.leave(Left::Extras, shard, done.more);
        }
        if handlers != part.handlers {
            // Last: what it names stands.
            let body = serde_json::to_vec(&Part { handlers, ..part.clone() }).context("write a part of the list")?;
            done.bytes_out += body.len() as u64;
            self.fence.allows_write()?;
            self.desk.store.overwrite(&Key::Site(SiteKey::Part(shard)), body.into()).await?;
            done.done += 1;
        }
        Ok(done)
    }

    fn is_hopeless(&self) -> bool {
        self.done.load(Ordering::Relaxed) == 0 && self.failed.load(Ordering::Relaxed) >= HOPELESS
    }

    /// Whether runs that should begin now must wait for the next round.
    fn is_late(&self) -> bool {
        self.until.is_some_and(|until| self.desk.clock.monotonic() > until)
    }

    fn may_begin(&self, name: &str) -> bool {
        let setbacks = &self.round.setbacks;
        // A run that ends by itself tries everything once; the next one tries again.
        let tried = self.desk.once && setbacks.times(name) > 0;
        !self.round.is_stopped() && !self.is_late() && !self.is_hopeless() && !tried && setbacks.may_try(name)
    }

    /// Does what is due of a handler; none if that must wait.
    async fn handler(&self, line: &PartRow, due: Due, may_make: bool) -> Result<Option<Made>> {
        let id = &line.row.id;
        let makes = due != Due::Drop && may_make && self.may_begin(&name(id));
        if due == Due::Make && !makes {
            return Ok(None);
        }
        let mut made = Made { extras: line.extras.clone(), summary_etag: None, bytes: 0, deleted: 0, failed: None };
        if due != Due::Make {
            // If the process dies before the part is written: these no longer stand as it says, and go again.
            for key in keys(line) {
                self.delete(key, &mut made).await?;
            }
            made.extras = None;
        }
        let summary = self.read(SiteKey::Summary(id.clone()), &line.summary_etag).await?;
        if makes {
            let traces = self.read(SiteKey::Traces(id.clone()), &line.traces_etag).await?;
            self.make(line, &traces, &summary, &mut made).await?;
        }
        let (extras, extra_error) = shown(id, made.extras.as_ref());
        let mut document: Summary =
            serde_json::from_slice(&summary).context_with(|| format!("read the summary of {id}"))?;
        if (&document.extras, &document.extra_error) != (&extras, &extra_error) {
            (document.extras, document.extra_error) = (extras, extra_error);
            let body = Bytes::from(serde_json::to_vec(&document).context("write a summary")?);
            made.bytes += body.len() as u64;
            self.fence.allows_write()?;
            let object = self.desk.store.overwrite(&Key::Site(SiteKey::Summary(id.clone())), body).await?;
            made.summary_etag = Some(object.etag);
        }
        // After the summary that named them.
        let kept: BTreeSet<SiteKey> = match &made.extras {
            Some(extras) => extras.files.iter().filter_map(|file| key(id, &file.name)).collect(),
            None => BTreeSet::new(),
        };
        if due == Due::Make {
            for key in keys(line).filter(|key| !kept.contains(key)) {
                self.delete(key, &mut made).await?;
            }
        }
        Ok(Some(made))
    }

    async fn delete(&self, key: SiteKey, made: &mut Made) -> Result<()> {
        self.fence.allows_delete()?;
        self.desk.store.delete(&Key::Site(key)).await?;
        made.deleted += 1;
        Ok(())
    }

    /// A document as the part names it.
    async fn read(&self, key: SiteKey, etag: &str) -> Result<Bytes> {
        let key = Key::Site(key);
        let (body, object) = self.desk.store.get(&key).await?;
        if object.etag != etag {
            bail!("{} was written by another worker meanwhile; a later round begins again", key.path());
        }
        Ok(body)
    }

    /// Runs the command and uploads what it wrote. That it fails is no error but an outcome.
    async fn make(&self, line: &PartRow, traces: &Bytes, summary: &Bytes, made: &mut Made) -> Result<()> {
        let Some(guard) = &self.desk.guard else { return Ok(()) };
        let old = made.extras.take().unwrap_or_default();
        match self.command(guard, line, traces, summary).await {
            Ok((folder, left)) => {
                let mut files = Vec::with_capacity(left.len());
                for file in left {
                    files.push(self.upload(&line.row.id, file, &old, made).await?);
                }
                drop(folder);
                self.done.fetch_add(1, Ordering::Relaxed);
                let made_from = made_from(line, &self.desk.settings.publish_command);
                made.extras = Some(Extras { made_from, forgotten: self.forgotten.to_owned(), files, error: None });
            }
            Err(report) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let error = Some(report.format_current_context().to_string());
                made.extras = Some(Extras { forgotten: self.forgotten.to_owned(), error, ..old });
                made.failed = Some(report.context("run `publish_command`").into_dynamic());
            }
        }
        Ok(())
    }

    async fn command(
        &self,
        guard: &Path,
        line: &PartRow,
        traces: &Bytes,
        summary: &Bytes,
    ) -> Result<(Folder, Vec<folder::Left>)> {
        let settings = &self.desk.settings;
        let longest = if self.desk.grace.is_zero() { Duration::MAX } else { self.desk.grace / 4 };
        let timeout = settings.publish_command_timeout.0.min(longest);
        let runner = Runner { guard, words: &settings.publish_command, timeout, clock: &self.desk.clock };
        let (traces, summary) = (traces.clone(), summary.clone());
        let mut folder = task::blocking(move || Folder::new(&traces, &summary)).await?;
        runner.run(&mut folder, &line.row).await?;
        let path = folder.path().to_owned();
        let left = task::blocking(move || folder::left(&path)).await?;
        Ok((folder, left))
    }

    /// Uploads a file, unless the very same stands already.
    async fn upload(&self, id: &HandlerId, file: folder::Left, old: &Extras, made: &mut Made) -> Result<ExtraFile> {
        let (name, key) = (file.name.as_str().to_owned(), Key::Site(SiteKey::Extra(id.clone(), file.name.clone())));
        let body = task::blocking(move || folder::read(&file)).await?;
        let hash = format!("{:016x}", xxh3_64(&body));
        let bytes = body.len() as u64;
        if let Some(same) = old.files.iter().find(|old| old.name == name && old.body == hash) {
            return Ok(same.clone());
        }
        self.fence.allows_write()?;
        let object = self.desk.store.overwrite(&key, body).await?;
        made.bytes += bytes;
        Ok(ExtraFile { name, bytes, body: hash, etag: object.etag })
    }
}

/// The name under which a handler's extras fail, and wait.
fn name(id: &HandlerId) -> String {
    format!("publish extras of {id}")
}

#[cfg(test)]
mod tests;
