//! `site/handlers.json`: the parts, joined; and what no part names any more goes.
//!
//! It stands as plain text, though that of 10,000 handlers has 4 MB. Under Content-Encoding a folder could not hold it, and
//! `aws s3 cp` or an SQL engine would get gzip by the name of JSON; under another name it would have to be written twice,
//! as pages of the version before and everybody's scripts read this one, and while workers of two versions take turns one
//! of the two would be old. `serve` and CDNs compress it on its way.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::Timestamp;

use super::document::Part;
use super::document::{Handlers, Others, Row, SUMMARY_VERSION};
use super::summary::{self, Weight};
use super::{Pages, Written, extras};
use crate::error::{Result, ResultExt};
use crate::model::{HandlerId, Shard};
use crate::stage::{Desk, Fence, StageReport};
use crate::store::layout::SiteKey;
use crate::store::{Key, Prefix};
use crate::table::view::has_stood;

/// Writes the list if a part says other things than it was made from, then deletes what is left of parts and traces that
/// nobody names. The parts are those that are `written`, or listed if that is not known.
pub(super) async fn publish(
    desk: &Desk,
    pages: &Pages,
    count: u16,
    now: Timestamp,
    written: Option<Written>,
) -> Result<StageReport> {
    let mut done = StageReport::default();
    let fence = Fence::begin(desk);
    let written = match written {
        Some(written) => written,
        None => pages.written(&desk.store).await?,
    };
    let parts: BTreeMap<String, String> = written
        .parts
        .iter()
        .filter(|(shard, _)| shard.count() == count)
        .map(|(shard, (object, _))| (shard.to_string(), object.etag.clone()))
        .collect();
    if parts.is_empty() || pages.listed(&desk.store).await?.is_some_and(|listed| listed == parts) {
        return Ok(done);
    }
    let of_count = written.parts.iter().filter(|(shard, _)| shard.count() == count);
    let known: Vec<&Part> = of_count.filter_map(|(_, (_, part))| part.as_deref()).collect();
    let list = join(parts, &known, desk.settings.max_handlers as usize);
    let body = serde_json::to_vec(&list).context("write the list of handlers")?;
    done.bytes_out += body.len() as u64;
    fence.allows_write()?;
    desk.store.overwrite(&Key::Site(SiteKey::Handlers), body.into()).await?;
    done.done += 1;
    done.add(tidy(desk, &fence, &written, count, now).await?);
    Ok(done)
}

/// The list: pure.
fn join(parts: BTreeMap<String, String>, known: &[&Part], most: usize) -> Handlers {
    let rows = || known.iter().flat_map(|part| &part.handlers).map(|line| &line.row);
    let weights = rows().filter(|row| !row.id.is_not_found()).map(|row| Weight {
        service: row.service.clone(),
        id: row.id.clone(),
        count: row.count,
        errors: row.errors,
    });
    let (dropped, more): (BTreeSet<HandlerId>, Vec<Others>) = summary::cut(weights, most);
    let mut others: BTreeMap<String, Others> = BTreeMap::new();
    for sum in known.iter().flat_map(|part| part.others.clone()).chain(more) {
        let all =
            others.entry(sum.service.clone()).or_insert_with(|| Others { service: sum.service, ..Others::default() });
        all.handlers += sum.handlers;
        all.count += sum.count;
        all.errors += sum.errors;
    }
    // A 404 list has pages like a handler, and a list of its own.
    let is_shown = |row: &&Row| !dropped.contains(&row.id) && !row.id.is_not_found();
    let mut handlers: Vec<Row> = rows().filter(is_shown).cloned().collect();
    summary::sort(&mut handlers);
    let mut not_found: Vec<_> = known.iter().flat_map(|part| &part.not_found).map(|list| list.row.clone()).collect();
    not_found.sort_by(|a, b| (&a.service, &a.namespace).cmp(&(&b.service, &b.namespace)));
    Handlers { version: SUMMARY_VERSION, parts, handlers, others: others.into_values().collect(), not_found }
}

/// Deletes documents that no part names, and parts of another number of shards once all of this one stand. Both only when
/// older than the grace: a publisher writes documents before the part that names them. One that dies in between leaves
/// some that no later part may ever name, if their handlers are gone by then.
pub(super) async fn tidy(
    desk: &Desk,
    fence: &Fence,
    written: &Written,
    count: u16,
    now: Timestamp,
) -> Result<StageReport> {
    let mut done = StageReport::default();
    let complete = Shard::all(count).all(|shard| written.part(shard).is_some());
    if !complete {
        return Ok(done);
    }
    let parts = || written.parts.values().filter_map(|(_, part)| part.as_deref());
    let lines = || parts().flat_map(|part| &part.handlers);
    let named: HashSet<&str> = lines().flat_map(|line| &line.large).map(String::as_str).collect();
    let handlers: HashSet<&HandlerId> = lines().map(|line| &line.row.id).collect();
    let extras: HashSet<SiteKey> = lines().flat_map(extras::keys).collect();
    let lists: HashSet<&str> = parts().flat_map(|part| &part.not_found).map(|list| list.row.list.as_str()).collect();
    for object in desk.store.list(&Prefix::Site).await?.objects {
        let goes = match &object.key {
            Key::Site(SiteKey::Trace(trace)) => !named.contains(trace.to_string().as_str()),
            Key::Site(SiteKey::Summary(id) | SiteKey::Traces(id)) => !handlers.contains(id),
            Key::Site(key @ SiteKey::Extra(..)) => !extras.contains(key),
            Key::Site(SiteKey::NotFound(list)) => !lists.contains(list.as_str()),
            Key::Site(SiteKey::Part(shard)) => shard.count() != count,
            _ => false,
        };
        if goes && has_stood(object.modified, now, desk.grace) && fence.allows_delete().is_ok() {
            desk.store.delete(&object.key).await?;
            done.deleted += 1;
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::publish::document::{MadeFrom, PartRow};

    fn part(handlers: &[(&str, u64)]) -> Part {
        let row = |(id, count): &(&str, u64)| {
            let id: HandlerId = id.parse().unwrap();
            let row = Row {
                service: id.service().to_owned(),
                id,
                aliases: Vec::new(),
                namespace: String::new(),
                kind: "http".to_owned(),
                name: String::new(),
                method: None,
                route: None,
                count: *count,
                errors: 0,
                last_ms: None,
                p50_ms: None,
                p95_ms: None,
                p99_ms: None,
                spark: Vec::new(),
                adopted: 0,
            };
            PartRow {
                row,
                inputs: String::new(),
                summary_etag: String::new(),
                traces: String::new(),
                traces_body: String::new(),
                traces_etag: String::new(),
                large: Vec::new(),
                extras: None,
            }
        };
        Part {
            made_from: MadeFrom::default(),
            spans_until_ms: 0,
            handlers: handlers.iter().map(row).collect(),
            others: vec![Others { service: "web".to_owned(), handlers: 1, count: 1, errors: 1 }],
            not_found: Vec::new(),
        }
    }

    #[test]
    fn parts_are_joined_and_the_rest_of_a_service_is_summed_up() {
        let parts = [part(&[("web/a-00000001", 5), ("api/b-00000002", 1)]), part(&[("web/c-00000003", 9)])];
        let list = join(BTreeMap::new(), &parts.iter().collect::<Vec<_>>(), 1);
        let ids: Vec<&str> = list.handlers.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(ids, ["api/b-00000002", "web/c-00000003"]);
        assert_eq!(list.others, [Others { service: "web".to_owned(), handlers: 3, count: 7, errors: 2 }]);
    }
}
