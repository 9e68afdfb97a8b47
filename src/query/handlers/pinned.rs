//! What pins say of a handler: names and references of traces that no block holds any more.

use futures::{StreamExt, TryStreamExt, stream};

use crate::error::{Result, ResultExt, is_not_found, store_kind, told};
use crate::farm::Settings;
use crate::handler;
use crate::model::{Hour, Table};
use crate::query::columns::Entries;
use crate::query::{AT_A_TIME, pin};
use crate::store::layout::PinKey;
use crate::store::{Key, Store};
use crate::table::digest::{Digest, HandlerDigest};
use crate::table::order;

/// The digest of the entries of these pins' handlers in these pins. A damaged pin is left out, with a warning.
///
/// # Errors
/// Those of the store; not found if a pin went right now: list again.
pub async fn digest(store: &Store, settings: &Settings, pins: &[&PinKey]) -> Result<HandlerDigest> {
    let reads = stream::iter(pins.to_vec()).map(|pin| async move {
        match of_pin(store, settings, pin).await {
            Err(report) if is_not_found(&report) || store_kind(&report).is_some() => Err(report),
            Err(report) => {
                let path = Key::Pin(pin.clone()).path();
                tracing::warn!(pin = path, failure = told(&report), "a pin is left out of the list");
                Ok(HandlerDigest::default())
            }
            digest => digest,
        }
    });
    let mut all = HandlerDigest::default();
    let mut reads = reads.buffered(AT_A_TIME);
    while let Some(more) = reads.try_next().await? {
        all.merge(&more);
    }
    Ok(all)
}

async fn of_pin(store: &Store, settings: &Settings, pin: &PinKey) -> Result<HandlerDigest> {
    let rows = pin::read(store, pin).await?;
    // The rules that told the handlers are those of the entry's hour: with the same rules they tell the same again.
    let rules = settings.rules.at(Hour::of_ns(pin.start_ns));
    let entries = handler::entries(&rows, rules).context("tell the handlers of a pin's entries")?;
    let Digest { mut handlers } = crate::table::digest::digest(&order::union(Table::Entries, &[entries])?)?;
    Ok(handlers.remove(&pin.handler).unwrap_or_default())
}

/// The requests of the pin's handler in a pin: when, method, path.
pub async fn requests(store: &Store, settings: &Settings, pin: &PinKey) -> Result<Vec<(i64, (String, String))>> {
    let rows = pin::read(store, pin).await?;
    let rules = settings.rules.at(Hour::of_ns(pin.start_ns));
    let entries = handler::entries(&rows, rules).context("tell the handlers of a pin's entries")?;
    let columns = Entries::of(&entries)?;
    let own = (0..columns.len()).filter(|row| columns.handler.get(*row) == Some(pin.handler.as_str()));
    let request = |row| (columns.method.or_empty(row).to_owned(), columns.path.or_empty(row).to_owned());
    Ok(own.map(|row| (columns.placed(row).time_ns, request(row))).collect())
}
