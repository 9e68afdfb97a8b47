//! The whole program on a whole recording, held against what the official decoder reads of it.
//!
//! Where the full recording is not at hand (`../shared` or `TRACEFARM_SHARED`), the samples in the repository take its
//! place, and the tests say so.

#[path = "support/farm.rs"]
mod farm;
#[path = "support/official.rs"]
mod official;
#[path = "support/recording.rs"]
mod recording;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use farm::Farm;
use futures::{StreamExt, stream};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use recording::{TRUTH, Truth};
use serde_json::Value;
use tracefarm::clock::Clock;
use tracefarm::model::Table;
use tracefarm::query::Reader;
use tracefarm::query::trace::{self, Lookup};
use tracefarm::store::{Key, OpenOptions, Prefix, Store};
use tracefarm::table::{entries, spans};

/// How many of a handler's newest traces are kept.
const KEEP_LAST: usize = 10;

/// The store of the recording, worked on until nothing was left: made once, never changed.
static DONE: std::sync::LazyLock<Farm> = std::sync::LazyLock::new(|| {
    let farm = Farm::local();
    farm.put(&recording::inbox()).work();
    farm
});

/// What must not change, whatever happens on the way: counts by `check`.
#[derive(Clone, Debug, PartialEq)]
struct Counts {
    spans: u64,
    traces: u64,
    entries: u64,
    revisions: u64,
    handlers: Value,
    not_found: Value,
    inbox: u64,
    quarantined: u64,
}

/// Counts, and no violation.
fn counts(farm: &Farm) -> Counts {
    let check = farm.json(&["check", "-o", "json"]);
    assert_eq!(check["violations"], serde_json::json!([]), "{check:#}");
    assert_eq!(check["foreign"], serde_json::json!([]));
    let number = |field: &str| check[field].as_u64().unwrap_or_else(|| panic!("{field} in {check:#}"));
    Counts {
        spans: number("spans"),
        traces: number("traces"),
        entries: number("entries"),
        revisions: number("revisions"),
        handlers: check["handlers"].clone(),
        not_found: check["not_found"].clone(),
        inbox: number("inbox"),
        quarantined: number("quarantined"),
    }
}

/// The counts of [`DONE`].
static EXPECTED: std::sync::LazyLock<Counts> = std::sync::LazyLock::new(|| counts(&DONE));

/// The same store eight days later: made once, never changed.
static EXPIRED: std::sync::LazyLock<Farm> = std::sync::LazyLock::new(|| {
    let farm = Farm::local();
    farm.put(&recording::inbox()).work();
    farm.later().work();
    farm
});

/// The pins of [`EXPIRED`]: in a name stands a hash of the rows.
static PINS: std::sync::LazyLock<BTreeSet<String>> = std::sync::LazyLock::new(|| pins(&EXPIRED));

/// The counts are those expected; what differs is told without what does not.
fn same(farm: &Farm, expected: &Counts) {
    let (mut counts, mut expected) = (counts(farm), expected.clone());
    for (name, found, wanted) in [
        ("handlers", &mut counts.handlers, &mut expected.handlers),
        ("not_found", &mut counts.not_found, &mut expected.not_found),
    ] {
        assert!(found == wanted, "{name} differ");
        (*found, *wanted) = (Value::Null, Value::Null);
    }
    assert_eq!(counts, expected);
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} in {value}"))
}

#[test]
fn everything_is_counted_once_and_under_its_handler() {
    let found = &*EXPECTED;
    assert_eq!(found.spans, TRUTH.spans);
    assert_eq!(found.traces, TRUTH.traces.len() as u64);
    assert_eq!(found.entries, TRUTH.entries);
    assert_eq!((found.revisions, found.inbox, found.quarantined), (0, 0, 0));

    let mut not_found = BTreeMap::new();
    for line in found.not_found.as_array().unwrap() {
        let key = ["service", "method", "path"].map(|field| text(line, field).to_owned());
        not_found.insert(<(String, String, String)>::from(key), line["count"].as_u64().unwrap());
    }
    assert!(not_found == TRUTH.not_found, "404 lists differ");

    // Ids are the program's own: the list of handlers says which name and service each stands for.
    let mut handlers = BTreeMap::new();
    for row in DONE.json(&["handlers", "ls", "-o", "json"]).as_array().unwrap() {
        let counted = &found.handlers[text(row, "id")];
        let numbers = ["count", "errors"].map(|field| row[field].as_u64().unwrap());
        assert_eq!(numbers, ["count", "errors"].map(|field| counted[field].as_u64().unwrap()), "{row}");
        let key = (text(row, "service").to_owned(), text(row, "name").to_owned());
        assert_eq!(handlers.insert(key, <(u64, u64)>::from(numbers)), None, "two handlers of one name: {row}");
    }
    assert_eq!(handlers, TRUTH.handlers);
}

