//! Traces that are carried over: what a page shows now it mostly showed before, and its document has the very rows.
//!
//! A document that stands under the etag that its part names had all rows of its traces that were there when the part was
//! written, where it says that they were looked for ([`Window`](crate::query::window::Window)). So only blocks that are new
//! since then ([`plan::fresh`](super::plan::fresh)) are asked for more: one request for the document instead of several for
//! each block of the week that may hold one of the slowest requests or the newest errors.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use futures::{StreamExt, TryStreamExt, stream};

use crate::error::{Result, told};
use crate::model::{HandlerId, TraceId};
use crate::query::AT_A_TIME;
use crate::query::pin::{self, Beside};
use crate::query::rows::{self, Traces};
use crate::store::layout::SiteKey;
use crate::store::{Key, Store, StoreErrorKind};

/// The rows of those of `traces` that `documents` (by handler: a hash of their bytes, and the etag that their part names)
/// have whole.
///
/// Nothing depends on them: a document that is gone, was written anew by somebody else, is damaged, or was written by a
/// program that did not tell where it had looked has none, and the traces are read from all blocks again.
///
/// # Errors
/// If the store fails.
pub async fn of(
    store: &Store,
    documents: &BTreeMap<HandlerId, (String, String)>,
    traces: &Arc<Traces>,
) -> Result<HashMap<TraceId, RecordBatch>> {
    let reads = stream::iter(documents).map(|(handler, (_, etag))| async move {
        let key = Key::Site(SiteKey::Traces(handler.clone()));
        let body = match store.get(&key).await {
            Ok((body, object)) if object.etag == *etag => body,
            Ok(_) => return Ok(HashMap::new()),
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(HashMap::new()),
            Err(error) => return Err(error.into()),
        };
        let traces = Arc::clone(traces);
        match crate::task::cpu(move || whole(&body, &traces)).await {
            Ok(whole) => Result::<_>::Ok(whole),
            Err(report) => {
                tracing::warn!(document = %key.path(), failure = told(&report), "the traces of a page are read anew");
                Ok(HashMap::new())
            }
        }
    });
    let mut reads = reads.buffer_unordered(AT_A_TIME);
    let mut all = HashMap::new();
    while let Some(whole) = reads.try_next().await? {
        all.extend(whole);
    }
    Ok(all)
}

/// The rows of those of `traces` that were looked for wherever they are looked for now. CPU only.
fn whole(body: &[u8], traces: &Traces) -> Result<HashMap<TraceId, RecordBatch>> {
    let (rows, Beside { looked_for, .. }) = pin::decode_document(body)?;
    let is_whole = |trace: &TraceId| {
        let wanted = traces.get(trace).zip(looked_for.get(&trace.to_string()));
        wanted.is_some_and(|(wanted, looked)| looked.join(*wanted) == *looked)
    };
    Ok(rows::by_trace(&rows)?.into_iter().filter(|(trace, _)| is_whole(trace)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Hour;
    use crate::query::window::Window;
    use crate::stage::testing::{MINUTE, START, Sent, World, clean, trace_id};

    #[tokio::test(start_paused = true)]
    async fn only_what_stands_as_it_was_written_is_carried_over_and_only_for_the_hours_it_was_looked_for_in() {
        let world = World::new();
        world.send("one", &[Sent::request(1, 1, "/a", START), Sent::inner(1, 2, 1, "db", START + MINUTE)]);
        world.take_in().await;
        world.publish().await;
        let at = world.desk().await;
        let site = at.desk.store.list(&crate::store::Prefix::Site).await.unwrap().objects;
        let found = site.into_iter().find_map(|object| match object.key {
            Key::Site(SiteKey::Traces(handler)) => Some((handler, object.etag)),
            _ => None,
        });
        let (handler, etag) = found.unwrap();
        let key = Key::Site(SiteKey::Traces(handler.clone()));
        let carried = async |etag: &str, first: i32, last: i32| {
            let hour = Hour::of_ns(START as i64);
            let traces =
                Traces::from([(trace_id(1), Window { first: hour.plus(first), last: hour.plus(last), near: None })]);
            let documents = [(handler.clone(), (String::new(), etag.to_owned()))].into();
            let carried = of(&at.desk.store, &documents, &Arc::new(traces)).await.unwrap();
            carried.get(&trace_id(1)).map_or(0, RecordBatch::num_rows)
        };
        assert_eq!((carried(&etag, -2, 1).await, carried(&etag, 0, 0).await), (2, 2));
        assert_eq!((carried(&etag, -3, 1).await, carried(&etag, -2, 2).await), (0, 0), "it was not looked for there");
        assert_eq!(carried("another", -2, 1).await, 0, "somebody else wrote it");

        // A document without the hours, as programs before wrote it, and a damaged one.
        let (body, _) = at.desk.store.get(&key).await.unwrap();
        let text = std::io::read_to_string(flate2::read::GzDecoder::new(&body[..])).unwrap();
        let mut document: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(document["tracefarm"].as_object_mut().unwrap().remove("looked_for").is_some());
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        serde_json::to_writer(&mut gzip, &document).unwrap();
        for body in [gzip.finish().unwrap(), b"garbage".to_vec()] {
            let etag = at.desk.store.overwrite(&key, body.into()).await.unwrap().etag;
            assert_eq!(carried(&etag, 0, 0).await, 0);
        }
        at.desk.store.delete(&key).await.unwrap();
        assert_eq!(carried(&etag, 0, 0).await, 0);
        clean(crate::stage::publish::run(&at.desk, &at.round).await.unwrap());
    }
}
