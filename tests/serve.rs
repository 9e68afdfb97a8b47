//! `tracefarm serve` as a process on a real store: what it answers, and what it does not.

#[path = "support/farm.rs"]
mod farm;
#[path = "support/official.rs"]
mod official;
#[path = "support/recording.rs"]
mod recording;
#[path = "support/server.rs"]
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use farm::Farm;
use flate2::read::MultiGzDecoder;
use opentelemetry_proto::tonic::trace::v1::TracesData;
use recording::Truth;
use serde_json::{Value, json};
use server::{Answer, Server, clients, parsed, until_we_end};

/// The sample traces, and what is to come of them.
static SAMPLES: LazyLock<(Farm, Truth)> = LazyLock::new(|| {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/inbox");
    let farm = Farm::local();
    farm.put(&samples).work();
    (farm, Truth::of(&samples))
});

/// A server on the samples that nobody stops.
static SERVER: LazyLock<Server> = LazyLock::new(|| Server::start(until_we_end(&SAMPLES.0.command()), &[]));

/// The samples eight days later: what is left of them is pinned.
static PINNED: LazyLock<(Farm, Server)> = LazyLock::new(|| {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/inbox");
    let farm = Farm::local();
    farm.put(&samples).work();
    farm.later().work();
    let server = Server::start(until_we_end(&farm.later().command()), &[]);
    (farm, server)
});

/// A handler with traces.
fn busiest() -> Value {
    let list = SERVER.json("/site/handlers.json");
    let handlers = list["handlers"].as_array().unwrap();
    handlers.iter().max_by_key(|row| row["count"].as_u64()).unwrap().clone()
}

fn gunzip(body: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    MultiGzDecoder::new(body).read_to_end(&mut text).unwrap();
    text
}

#[test]
fn documents_are_served_as_they_stand_in_the_store() {
    let (farm, server) = &*PINNED;
    let (site, pins) = (farm.files("site"), farm.files("latest"));
    assert!(site.len() > 20 && pins.len() > 20, "{} {}", site.len(), pins.len());
    for file in site.into_iter().step_by(3).chain(pins.into_iter().step_by(11)) {
        let key = file.strip_prefix(farm.path()).unwrap().display().to_string();
        let answer = server.get(&format!("/{key}"));
        let content = std::fs::read(&file).unwrap();
        assert_eq!((answer.status, &answer.body), (200, &content), "{key}");
        let kind = match key.rsplit_once('.').map(|(_, extension)| extension) {
            Some("gz") => "application/gzip",
            Some("json") => "application/json",
            Some("html") => "text/html; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            // A licence.
            _ => "text/plain; charset=utf-8",
        };
        assert_eq!(answer.header("content-type"), Some(kind), "{key}");
        assert_eq!(answer.header("content-encoding"), None, "{key}");
        assert_eq!(answer.header("content-length"), Some(content.len().to_string().as_str()), "{key}");
        let cache = answer.header("cache-control").unwrap();
        let forever = key.starts_with("latest/") || key.starts_with("site/assets/");
        assert_eq!(cache.contains("immutable"), forever, "{key}: {cache}");

        let head = server.ask("HEAD", &format!("/{key}"), &[]);
        assert_eq!((head.status, head.body.len()), (200, 0), "{key}");
        for name in ["content-type", "content-length", "etag", "last-modified"] {
            assert_eq!(head.header(name), answer.header(name), "{key}: {name}");
            assert!(head.header(name).is_some(), "{key}: {name}");
        }
    }
}

#[test]
fn what_a_client_has_is_not_sent_again() {
    let target = "/site/handlers.json";
    let answer = SERVER.get(target);
    let (etag, date) = (answer.header("etag").unwrap(), answer.header("last-modified").unwrap());
    for known in [("if-none-match", etag), ("if-modified-since", date), ("if-none-match", "*")] {
        for method in ["GET", "HEAD"] {
            let again = SERVER.ask(method, target, &[known]);
            assert_eq!((again.status, again.body.len()), (304, 0), "{known:?}");
            assert_eq!(again.header("etag"), Some(etag));
        }
    }
    let other = SERVER.ask("GET", target, &[("if-none-match", "\"other\""), ("if-modified-since", date)]);
    assert_eq!((other.status, other.body), (200, answer.body));
}