#[test]
fn the_counts_are_those_of_the_reference_in_another_language() {
    let Some(folder) = recording::shared() else {
        eprintln!("skipped: no full recording here");
        return;
    };
    let truth: Value = serde_json::from_slice(&std::fs::read(folder.join("truth.json")).unwrap()).unwrap();
    let found = &*EXPECTED;
    assert_eq!(found.spans, truth["distinct_spans"].as_u64().unwrap());
    assert_eq!(found.traces, truth["distinct_traces"].as_u64().unwrap());
    let entries = truth["entry_spans"].as_array().unwrap().iter();
    assert_eq!(found.entries, entries.map(|group| group["count"].as_u64().unwrap()).sum::<u64>());
    let line = |line: &Value| {
        let key = ["service", "method", "path"].map(|field| text(line, field).to_owned());
        (key, line["count"].as_u64().unwrap())
    };
    let lines = |list: &Value| list.as_array().unwrap().iter().map(line).collect::<BTreeMap<_, _>>();
    let not_found = lines(&truth["server_404_without_http_route"]);
    assert!(lines(&found.not_found) == not_found, "404 lists differ");

    // The reference groups entry spans by what makes their handlers.
    let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
    // The handlers all of whose entries are roots, and no 404s: the reference knows their newest traces, by service and
    // root's name.
    let mut begun: BTreeMap<(String, String), (String, bool)> = BTreeMap::new();
    for group in truth["entry_spans"].as_array().unwrap() {
        let (service, span, method) = (text(group, "service"), text(group, "name"), text(group, "method"));
        let name = match (text(group, "kind"), group["http_route"].as_str().unwrap_or_default()) {
            ("SERVER", "") if !method.is_empty() => {
                assert_eq!(span, method);
                format!("{method} (no route)")
            }
            ("SERVER", route) if !method.is_empty() => format!("{method} {}", recording::canonical(route)),
            ("INTERNAL", _) => format!("job {span}"),
            ("CLIENT" | "PRODUCER", _) => format!("client {span}"),
            _ => span.to_owned(),
        };
        let service = if service.is_empty() { "unknown_service" } else { service };
        *counts.entry((service.to_owned(), name.clone())).or_default() += group["count"].as_u64().unwrap();
        let known = begun.entry((text(group, "service").to_owned(), span.to_owned())).or_insert((name, true));
        known.1 &= group["is_root"].as_bool().unwrap() && !known.0.ends_with("(no route)");
    }
    for ([service, method, _], count) in &not_found {
        *counts.get_mut(&(service.clone(), format!("{method} (no route)"))).unwrap() -= count;
    }
    counts.retain(|_, count| *count > 0);
    assert_eq!(counts, TRUTH.handlers.iter().map(|(key, (count, _))| (key.clone(), *count)).collect());

    let mut compared = 0;
    for root in truth["newest_by_root"].as_array().unwrap() {
        let (service, span) = (text(root, "service"), text(root, "name"));
        let Some((handler, true)) = begun.get(&(service.to_owned(), span.to_owned())) else { continue };
        let newest = root["newest"].as_array().unwrap().iter().map(|trace| text(trace, "trace_id").to_owned());
        let service = if service.is_empty() { "unknown_service" } else { service };
        assert_eq!(TRUTH.newest(service, handler, KEEP_LAST), newest.collect::<Vec<_>>(), "{root}");
        compared += 1;
    }
    assert!(compared >= 5, "{compared}");
}

#[test]
fn the_newest_ten_of_each_handler_are_right() {
    check_newest(&DONE);
}

