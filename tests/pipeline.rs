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

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use farm::Farm;
use futures::{StreamExt, stream};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use recording::{TRUTH, Truth};
use serde_json::Value;
use tracefarm::clock::Clock;
use tracefarm::query::Reader;
use tracefarm::query::trace::{self, Lookup};
use tracefarm::store::{OpenOptions, Store};
use tracefarm::table::read::Blocks;

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
    assert!(lines(&found.not_found) == lines(&truth["server_404_without_http_route"]), "404 lists differ");
    // Handlers are finer than services and coarser than span names: counted by service they agree with both.
    let mut by_service: BTreeMap<String, u64> = BTreeMap::new();
    for group in truth["entry_spans"].as_array().unwrap() {
        *by_service.entry(text(group, "service").to_owned()).or_default() += group["count"].as_u64().unwrap();
    }
    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    for ((service, _), (count, _)) in &TRUTH.handlers {
        *told.entry(service.replace("unknown_service", "")).or_default() += count;
    }
    for ((service, ..), count) in &TRUTH.not_found {
        *told.entry(service.clone()).or_default() += count;
    }
    assert_eq!(told, by_service);
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
    let shards: HashSet<String> = farm
        .files("spans")
        .iter()
        .map(|path| path.strip_prefix(farm.path().join("spans")).unwrap().iter().next().unwrap())
        .map(|shard| shard.to_string_lossy().into_owned())
        .collect();
    assert_eq!(shards, (0..4).map(|shard| format!("shard={shard:03}-of-004")).collect());
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
}

#[test]
fn eight_days_later_only_the_newest_are_left_and_they_are_whole() {
    let farm = Farm::local();
    farm.put(&recording::inbox()).work();
    let later = farm.later();
    later.work();
    assert_eq!((later.files("spans").len(), later.files("entries").len()), (0, 0));
    check_newest(&later);
    // A pinned trace is the whole trace, by the official decoder's reading.
    let mut looked = 0;
    for row in later.json(&["handlers", "ls", "-o", "json"]).as_array().unwrap() {
        let newest = TRUTH.newest(text(row, "service"), text(row, "name"), KEEP_LAST);
        let id = newest.first().expect("a handler has traces");
        let document = later.json(&["get", id, "-o", "otlp-json"]);
        assert_eq!(spans_of(document), TRUTH.traces[id], "{id}");
        looked += 1;
    }
    assert_eq!(looked, TRUTH.handlers.len(), "every handler is still there");
    let check = later.json(&["check", "-o", "json"]);
    assert_eq!(check["violations"], serde_json::json!([]));
    assert_eq!(check["spans"], 0);
    // What the site says is what the commands say.
    let site: Value = serde_json::from_slice(&std::fs::read(farm.path().join("site/handlers.json")).unwrap()).unwrap();
    let handlers = site["handlers"].as_array().unwrap().iter().filter(|row| row["kind"] != "not-found");
    assert_eq!(handlers.count(), TRUTH.handlers.len());
}

fn spans_of(document: Value) -> HashSet<Vec<u8>> {
    let document = official::from_json(document).unwrap();
    recording::wholes(&document).map(|(_, whole)| whole).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_trace_comes_out_as_it_came_in() {
    let clock = Clock::system(jiff::SignedDuration::ZERO);
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    let store = Store::open(&DONE.url, &options, clock.clone()).await.unwrap();
    let (_, settings) = tracefarm::farm::Settings::load(&store).await.unwrap();
    let blocks = Blocks::new(store.clone(), 64 << 20);
    let reader = Reader { store, blocks, clock, settings: settings.into(), catalogue: Default::default() };
    let ids: Vec<String> = TRUTH.trace_ids().into_iter().cloned().collect();
    let compared = stream::iter(ids.clone())
        .map(|id| comes_out_as_it_came_in(reader.clone(), id))
        .buffer_unordered(8)
        .fold(0, async |count, compared| {
            compared.unwrap();
            count + 1
        })
        .await;
    assert_eq!(compared, TRUTH.traces.len());
    // And by the program itself.
    for id in ids.iter().step_by(TRUTH.traces.len() / 10) {
        assert_eq!(spans_of(DONE.json(&["get", id, "-o", "otlp-json"])), TRUTH.traces[id]);
    }
}

async fn comes_out_as_it_came_in(reader: Reader, id: String) -> tracefarm::error::Result<()> {
    let Lookup::Found(found) = trace::find(&reader, id.parse().unwrap()).await? else {
        panic!("trace {id} is not there");
    };
    let document: Value = serde_json::from_str(&found.otlp_json(false)?).unwrap();
    let (found, expected) = (spans_of(document), &TRUTH.traces[&id]);
    // Bytes of protobuf: as text they still tell the name of a span that differs.
    let text = |bytes: Option<&Vec<u8>>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let (wrong, missing) = (text(found.difference(expected).next()), text(expected.difference(&found).next()));
    assert_eq!(wrong, missing, "trace {id} is not what came in");
    assert_eq!(found.len(), expected.len(), "trace {id}");
    Ok(())
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
#[tokio::test(flavor = "multi_thread")]
async fn real_object_stores_count_the_same() {
    let Ok(urls) = std::env::var("TRACEFARM_SERVERS") else {
        eprintln!("skipped: no servers here (scripts/servers starts them)");
        return;
    };
    let clock = Clock::system(jiff::SignedDuration::ZERO);
    for url in urls.split_whitespace() {
        let farm = Farm::at(format!("{url}/pipeline-{}", clock.ulid()));
        let store = Store::open(&farm.url, &OpenOptions::default(), clock.clone()).await.unwrap();
        let inbox = recording::inbox();
        for path in official::files(&inbox) {
            let name = path.strip_prefix(&inbox).unwrap().to_string_lossy().into_owned();
            let body = std::fs::read(&path).unwrap().into();
            store.create(&tracefarm::store::Key::Inbox(name), body).await.unwrap();
        }
        eprintln!("{url}");
        farm.work();
        same(&farm, &EXPECTED);
        check_newest(&farm);
        for id in TRUTH.trace_ids().into_iter().step_by(TRUTH.traces.len() / 5) {
            assert_eq!(spans_of(farm.json(&["get", id, "-o", "otlp-json"])), TRUTH.traces[id], "{url} {id}");
        }
        let later = farm.later();
        later.work();
        check_newest(&later);
        assert_eq!(later.json(&["check", "-o", "json"])["spans"], 0, "{url}");
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
