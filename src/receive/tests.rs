use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::error::Result;
use crate::otlp::redact::Redact;
use crate::otlp::{ObjectDecoder, Progress, SpanRows};
use crate::store::fault::{Bucket, CallKind, Fate, Gate, Incident, Script};
use crate::task::Task;

/// A receiver on a bucket, whose calls meet `script`.
struct Scene {
    clock: Clock,
    bucket: Bucket,
    receiver: Receiver,
    stop: CancellationToken,
    end: CancellationToken,
    batcher: Task<()>,
}

impl Scene {
    fn new(script: Script, options: Options) -> Self {
        let clock = Clock::simulated("2026-11-22T14:30:00Z".parse().unwrap(), 1);
        let bucket = Bucket::new(clock.clone(), 1_000);
        let client = Arc::new(bucket.client("receiver", script));
        let store = Store::over(client, "memory://", clock.clone());
        let (receiver, batcher) = Receiver::new(store, clock.clone(), options);
        let (stop, end) = (CancellationToken::new(), CancellationToken::new());
        let (stopped, ended) = (stop.clone(), end.clone());
        let serving = async move {
            ended.cancelled().await;
            Ok(())
        };
        let batcher = task::spawn(async move { batcher.beside(serving, &stopped, || {}).await });
        Self { clock, bucket, receiver, stop, end, batcher }
    }

    fn calm(options: Options) -> Self {
        Self::new(Box::new(|_| Fate::calm()), options)
    }

    /// One whose objects are written when the gate is opened.
    fn gated(options: Options) -> (Self, Gate) {
        let gate = Gate::new();
        let held = gate.clone();
        let script: Script = Box::new(move |call| match call.kind {
            CallKind::Put => Fate::before(Incident::Hold(held.clone())),
            _ => Fate::calm(),
        });
        (Self::new(script, options), gate)
    }

    /// Sends spans with these numbers.
    fn send(&self, numbers: std::ops::Range<u32>) -> Task<Result<Checked, Refusal>> {
        let (receiver, body) = (self.receiver.clone(), json(numbers));
        task::spawn(async move {
            let mut held = match receiver.0.memory.enter() {
                Ok(held) => held,
                Err(refusal) => return Ok(Err(refusal)),
            };
            if let Err(refusal) = held.hold(body.len()) {
                return Ok(Err(refusal));
            }
            Ok(receiver.take(body, None, Encoding::Json, held).await)
        })
    }

    /// Objects in the inbox, and the spans in all of them.
    fn inbox(&self) -> (usize, usize) {
        let objects = self.bucket.paths("inbox/");
        let spans = objects.iter().map(|path| {
            let body = self.bucket.read(path).unwrap().body;
            let mut decoder = ObjectDecoder::new(&body[..], jiff::Timestamp::UNIX_EPOCH, Limits::default());
            let mut rows = SpanRows::new(Redact::default());
            assert_eq!(decoder.decode(&mut rows, usize::MAX).unwrap(), Progress::Done);
            assert_eq!(decoder.bad_count(), 0, "{path}");
            rows.len()
        });
        (objects.len(), spans.sum())
    }
}

/// A request of a span for each number.
fn json(numbers: std::ops::Range<u32>) -> Bytes {
    let spans: Vec<String> = numbers
        .map(|n| format!(r#"{{"traceId":"01{n:030x}","spanId":"01{n:014x}","name":"a span with a name"}}"#))
        .collect();
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}]}}]}}]}}"#, spans.join(",")).into()
}