/// Looks at the summary of every handler.
fn check_newest(farm: &Farm) {
    for row in farm.json(&["handlers", "ls", "-o", "json"]).as_array().unwrap() {
        let summary = farm.json(&["handlers", "show", text(row, "id"), "-o", "json"]);
        let newest = summary["newest"].as_array().unwrap().iter().map(|entry| text(entry, "trace_id").to_owned());
        let expected = TRUTH.newest(text(row, "service"), text(row, "name"), KEEP_LAST);
        assert_eq!(newest.collect::<Vec<_>>(), expected, "{row}");
    }
}

#[test]
fn the_same_input_again_changes_nothing() {
    let farm = Farm::local();
    farm.put(&recording::inbox()).work();
    farm.put(&recording::inbox()).work();
    same(&farm, &EXPECTED);
    assert_eq!(farm.json(&["check", "-o", "json"])["duplicates"], 0, "and leaves nothing behind");
    check_newest(&farm);
}

#[test]
fn the_layouts_of_other_exporters_hold_the_same_spans() {
    let Some(folder) = recording::shared() else {
        eprintln!("skipped: no full recording here (the samples hold other layouts already)");
        return;
    };
    let farm = Farm::local();
    farm.put(&recording::inbox()).put(&folder.join("extra"));
    // It describes the others.
    std::fs::remove_file(farm.path().join("inbox/extra.json")).unwrap();
    farm.work();
    let others = Truth::of(&folder.join("extra"));
    // Some differ from the same spans in the inbox, by the official decoder's reading, too: these are revisions.
    let differs = |(id, spans): (&String, &HashSet<Vec<u8>>)| spans.difference(&TRUTH.traces[id]).count() as u64;
    let mut expected = EXPECTED.clone();
    expected.revisions = others.traces.iter().map(differs).sum();
    same(&farm, &expected);
}

#[test]
fn four_shards_count_the_same() {
    let farm = Farm::local();
    farm.ran(0, &["settings", "set", "shards=4"]);
    farm.put(&recording::inbox()).work();
    same(&farm, &EXPECTED);
    check_newest(&farm);
    let shards: HashSet<String> = farm
        .files("spans")
        .iter()
        .map(|path| path.strip_prefix(farm.path().join("spans")).unwrap().iter().next().unwrap())
        .map(|shard| shard.to_string_lossy().into_owned())
        .collect();
    assert_eq!(shards, (0..4).map(|shard| format!("shard={shard:03}-of-004")).collect());
    expires_to_the_same(&farm);
}

#[test]
fn killed_at_any_moment_it_ends_in_the_same_state() {
    // A worker takes some seconds here; the moments are spread over them, and over what comes at their end.
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    eprintln!("SEED={seed}");
    let mut chance = StdRng::seed_from_u64(seed);
    let farm = Farm::local();
    farm.put(&recording::inbox());
    let mut killed = 0;
    for attempt in 0..30 {
        let mut worker = farm.begin(&["run", "--once", "--grace", "0s"]);
        std::thread::sleep(Duration::from_millis(chance.random_range(20..2_500)));
        worker.kill().unwrap();
        let status = worker.wait().unwrap();
        farm.forget_dead_workers();
        killed += u32::from(status.code().is_none());
        // It got through: begin again from the inbox.
        if status.success() && attempt < 20 {
            farm.put(&recording::inbox());
        }
    }
    assert!(killed >= 5, "only {killed} of 30 workers were killed before they were done");
    farm.work();
    same(&farm, &EXPECTED);
    assert_eq!(farm.json(&["check", "-o", "json"])["duplicates"], 0, "and leaves nothing behind");
    check_newest(&farm);
    come_out_as_they_came_in(&farm, TRUTH.trace_ids().into_iter().step_by(100));
    expires_to_the_same(&farm);
}

