//! What is not a block: pins, and the small documents.

use std::collections::BTreeMap;
use std::io::Read;

use futures::{StreamExt, stream};

use super::Check;
use crate::error::{Report, Result, is_not_found, store_kind};
use crate::farm::documents::Document;
use crate::farm::settings::Settings;
use crate::handler::catalogue::Catalogue;
use crate::model::Hour;
use crate::query::columns::Spans;
use crate::query::{AT_A_TIME, Reader, pin};
use crate::stage::Monitor;
use crate::store::layout::{PinKey, SiteKey};
use crate::store::{Key, Listing, Stage};

/// Reads every pin and every document.
pub(super) async fn check(
    reader: &Reader,
    everything: &Listing,
    pins: Vec<PinKey>,
    monitor: &dyn Monitor,
    check: &mut Check,
) -> Result<()> {
    monitor.begin(Stage::Read, pins.len() as u64, 0);
    let mut read = stream::iter(pins)
        .map(|key| async move {
            let wrong = broken_pin(reader, &key).await;
            (key, wrong)
        })
        .buffer_unordered(AT_A_TIME);
    let mut broken = BTreeMap::new();
    while let Some((key, wrong)) = read.next().await {
        monitor.advance(Stage::Read, 1, 0);
        if let Some(wrong) = wrong? {
            broken.insert(Key::Pin(key).path(), wrong);
        }
    }
    drop(read);
    monitor.end(Stage::Read);
    for (object, wrong) in broken {
        check.violated(object, wrong);
    }
    let documents = everything.objects.iter().filter(|object| is_document(&object.key));
    let mut read = stream::iter(documents)
        .map(|object| async move { (object.key.path(), broken_document(reader, &object.key).await) })
        .buffered(AT_A_TIME);
    while let Some((object, wrong)) = read.next().await {
        if let Some(wrong) = wrong? {
            check.violated(object, wrong);
        }
    }
    Ok(())
}

/// What is wrong with a pin, for a person; nothing if it went away.
async fn broken_pin(reader: &Reader, key: &PinKey) -> Result<Option<String>> {
    let rows = match pin::read(&reader.store, key).await {
        Ok(rows) => rows,
        Err(report) => return unless_gone(report),
    };
    let hash = pin::rows_hash(&rows)?;
    if hash != key.rows {
        return Ok(Some(format!("its rows hash to {hash:016x}: it is not whole")));
    }
    let spans = Spans::of(&rows)?;
    if (0..spans.len()).any(|row| spans.trace(row) != key.trace) {
        return Ok(Some("it holds spans of another trace".to_owned()));
    }
    let holds_its_entry = (0..spans.len()).filter(|row| spans.is_entry(*row)).any(|row| {
        let placed = spans.placed(row);
        // A row without a possible time counts by when it came. Of its copies the earliest stays, and the name may be of
        // a later one that was met first.
        placed.time_ns == key.start_ns || placed.hour == Hour::EPOCH && placed.time_ns <= key.start_ns
    });
    Ok((!holds_its_entry).then(|| format!("it holds no entry of {}, for which it stands", key.handler)))
}

fn is_document(key: &Key) -> bool {
    match key {
        Key::Inbox(_) | Key::Block(_) | Key::Pin(_) | Key::Quarantine(_) | Key::Strike(..) | Key::Forget(_) => false,
        Key::Site(SiteKey::Index | SiteKey::Asset(..)) => false,
        // Whatever a user's own program wrote.
        Key::Site(SiteKey::Extra(..)) => false,
        Key::Site(_)
        | Key::QuarantineError(_)
        | Key::BadBlock(_)
        | Key::Settings(_)
        | Key::Catalogue(_)
        | Key::Heartbeat(..)
        | Key::Pinned(..)
        | Key::Ledger(..) => true,
    }
}

/// What is wrong with a document, for a person; nothing if it went away.
async fn broken_document(reader: &Reader, key: &Key) -> Result<Option<String>> {
    let body = match reader.store.get(key).await {
        Ok((body, _)) => body,
        Err(error) => return unless_gone(error.into()),
    };
    let read = match key {
        Key::Settings(_) => serde_json::from_slice::<Settings>(&body).map(|settings| settings.check().err()),
        Key::Catalogue(_) => serde_json::from_slice::<Catalogue>(&body).map(|catalogue| catalogue.check().err()),
        Key::Site(SiteKey::Traces(_) | SiteKey::Trace(_)) => {
            let mut text = Vec::new();
            if let Err(error) = flate2::read::MultiGzDecoder::new(&body[..]).read_to_end(&mut text) {
                return Ok(Some(format!("it is no gzip: {error}")));
            }
            serde_json::from_slice::<serde::de::IgnoredAny>(&text).map(|_| None)
        }
        _ => serde_json::from_slice::<serde::de::IgnoredAny>(&body).map(|_| None),
    };
    Ok(read.unwrap_or_else(|error| Some(format!("it cannot be understood: {error}"))))
}

/// A violation, unless the object is gone (it was replaced) or the store failed.
fn unless_gone(report: Report) -> Result<Option<String>> {
    match store_kind(&report) {
        _ if is_not_found(&report) => Ok(None),
        Some(_) => Err(report),
        None => Ok(Some(report.to_string())),
    }
}
