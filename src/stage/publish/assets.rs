//! The pages themselves ([`Site`]): `site/index.html` and the files that it names.
//!
//! Files go first, under names that hold their hash, then the index that names them: a process that dies in between
//! leaves files that nobody names. Those of another version go when an index of ours, which does not name them, has stood
//! for the grace: by then no page that is being loaded asks for them. Two workers of different versions write the index
//! over each other's, at most once an hour each, and both work: a worker deletes nothing that the index of the moment
//! names. Should an index come back whose files are being deleted just then, they are written again when it is looked
//! at next, after the grace.

use std::collections::HashSet;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::Pages;
use crate::error::Result;
use crate::query::AT_A_TIME;
use crate::site::Site;
use crate::stage::{Desk, Fence, StageReport};
use crate::store::layout::SiteKey;
use crate::store::{Key, Prefix, StoreErrorKind};
use crate::table::view::has_stood;

/// How often it is looked whether the pages stand as they should: a listing and a read.
const LOOK: Duration = Duration::from_secs(3600);

/// Writes what is missing of the pages of this program, and deletes files of others that no page names; looks only when
/// it is time. `now` is the store's time, as objects have it.
pub(super) async fn publish(desk: &Desk, pages: &Pages, now: Timestamp) -> Result<StageReport> {
    let mut done = StageReport::default();
    let began = desk.clock.monotonic();
    if !pages.assets_are_due(began) {
        return Ok(done);
    }
    let fence = Fence::begin(desk);
    let site = Site::of_this_program();
    let listed = desk.store.list(&Prefix::Assets).await?.objects;
    let stand: HashSet<&Key> = listed.iter().map(|object| &object.key).collect();
    let missing = site.assets.iter().filter_map(|asset| {
        let key = Key::Site(SiteKey::Asset(site.version, asset.name.to_owned()));
        (!stand.contains(&key)).then_some((key, asset.body))
    });
    let writes = stream::iter(missing).map(|(key, body)| async move { desk.store.create(&key, body.into()).await });
    let mut writes = writes.buffer_unordered(AT_A_TIME);
    while let Some(written) = writes.try_next().await? {
        done.done += 1;
        done.bytes_out += written.size_bytes;
    }
    let index = Key::Site(SiteKey::Index);
    let there = match desk.store.get(&index).await {
        Ok((body, object)) => (body == site.index).then_some(object),
        Err(error) if error.kind == StoreErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    match there {
        None => {
            fence.allows_write()?;
            desk.store.overwrite(&index, site.index.clone()).await?;
            done.done += 1;
            done.bytes_out += site.index.len() as u64;
        }
        Some(index) if has_stood(index.modified, now, desk.grace) => {
            for object in &listed {
                let is_ours = matches!(&object.key, Key::Site(SiteKey::Asset(version, _)) if *version == site.version);
                // One that is younger may be of a worker that has not come to its index yet.
                if !is_ours && has_stood(object.modified, now, desk.grace) && fence.allows_delete().is_ok() {
                    desk.store.delete(&object.key).await?;
                    done.deleted += 1;
                }
            }
        }
        Some(_) => {}
    }
    let changed = done.did_something();
    pages.look_at_assets(began + if changed { LOOK.min(desk.grace + Duration::from_secs(60)) } else { LOOK });
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::publish;
    use crate::stage::testing::{GRACE, World, clean, crash_at};
    use object_store::Attribute;

    const HOUR: u64 = 3600;

    async fn look(world: &World) -> StageReport {
        let at = world.desk().await;
        clean(publish::run(&at.desk, &at.round).await.unwrap())
    }

    fn folder() -> String {
        format!("site/assets/{:016x}/", Site::of_this_program().version)
    }

    fn files() -> Vec<String> {
        Site::of_this_program().assets.iter().map(|asset| format!("{}{}", folder(), asset.name)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_pages_stand_as_browsers_need_them_and_are_not_written_again() {
        let world = World::new();
        look(&world).await;
        assert_eq!(world.bucket.paths("site/assets/"), files());
        let header = |path: &str, name: Attribute| {
            let stored = world.bucket.read(path).unwrap();
            stored.attributes.get(&name).map(|value| value.as_ref().to_owned()).unwrap_or_default()
        };
        let index = world.bucket.read("site/index.html").unwrap();
        assert_eq!(index.body, Site::of_this_program().index);
        assert_eq!(header("site/index.html", Attribute::ContentType), "text/html; charset=utf-8");
        assert_eq!(header("site/index.html", Attribute::CacheControl), "no-cache");
        let main = format!("{}main.js", folder());
        assert_eq!(header(&main, Attribute::ContentType), "text/javascript; charset=utf-8");
        assert!(header(&main, Attribute::CacheControl).contains("immutable"));
        world.sleep(5).await;
        assert_eq!(look(&world).await.done, 0);
        assert_eq!(world.modified("site/index.html"), index.modified);
    }

    #[tokio::test(start_paused = true)]
    async fn files_of_another_version_go_when_no_page_has_named_them_for_the_grace() {
        let world = World::new();
        let old = "site/assets/0000000000000001/main.js";
        world.bucket.put(old, "old");
        world.bucket.put("site/index.html", "names the old one");
        world.sleep(2 * GRACE.as_secs()).await;
        look(&world).await;
        assert!(world.bucket.read(old).is_some(), "a page of before may be loading it");
        assert_eq!(world.bucket.read("site/index.html").unwrap().body, Site::of_this_program().index);
        // A newer worker has written its files, but not its index yet.
        world.sleep(GRACE.as_secs() + 2).await;
        let new = "site/assets/0000000000000002/main.js";
        world.bucket.put(new, "new");
        look(&world).await;
        assert!(world.bucket.read(old).is_none());
        assert!(world.bucket.read(new).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_gone_or_changed_is_written_again() {
        let world = World::new();
        look(&world).await;
        let gone = format!("{}main.js", folder());
        world.bucket.remove(&gone);
        world.bucket.put("site/index.html", "garbage");
        look(&world).await;
        assert_eq!(world.bucket.paths("site/assets/"), files());
        assert_eq!(world.bucket.read("site/index.html").unwrap().body, Site::of_this_program().index);
    }

    /// One worker asks an hour later again, or after the grace if it wrote something.
    #[tokio::test(start_paused = true)]
    async fn a_worker_looks_once_an_hour() {
        let world = World::new();
        let at = world.desk().await;
        let mut looks = Vec::new();
        for _ in 0..180 {
            let due = at.round.pages.assets_are_due(at.desk.clock.monotonic());
            looks.push(due);
            at.desk.heart.beat(&at.desk.store).await.unwrap();
            clean(publish::run(&at.desk, &at.round).await.unwrap());
            world.sleep(HOUR / 60).await;
        }
        assert_eq!(looks.iter().filter(|due| **due).count(), 4, "at once, after the grace, and each hour from there");
    }

    #[tokio::test(start_paused = true)]
    async fn dying_at_any_call_leaves_an_index_whose_files_are_there() {
        let (mut call, mut alive) = (0, false);
        while !alive {
            call += 1;
            for after in [false, true] {
                let world = World::new();
                let client = world.client(crash_at(call, after));
                let ended = client.live(async {
                    let at = world.sit(&client).await;
                    publish::run(&at.desk, &at.round).await.unwrap();
                });
                alive = ended.await.is_some();
                if let Some(index) = world.bucket.read("site/index.html") {
                    assert_eq!(index.body, Site::of_this_program().index);
                    assert_eq!(world.bucket.paths("site/assets/"), files(), "after dying at call {call}");
                }
                look(&world).await;
                assert_eq!(world.bucket.paths("site/assets/"), files());
                assert!(world.bucket.read("site/index.html").is_some());
            }
        }
        assert!(call > files().len(), "a round makes more calls than {call}");
    }
}
