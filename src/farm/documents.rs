//! The small documents that people change (settings, catalogue): numbered versions, each written once under its own
//! number, the highest counts (rule 7).
//!
//! Two who change one at once write the same next number; the store lets one of them, and the other reads again and
//! makes its change on top. A version is never written over, so a reader sees one version or another, never a mixture.
//! The newest [`KEPT`] versions stay: they are the history, and they are what makes the pruning of the others safe (see
//! [`change`]). Whoever still holds an old listing finds its version gone and lists again (rule 4).

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Mistake, Report, Result, ResultExt, bail, report};
use crate::store::{Key, Prefix, Store, StoreErrorKind};

/// How many versions stay. Small, so that one LIST page holds them; so many that nobody's listing is this many changes
/// old when it writes, but for the case that [`change`] looks for.
pub const KEPT: u64 = 100;

/// How often a lost race, or a version pruned under a reader's eyes, is tried again. Each try is lost only to somebody
/// else's success.
const ATTEMPTS: u32 = 50;

/// A kind of numbered document. Its default is what counts before anybody wrote a version: number 0.
pub trait Document: Clone + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync {
    /// What it is, for people, eg `settings`.
    const NOUN: &'static str;

    /// Where its versions are.
    fn prefix() -> Prefix;

    /// The key of version `number`.
    fn key(number: u64) -> Key;

    /// Which version `key` is, if it is one.
    fn number(key: &Key) -> Option<u64>;

    /// What is wrong with its values, as a sentence; asked when it is read and before it is written.
    fn check(&self) -> std::result::Result<(), String>;

    /// The bytes that are written. A document may leave out what it has by default, so that an older program refuses it
    /// only if it really holds something new.
    fn to_json(&self) -> serde_json::Result<serde_json::Value> {
        serde_json::to_value(self)
    }
}

/// The newest version and its number; number 0 and the default if none was ever written.
///
/// # Errors
/// If the store fails, or the newest version cannot be understood: the message says which object, where in it, and what
/// to do. It is never skipped in favour of an older one, because that would undo somebody's change in silence.
pub async fn load_newest<T: Document>(store: &Store) -> Result<(u64, T)> {
    load(store, 0).await
}

