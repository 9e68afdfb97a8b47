//! Pages on a simulated store: what is written, what is not written again, what never appears.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::document::{Handlers, NotFound, Part, Summary};
use crate::handler::catalogue::ExplicitRoute;
use crate::model::HandlerId;
use crate::stage::testing::{MINUTE, START, Sent, World, clean, trace_id};
use crate::stage::{forget, publish};
use crate::store::Key;
use crate::store::fault::{CallKind, Client, Fate, Incident};

const DAY: u64 = 24 * 3600;

fn spans() -> Vec<Sent> {
    let mut all = Vec::new();
    for number in 1..=12 {
        let start = START + number * MINUTE;
        all.push(Sent { duration: number * 1_000_000, ..Sent::request(number, 1, "/users/:id", start) });
        all.push(Sent { duration: 1_000, ..Sent::inner(number, 2, 1, "db", start + 1) });
    }
    all.push(Sent { status: Some(500), ..Sent::request(21, 1, "/b", START) });
    all.push(Sent::not_found(31, 1, "/users/7", START + 1));
    all.push(Sent::not_found(32, 1, "/users/7/x", START + 2));
    all
}

async fn filled(world: &World) {
    let spans = spans();
    for (number, chunk) in spans.chunks(9).enumerate() {
        world.send(&format!("{number}"), chunk);
    }
    world.take_in().await;
}

fn list(world: &World) -> Handlers {
    world.site("site/handlers.json")
}

fn summary(world: &World, part: &str) -> Summary {
    let list = list(world);
    let id = &list.handlers.iter().find(|row| row.id.as_str().contains(part)).unwrap().id;
    world.site(&format!("site/handlers/{id}/summary.json"))
}

/// A document of traces.
fn document(world: &World, path: &str) -> serde_json::Value {
    let stored = world.bucket.read(path).unwrap();
    serde_json::from_reader(flate2::read::MultiGzDecoder::new(&stored.body[..])).unwrap()
}

/// The trace ids in a handler's document of traces, and how many spans it has.
fn traces(world: &World, id: &HandlerId) -> (BTreeSet<String>, usize) {
    let document = document(world, &format!("site/handlers/{id}/traces.json.gz"));
    let resources = document["resourceSpans"].as_array().unwrap().iter();
    let scopes = resources.flat_map(|resource| resource["scopeSpans"].as_array().unwrap());
    let spans: Vec<_> = scopes.flat_map(|scope| scope["spans"].as_array().unwrap().clone()).collect();
    assert_eq!(document["tracefarm"]["received"].as_array().unwrap().len(), spans.len());
    (spans.iter().map(|span| span["traceId"].as_str().unwrap().to_owned()).collect(), spans.len())
}

/// The documents that stand, and when each was written.
fn written(world: &World) -> Vec<(String, jiff::Timestamp)> {
    let documents = world.bucket.paths("site/").into_iter();
    let is_page = |path: &String| path == "site/index.html" || path.starts_with("site/assets/");
    let documents = documents.filter(|path| !is_page(path) && path != "site/farm.json");
    documents.map(|path| (path.clone(), world.modified(&path))).collect()
}