#[test]
fn parts_are_served_by_range() {
    let (farm, server) = &*PINNED;
    let pin = farm.files("latest").into_iter().next().unwrap();
    let target = format!("/{}", pin.strip_prefix(farm.path()).unwrap().display());
    let content = std::fs::read(&pin).unwrap();
    let size = content.len();
    let etag = server.get(&target).header("etag").unwrap().to_owned();
    for (range, from, to) in [("bytes=0-9", 0, 10), ("bytes=-7", size - 7, size), ("bytes=5-", 5, size)] {
        let answer = server.ask("GET", &target, &[("range", range)]);
        assert_eq!((answer.status, answer.body.as_slice()), (206, &content[from..to]), "{range}");
        let said = format!("bytes {from}-{}/{size}", to - 1);
        assert_eq!(answer.header("content-range"), Some(said.as_str()));
        assert_eq!(answer.header("content-length"), Some((to - from).to_string().as_str()));
    }
    let beyond = server.ask("GET", &target, &[("range", &format!("bytes={size}-"))]);
    assert_eq!((beyond.status, beyond.body.len()), (416, 0));
    assert_eq!(beyond.header("content-range"), Some(format!("bytes */{size}").as_str()));
    for headers in [&[("range", "bytes=0-1,3-4")][..], &[("range", "bytes=0-1"), ("if-range", "\"other\"")]] {
        let whole = server.ask("GET", &target, headers);
        assert_eq!((whole.status, whole.body.len()), (200, size), "{headers:?}");
    }
    let part = server.ask("GET", &target, &[("range", "bytes=0-1"), ("if-range", &etag)]);
    assert_eq!((part.status, part.body.len()), (206, 2));
}

#[test]
fn json_is_compressed_for_those_who_take_it_and_gzip_never_twice() {
    let plain = SERVER.get("/site/handlers.json");
    let small = SERVER.ask("GET", "/site/handlers.json", &[("accept-encoding", "br, gzip")]);
    assert_eq!(small.header("content-encoding"), Some("gzip"));
    assert_eq!(small.header("etag"), plain.header("etag"), "a weak one, for both");
    assert!(small.body.len() < plain.body.len());
    assert_eq!(gunzip(&small.body), plain.body);
    let traces = format!("/site/handlers/{}/traces.json.gz", busiest()["id"].as_str().unwrap());
    let answer = SERVER.ask("GET", &traces, &[("accept-encoding", "gzip")]);
    assert_eq!((answer.status, answer.header("content-encoding")), (200, None));
    let document: Value = serde_json::from_slice(&gunzip(&answer.body)).unwrap();
    assert!(document["resourceSpans"].is_array());
}

#[test]
fn a_store_without_pages_is_served_those_of_the_program() {
    let farm = Farm::local();
    let server = Server::start(farm.command(), &[]);
    let index = server.get("/site/");
    assert_eq!((index.status, index.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let text = index.text();
    let script = text.split('"').find(|part| part.starts_with("assets/") && part.ends_with("/main.js")).unwrap();
    let script = server.get(&format!("/site/{script}"));
    assert_eq!((script.status, script.header("content-type")), (200, Some("text/javascript; charset=utf-8")));
    assert!(script.header("cache-control").unwrap().contains("immutable"));
    assert!(!script.body.is_empty());
    assert_eq!(server.get("/site/assets/0123456789abcdef/main.js").status, 404, "of another version");
}

#[test]
fn the_root_leads_to_the_pages() {
    for (target, status) in [("/", 307), ("/site", 308)] {
        let answer = SERVER.get(target);
        assert_eq!((answer.status, answer.header("location")), (status, Some("site/")), "{target}");
    }
    assert_eq!(SERVER.get("/healthz").text(), "ok\n");
}

#[test]
fn nothing_but_public_keys_can_be_named() {
    let (farm, _) = &*SAMPLES;
    let path = |folder: &str| {
        let file = farm.files(folder).into_iter().next().unwrap();
        file.strip_prefix(farm.path()).unwrap().display().to_string()
    };
    let secrets = [path("farm"), path("spans"), path("entries"), "farm/settings/0000000001.json".to_owned()];
    for secret in &secrets {
        for trick in [
            format!("/{secret}"),
            format!("/site/../{secret}"),
            format!("/site/%2e%2e/{secret}"),
            format!("/site/..%2f{secret}"),
            format!("/site/..%5c{secret}"),
            format!("/site//../../{secret}"),
            format!("/latest/../{secret}"),
            format!("/latest/%252e%252e/{secret}"),
            format!("/site/%c0%ae%c0%ae/{secret}"),
            format!("/site/handlers.json%00/../../{secret}"),
            format!("//{secret}"),
            format!("/./{secret}"),
            format!("/site/;/../{secret}"),
            format!("/site{secret}"),
        ] {
            let answer = SERVER.get(&trick);
            assert!(matches!(answer.status, 400 | 404), "{trick}: {}", answer.status);
        }
    }
    for odd in [
        "/site/handlers.json%00",
        "/site/%0d%0ax",
        "/site/%ff",
        "/site%2fhandlers.json",
        "/SITE/handlers.json",
        "/site/handlers.json/",
    ] {
        assert!(matches!(SERVER.get(odd).status, 400 | 404), "{odd}");
    }
    assert_eq!(SERVER.get(&format!("/site/{}", "a".repeat(9_000))).status, 414);
    for target in
        ["http://localhost/site/handlers.json", "http://169.254.169.254/latest/meta-data/", "site/handlers.json", "*"]
    {
        assert_eq!(SERVER.get(target).status, 400, "{target}");
    }
    assert_eq!(
        SERVER.raw(b"CONNECT localhost:80 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").status,
        400
    );
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE"] {
        assert_eq!(SERVER.ask(method, "/site/handlers.json", &[("content-length", "0")]).status, 405, "{method}");
    }
}

#[test]
fn every_answer_says_what_browsers_may_do_with_it() {
    for target in ["/site/handlers.json", "/nothing", "/api/services", "/metrics", "/site/../x"] {
        let answer = SERVER.get(target);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{target}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{target}");
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{target}");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{target}");
    }
}

