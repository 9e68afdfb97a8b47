use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::farm::worker::{Options, Worker};
use crate::store::Store;
use crate::store::fault::{Bucket, Fate};
use crate::task::{self, Task};

/// A server, and where it listens.
async fn server(record: &Record, clock: &Clock) -> (std::net::SocketAddr, Task<()>) {
    let listener = listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (address, task::spawn(serve(listener, record.clone(), clock.clone())))
}

/// Sends `request` and reads to the end.
async fn ask(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn get(address: std::net::SocketAddr, path: &str) -> (u16, String) {
    let answer = ask(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Half an hour after the span of [`LINE`].
fn clock() -> Clock {
    Clock::simulated("2026-11-22T14:30:00Z".parse().unwrap(), 1)
}

const LINE: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"01010101010101010101010101010101",
    "spanId":"0101010101010101","name":"GET /x","kind":2,"startTimeUnixNano":"1795357000000000000",
    "endTimeUnixNano":"1795357000001000000"}]}]}]}"#;

#[tokio::test]
async fn a_worker_s_health_and_numbers_are_told_before_it_starts_and_after_it_worked() {
    let clock = clock();
    let record = Record::new(clock.clone());
    let (address, _serving) = server(&record, &clock).await;
    assert_eq!(get(address, "/healthz").await, (200, "{\"status\":\"ok\"}\n".to_owned()));
    let (status, before) = get(address, "/metrics").await;
    assert_eq!(status, 200);
    assert!(before.contains("tracefarm_stage_items_total{stage=\"index\"} 0.0\n"), "{before}");

    let bucket = Bucket::new(clock.clone(), 1_000);
    for number in 1..=3 {
        bucket.put(&format!("inbox/{number}.json"), LINE.replace("0101\",\"name", &format!("010{number}\",\"name")));
    }
    let (client, now) = (Arc::new(bucket.client("calm", Box::new(|_| Fate::calm()))), bucket.clone());
    let store = Store::over_with_time(client, "memory://", clock.clone(), Arc::new(move || now.now()));
    let options = Options { once: true, ..Options::new("test".parse().unwrap()) };
    let worker = Worker::new(store, clock, options).recorded_by(record);
    let summary = worker.run(&CancellationToken::new()).await.unwrap();
    assert_eq!((summary.objects, summary.traces, summary.handlers), (3, 1, 1), "{summary}");
    let (_, after) = get(address, "/metrics").await;
    for line in [
        "# TYPE tracefarm_stage_items_total counter",
        "tracefarm_stage_items_total{stage=\"index\"} 3.0",
        &format!("tracefarm_stage_read_rows_total{{stage=\"index\"}} {:.1}", summary.spans as f64),
        &format!("tracefarm_traces_total {:.1}", summary.traces as f64),
        "tracefarm_backlog_objects 0.0",
        "tracefarm_rank 0.0",
        "tracefarm_peers 1.0",
        "tracefarm_healthy 1.0",
        concat!("tracefarm_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1.0"),
    ] {
        assert!(after.lines().any(|other| other == line), "{line} is missing in:\n{after}");
    }
    assert!(after.contains("tracefarm_requests_total{stage=\"index\",kind=\"get\"}"), "{after}");
}

#[tokio::test]
async fn there_are_two_paths_and_two_methods() {
    let clock = clock();
    let (address, _serving) = server(&Record::new(clock.clone()), &clock).await;
    for path in ["/", "/healthz/", "/metrics/../healthz", "/debug", "//healthz"] {
        assert_eq!(get(address, path).await.0, 404, "{path}");
    }
    assert_eq!(get(address, "/healthz?from=probe").await.0, 200);
    let answer = ask(address, "POST /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi").await;
    assert!(answer.starts_with("HTTP/1.1 405") && answer.contains("allow: GET, HEAD"), "{answer}");
    let answer = ask(address, "HEAD /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"), "{answer}");
    let answer = ask(address, &format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(64 << 10))).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_stuck_is_503_with_the_reason() {
    let clock = clock();
    let record = Record::new(clock.clone());
    let metrics = metrics::Metrics::new(record.clone(), clock.clone());
    let vital = OfWorker { record: record.clone(), metrics, clock: clock.clone() };
    let judged = || answer(&Method::GET, "/healthz", &vital);
    record.watched(clock.monotonic());
    record.beat();
    assert_eq!(judged().status(), StatusCode::OK);
    clock.sleep(Duration::from_secs(200)).await;
    record.beat();
    assert_eq!(judged().status(), StatusCode::SERVICE_UNAVAILABLE);
    let Ok(body) = http_body_util::BodyExt::collect(judged().into_body()).await;
    let reason = r#"{"status":"stuck","reason":"blocked (between stages): the watchdog has not looked for 3 minutes"}"#;
    assert_eq!(body.to_bytes(), format!("{reason}\n"));
    assert!(vital.metrics().unwrap().contains("tracefarm_healthy 0.0\n"));
}

/// Clients that say nothing have all connections; they are hung up on, and the next one is answered.
#[tokio::test]
async fn silent_clients_do_not_keep_others_out_for_long() {
    let clock = clock();
    let (address, _serving) = server(&Record::new(clock.clone()), &clock).await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS + 4 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    assert_eq!(get(address, "/healthz").await.0, 200);
    let mut rest = Vec::new();
    silent.remove(0).read_to_end(&mut rest).await.unwrap();
}

#[tokio::test]
async fn a_port_that_is_taken_is_a_mistake() {
    let taken = listen("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (address, part) in
        [(address.as_str(), "something else listens there"), ("8079", "HOST:PORT"), ("x:y", "HOST:PORT")]
    {
        let report = listen(address).await.unwrap_err();
        let Mistake(why) = crate::error::find::<Mistake>(&report).unwrap();
        assert!(why.contains(part) && why.contains(address), "{why}");
    }
}
