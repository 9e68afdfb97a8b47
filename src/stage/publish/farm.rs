//! `site/farm.json`: who works, what waits, what fails; for a page that cannot list a store.
//!
//! Rank 0 writes it with the list of handlers, at most every two minutes, and every ten minutes where nothing changes (what
//! fails may be the reason). It costs two listings and a read of each heartbeat: a cent a day. It is derived, and may be written over:
//! of two that write it at once the later one counts, and a farm that is gone leaves the last that was said.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
#[cfg(test)]
use schemars::JsonSchema;
use serde::Serialize;

use super::Pages;
use super::document::SUMMARY_VERSION;
use crate::error::{Result, ResultExt};
use crate::farm::record::Backlog;
use crate::query::status::{self, Quarantined, Today, Worker};
use crate::stage::{Desk, StageReport};
use crate::store::layout::SiteKey;
use crate::store::{Key, Prefix};

/// How often at most.
pub(crate) const SHORTEST: Duration = Duration::from_secs(120);

/// How often at least.
pub(crate) const LONGEST: Duration = Duration::from_secs(600);

/// `site/farm.json`
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Farm {
    /// [`SUMMARY_VERSION`]
    pub version: u32,
    /// When this was written, by the store's clock; milliseconds since 1970. Ages are as of then.
    pub written_ms: i64,
    /// In how many seconds it is written again at the latest, as long as a worker is alive.
    pub again_seconds: u64,
    /// The workers by their heartbeats, of which the dead ones' stay for a day.
    pub workers: Vec<Worker>,
    /// What waits to be indexed; none if no worker has told.
    pub backlog: Option<Backlog>,
    /// Input that could not be read, by reason.
    pub quarantine: BTreeMap<String, Quarantined>,
    /// Blocks that are damaged and skipped.
    pub damaged_blocks: Vec<String>,
    /// What the workers have spent today (UTC), as far as they tell.
    pub today: Today,
    /// How many shards there are.
    pub shards: u16,
}

/// Writes it if it is time; `is_new`: the list of handlers was written in this round. `now` is the store's time, as objects
/// have it.
pub(super) async fn publish(desk: &Desk, pages: &Pages, is_new: bool, now: Timestamp) -> Result<StageReport> {
    let mut done = StageReport::default();
    let at = desk.clock.monotonic();
    let least = if is_new { SHORTEST } else { LONGEST };
    if pages.farm_written().is_some_and(|written| at.saturating_sub(written) < least) {
        return Ok(done);
    }
    let shards = *desk.settings.shards.last();
    let workers = status::workers(&desk.store, Some(&desk.heart), shards, now).await?;
    let (quarantine, damaged_blocks) = status::quarantine(&desk.store.list(&Prefix::Quarantine).await?, now);
    let farm = Farm {
        version: SUMMARY_VERSION,
        written_ms: now.as_millisecond(),
        again_seconds: LONGEST.as_secs(),
        backlog: status::backlog(&workers),
        today: status::today(&workers, now),
        workers,
        quarantine,
        damaged_blocks,
        shards,
    };
    let body = serde_json::to_vec(&farm).context("write what the farm does")?;
    done.bytes_out += body.len() as u64;
    desk.store.overwrite(&Key::Site(SiteKey::Farm), body.into()).await?;
    pages.write_farm(at);
    Ok(done)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::stage::publish;
    use crate::stage::testing::{START, Sent, World, clean};

    async fn publish(world: &World) {
        let at = world.desk().await;
        clean(publish::run(&at.desk, &at.round).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn it_tells_who_works_what_waits_and_what_could_not_be_read() {
        let world = World::new();
        world.send("one", &[Sent::request(1, 1, "/a", START)]);
        world.bucket.put("inbox/bad.json", "{\"resourceSpans\": [nonsense");
        world.take_in().await;
        publish(&world).await;
        let farm: Value = world.site("site/farm.json");
        let alive: Vec<&Value> =
            farm["workers"].as_array().unwrap().iter().filter(|worker| worker["alive"] == true).collect();
        assert_eq!(alive.last().unwrap()["name"], "test");
        let quarantine = farm["quarantine"].as_object().unwrap();
        let objects: u64 = quarantine.values().map(|reason| reason["objects"].as_u64().unwrap()).sum();
        assert_eq!(objects, 1, "{farm:#}");
        assert_eq!((farm["shards"].as_u64(), farm["damaged_blocks"].as_array().unwrap().len()), (Some(1), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_written_every_ten_minutes_though_nothing_changes() {
        let world = World::new();
        let mut at = world.desk().await;
        at.desk.once = false;
        let mut writes = Vec::new();
        for second in 0..1_500 {
            if second % 10 == 0 {
                at.desk.heart.beat(&at.desk.store).await.unwrap();
                let before = world.bucket.read("site/farm.json").map(|stored| stored.modified);
                clean(publish::run(&at.desk, &at.round).await.unwrap());
                if world.bucket.read("site/farm.json").map(|stored| stored.modified) != before {
                    writes.push(second);
                }
            }
            world.sleep(1).await;
        }
        // The first round writes the list, too; nothing changes afterwards.
        assert_eq!(writes.len(), 3, "{writes:?}");
        assert!(writes.windows(2).all(|pair| (590..=620).contains(&(pair[1] - pair[0]))), "{writes:?}");
    }
}