#[test]
fn eight_days_later_only_the_newest_are_left_and_they_are_whole() {
    let later = EXPIRED.later();
    check_expired(&later);
    let mut newest = BTreeMap::new();
    for row in later.json(&["handlers", "ls", "-o", "json"]).as_array().unwrap() {
        let key = (text(row, "service").to_owned(), text(row, "name").to_owned());
        assert!(TRUTH.handlers.contains_key(&key), "{row}");
        newest.insert(text(row, "id").to_owned(), TRUTH.newest(&key.0, &key.1, KEEP_LAST));
    }
    assert_eq!(newest.len(), TRUTH.handlers.len(), "every handler is still there");

    let mut pinned: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for pin in &*PINS {
        let Some(Key::Pin(pin)) = Key::parse(pin) else { panic!("{pin}") };
        // A 404 list keeps the newest of each path.
        if !pin.handler.is_not_found() {
            let first = pinned.entry(pin.handler.to_string()).or_default().insert(pin.trace.to_string());
            assert!(first, "two pins of one trace: {pin:?}");
        }
    }
    assert_eq!(pinned, newest.iter().map(|(id, newest)| (id.clone(), newest.iter().cloned().collect())).collect());
    come_out_as_they_came_in(&later, pinned.values().flatten().collect::<BTreeSet<_>>());
    wait(summarised(&later, &newest));
}

/// `spans/` and `entries/` are empty, nothing is wrong, and the commands show the newest traces of every handler.
fn check_expired(later: &Farm) {
    let check = later.json(&["check", "-o", "json"]);
    assert_eq!((&check["violations"], &check["foreign"]), (&serde_json::json!([]), &serde_json::json!([])));
    assert_eq!((&check["spans"], &check["entries"], &check["blocks"]), (&0.into(), &0.into(), &0.into()));
    check_newest(later);
    wait(async {
        let store = Store::open(&later.url, &OpenOptions::default(), clock()).await.unwrap();
        for table in [Table::Spans, Table::Entries] {
            assert_eq!(store.list(&Prefix::Table(table)).await.unwrap().objects, []);
        }
    });
}

/// What is in `latest/`.
fn pins(farm: &Farm) -> BTreeSet<String> {
    wait(async {
        let store = Store::open(&farm.url, &OpenOptions::default(), clock()).await.unwrap();
        store.list(&Prefix::Latest).await.unwrap().objects.iter().map(|object| object.key.path()).collect()
    })
}

/// Eight days later the same is left as of an undisturbed run.
fn expires_to_the_same(farm: &Farm) {
    let later = farm.later();
    later.work();
    check_expired(&later);
    assert!(pins(&later) == *PINS, "other traces are pinned, or other spans of them");
}

/// `site/` shows the `newest` traces of every handler, by its id, and holds them whole.
async fn summarised(farm: &Farm, newest: &BTreeMap<String, Vec<String>>) {
    let store = Store::open(&farm.url, &OpenOptions::default(), clock()).await.unwrap();
    let read = async |path: &str| {
        let key = Key::parse(path).unwrap_or_else(|| panic!("{path} is no key"));
        store.get(&key).await.unwrap_or_else(|error| panic!("{path}: {error}")).0
    };
    let json = async |path: &str| {
        let plain = official::decompress(&read(path).await).unwrap();
        serde_json::from_slice::<Value>(&plain).unwrap_or_else(|why| panic!("{path}: {why}"))
    };
    let list = json("site/handlers.json").await;
    let ids: BTreeSet<&str> = list["handlers"].as_array().unwrap().iter().map(|row| text(row, "id")).collect();
    assert_eq!(ids, newest.keys().map(String::as_str).collect());
    for (id, newest) in newest {
        let summary = json(&format!("site/handlers/{id}/summary.json")).await;
        let shown: Vec<&str> = summary["newest"].as_array().unwrap().iter().map(|at| text(at, "trace_id")).collect();
        assert_eq!(&shown, newest, "{id}");
        let traces = json(&format!("site/handlers/{id}/traces.json.gz")).await;
        let mut documents = vec![traces.clone()];
        // Large ones are objects of their own.
        for large in traces["tracefarm"]["large"].as_array().into_iter().flatten() {
            documents.push(json(&format!("site/traces/{}.json.gz", large.as_str().unwrap())).await);
        }
        let spans: HashSet<Vec<u8>> = documents.into_iter().flat_map(spans_of).collect();
        for trace in newest {
            assert!(TRUTH.traces[trace].is_subset(&spans), "{id} shows {trace}, but not all of it");
        }
    }
}

/// The spans of a document, each once.
fn spans_of(document: Value) -> HashSet<Vec<u8>> {
    let document = official::from_json(document).unwrap();
    let spans: Vec<_> = recording::wholes(&document).map(|(_, whole)| whole).collect();
    let distinct: HashSet<Vec<u8>> = spans.iter().cloned().collect();
    assert_eq!(distinct.len(), spans.len(), "a span stands twice in a document");
    distinct
}