#[tokio::test(start_paused = true)]
async fn every_handler_has_its_numbers_and_its_newest_traces_whole() {
    for shards in [1, 4] {
        let mut world = World::new();
        world.settings.shards = crate::farm::settings::Timeline::always(shards);
        filled(&world).await;
        world.publish().await;
        world.publish().await;
        let list = list(&world);
        let counts: Vec<(&str, u64, u64)> =
            list.handlers.iter().map(|row| (row.name.as_str(), row.count, row.errors)).collect();
        assert_eq!(counts, [("GET /users/{id}", 12, 0), ("GET /b", 1, 1)]);
        let users = summary(&world, "users");
        assert_eq!(users.newest.len(), 10);
        assert_eq!(users.newest[0].trace_id, trace_id(12).to_string());
        assert_eq!(users.slowest.iter().map(|entry| entry.duration_ms).collect::<Vec<_>>(), [12.0, 11.0, 10.0]);
        assert_eq!(users.statuses["200"], 12);
        assert_eq!(users.history.iter().map(|point| point.count).sum::<u64>(), 12);
        assert_eq!(users.histogram.iter().map(|bar| bar.count).sum::<u64>(), 12);
        assert_eq!(traces(&world, &users.handler.id), ((3..=12).map(|n| trace_id(n).to_string()).collect(), 20));
        assert_eq!(summary(&world, "get-b").newest_errors.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_route_and_the_404s_it_would_have_taken_are_shown_on_both_sides() {
    for shards in [1, 4] {
        let mut world = World::new();
        world.settings.shards = crate::farm::settings::Timeline::always(shards);
        let route = ExplicitRoute {
            service: "web".to_owned(),
            namespace: String::new(),
            method: "GET".to_owned(),
            route: "/users/{id}/x".to_owned(),
            added: Some("2026-11-22T14:00:00.5Z".parse().unwrap()),
        };
        let told = world.catalogue.1.add(route).unwrap();
        world.catalogue.0 = 1;
        filled(&world).await;
        // A part sees the routes of the other parts once they are there.
        for _ in 0..3 {
            world.publish().await;
        }
        let list = list(&world);
        assert_eq!(list.not_found.len(), 1);
        let not_found: NotFound = world.site(&format!("site/not-found/{}.json", list.not_found[0].list));
        let matches: Vec<(&str, Vec<HandlerId>)> =
            not_found.requests.iter().map(|request| (request.path.as_str(), request.matches.clone())).collect();
        let users = summary(&world, "users-id");
        assert_eq!(matches, [("/users/7/x", vec![told.id.clone()]), ("/users/7", vec![users.handler.id.clone()])]);
        assert_eq!(users.adopted.len(), 1, "{users:?}");
        assert_eq!(users.adopted[0].newest.trace_id, trace_id(31).to_string());
        let explicit: Summary = world.site(&format!("site/handlers/{}/summary.json", told.id));
        assert_eq!((explicit.handler.count, explicit.handler.adopted), (0, 1));
        assert_eq!((explicit.route_added_ms, users.route_added_ms), (Some(1_795_356_000_500), None));
    }
}

#[tokio::test(start_paused = true)]
async fn what_did_not_change_is_not_written_again() {
    let world = World::new();
    filled(&world).await;
    assert!(world.publish().await.done > 0);
    world.sleep(5).await;
    let stood = written(&world);
    assert_eq!(world.publish().await.done, 0);
    assert_eq!(written(&world), stood);
    // A trace of one handler: the other's documents stay.
    world.send("more", &[Sent::request(99, 1, "/b", START + 20 * MINUTE)]);
    world.take_in().await;
    world.publish().await;
    let changed: Vec<String> =
        written(&world).into_iter().filter(|now| !stood.contains(now)).map(|(path, _)| path).collect();
    assert!(changed.iter().all(|path| !path.contains("users")), "{changed:?}");
    assert_eq!(changed.iter().filter(|path| path.contains("get-b")).count(), 2, "{changed:?}");
    // Everything is made again.
    let at = world.desk().await;
    assert_eq!(publish::rebuild(&at.desk.store).await.unwrap(), 1);
    world.publish().await;
    assert!(written(&world).iter().all(|now| !stood.contains(now)));
}

#[tokio::test(start_paused = true)]
async fn a_late_span_of_a_trace_that_is_shown_is_shown() {
    let world = World::new();
    filled(&world).await;
    world.publish().await;
    let id = summary(&world, "users").handler.id;
    world.send("late", &[Sent::inner(5, 9, 1, "cache", START + 5 * MINUTE + 7)]);
    world.take_in().await;
    world.publish().await;
    assert_eq!(traces(&world, &id).1, 21);
}

/// Hours before all others.
const MORNING: u64 = START - 240 * MINUTE;

/// The slowest request.
fn slow() -> Sent {
    Sent { duration: 9_000_000_000, ..Sent::request(50, 1, "/users/:id", MORNING) }
}

/// Notes which blocks of spans are read.
fn noted(world: &World) -> (Client, Arc<Mutex<BTreeSet<String>>>) {
    let read = Arc::new(Mutex::new(BTreeSet::new()));
    let notes = read.clone();
    let client = world.client(Box::new(move |call| {
        if call.kind == CallKind::Get && call.path.starts_with("spans/") {
            notes.lock().unwrap().insert(call.path.clone());
        }
        Fate::calm()
    }));
    (client, read)
}

#[tokio::test(start_paused = true)]
async fn traces_that_a_page_shows_already_are_not_looked_for_in_old_blocks() {
    let world = World::new();
    filled(&world).await;
    world.send("slow", &[slow(), Sent::inner(50, 2, 1, "db", MORNING + 7)]);
    world.take_in().await;
    let (client, read) = noted(&world);
    let at = world.sit(&client).await;
    clean(publish::run(&at.desk, &at.round).await.unwrap());
    let id = summary(&world, "users").handler.id;
    assert_eq!(traces(&world, &id).1, 22);
    let of_the_morning = |paths: &BTreeSet<String>| paths.iter().any(|path| path.contains("T10"));
    for damaged in [false, true] {
        let number = 60 + u64::from(damaged);
        world.send(&format!("{number}"), &[Sent::request(number, 1, "/users/:id", START + 20 * MINUTE + number)]);
        world.take_in().await;
        if damaged {
            world.bucket.put(&format!("site/handlers/{id}/traces.json.gz"), "garbage");
        }
        at.desk.heart.beat(&at.desk.store).await.unwrap();
        // What footers say is known.
        read.lock().unwrap().clear();
        clean(publish::run(&at.desk, &at.round).await.unwrap());
        let read = read.lock().unwrap();
        assert_eq!(of_the_morning(&read), damaged, "{read:?}");
        let (shown, spans) = traces(&world, &id);
        assert!([50, number].iter().all(|trace| shown.contains(&trace_id(*trace).to_string())), "{shown:?}");
        // The slowest three (two of which are among the newest ten) and nine others with two spans each, or one.
        assert_eq!(spans, if damaged { 20 } else { 21 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_trace_is_looked_for_again_in_hours_that_nobody_looked_into() {
    let world = World::new();
    filled(&world).await;
    // Too far away to be looked for: the trace is shown without it.
    let far = Sent::inner(50, 2, 1, "db", START - 60 * MINUTE);
    world.send("slow", &[slow(), far]);
    world.take_in().await;
    world.publish().await;
    let id = summary(&world, "users").handler.id;
    assert_eq!(traces(&world, &id).1, 10 * 2 + 1);
    // It goes on.
    world.send("again", &[Sent::request(50, 3, "/users/:id", START + 20 * MINUTE)]);
    world.take_in().await;
    world.publish().await;
    assert_eq!(traces(&world, &id).1, 9 * 2 + 3);
}

/// The spans in the documents of all handlers, as they are written.
fn all_spans(world: &World) -> BTreeSet<(String, String)> {
    let documents = world.bucket.paths("site/handlers/").into_iter().filter(|path| path.ends_with("/traces.json.gz"));
    let spans = documents.flat_map(|path| {
        let document = document(world, &path);
        let resources = document["resourceSpans"].as_array().unwrap().clone();
        let scopes = resources.into_iter().flat_map(|resource| resource["scopeSpans"].as_array().unwrap().clone());
        let spans = scopes.flat_map(|scope| scope["spans"].as_array().unwrap().clone());
        spans.map(|span| (path.clone(), span.to_string())).collect::<Vec<_>>()
    });
    spans.collect()
}

#[tokio::test(start_paused = true)]
async fn of_many_blocks_those_near_a_trace_are_asked_and_all_once_they_are_merged() {
    let mut world = World::new();
    world.many_blocks = 1;
    let inner = |span: u64, minutes: u64| Sent::inner(1, span, 1, "db", START + minutes * MINUTE);
    world.send("near", &[Sent::request(1, 1, "/a", START), inner(2, 1)]);
    world.send("far", &[inner(3, 6)]);
    // Of one block everything is found: there are not many.
    index(&world).await;
    world.publish().await;
    let id = list(&world).handlers[0].id.clone();
    assert_eq!(traces(&world, &id).1, 3);
    world.send("late", &[inner(4, 0)]);
    world.send("later", &[Sent::request(1, 5, "/a", START)]);
    index(&world).await;
    world.send("other", &[inner(6, 9)]);
    index(&world).await;
    let (client, read) = noted(&world);
    let at = world.sit(&client).await;
    // What footers say, which is asked of every block.
    at.desk.view(&crate::table::view::Scope::all(crate::model::Table::Spans, at.desk.grace)).await.unwrap();
    read.lock().unwrap().clear();
    clean(publish::run(&at.desk, &at.round).await.unwrap());
    assert_eq!(read.lock().unwrap().len(), 1, "the one that is far away is not asked");
    assert_eq!(traces(&world, &id).1, 5, "what was found before stays, what is near is found");
    // Made at once, too.
    publish::rebuild(&at.desk.store).await.unwrap();
    world.publish().await;
    assert_eq!(traces(&world, &id).1, 5);
    world.take_in().await;
    world.publish().await;
    assert_eq!(traces(&world, &id).1, 6);
}

#[tokio::test(start_paused = true)]
async fn what_is_far_in_blocks_as_indexed_is_on_pages_once_it_is_merged() {
    bit_by_bit(0, 40..60).await;
}

#[tokio::test(start_paused = true)]
async fn pages_that_were_made_bit_by_bit_have_what_pages_made_at_once_have() {
    bit_by_bit(publish::plan::MANY, 0..40).await;
}

/// Indexes what there is, and merges nothing.
async fn index(world: &World) {
    world.sleep(61).await;
    let at = world.desk().await;
    clean(crate::stage::index::run(&at.desk, &at.round).await.unwrap());
    world.sleep(2).await;
}

/// So that there is a block as indexed.
async fn index_another(world: &World, number: u64) {
    world.send(&format!("another{number}"), &[Sent::request(1_000 + number, 1_000 + number, "/c", START)]);
    index(world).await;
}

/// In rounds, with more blocks as indexed than `many`, or without. Whatever is far from a trace in those that have not been
/// merged is on no page, however it is made.
async fn bit_by_bit(many: usize, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let mut chance = StdRng::seed_from_u64(seed);
        let mut world = World::new();
        world.many_blocks = many;
        world.settings.keep_last = 3;
        world.settings.shards = crate::farm::settings::Timeline::always(1 + u16::from(seed % 2 == 1));
        for round in 0..6 {
            let count = chance.random_range(1..8);
            let spans = (0..count).map(|number| {
                let (trace, hours) = (chance.random_range(1..12), chance.random_range(0..5));
                let start = START - hours * 60 * MINUTE + chance.random_range(0..20 * MINUTE);
                let route = ["/a", "/b"][chance.random_range(0..2)];
                let duration = chance.random_range(1..3 * 60 * MINUTE);
                let span = round * 10 + number + 1;
                match chance.random_range(0..2) {
                    0 => Sent { duration, ..Sent::request(trace, span, route, start) },
                    _ => Sent::inner(trace, span, 1, "db", start),
                }
            });
            world.send(&format!("{round}"), &spans.collect::<Vec<_>>());
            if chance.random_bool(0.5) {
                world.take_in().await;
                if many == 0 {
                    index_another(&world, round).await;
                }
            } else {
                index(&world).await;
            }
            world.publish().await;
        }
        if many == 0 && seed % 2 == 0 {
            world.take_in().await;
            index_another(&world, 99).await;
            world.publish().await;
        }
        let bit_by_bit = all_spans(&world);
        let at = world.desk().await;
        publish::rebuild(&at.desk.store).await.unwrap();
        world.publish().await;
        let at_once = all_spans(&world);
        assert!(!at_once.is_empty());
        let missing: Vec<_> = at_once.difference(&bit_by_bit).collect();
        assert!(missing.is_empty(), "seed {seed}: {missing:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_that_takes_longer_than_its_listing_is_good_for_is_made_in_several_rounds() {
    let world = World::new();
    let routes = (0..200).map(|number| &*format!("/r{number}").leak());
    let spans: Vec<Sent> = routes.zip(1..).map(|(route, number)| Sent::request(number, 1, route, START)).collect();
    world.send("all", &spans);
    world.take_in().await;
    let writes = Arc::new(Mutex::new(0));
    let noted = writes.clone();
    let client = world.client(Box::new(move |call| {
        let is_page = call.kind == CallKind::Put && call.path.starts_with("site/handlers/");
        *noted.lock().unwrap() += u32::from(is_page);
        if is_page { Fate::before(Incident::Wait(Duration::from_secs(8))) } else { Fate::calm() }
    }));
    let mut at = world.sit(&client).await;
    at.desk.once = false;
    let mut rounds = 0;
    loop {
        rounds += 1;
        at.desk.heart.beat(&at.desk.store).await.unwrap();
        let report = clean(publish::run(&at.desk, &at.round).await.unwrap());
        let part: Part = world.site("site/parts/000-of-001.json");
        assert_eq!(report.more, part.handlers.len() < 200, "round {rounds}: {}", part.handlers.len());
        if !report.more {
            break;
        }
        assert!(rounds < 10);
    }
    assert!(rounds > 1, "the test shows nothing");
    assert_eq!(*writes.lock().unwrap(), 400, "what was made is not made again");
    assert_eq!(list(&world).handlers.len(), 200);
    // Nothing is left: it is not due before its time.
    let report = clean(publish::run(&at.desk, &at.round).await.unwrap());
    assert_eq!((report.done, report.more), (0, false));
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_trace_is_on_no_page() {
    let world = World::new();
    filled(&world).await;
    world.publish().await;
    let at = world.desk().await;
    at.desk.store.create(&Key::Forget(trace_id(12)), "{}".into()).await.unwrap();
    world.publish().await;
    let users = summary(&world, "users");
    assert!(users.newest.iter().chain(&users.slowest).all(|entry| entry.trace_id != trace_id(12).to_string()));
    assert!(!traces(&world, &users.handler.id).0.contains(&trace_id(12).to_string()));
    clean(forget::run(&at.desk, &at.round).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_large_trace_is_an_object_of_its_own_and_goes_when_nobody_names_it() {
    let world = World::new();
    let noise = format!(r#"{{"key":"noise","value":{{"stringValue":"{}"}}}}"#, "x".repeat(1 << 20));
    world.send("large", &[Sent { attributes: noise, ..Sent::request(1, 1, "/b", START) }]);
    world.take_in().await;
    world.publish().await;
    let large = format!("site/traces/{}.json.gz", trace_id(1));
    assert_eq!(world.bucket.paths("site/traces/"), [large.as_str()]);
    let part: Part = world.site("site/parts/000-of-001.json");
    assert_eq!(part.handlers[0].large, [trace_id(1).to_string()]);
    // Ten newer ones push it out, but it is still the only slow one; forgetting it removes it at once.
    let at = world.desk().await;
    at.desk.store.create(&Key::Forget(trace_id(1)), "{}".into()).await.unwrap();
    clean(forget::run(&at.desk, &at.round).await.unwrap());
    assert_eq!(world.bucket.paths("site/traces/"), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_lives_in_its_pins_alone_stays_on_the_list() {
    let world = World::new();
    filled(&world).await;
    world.publish().await;
    world.sleep(8 * DAY).await;
    world.drain().await;
    assert_eq!(world.bucket.paths("entries/"), [""; 0]);
    world.publish().await;
    let users = summary(&world, "users");
    assert_eq!((users.handler.count, users.handler.name.as_str()), (0, "GET /users/{id}"));
    assert_eq!((users.newest.len(), users.pins.len()), (10, 10));
    assert_eq!(traces(&world, &users.handler.id), ((3..=12).map(|n| trace_id(n).to_string()).collect(), 20));
}

#[tokio::test(start_paused = true)]
async fn a_renamed_handler_keeps_its_traces() {
    let mut world = World::new();
    filled(&world).await;
    world.publish().await;
    let (old, new) = (summary(&world, "users").handler.id, summary(&world, "get-b").handler.id);
    world.catalogue.1.alias(&old, &new).unwrap();
    world.catalogue.0 = 1;
    world.publish().await;
    let list = list(&world);
    assert_eq!(list.handlers.len(), 1);
    assert_eq!((list.handlers[0].count, list.handlers[0].aliases.clone()), (13, vec![old.clone()]));
    assert_eq!(world.bucket.paths(&format!("site/handlers/{old}/")), [""; 0], "its own pages are gone");
}

#[tokio::test(start_paused = true)]
async fn a_document_that_somebody_changed_is_made_again() {
    let world = World::new();
    filled(&world).await;
    world.publish().await;
    let id = summary(&world, "users").handler.id;
    world.bucket.put(&format!("site/handlers/{id}/summary.json"), "garbage");
    world.bucket.remove(&format!("site/handlers/{id}/traces.json.gz"));
    world.publish().await;
    assert_eq!(summary(&world, "users").handler.count, 12);
    assert_eq!(traces(&world, &id).1, 20);
    world.bucket.put("site/parts/000-of-001.json", "garbage");
    world.bucket.put("site/handlers.json", "garbage");
    world.publish().await;
    assert_eq!(list(&world).handlers.len(), 2);
}