/// Like [`load_newest`], of versions from `at_least` on: a listing may not show yet what somebody just wrote.
async fn load<T: Document>(store: &Store, at_least: u64) -> Result<(u64, T)> {
    for _ in 0..ATTEMPTS {
        let number = numbers::<T>(store).await?.last().copied().unwrap_or(0).max(at_least);
        if number == 0 {
            return Ok((0, T::default()));
        }
        match store.get(&T::key(number)).await {
            Ok((body, _)) => return Ok((number, parse(number, &body)?)),
            // Pruned since the listing, so there are newer ones: list again (rule 4).
            Err(error) if error.kind == StoreErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!("{} were changed faster than they could be read, {ATTEMPTS} times in a row", T::NOUN)
}

/// Makes a new version out of the newest one: `edit` is given its number and its value, and is called again on a newer
/// one if somebody else was faster. Returns the version that counts now; nothing is written if nothing differs, except
/// that the first version is always written.
///
/// If the process dies before the one write, nothing happened; after it, the change counts, and old versions are pruned
/// by the next change.
///
/// # Errors
/// Those of `edit`; a [`Mistake`] if the new value makes no sense; what the store says.
pub async fn change<T: Document>(store: &Store, edit: impl Fn(u64, &T) -> Result<T>) -> Result<(u64, T)> {
    let mut at_least = 0;
    for _ in 0..ATTEMPTS {
        let (number, old) = load::<T>(store, at_least).await?;
        let new = edit(number, &old)?;
        new.check().map_err(|sentence| report!(Mistake(sentence)).into_dynamic())?;
        if new == old && number > 0 {
            return Ok((number, old));
        }
        let next = number
            .checked_add(1)
            .ok_or_else(|| report!("there is no number after that of {}", T::key(number).path()))?;
        let json = new.to_json().context_with(|| format!("write {} as JSON", T::NOUN))?;
        match store.create(&T::key(next), format!("{json:#}\n").into()).await {
            Ok(_) => {}
            // Somebody was faster. Their version is the least that the next try builds on, even if a listing does not
            // show it yet.
            Err(error) if error.kind == StoreErrorKind::AlreadyExists => {
                at_least = next;
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        let numbers = numbers::<T>(store)
            .await
            .context_with(|| format!("confirm {} (it was written; look whether it counts)", T::key(next).path()))?;
        let newest = numbers.last().copied().unwrap_or(next);
        // Between our listing and our write everything may have happened: if we slept so long that our number was
        // used, pruned, and so free again, our version lies deep below the newest and does not count. Only a number at
        // least KEPT below the newest can have been pruned; so if ours is that deep, do it again on the newest.
        if newest >= next.saturating_add(KEPT) {
            at_least = newest;
            continue;
        }
        prune::<T>(store, &numbers, newest).await;
        return Ok((next, new));
    }
    bail!("{} were changed by others {ATTEMPTS} times in a row; nothing was written", T::NOUN)
}

/// Deletes versions below the newest [`KEPT`]. Whoever prunes by an old listing knows a lower newest number and deletes
/// less; two at once delete the same.
async fn prune<T: Document>(store: &Store, numbers: &[u64], newest: u64) {
    for number in numbers.iter().filter(|number| number.saturating_add(KEPT) <= newest) {
        // The change is made; that an old version stays is no reason to say that it failed. The next change tries again.
        if let Err(error) = store.delete(&T::key(*number)).await {
            tracing::debug!(%error, "an old version of {} stays for now", T::NOUN);
        }
    }
}

/// The listed numbers, ascending.
async fn numbers<T: Document>(store: &Store) -> Result<Vec<u64>> {
    let listing = store.list(&T::prefix()).await.context_with(|| format!("list the versions of {}", T::NOUN))?;
    let mut numbers: Vec<u64> = listing.objects.iter().filter_map(|object| T::number(&object.key)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Version `number` from its bytes.
fn parse<T: Document>(number: u64, body: &[u8]) -> Result<T> {
    let path = T::key(number).path();
    let json = &mut serde_json::Deserializer::from_slice(body);
    let value: T = match serde_path_to_error::deserialize(json) {
        Ok(value) => value,
        Err(error) => {
            let advice = match error.inner().classify() {
                serde_json::error::Category::Data => {
                    "A newer tracefarm may have written it: update this program, or set the value again with the newer one."
                }
                _ => "It is damaged: restore it, or delete it and the version before it counts.",
            };
            return Err(report!("cannot read the {} in {path}: {error}. {advice}", T::NOUN));
        }
    };
    value.check().map_err(|sentence| -> Report { report!("cannot use the {} in {path}: {sentence}", T::NOUN) })?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, Default, PartialEq, Serialize, serde::Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Tally {
        done: Vec<u32>,
    }

    impl Document for Tally {
        const NOUN: &'static str = "settings";

        fn prefix() -> Prefix {
            Prefix::Settings
        }

        fn key(number: u64) -> Key {
            Key::Settings(number)
        }

        fn number(key: &Key) -> Option<u64> {
            if let Key::Settings(number) = key { Some(*number) } else { None }
        }

        fn check(&self) -> std::result::Result<(), String> {
            if self.done.contains(&13) { Err("13 is no number to be done".to_owned()) } else { Ok(()) }
        }
    }

    fn add(n: u32) -> impl Fn(u64, &Tally) -> Result<Tally> {
        move |_, old| {
            let mut new = old.clone();
            new.done.push(n);
            Ok(new)
        }
    }

    async fn memory() -> Store {
        let clock = crate::clock::Clock::simulated("2026-11-22T14:00:00Z".parse().unwrap(), 1);
        Store::open("memory://", &crate::store::OpenOptions::default(), clock).await.unwrap()
    }

    #[tokio::test]
    async fn nothing_written_is_number_zero_and_the_default() {
        assert_eq!(load_newest::<Tally>(&memory().await).await.unwrap(), (0, Tally::default()));
    }

    #[tokio::test]
    async fn changes_made_at_once_all_count() {
        let store = memory().await;
        let changes = (0..20).filter(|n| *n != 13).map(|n| {
            let store = store.clone();
            async move { change(&store, add(n)).await.unwrap() }
        });
        futures::future::join_all(changes).await;
        let (number, mut tally) = load_newest::<Tally>(&store).await.unwrap();
        tally.done.sort_unstable();
        assert_eq!(number, 19);
        assert_eq!(tally.done, (0..20).filter(|n| *n != 13).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_change_that_changes_nothing_writes_nothing_and_one_without_sense_is_refused() {
        let store = memory().await;
        change(&store, add(1)).await.unwrap();
        assert_eq!(change::<Tally>(&store, |_, old| Ok(old.clone())).await.unwrap().0, 1);
        let refused = change(&store, add(13)).await.unwrap_err();
        assert_eq!(crate::error::find::<Mistake>(&refused).unwrap().0, "13 is no number to be done");
        assert_eq!(load_newest::<Tally>(&store).await.unwrap().0, 1);
    }

    #[tokio::test]
    async fn the_newest_hundred_versions_stay() {
        let store = memory().await;
        for n in 100..230 {
            change(&store, add(n)).await.unwrap();
        }
        assert_eq!(numbers::<Tally>(&store).await.unwrap(), (31..=130).collect::<Vec<_>>());
    }

    /// A writer sleeps between its listing and its write until its number has been used and pruned. The write goes
    /// through, but counts for nothing: it must be noticed and done again.
    #[tokio::test]
    async fn a_number_that_was_pruned_and_is_free_again_does_not_swallow_a_change() {
        let store = memory().await;
        change(&store, add(1)).await.unwrap();
        let slept = std::cell::Cell::new(false);
        let (number, tally) = change(&store, |number, old: &Tally| {
            if !slept.replace(true) {
                assert_eq!(number, 1);
                // Others make 150 changes meanwhile, and version 2 is pruned.
                let store = store.clone();
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                        runtime.block_on(async {
                            for n in 1000..1150 {
                                change(&store, add(n)).await.unwrap();
                            }
                            assert!(store.get(&Key::Settings(2)).await.is_err());
                        });
                    });
                });
            }
            add(2)(number, old)
        })
        .await
        .unwrap();
        assert_eq!(number, 152);
        assert_eq!(load_newest::<Tally>(&store).await.unwrap(), (number, tally.clone()));
        assert_eq!((tally.done.len(), tally.done[0], tally.done[151]), (152, 1, 2));
    }

    #[tokio::test]
    async fn a_document_of_a_newer_program_and_a_damaged_one_are_told_apart() {
        let store = memory().await;
        store.create(&Key::Settings(7), r#"{"done":[1],"colour":3}"#.into()).await.unwrap();
        let newer = load_newest::<Tally>(&store).await.unwrap_err().to_string();
        assert!(newer.contains(&Key::Settings(7).path()) && newer.contains("colour"), "{newer}");
        assert!(newer.contains("A newer tracefarm may have written it"), "{newer}");
        store.create(&Key::Settings(8), r#"{"done":[1,"#.into()).await.unwrap();
        let damaged = load_newest::<Tally>(&store).await.unwrap_err().to_string();
        assert!(damaged.contains(&Key::Settings(8).path()) && damaged.contains("damaged"), "{damaged}");
        store.create(&Key::Settings(9), r#"{"done":[1,"x"]}"#.into()).await.unwrap();
        let wrong = load_newest::<Tally>(&store).await.unwrap_err().to_string();
        assert!(wrong.contains("done[1]"), "{wrong}");
    }
}