fn clock() -> Clock {
    Clock::system(jiff::SignedDuration::ZERO)
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

#[test]
fn every_trace_comes_out_as_it_came_in() {
    come_out_as_they_came_in(&DONE, TRUTH.traces.keys());
    // And by the program itself.
    for id in TRUTH.trace_ids().into_iter().step_by(TRUTH.traces.len() / 10) {
        assert_eq!(spans_of(DONE.json(&["get", id, "-o", "otlp-json"])), TRUTH.traces[id]);
    }
}

/// What `get -o otlp-json` prints of these traces is what came in, by the official decoder's reading.
fn come_out_as_they_came_in<'a>(farm: &Farm, ids: impl IntoIterator<Item = &'a String>) {
    let ids: Vec<&String> = ids.into_iter().collect();
    assert!(!ids.is_empty());
    wait(async {
        let options = OpenOptions { read_only: true, ..OpenOptions::default() };
        let store = Store::open(&farm.url, &options, clock()).await.unwrap();
        let reader = Reader::open(store, clock(), 64 << 20).await.unwrap();
        let compared = stream::iter(&ids).map(|id| comes_out_as_it_came_in(&reader, id)).buffer_unordered(8);
        assert_eq!(compared.count().await, ids.len());
    });
}

async fn comes_out_as_it_came_in(reader: &Reader, id: &str) {
    let Lookup::Found(found) = trace::find(reader, id.parse().unwrap()).await.unwrap() else {
        panic!("trace {id} is not there");
    };
    let document: Value = serde_json::from_str(&found.otlp_json(false).unwrap()).unwrap();
    let (found, expected) = (spans_of(document), &TRUTH.traces[id]);
    // Bytes of protobuf: as text they still tell the name of a span that differs.
    let text = |bytes: Option<&Vec<u8>>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let (wrong, missing) = (text(found.difference(expected).next()), text(expected.difference(&found).next()));
    assert_eq!(wrong, missing, "trace {id} is not what came in");
    assert_eq!(found.len(), expected.len(), "trace {id}");
}

#[test]
fn bad_input_neither_stops_it_nor_gets_lost() {
    let Some(folder) = recording::shared() else {
        eprintln!("skipped: no bad files here");
        return;
    };
    let farm = Farm::local();
    farm.put(&folder.join("bad"));
    let files = farm.files("inbox").len();
    assert_eq!(files, 61);
    let ran = farm.work();
    let peak = ran["peak_memory_bytes"].as_u64().unwrap();
    assert!(peak < 1 << 30, "the bombs took {peak} bytes");
    let check = farm.json(&["check", "-o", "json"]);
    assert_eq!(check["violations"], serde_json::json!([]));
    // What is named like an upload under way is left alone for a day.
    assert_eq!(check["inbox"], 1);
    // Each explanation stands beside what it explains, and is a sentence with a place in it.
    let quarantine = farm.files("quarantine");
    let (explanations, objects): (Vec<_>, Vec<_>) =
        quarantine.iter().partition(|path| path.to_string_lossy().ends_with(".error.json"));
    assert_eq!(objects.len(), explanations.len());
    assert!(objects.len() >= 20, "{objects:?}");
    for path in explanations {
        let why: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert!(why.is_object(), "{}", path.display());
        let original = path.to_string_lossy().strip_suffix(".error.json").unwrap().to_owned();
        assert!(std::path::Path::new(&original).is_file(), "{original}");
    }
    // What the good parts of these files hold by bad.json.
    for good in ["gzip-trailing-garbage", "one-bad-line", "invalid-hex-ids"] {
        assert!(quarantine.iter().any(|path| path.to_string_lossy().contains(good)), "{good} is in quarantine, too");
    }
    assert!(check["spans"].as_u64().unwrap() > 40, "{check}");
    // A second run finds nothing to do, and one in some days takes the abandoned upload.
    assert_eq!(farm.work()["objects"], 0);
    assert_eq!(farm.later().work()["objects"], 1);
}

