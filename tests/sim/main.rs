//! The proof that nothing is ever lost: one to three logical workers over one simulated store, with faults, crashes
//! between any two calls, listings whose pages are taken at different moments, zombies and moved clocks. After every
//! change a naive model, which knows nothing of blocks and plans, looks whether a span, or a handler's newest trace, is
//! gone; when everything has come to rest, whether anything is left over.
//!
//! `TRACEFARM_SIM_SEEDS=1000 cargo test --test sim` runs more seeds, `TRACEFARM_SIM_SEED=17` that one alone.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "these are tests")]

mod farm;
mod hazards;
mod look;
mod model;
mod random;
mod scene;
mod spans;
mod strikes;
mod world;

/// The seeds of a quick run, or those that were asked for.
fn seeds(quick: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    match (number("TRACEFARM_SIM_SEED"), number("TRACEFARM_SIM_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, Some(count)) => (0..count).collect(),
        (None, None) => (0..quick).collect(),
    }
}

#[test]
fn nothing_is_lost_whatever_happens() {
    play(seeds(40), random::run);
}

#[test]
fn readers_see_every_span_while_blocks_are_merged() {
    play(seeds(5), random::reading);
}

#[test]
fn nothing_is_lost_by_workers_that_loop() {
    play(seeds(6), random::looping);
}

#[test]
fn an_object_that_kills_is_quarantined_after_its_third_lonely_death_and_no_other() {
    play(seeds(12), strikes::run);
}

/// Plays every seed, and says which failed.
fn play(seeds: Vec<u64>, run: fn(u64)) {
    let fails = |seed: &u64| std::panic::catch_unwind(|| run(*seed)).is_err();
    let failed: Vec<u64> = seeds.into_iter().filter(fails).collect();
    assert!(failed.is_empty(), "seeds {failed:?} failed: TRACEFARM_SIM_SEED=<seed> plays one again");
}

/// The harness itself: a loss is seen at the very call that makes it.
#[test]
fn a_loss_is_seen() {
    use object_store::ObjectStoreExt;
    farm::simulate(async {
        let world = world::World::new(1, "2026-11-20T10:20:00Z".parse().unwrap(), 10);
        let mut maker = spans::Maker::new(1);
        let trace = maker.trace(world.now(), 3);
        let (kept, lost) = (world.arrive(&trace, spans::Form::Json), world.arrive(&trace, spans::Form::Proto));
        let client = world::calm(&world.bucket, "w1");
        client.delete(&kept.as_str().into()).await.unwrap();
        assert!(!world.is_wrong(), "a copy is still there");
        client.delete(&lost.as_str().into()).await.unwrap();
        assert!(world.is_wrong());
    });
}