fn spans(outcome: &Result<Checked, Refusal>) -> u64 {
    outcome.as_ref().unwrap().spans
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_together_are_one_object_and_answered_when_it_is_durable() {
    let (scene, gate) = Scene::gated(Options::default());
    let requests: Vec<_> = (0..50).map(|n| scene.send(n..n + 1)).collect();
    gate.reached().await;
    assert_eq!(scene.clock.monotonic(), Duration::from_millis(500), "the first has waited as long as it may");
    scene.clock.sleep(Duration::from_secs(1)).await;
    assert_eq!((scene.receiver.counts().told().accepted, scene.inbox().0), (0, 0), "nobody is answered yet");
    gate.open();
    for request in requests {
        assert_eq!(spans(&request.join().await.unwrap()), 1);
    }
    assert_eq!(scene.inbox(), (1, 50));
    let told = scene.receiver.counts().told();
    assert_eq!((told.accepted, told.spans, told.objects, told.failing), (50, 50, 1, false));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_full_waits_no_longer() {
    let scene = Scene::calm(Options { batch_bytes: json(0..10).len() * 2, ..Options::default() });
    let requests: Vec<_> = (0..4).map(|n| scene.send(n * 10..n * 10 + 10)).collect();
    for request in requests {
        assert_eq!(spans(&request.join().await.unwrap()), 10);
    }
    assert_eq!((scene.inbox(), scene.clock.monotonic()), ((2, 40), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_nothing_is_told_and_taken_up_again() {
    let fails = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let failing = fails.clone();
    let script: Script = Box::new(move |_| match failing.load(std::sync::atomic::Ordering::SeqCst) {
        true => Fate::before(Incident::Fail),
        false => Fate::calm(),
    });
    let scene = Scene::new(script, Options::default());
    assert_eq!(scene.send(0..3).join().await.unwrap().unwrap_err(), Refusal::Unwritten);
    assert!(scene.receiver.counts().told().failing && scene.inbox().0 == 0);
    fails.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(spans(&scene.send(0..3).join().await.unwrap()), 3);
    assert_eq!((scene.inbox(), scene.receiver.counts().told().failing), ((1, 3), false));
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_the_store_that_is_lost_is_settled_by_reading_back() {
    let mut first = true;
    let script: Script = Box::new(move |call| match call.kind {
        CallKind::Put if std::mem::take(&mut first) => Fate::after(Incident::Fail),
        _ => Fate::calm(),
    });
    let scene = Scene::new(script, Options::default());
    assert_eq!(spans(&scene.send(0..3).join().await.unwrap()), 3);
    assert_eq!(scene.inbox(), (1, 3));
}

/// The worst: it is there, and nobody can be told. Sent again it stands twice, which is one to the indexer.
#[tokio::test(start_paused = true)]
async fn what_may_or_may_not_be_there_is_not_confirmed() {
    let script: Script = Box::new(|call| match call.kind {
        CallKind::Put => Fate::after(Incident::Fail),
        _ => Fate::before(Incident::Fail),
    });
    let scene = Scene::new(script, Options::default());
    assert_eq!(scene.send(0..3).join().await.unwrap().unwrap_err(), Refusal::Unwritten);
    assert_eq!(scene.inbox(), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_memory_is_told_at_once_and_a_slow_store_gets_larger_objects() {
    // A request holds 4 KiB at least: forty of them.
    let (scene, gate) = Scene::gated(Options { memory_bytes: 40 * 4096, batch_bytes: 1, ..Options::default() });
    let mut waiting = Vec::new();
    for number in 0..40 {
        waiting.push(scene.send(number..number + 1));
        tokio::task::yield_now().await;
    }
    gate.reached().await;
    scene.clock.sleep(Duration::from_secs(5)).await;
    assert_eq!(scene.send(100..101).join().await.unwrap().unwrap_err(), Refusal::Busy);
    gate.open();
    for request in waiting {
        assert_eq!(spans(&request.join().await.unwrap()), 1);
    }
    let (objects, spans) = scene.inbox();
    assert!(spans == 40 && objects <= 10, "{objects}");
    assert!(scene.send(100..101).join().await.unwrap().is_ok(), "memory is given back");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_in_time_is_no_reason_to_wait_for_ever() {
    let (scene, gate) = Scene::gated(Options::default());
    assert_eq!(scene.send(0..1).join().await.unwrap().unwrap_err(), Refusal::Late);
    assert_eq!(scene.clock.monotonic(), ANSWER_TIME);
    gate.open();
    scene.clock.sleep(Duration::from_secs(1)).await;
    assert_eq!(scene.inbox(), (1, 1), "it is kept all the same");
}

#[tokio::test(start_paused = true)]
async fn who_stops_answers_first() {
    let scene = Scene::calm(Options { batch_time: Duration::from_secs(3600), ..Options::default() });
    let before = scene.send(0..2);
    scene.clock.sleep(Duration::from_secs(1)).await;
    scene.stop.cancel();
    assert_eq!(spans(&before.join().await.unwrap()), 2);
    let during = scene.send(2..3);
    assert_eq!(spans(&during.join().await.unwrap()), 1);
    assert_eq!(scene.clock.monotonic(), Duration::from_secs(1), "nothing waits for company any more");
    scene.end.cancel();
    scene.batcher.join().await.unwrap();
    assert_eq!(
        scene
            .receiver
            .take(json(3..4), None, Encoding::Json, scene.receiver.0.memory.enter().unwrap())
            .await
            .unwrap_err(),
        Refusal::Stopping
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_for_a_request_without_spans() {
    let scene = Scene::calm(Options::default());
    assert_eq!(spans(&scene.send(0..0).join().await.unwrap()), 0);
    assert_eq!((scene.inbox().0, scene.clock.monotonic()), (0, Duration::ZERO));
}