/// On the servers that `scripts/servers` starts.
#[test]
fn real_object_stores_count_the_same() {
    let Ok(urls) = std::env::var("TRACEFARM_SERVERS") else {
        eprintln!("skipped: no servers here (scripts/servers starts them)");
        return;
    };
    for url in urls.split_whitespace() {
        eprintln!("{url}");
        let farm = Farm::at(format!("{url}/pipeline-{}", clock().ulid()));
        wait(put(&farm, &recording::inbox()));
        farm.work();
        same(&farm, &EXPECTED);
        check_newest(&farm);
        come_out_as_they_came_in(&farm, TRUTH.trace_ids().into_iter().step_by(300));
        let later = farm.later();
        later.work();
        check_expired(&later);
        // The hash at the end of a name is of when rows were received, too, which is today.
        let traces = |pins: &BTreeSet<String>| -> BTreeSet<String> {
            pins.iter().map(|path| path.rsplit_once('-').unwrap().0.to_owned()).collect()
        };
        assert!(traces(&pins(&later)) == traces(&PINS), "{url}: other traces are pinned");
        let pinned = PINS.iter().step_by(20).map(|path| match Key::parse(path) {
            Some(Key::Pin(pin)) => pin.trace.to_string(),
            _ => panic!("{path}"),
        });
        come_out_as_they_came_in(&later, &pinned.collect::<BTreeSet<_>>());
    }
}

/// Copies a folder into the inbox of a store that is no folder.
async fn put(farm: &Farm, from: &std::path::Path) {
    let store = Store::open(&farm.url, &OpenOptions::default(), clock()).await.unwrap();
    for path in official::files(from) {
        let name = path.strip_prefix(from).unwrap().to_string_lossy().into_owned();
        store.create(&Key::Inbox(name), std::fs::read(&path).unwrap().into()).await.unwrap();
    }
}

#[test]
fn the_readme_tells_of_every_column() {
    let readme = include_str!("../README.md");
    for field in spans::schema().fields().iter().chain(entries::schema().fields()) {
        assert!(readme.contains(&format!("`{}`", field.name())), "{}", field.name());
    }
}

/// The README's SQL, by DuckDB: `scripts/test` installs it and names its Python.
#[test]
fn sql_reads_the_blocks_as_the_readme_says() {
    let Some(python) = std::env::var_os("TRACEFARM_PYTHON") else {
        eprintln!("skipped: TRACEFARM_PYTHON names no Python with DuckDB (scripts/test does)");
        return;
    };
    let readme = include_str!("../README.md");
    let examples: Vec<&str> =
        readme.split("```sql\n").skip(1).map(|rest| rest.split("```").next().expect("the end of an example")).collect();
    assert!(examples.len() >= 5, "{examples:?}");

    // As indexed and compacted side by side, as somebody sees it who reads while a worker compacts.
    let half_way = Farm::local();
    half_way.put(&recording::inbox());
    half_way.ran(0, &["run", "--once", "-o", "json"]);
    assert!(half_way.files("spans").len() > 1, "merged blocks stand for the grace");
    for farm in [&*DONE, &half_way] {
        let script = examples.iter().map(|sql| sql.replace("tracefarm-demo", &farm.url)).collect::<Vec<_>>();
        let counts = "select (select count(*) from spans), (select count(*) from entries), \
                      (select count(distinct trace_id) from spans)";
        let program = "import duckdb, json, sys\n\
                       db, rows = duckdb.connect(), []\n\
                       for sql in json.loads(sys.argv[1]):\n\
                       \x20   sql = sql.strip().rstrip(';')\n\
                       \x20   if sql.startswith('create'): db.execute(sql)\n\
                       \x20   else: rows.append(db.execute(f'select count(*) from ({sql})').fetchone()[0])\n\
                       print(json.dumps([rows, db.execute(sys.argv[2]).fetchone()]))\n";
        let output = std::process::Command::new(&python)
            .args(["-c", program, &serde_json::to_string(&script).unwrap(), counts])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(printed[1], serde_json::json!([TRUTH.spans, TRUTH.entries, TRUTH.traces.len()]));
        let rows: Vec<u64> = serde_json::from_value(printed[0].clone()).unwrap();
        assert!(rows.len() >= 3 && rows.iter().all(|rows| *rows > 0), "{rows:?}");
    }
}