/// Of `publish_command`: whatever stands in such a file, as a page of this origin it could do what the pages can.
#[test]
fn what_a_program_of_somebodys_made_is_shown_and_runs_nothing() {
    let farm = Farm::local();
    let handler = "web/get-x-5b1f0c3a";
    let folder = farm.path().join(format!("site/handlers/{handler}/extra/more"));
    std::fs::create_dir_all(&folder).unwrap();
    let server = Server::start(farm.command(), &[]);
    for (name, kind) in [
        ("x.html", "text/html; charset=utf-8"),
        ("x.svg", "image/svg+xml"),
        ("x.js", "text/javascript; charset=utf-8"),
        ("x.unknown", "application/octet-stream"),
    ] {
        let body = b"<script>alert(1)</script>";
        std::fs::write(folder.join(name), body).unwrap();
        let target = format!("/site/handlers/{handler}/extra/more/{name}");
        for (method, headers, status) in [
            ("GET", &[][..], 200),
            ("HEAD", &[], 200),
            ("GET", &[("range", "bytes=0-3")], 206),
            ("GET", &[("if-none-match", "*")], 304),
        ] {
            let answer = server.ask(method, &target, headers);
            assert_eq!(answer.status, status, "{target}");
            let policy = answer.header("content-security-policy").unwrap();
            assert!(policy.starts_with("sandbox; default-src 'none'") && !policy.contains("script"), "{policy}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
            assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        }
        assert_eq!(server.get(&target).header("content-type"), Some(kind), "{name}");
    }
    let page = server.get("/site/");
    assert!(!page.header("content-security-policy").unwrap().contains("sandbox"), "only what is not ours");
}

#[test]
fn a_page_that_gives_its_name_this_machines_address_reads_nothing() {
    for host in ["evil.example", "localhost.evil.example:8080", "127.0.0.1.evil.example", ""] {
        assert_eq!(SERVER.ask("GET", "/site/handlers.json", &[("host", host)]).status, 421, "{host}");
    }
    for host in ["localhost", "127.0.0.1:1234", "[::1]:80"] {
        assert_eq!(SERVER.ask("GET", "/site/handlers.json", &[("host", host)]).status, 200, "{host}");
    }
    let twice = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
    assert_eq!(SERVER.raw(twice).status, 421);
    assert_eq!(SERVER.raw(b"GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n").status, 421);

    let named =
        Server::start(SAMPLES.0.command(), &["--host", "traces.example", "--allow-origin", "https://ui.example"]);
    assert_eq!(named.ask("GET", "/healthz", &[("host", "Traces.Example:443")]).status, 200);
    assert_eq!(named.ask("GET", "/healthz", &[("host", "evil.example")]).status, 421);
    let from = |origin: &str| named.ask("GET", "/api/services", &[("origin", origin)]);
    assert_eq!(from("https://ui.example").header("access-control-allow-origin"), Some("https://ui.example"));
    assert_eq!(from("https://evil.example").header("access-control-allow-origin"), None);
}

#[test]
fn a_token_is_asked_for_everywhere_but_where_the_servers_life_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "correct-horse-battery\n").unwrap();
    let server = Server::start(SAMPLES.0.command(), &["--token-file", &file.display().to_string()]);
    assert_eq!(server.get("/healthz").status, 200);
    for target in ["/", "/site/handlers.json", "/api/services", "/metrics", "/nothing"] {
        let answer = server.get(target);
        assert_eq!(answer.status, 401, "{target}");
        assert!(answer.header("www-authenticate").unwrap().starts_with("Basic "), "{target}");
        assert_eq!(server.ask("GET", target, &[("authorization", "Bearer correct-horse-batterx")]).status, 401);
    }
    // user:correct-horse-battery
    let basic = "Basic dXNlcjpjb3JyZWN0LWhvcnNlLWJhdHRlcnk=";
    for known in ["Bearer correct-horse-battery", basic] {
        let answer = server.ask("GET", "/site/handlers.json", &[("authorization", known)]);
        assert_eq!(answer.status, 200, "{known}");
    }
    let output = SAMPLES.0.command().args(["serve", "--token", "short", "--listen", "127.0.0.1:0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

/// The spans of an OTLP/JSON document, whole.
fn spans(document: &Value) -> BTreeSet<Vec<u8>> {
    let document: TracesData = serde_json::from_value(document.clone()).unwrap();
    recording::wholes(&document).map(|(_, whole)| whole).collect()
}

#[test]
fn a_trace_is_served_as_it_came_in() {
    let (farm, truth) = &*SAMPLES;
    for id in truth.trace_ids().into_iter().step_by(29) {
        let mut answer = SERVER.json(&format!("/api/trace/{id}"));
        let beside = answer.as_object_mut().unwrap().remove("tracefarm").unwrap();
        let known: BTreeSet<Vec<u8>> = truth.traces[id].iter().cloned().collect();
        assert_eq!(spans(&answer), known, "{id}");
        assert!(beside["received"].as_array().unwrap().len() >= known.len());
        let newest = SERVER.json(&format!("/api/trace/{id}?revisions=newest"));
        assert_eq!(newest, farm.json(&["get", id, "-o", "otlp-json"]), "{id}");
    }
    assert_eq!(SERVER.get(&format!("/api/trace/{}", "0".repeat(31) + "1")).status, 404);
    for wrong in ["/api/trace/xyz", "/api/trace/1?revisions=some", "/api/trace/1?bsae=1"] {
        assert_eq!(SERVER.get(wrong).status, 400, "{wrong}");
    }
}

#[test]
fn a_search_finds_what_the_command_finds() {
    let (farm, _) = &*SAMPLES;
    let handler = busiest()["id"].as_str().unwrap().to_owned();
    let service = busiest()["service"].as_str().unwrap().to_owned();
    for (query, args) in [
        ("limit=7".to_owned(), vec!["--limit", "7"]),
        (format!("handler={handler}"), vec!["--handler", &handler]),
        (format!("service={service}&error"), vec!["--service", &service, "--error"]),
        ("min_duration=100ms&limit=50".to_owned(), vec!["--min-duration", "100ms", "--limit", "50"]),
        ("since=2h&until=50m".to_owned(), vec!["--since", "2h", "--until", "50m"]),
        ("status=404".to_owned(), vec!["--status", "404"]),
        ("attr=http.request.method%3DPOST".to_owned(), vec!["--attr", "http.request.method=POST"]),
    ] {
        let hits = farm.json(&[&["search", "-o", "json"][..], &args].concat());
        assert_eq!(SERVER.json(&format!("/api/search?{query}"))["hits"], hits, "{query}");
    }
    for wrong in ["limit=x", "since=yesterday", "handler=x", "atrr=a%3Db", "attr=a", "min_duration=1", "error=maybe"] {
        let answer = SERVER.get(&format!("/api/search?{wrong}"));
        assert_eq!(answer.status, 400, "{wrong}");
        assert!(answer.json()["error"].as_str().unwrap().len() > 10, "{wrong}");
    }
}

#[test]
fn jaegers_lists_are_those_of_the_recording() {
    let (_, truth) = &*SAMPLES;
    let services: BTreeSet<String> = SERVER.json("/api/services")["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    for (service, _) in truth.handlers.keys() {
        assert!(services.contains(service), "{service}");
    }
    for service in &services {
        let names = SERVER.json(&format!("/api/services/{service}/operations"));
        let operations = SERVER.json(&format!("/api/operations?service={service}"));
        let told: BTreeSet<&str> =
            operations["data"].as_array().unwrap().iter().map(|o| o["name"].as_str().unwrap()).collect();
        let names: BTreeSet<&str> =
            names["data"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(names, told, "{service}");
        // Every operation finds a trace that has it.
        for name in names {
            let query: String = form(&[("service", service), ("operation", name), ("limit", "1"), ("start", "0")]);
            let found = SERVER.json(&format!("/api/traces?{query}"));
            let trace = &found["data"][0];
            let has = |span: &Value| {
                let process = span["processID"].as_str().unwrap();
                span["operationName"] == name && trace["processes"][process]["serviceName"] == service.as_str()
            };
            assert!(trace["spans"].as_array().is_some_and(|spans| spans.iter().any(has)), "{service} {name}: {found}");
        }
    }
}

fn form(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

#[test]
fn metrics_are_as_prometheus_reads_them() {
    let text = SERVER.get("/metrics").text();
    let recorded = &SAMPLES.1.entries;
    let counted: u64 = text
        .lines()
        .filter(|line| line.starts_with("tracefarm_handler_recent_duration_seconds_count{"))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
        .sum();
    // The recording is of one hour, and the server's clock stands in the next.
    assert!(counted > 0 && counted <= *recorded, "{counted} of {recorded}");
    let Some(python) = std::env::var_os("TRACEFARM_PYTHON") else {
        eprintln!("no TRACEFARM_PYTHON: prometheus_client does not read the metrics (scripts/test sets it)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("metrics");
    std::fs::write(&file, &text).unwrap();
    let code = "import sys, math\n\
        from prometheus_client.parser import text_string_to_metric_families as parse\n\
        families = {f.name: f for f in parse(open(sys.argv[1]).read())}\n\
        h = families['tracefarm_handler_recent_duration_seconds']\n\
        assert h.type == 'histogram', h.type\n\
        series = {}\n\
        for s in h.samples:\n\
        \x20   key = tuple(sorted((k, v) for k, v in s.labels.items() if k != 'le'))\n\
        \x20   series.setdefault(key, {}).setdefault(s.name.rsplit('_', 1)[1], []).append((s.labels.get('le'), s.value))\n\
        for key, parts in series.items():\n\
        \x20   counts = [v for _, v in parts['bucket']]\n\
        \x20   assert counts == sorted(counts) and parts['bucket'][-1][0] == '+Inf', key\n\
        \x20   assert counts[-1] == parts['count'][0][1] and math.isfinite(parts['sum'][0][1]), key\n\
        assert families['tracefarm_handler_hour_requests'].type == 'gauge'\n\
        print(len(series))\n";
    let output = Command::new(python).args(["-c", code]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).trim().parse::<u64>().unwrap() > 5);
}

/// Grafana's data source joins the name to the path as it is, Jaeger's interface writes a slash as %2F.
#[test]
fn operations_of_a_service_are_told_whatever_its_name() {
    let span = json!({ "traceId": "00000000000000000000000000002001", "spanId": "0000000000000021", "name": "GET /a", "kind": 2,
        "startTimeUnixNano": "1795310007000000000", "endTimeUnixNano": "1795310007500000000" });
    let name = json!([{ "key": "service.name", "value": { "stringValue": "team/shop web" } }]);
    let document =
        json!({ "resourceSpans": [{ "resource": { "attributes": name }, "scopeSpans": [{ "spans": [span] }] }] });
    let inbox = tempfile::tempdir().unwrap();
    std::fs::write(inbox.path().join("one.json"), document.to_string()).unwrap();
    let farm = Farm::local();
    farm.put(inbox.path()).work();
    let server = Server::start(farm.command(), &[]);
    for service in ["team/shop%20web", "team%2Fshop%20web"] {
        assert_eq!(server.json(&format!("/api/services/{service}/operations"))["data"], json!(["GET /a"]), "{service}");
    }
    assert_eq!(server.get("/api/services/team/shop%20web").status, 404);
}

/// What Jaeger answered to the same questions of the same traces (`scripts/jaeger-answers` asked it).
#[test]
fn jaegers_api_answers_as_jaeger_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/jaeger");
    let read = |name: &str| -> Value { serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap() };
    let inbox = tempfile::tempdir().unwrap();
    std::fs::copy(folder.join("traces.json"), inbox.path().join("traces.json")).unwrap();
    let farm = Farm::local();
    farm.put(inbox.path()).work();
    let server = Server::start(farm.command(), &[]);
    let recorded = read("answers.json");
    let queries: BTreeMap<String, String> = serde_json::from_value(read("queries.json")).unwrap();
    // Where Jaeger's memory storage is an odd one, or tracefarm means something else, it says so in its documentation.
    let link = |parent, child, calls| json!({ "parent": parent, "child": child, "callCount": calls });
    let meant: BTreeMap<&str, Value> = [
        // Calls between services, and not every span below another.
        ("dependencies", json!([link("web", "api", 2)])),
        ("dependencies of a service", json!([])),
        // The memory storage takes the text "true" for no boolean. Other storages find what failed.
        ("search by error", json!(["0000000000001002"])),
        ("search by error of an inner span", json!(["0000000000001006"])),
    ]
    .into();
    let mut differ = Vec::new();
    for (name, target) in &queries {
        let jaeger = &recorded["answers"][name];
        let answer = server.get(target);
        if let Some(meant) = meant.get(name.as_str()) {
            let data = answer.json()["data"].clone();
            let ids = |data: &Value| -> Value {
                data.as_array().unwrap().iter().map(|trace| trace["traceID"].clone()).collect()
            };
            let told = if name.starts_with("search") { ids(&data) } else { data };
            assert_eq!(told, *meant, "{name}");
            continue;
        }
        let (theirs, ours) = (alike(&jaeger["body"]), alike(&answer.json()));
        if jaeger["status"] != answer.status || theirs != ours {
            differ.push(format!("{name}: {target}\n{} {theirs:#}\n{} {ours:#}", jaeger["status"], answer.status));
        }
    }
    assert!(queries.len() > 50 && differ.is_empty(), "{} differ:\n{}", differ.len(), differ.join("\n\n"));
}

/// An answer without what may differ: the order of lists that have none, and the words of errors.
fn alike(answer: &Value) -> Value {
    match answer {
        Value::Object(members) => {
            let mut alike: serde_json::Map<String, Value> =
                members.iter().map(|(key, value)| (key.clone(), self::alike(value))).collect();
            if let Some(processes) = members.get("processes") {
                // Processes are numbered in order of appearance.
                for span in alike.get_mut("spans").and_then(Value::as_array_mut).into_iter().flatten() {
                    let number = span["processID"].as_str().unwrap().to_owned();
                    span["processID"] = self::alike(&processes[&number]);
                }
                alike.remove("processes");
                sort(alike.get_mut("spans").unwrap());
            }
            for words in ["msg", "message"] {
                if let Some(text) = alike.get_mut(words)
                    && text != "trace not found"
                    && text != "No traces found"
                {
                    *text = json!("words");
                }
            }
            Value::Object(alike)
        }
        Value::Array(values) => {
            let mut alike = Value::Array(values.iter().map(self::alike).collect());
            sort(&mut alike);
            alike
        }
        other => other.clone(),
    }
}

fn sort(list: &mut Value) {
    list.as_array_mut().unwrap().sort_by_cached_key(Value::to_string);
}

#[test]
fn a_client_that_is_slow_to_ask_is_let_go() {
    let mut streams: Vec<_> = (0..50).map(|_| SERVER.connect()).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        // Some say nothing at all, some begin and never end.
        if number % 2 == 0 {
            stream.write_all(b"GET /site/handlers.json HTTP/1.1\r\nhost: localhost\r\nx: ").unwrap();
        }
    }
    assert_eq!(SERVER.get("/healthz").status, 200);
    for mut stream in streams {
        let mut rest = Vec::new();
        // The read has a time-out of its own, beyond the server's.
        stream.read_to_end(&mut rest).unwrap();
        assert!(matches!(parsed(&rest).status, 0 | 408), "{}", String::from_utf8_lossy(&rest));
    }
}

#[test]
fn huge_and_odd_heads_are_refused() {
    let many: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    let large = format!("x: {}\r\n", "y".repeat(100_000));
    for headers in [many, large] {
        let request = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{headers}connection: close\r\n\r\n");
        let answer = SERVER.raw(request.as_bytes());
        // Closed while we were still sending: what it said may be lost on the way.
        assert!(matches!(answer.status, 0 | 431), "{}", answer.status);
    }
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ] {
        let answer = SERVER.raw(garbage);
        assert!(matches!(answer.status, 0 | 400 | 505), "{garbage:?}: {}", answer.status);
    }
    let smuggled = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n";
    assert!(matches!(SERVER.raw(smuggled).status, 0 | 400 | 405));
    assert_eq!(SERVER.get("/healthz").status, 200);
}

#[test]
fn a_connection_that_is_cut_costs_nobody_else_anything() {
    let traces = format!("/site/handlers/{}/traces.json.gz", busiest()["id"].as_str().unwrap());
    for number in 0..200 {
        let mut stream = SERVER.connect();
        let target = if number % 2 == 0 { traces.as_str() } else { "/api/traces?service=web&start=0" };
        write!(stream, "GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        if number % 3 == 0 {
            let _ = stream.read(&mut [0; 100]);
        }
    }
    assert_eq!(SERVER.get(&traces).status, 200);
    assert_eq!(SERVER.get("/api/services").status, 200);
}

/// As many clients at once as there are requests.
#[test]
fn ten_thousand_requests_at_once_are_answered_or_put_off() {
    let server = Server::start(SAMPLES.0.command(), &[]);
    let requests = clients();
    let id = SAMPLES.1.trace_ids().into_iter().next().unwrap().clone();
    let targets = [
        "/site/handlers.json".to_owned(),
        "/healthz".to_owned(),
        "/api/services".to_owned(),
        format!("/api/traces/{id}"),
        "/api/search?limit=5".to_owned(),
        "/metrics".to_owned(),
    ];
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let address = server.address;
    let clock = tracefarm::clock::Clock::system(jiff::SignedDuration::ZERO);
    let statuses = runtime.block_on(async {
        let all = (0..requests).map(|number| {
            let target = targets[number % targets.len()].clone();
            async move {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let Ok(mut stream) = tokio::net::TcpStream::connect(address).await else { return 0 };
                let request = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
                if stream.write_all(request.as_bytes()).await.is_err() {
                    return 0;
                }
                let mut answer = Vec::new();
                let _ = tokio::time::timeout(Duration::from_secs(500), stream.read_to_end(&mut answer)).await;
                parsed(&answer).status
            }
        });
        #[expect(clippy::disallowed_methods, reason = "clients of a test need no span")]
        let tasks: Vec<_> = all.map(tokio::spawn).collect();
        let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
        for task in tasks {
            *statuses.entry(task.await.unwrap()).or_default() += 1;
        }
        statuses
    });
    let peak = server.peak_memory_bytes();
    println!(
        "{requests} requests at once: {statuses:?} in {:.1} s, peak memory {} MiB",
        clock.monotonic().as_secs_f64(),
        peak.unwrap_or_default() >> 20
    );
    assert!(statuses.keys().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    assert!(statuses[&200] > requests / 20, "{statuses:?}");
    assert!(peak.is_none_or(|peak| peak < 600 << 20), "{peak:?}");
    assert_eq!(server.get("/site/handlers.json").status, 200, "it goes on");
}

#[test]
fn a_signal_lets_requests_in_hand_end() {
    let server = Server::start(SAMPLES.0.command(), &[]);
    // One that keeps its connection, and some that have asked and read slowly.
    let mut idle = server.connect();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).unwrap();
    // Connections that may still wait in the system's queue count, too: none is reset.
    let asking = (0..300).map(|_| {
        let mut asking = server.connect();
        asking.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        asking
    });
    let asking: Vec<_> = asking.collect();
    server.signal("TERM");
    for mut asking in asking {
        let mut answer = Vec::new();
        asking.read_to_end(&mut answer).unwrap();
        assert_eq!(parsed(&answer).status, 200, "{}", String::from_utf8_lossy(&answer));
    }
    let address = server.address;
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(std::net::TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn what_fails_is_logged_once_and_told_in_a_sentence() {
    let farm = Farm::local();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/inbox");
    farm.put(&samples).work();
    let server = Server::start(farm.command(), &[]);
    assert_eq!(server.get("/nothing").status, 404);
    assert_eq!(server.log(), "", "a client's mistake is no log record");
    // Blocks whose footers are well and whose rows are not, and no other copy.
    for block in farm.files("spans") {
        let mut bytes = std::fs::read(&block).unwrap();
        let rows = bytes.len() / 4;
        bytes[4..rows].fill(0xff);
        std::fs::write(&block, bytes).unwrap();
    }
    let answer: Answer = server.get(&format!("/api/trace/{}", SAMPLES.1.trace_ids().into_iter().next().unwrap()));
    assert_eq!(answer.status, 500, "{}", answer.text());
    assert!(!answer.text().contains("parquet") && answer.text().contains("log says why"), "{}", answer.text());
    let log = server.log();
    assert_eq!(log.lines().filter(|line| line.contains("a request failed")).count(), 1, "{log}");
    assert!(log.contains("/api/trace/") && log.contains("spans/"), "{log}");
}

/// A block whose footer cannot be read is left out of answers: they say so, and the log does once.
#[test]
fn what_is_in_a_block_without_a_footer_is_told_to_be_lacking() {
    let farm = Farm::local();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/inbox");
    farm.put(&samples).work();
    let blocks = farm.files("spans");
    for block in &blocks {
        let mut bytes = std::fs::read(block).unwrap();
        let end = bytes.len();
        bytes[end - 200..].fill(0);
        std::fs::write(block, bytes).unwrap();
    }
    let key = blocks[0].strip_prefix(farm.path()).unwrap().display().to_string();
    let server = Server::start(farm.command(), &[]);
    let incomplete = || {
        let metrics = server.get("/metrics").text();
        let line = metrics.lines().find_map(|line| line.strip_prefix("tracefarm_incomplete_answers_total "));
        line.unwrap_or_else(|| panic!("{metrics}")).parse::<u32>().unwrap()
    };
    assert_eq!(incomplete(), 0);
    let (told, id) = ("cannot be read, and what is in", SAMPLES.1.trace_ids().into_iter().next().unwrap());
    for (target, status) in [
        (format!("/api/trace/{id}"), 404),
        (format!("/api/traces/{id}"), 404),
        (format!("/api/v3/traces/{id}"), 404),
        (format!("/api/traces?traceID={id}"), 200),
        ("/api/dependencies".to_owned(), 200),
        ("/api/services".to_owned(), 200),
        ("/api/operations?service=web".to_owned(), 200),
        ("/api/services/web/operations".to_owned(), 200),
    ] {
        let answer = server.get(&target);
        assert!(answer.status == status && answer.text().contains(told), "{target}: {}", answer.text());
    }
    // What needs no span is whole; what looks for spans lacks some, if they are of its time.
    let hits = server.json("/api/search?limit=3");
    assert_eq!((hits["hits"].as_array().unwrap().len(), &hits["skipped_blocks"]), (3, &Value::Null));
    let search = "/api/search?attr=http.request.method%3DPOST";
    let lacking = server.json(search)["skipped_blocks"].to_string();
    assert!(lacking.contains(&key), "{lacking}");
    for list in ["services", "operations?service=web"] {
        let lacking = server.json(&format!("/api/v3/{list}"))["tracefarm"]["skipped_blocks"].to_string();
        assert!(lacking.contains(&key), "{list}: {lacking}");
    }
    assert_eq!(server.json(&format!("{search}&since=2000-01-01&until=2000-01-02")), json!({ "hits": [] }));
    assert_eq!(incomplete(), 11);
    for block in &blocks {
        let name = block.file_stem().unwrap().to_str().unwrap();
        assert_eq!(server.log().lines().filter(|line| line.contains(name)).count(), 1, "{}", server.log());
    }

    // A trace of which a part can be read is answered, and the answer says that there may be more.
    let whole = Farm::local();
    whole.put(&samples).work();
    let sound = whole.files("spans").remove(0);
    let newer = farm.path().join(sound.strip_prefix(whole.path()).unwrap());
    std::fs::create_dir_all(newer.parent().unwrap()).unwrap();
    std::fs::copy(sound, newer).unwrap();
    let found = SAMPLES.1.trace_ids().into_iter().map(|id| server.get(&format!("/api/trace/{id}")));
    let part = found.into_iter().find(|answer| answer.status == 200).unwrap();
    assert_eq!(part.header("tracefarm-skipped-blocks"), Some(blocks.len().to_string().as_str()));
}

#[test]
fn an_address_that_is_taken_and_a_store_that_is_not_there_are_mistakes() {
    let taken = SERVER.address.to_string();
    let farm = &SAMPLES.0;
    for args in
        [&["serve", "--listen", &taken][..], &["serve", "--listen", "nowhere"], &["serve", "--allow-origin", "*"]]
    {
        let output = farm.command().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}

/// The same on a real bucket, when `scripts/servers` has started one.
#[test]
fn a_bucket_is_served_as_a_folder_is() {
    let buckets = std::env::var("TRACEFARM_SERVERS").unwrap_or_default();
    if buckets.is_empty() {
        println!(
            "only a directory is tried: `scripts/servers cargo test --test serve` starts S3, GCS and Azure servers"
        );
    }
    for bucket in buckets.split_whitespace() {
        let name = tracefarm::clock::Clock::system(jiff::SignedDuration::ZERO).ulid();
        let farm = Farm::at(format!("{bucket}/{name}"));
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/inbox");
        farm.ran(0, &["run", "--once", "--grace", "0s", "--keep-inbox", "--inbox", &samples.display().to_string()]);
        let server = Server::start(farm.command(), &[]);
        let list = server.get("/site/handlers.json");
        assert_eq!(list.status, 200, "{bucket}");
        let etag = list.header("etag").unwrap();
        assert_eq!(server.ask("GET", "/site/handlers.json", &[("if-none-match", etag)]).status, 304, "{bucket}");
        let part = server.ask("GET", "/site/handlers.json", &[("range", "bytes=3-12")]);
        assert_eq!((part.status, part.body.as_slice()), (206, &list.body[3..13]), "{bucket}");
        assert_eq!(server.get("/site/handlers/web/none-00000000/summary.json").status, 404, "{bucket}");
        assert_eq!(server.get("/site/../farm/settings/0000000001.json").status, 400, "{bucket}");
        let id = SAMPLES.1.trace_ids().into_iter().next().unwrap();
        let newest = |server: &Server| spans(&server.json(&format!("/api/trace/{id}?revisions=newest")));
        assert_eq!(newest(&server), newest(&SERVER), "{bucket}");
        assert_eq!(server.json("/api/services"), SERVER.json("/api/services"), "{bucket}");
    }
}
