//! `tracefarm receive` and `dev` as processes: what they take, what they refuse, and what stands in the store after it.

#[path = "support/farm.rs"]
mod farm;
#[path = "support/official.rs"]
mod official;
#[path = "support/server.rs"]
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use farm::Farm;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use server::{Answer, clients, parsed, until_we_end};

/// A receiver, or `dev`, on free ports; it goes away with this.
struct Receiver {
    child: Child,
    http: SocketAddr,
    grpc: SocketAddr,
    pages: Option<SocketAddr>,
    log: tempfile::NamedTempFile,
}

impl Receiver {
    fn start(command: Command, options: &[&str]) -> Self {
        Self::of(command, "receive", options)
    }

    fn of(mut command: Command, name: &str, options: &[&str]) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        command.args([name, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]).args(options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log.reopen().unwrap());
        let mut child = command.spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let (mut text, mut chunk) = (String::new(), [0; 1024]);
        let address = |text: &str, name: &str| -> Option<SocketAddr> {
            let line = text.lines().find(|line| line.contains(name))?;
            line.trim_end().rsplit_once("http://")?.1.split('/').next()?.parse().ok()
        };
        let (http, grpc) = loop {
            let length = out.read(&mut chunk).unwrap();
            assert!(length > 0, "it ended: {text}{}", std::fs::read_to_string(log.path()).unwrap());
            text.push_str(std::str::from_utf8(&chunk[..length]).unwrap());
            if let (Some(http), Some(grpc)) = (address(&text, "HTTP"), address(&text, "gRPC"))
                && text.ends_with('\n')
            {
                break (http, grpc);
            }
        };
        Self { child, http, grpc, pages: address(&text, "Pages"), log }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        stream
    }

    fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect();
        // Who refuses early may close before it has all.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        parsed(&answer)
    }

    fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.raw(&request(method, target, headers, body))
    }

    fn post(&self, kind: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.ask("POST", "/v1/traces", &[&[("content-type", kind)], headers].concat(), body)
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn peak_memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        kibibytes.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or_default() << 10
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| *name == "host") {
        head.push_str("host: localhost\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// A receiver that nobody stops, on a store of its own.
static SHARED: LazyLock<(Farm, Receiver)> = LazyLock::new(|| {
    let farm = Farm::local();
    let receiver = Receiver::start(until_we_end(&farm.command()), &["--batch-time", "20ms"]);
    (farm, receiver)
});

/// A span whose ids say this number.
fn span(number: u64) -> Span {
    Span {
        trace_id: [&[1; 8][..], &number.to_be_bytes()].concat(),
        span_id: (number | 1 << 63).to_be_bytes().to_vec(),
        name: "GET /things".to_owned(),
        kind: 2,
        start_time_unix_nano: 1_795_310_000_000_000_000,
        end_time_unix_nano: 1_795_310_000_100_000_000,
        ..Span::default()
    }
}

fn message(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope = ScopeSpans { spans, ..ScopeSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans: vec![scope], ..Default::default() }] }
}

fn protobuf(numbers: std::ops::Range<u64>) -> Vec<u8> {
    message(numbers.map(span).collect()).encode_to_vec()
}

fn json(numbers: std::ops::Range<u64>) -> Vec<u8> {
    serde_json::to_vec(&message(numbers.map(span).collect())).unwrap()
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(body).unwrap();
    out.finish().unwrap()
}

/// The numbers of all spans in the inbox, read by the official decoder; each object must be readable.
fn received(farm: &Farm) -> BTreeSet<u64> {
    let mut numbers = BTreeSet::new();
    for file in farm.files("inbox") {
        for data in official::decode(&std::fs::read(&file).unwrap()).unwrap() {
            let scopes = data.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
            let ids = scopes.flat_map(|scope| &scope.spans).map(|span| span.trace_id[8..].try_into().unwrap());
            numbers.extend(ids.map(u64::from_be_bytes));
        }
    }
    numbers
}

/// A message of `google.rpc.Status` in an answer, in the encoding `kind`.
fn told(answer: &Answer, kind: &str) -> String {
    assert_eq!(answer.header("content-type"), Some(kind), "{}", answer.text());
    if kind == JSON {
        return answer.json()["message"].as_str().unwrap().to_owned();
    }
    tonic_status(&answer.body)
}

/// The second field of `google.rpc.Status`.
fn tonic_status(body: &[u8]) -> String {
    #[derive(Message)]
    struct Status {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(string, tag = "2")]
        message: String,
    }
    let status = Status::decode(body).unwrap();
    assert_ne!(status.code, 0);
    status.message
}

#[test]
fn what_is_answered_with_200_stands_in_the_inbox() {
    let (farm, receiver) = &*SHARED;
    let zstd = zstd::encode_all(&protobuf(1030..1040)[..], 3).unwrap();
    for (kind, headers, body) in [
        (PROTOBUF, &[][..], protobuf(1000..1010)),
        (PROTOBUF, &[("content-encoding", "gzip")], gzip(&protobuf(1010..1020))),
        (JSON, &[], json(1020..1030)),
        (PROTOBUF, &[("content-encoding", "zstd")], zstd),
        ("Application/JSON; charset=utf-8", &[("content-encoding", "GZIP")], gzip(&json(1040..1050))),
        (PROTOBUF, &[("content-encoding", "identity")], protobuf(1050..1060)),
    ] {
        let answer = receiver.post(kind, headers, &body);
        assert_eq!(answer.status, 200, "{kind} {headers:?}: {}", answer.text());
        match kind {
            PROTOBUF => assert_eq!((answer.header("content-type"), answer.body.len()), (Some(PROTOBUF), 0)),
            _ => assert_eq!((answer.header("content-type"), answer.text().as_str()), (Some(JSON), "{}")),
        }
    }
    let there = received(farm);
    assert!((1000..1060).all(|number| there.contains(&number)), "{there:?}");
    for empty in [(PROTOBUF, &b""[..]), (JSON, b"{}"), (JSON, b"{\"resourceSpans\":[]}")] {
        assert_eq!(receiver.post(empty.0, &[], empty.1).status, 200);
    }
    assert_eq!(receiver.ask("GET", "/healthz", &[], b"").text(), "ok\n");
}

#[test]
fn bad_requests_are_told_what_is_wrong_in_their_own_encoding() {
    let (farm, receiver) = &*SHARED;
    let cut = protobuf(2000..2010);
    for (kind, headers, body, status) in [
        (JSON, &[][..], &b"{\"resourceSpans\":[{"[..], 400),
        (JSON, &[], b"", 400),
        (JSON, &[], b"[]", 400),
        (JSON, &[], b"{\"resourceLogs\":[]}", 400),
        (JSON, &[], &protobuf(2000..2010), 400),
        (PROTOBUF, &[], &json(2000..2010), 400),
        (PROTOBUF, &[], &cut[..cut.len() - 7], 400),
        (PROTOBUF, &[], b"\xff\xff\xff\xff", 400),
        (PROTOBUF, &[("content-encoding", "gzip")], &protobuf(2000..2010), 400),
        (PROTOBUF, &[("content-encoding", "gzip")], &gzip(&cut)[..50], 400),
        (PROTOBUF, &[("content-encoding", "br")], &cut, 415),
        (PROTOBUF, &[("content-encoding", "gzip"), ("content-encoding", "gzip")], &cut, 415),
        ("text/plain", &[], &json(2000..2010), 415),
        ("application/x-www-form-urlencoded", &[], b"a=b", 415),
    ] {
        let answer = receiver.post(kind, headers, body);
        assert_eq!(answer.status, status, "{kind} {headers:?} {:?}: {}", body.get(..20), answer.text());
        let encoding = if kind == PROTOBUF { PROTOBUF } else { JSON };
        assert!(told(&answer, encoding).len() > 10);
    }
    for (method, target, status) in [
        ("GET", "/v1/traces", 405),
        ("PUT", "/v1/traces", 405),
        ("POST", "/v1/metrics", 404),
        ("POST", "/v1/logs", 404),
        ("POST", "/v1/traces/", 404),
        ("POST", "/v1/traces/../../etc/passwd", 404),
        ("POST", "/v1/%74races/..%2f..%2finbox%2fx", 404),
        ("POST", "//v1/traces", 404),
        ("POST", "/", 404),
    ] {
        let answer = receiver.ask(method, target, &[("content-type", JSON)], &json(2000..2001));
        assert_eq!(answer.status, status, "{method} {target}");
        assert!(!told(&answer, JSON).is_empty());
        assert_eq!(answer.header("allow"), (status == 405).then_some("POST"));
    }
    for host in ["evil.example", "localhost.evil.example:4318", ""] {
        assert_eq!(receiver.post(JSON, &[("host", host)], &json(2000..2001)).status, 421, "{host}");
    }
    assert!(received(farm).iter().all(|number| !(2000..2010).contains(number)), "nothing of it was kept");
    assert_eq!(receiver.log(), "", "a client's mistake is no log record");
}

#[test]
fn only_spans_that_cannot_be_read_are_refused() {
    let (farm, receiver) = &*SHARED;
    let mut spans: Vec<Span> = (3000..3010).map(span).collect();
    spans[3].trace_id = vec![0; 16];
    spans[7].span_id = vec![1; 3];
    let message = message(spans);
    let answer = receiver.post(PROTOBUF, &[], &message.encode_to_vec());
    assert_eq!(answer.status, 200);
    let said = ExportTraceServiceResponse::decode(&answer.body[..]).unwrap().partial_success.unwrap();
    assert_eq!(said.rejected_spans, 2);
    assert!(said.error_message.contains("span 4") && said.error_message.contains("span 8"), "{}", said.error_message);
    let answer = receiver.post(JSON, &[], &serde_json::to_vec(&message).unwrap());
    assert_eq!(answer.json()["partialSuccess"]["rejectedSpans"], "2", "{}", answer.text());
    let there = received(farm);
    let kept: Vec<u64> = there.range(3000..3010).copied().collect();
    assert_eq!(kept, [3000, 3001, 3002, 3004, 3005, 3006, 3008, 3009]);
    let none = receiver.post(PROTOBUF, &[], &self::message(vec![Span::default()]).encode_to_vec());
    let said = ExportTraceServiceResponse::decode(&none.body[..]).unwrap().partial_success.unwrap();
    assert_eq!((none.status, said.rejected_spans), (200, 1));
}

#[test]
fn what_is_too_large_is_refused_before_it_is_unpacked() {
    let farm = Farm::local();
    let receiver = Receiver::start(farm.command(), &["--max-request", "1MiB", "--memory", "8MiB"]);
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&vec![b' '; 200 << 20]).unwrap();
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 1 << 20);
    for _ in 0..5 {
        assert_eq!(receiver.post(JSON, &[("content-encoding", "gzip")], &bomb).status, 413);
    }
    let zstd = zstd::encode_all(&vec![0; 200 << 20][..], 1).unwrap();
    assert_eq!(receiver.post(PROTOBUF, &[("content-encoding", "zstd")], &zstd).status, 413);
    let large = vec![b' '; 2 << 20];
    assert!(matches!(receiver.post(JSON, &[], &large).status, 0 | 413));
    // One that does not say how long it is.
    let head = b"POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = [b"10000\r\n", &[b' '; 0x10000][..], b"\r\n"].concat();
    assert!(matches!(receiver.raw(&[&head[..], &chunk.repeat(40)].concat()).status, 0 | 413));
    // One that says that it is endless is told at once.
    let endless = b"POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 99999999999\r\n\r\n";
    assert_eq!(receiver.raw(endless).status, 413);
    let peak = receiver.peak_memory_bytes();
    assert!(peak < 150 << 20, "{peak}");
    assert_eq!(receiver.post(PROTOBUF, &[], &protobuf(1..2)).status, 200, "it goes on");
}

#[test]
fn slow_clients_and_odd_heads_keep_nobody_out() {
    let (_, receiver) = &*SHARED;
    let mut slow: Vec<TcpStream> = (0..60).map(|_| receiver.connect()).collect();
    for (number, stream) in slow.iter_mut().enumerate() {
        let begun: &[u8] = match number % 3 {
            0 => b"",
            1 => b"POST /v1/traces HTTP/1.1\r\nhost: localhost\r\nx: ",
            _ => b"POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{",
        };
        stream.write_all(begun).unwrap();
    }
    // Clients of gRPC that say nothing, or never get to a request.
    let mut quiet: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(receiver.grpc).unwrap()).collect();
    for stream in quiet.iter_mut().skip(10) {
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    }
    let many: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    for headers in [many, format!("x: {}\r\n", "y".repeat(100_000))] {
        let request = format!("POST /v1/traces HTTP/1.1\r\nhost: localhost\r\n{headers}connection: close\r\n\r\n");
        assert!(matches!(receiver.raw(request.as_bytes()).status, 0 | 431));
    }
    for garbage in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"GET\r\n\r\n", b"\0\0\0\0\r\n\r\n"] {
        assert!(matches!(receiver.raw(garbage).status, 0 | 400), "{garbage:?}");
    }
    assert_eq!(receiver.post(JSON, &[], &json(5000..5001)).status, 200);
    for stream in slow.iter_mut().chain(&mut quiet) {
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let mut rest = Vec::new();
        // The read has a time-out of its own, beyond the receiver's.
        let read = stream.read_to_end(&mut rest);
        assert!(read.is_ok() || read.unwrap_err().kind() == std::io::ErrorKind::ConnectionReset);
        if rest.starts_with(b"HTTP/1.1") {
            assert_eq!(parsed(&rest).status, 408, "{}", String::from_utf8_lossy(&rest));
        }
    }
    assert_eq!(receiver.post(JSON, &[], &json(5001..5002)).status, 200);
}

#[test]
fn a_token_is_asked_for() {
    let farm = Farm::local();
    let mut command = farm.command();
    command.env("TRACEFARM_TOKEN", "correct-horse-battery");
    let receiver = Receiver::start(command, &["--batch-time", "20ms"]);
    for wrong in [&[][..], &[("authorization", "Bearer correct-horse-batterx")]] {
        let answer = receiver.post(PROTOBUF, wrong, &protobuf(0..1));
        assert_eq!(answer.status, 401);
        assert!(told(&answer, PROTOBUF).contains("token"));
    }
    let known = [("authorization", "Bearer correct-horse-battery")];
    assert_eq!(receiver.post(PROTOBUF, &known, &protobuf(0..1)).status, 200);
    assert_eq!(receiver.ask("GET", "/healthz", &[], b"").status, 200);
    let grpc = runtime().block_on(async {
        let mut client = grpc::Client::connect(receiver.grpc).await;
        let without = client.export(message(vec![span(2)]), &[]).await;
        let with = client.export(message(vec![span(3)]), &known).await;
        (without, with)
    });
    assert_eq!(grpc.0.unwrap_err().code(), tonic::Code::Unauthenticated);
    assert!(grpc.1.is_ok());
    assert_eq!(received(&farm), [0, 3].into());
}

#[test]
fn pages_of_others_cannot_send_and_those_of_this_machine_can() {
    let (_, receiver) = &*SHARED;
    let asked = |origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type,x-mine"),
        ];
        receiver.ask("OPTIONS", "/v1/traces", &headers, b"")
    };
    for origin in ["http://localhost:3000", "http://127.0.0.1:5173", "http://localhost"] {
        let answer = asked(origin);
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
        assert_eq!(answer.header("access-control-allow-headers"), Some("content-type,x-mine"));
    }
    for origin in ["https://evil.example", "http://localhost.evil.example", "http://evil.example:3000", "null"] {
        assert_eq!(asked(origin).header("access-control-allow-origin"), None, "{origin}");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

/// A client of gRPC: tonic's, over a connection of hyper's.
mod grpc {
    use std::future::Future;
    use std::net::SocketAddr;
    use std::pin::Pin;

    use hyper::client::conn::http2::{SendRequest, handshake};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
    use tonic::body::Body;
    use tonic::codec::CompressionEncoding;
    use tonic::codegen::Service;
    use tonic_prost::ProstCodec;

    /// A connection.
    #[derive(Clone)]
    struct Connection(SendRequest<Body>);

    impl Service<http::Request<Body>> for Connection {
        type Response = http::Response<Body>;
        type Error = hyper::Error;
        type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

        fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), hyper::Error>> {
            self.0.poll_ready(cx)
        }

        fn call(&mut self, request: http::Request<Body>) -> Self::Future {
            let answer = self.0.send_request(request);
            Box::pin(async move { Ok(answer.await?.map(Body::new)) })
        }
    }

    pub struct Client {
        connection: Connection,
        origin: http::Uri,
    }

    impl Client {
        pub async fn connect(address: SocketAddr) -> Self {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            #[expect(clippy::disallowed_methods, reason = "a client of a test needs no span")]
            tokio::spawn(connection);
            Self { connection: Connection(sender), origin: format!("http://{address}").parse().unwrap() }
        }

        pub async fn export(
            &mut self,
            message: ExportTraceServiceRequest,
            headers: &[(&'static str, &str)],
        ) -> Result<ExportTraceServiceResponse, tonic::Status> {
            self.call(message, headers, "/opentelemetry.proto.collector.trace.v1.TraceService/Export", None).await
        }

        pub async fn call(
            &mut self,
            message: ExportTraceServiceRequest,
            headers: &[(&'static str, &str)],
            path: &'static str,
            compression: Option<CompressionEncoding>,
        ) -> Result<ExportTraceServiceResponse, tonic::Status> {
            let mut client = tonic::client::Grpc::with_origin(self.connection.clone(), self.origin.clone());
            if let Some(compression) = compression {
                client = client.send_compressed(compression);
            }
            client.ready().await.unwrap();
            let mut request = tonic::Request::new(message);
            for (name, value) in headers {
                request.metadata_mut().insert(*name, value.parse().unwrap());
            }
            let codec = ProstCodec::<ExportTraceServiceRequest, ExportTraceServiceResponse>::default();
            Ok(client.unary(request, path.parse().unwrap(), codec).await?.into_inner())
        }
    }
}

#[test]
fn grpc_is_taken_as_http_is() {
    let (farm, receiver) = &*SHARED;
    runtime().block_on(async {
        let export = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
        let gzip = Some(tonic::codec::CompressionEncoding::Gzip);
        let mut client = grpc::Client::connect(receiver.grpc).await;
        let plain = client.export(message((4000..4010).map(span).collect()), &[]).await.unwrap();
        assert_eq!(plain.partial_success, None);
        client.call(message((4010..4020).map(span).collect()), &[], export, gzip).await.unwrap();
        let mut spans: Vec<Span> = (4020..4023).map(span).collect();
        spans[1].span_id.clear();
        let partly = client.export(message(spans), &[]).await.unwrap().partial_success.unwrap();
        assert_eq!(partly.rejected_spans, 1);
        client.export(message(Vec::new()), &[]).await.unwrap();

        let metrics = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
        let other = client.call(message(Vec::new()), &[], metrics, None).await.unwrap_err();
        assert_eq!(other.code(), tonic::Code::Unimplemented);
        // Too large, plain and packed.
        let large = || {
            let mut large = span(4030);
            large.name = "x".repeat(17 << 20);
            message(vec![large])
        };
        for compression in [None, gzip] {
            let refused = client.call(large(), &[], export, compression).await.unwrap_err();
            assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused:?}");
            let details = String::from_utf8_lossy(refused.details()).into_owned();
            assert!(!details.contains("RetryInfo"), "it is not to be sent again");
        }
        assert!(client.export(message(vec![span(4031)]), &[]).await.is_ok(), "the connection goes on");
    });
    let there = received(farm);
    let wanted = (4000..4021).chain([4022, 4031]);
    assert!(wanted.clone().all(|number| there.contains(&number)), "{:?}", there.range(4000..4100));
    assert!(!there.contains(&4021) && !there.contains(&4030));
}

/// A client that sends without end is held back after 64 KiB, so that thousands of them fit the memory.
#[test]
fn what_a_grpc_client_may_send_unread_is_little() {
    let (_, receiver) = &*SHARED;
    let mut stream = TcpStream::connect(receiver.grpc).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // The preface, no settings of its own, and a ping; when the second is answered the server has said what it says by itself.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let ping = b"\0\0\x08\x06\0\0\0\0\0pingpong";
    stream.write_all(ping).unwrap();
    let (mut connection, mut each, mut pongs) = (65_535, 65_535, 0);
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).unwrap();
        let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        match head[3] {
            // SETTINGS_INITIAL_WINDOW_SIZE
            0x4 => payload.chunks(6).filter(|pair| number(&pair[..2]) == 4).for_each(|pair| each = number(&pair[2..])),
            // WINDOW_UPDATE
            0x8 => connection += number(&payload),
            // PING
            0x6 if pongs == 1 => break,
            0x6 => {
                pongs += 1;
                stream.write_all(ping).unwrap();
            }
            _ => {}
        }
    }
    assert_eq!((connection, each), (65_535, 65_535), "of all requests of a connection, of each");
}

#[test]
fn what_came_and_what_became_of_it_is_told_to_prometheus() {
    let farm = Farm::local();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let receiver = Receiver::start(farm.command(), &["--batch-time", "5ms", "--health", &free.to_string()]);
    let asked = server::Page(free);
    assert_eq!(asked.get("/healthz").text(), "{\"status\":\"ok\"}\n");
    receiver.post(PROTOBUF, &[], &protobuf(0..10));
    receiver.post(JSON, &[], &serde_json::to_vec(&message(vec![span(1), Span::default()])).unwrap());
    receiver.post(JSON, &[], b"{");
    receiver.post("text/plain", &[], b"{");
    runtime().block_on(async {
        let mut client = grpc::Client::connect(receiver.grpc).await;
        client.export(message(vec![span(2)]), &[]).await.unwrap();
        let mut large = span(3);
        large.name = "x".repeat(17 << 20);
        client.export(message(vec![large]), &[]).await.unwrap_err();
    });
    let metrics = asked.get("/metrics").text();
    for line in [
        "tracefarm_receive_requests_total{outcome=\"accepted\"} 2.0",
        "tracefarm_receive_requests_total{outcome=\"partly\"} 1.0",
        "tracefarm_receive_requests_total{outcome=\"unreadable\"} 1.0",
        "tracefarm_receive_requests_total{outcome=\"foreign\"} 1.0",
        "tracefarm_receive_requests_total{outcome=\"too-large\"} 1.0",
        "tracefarm_receive_spans_total 12.0",
        "tracefarm_receive_refused_spans_total 1.0",
        "tracefarm_receive_objects_total 3.0",
        "tracefarm_receive_failed_objects_total 0.0",
    ] {
        assert!(metrics.lines().any(|told| told == line), "{line}\n{metrics}");
    }
    std::fs::remove_dir_all(farm.path().join("inbox")).unwrap();
    std::fs::write(farm.path().join("inbox"), "").unwrap();
    assert_eq!(receiver.post(PROTOBUF, &[], &protobuf(0..1)).status, 503);
    let health = asked.get("/healthz");
    assert_eq!(
        (health.status, health.json()["status"].as_str()),
        (200, Some("degraded")),
        "another process would not help"
    );
}

#[test]
fn a_store_that_takes_nothing_is_a_reason_to_come_again() {
    let farm = Farm::local();
    let receiver = Receiver::start(farm.command(), &["--batch-time", "20ms"]);
    let inbox = farm.path().join("inbox");
    // Nobody, not even root, writes below a file.
    std::fs::write(&inbox, "").unwrap();
    for kind in [PROTOBUF, JSON] {
        let body = if kind == JSON { json(1..2) } else { protobuf(1..2) };
        let answer = receiver.post(kind, &[], &body);
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(answer.header("retry-after"), Some("2"));
        assert!(told(&answer, kind).contains("come again"));
    }
    let status = runtime().block_on(async {
        grpc::Client::connect(receiver.grpc).await.export(message(vec![span(1)]), &[]).await.unwrap_err()
    });
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(String::from_utf8_lossy(status.details()).contains("google.rpc.RetryInfo"));
    assert!(receiver.log().contains("a batch could not be written"), "{}", receiver.log());
    std::fs::remove_file(&inbox).unwrap();
    assert_eq!(receiver.post(PROTOBUF, &[], &protobuf(1..2)).status, 200);
    assert_eq!(received(&farm), [1].into());
}

/// Clients send, and note what was answered; then the receiver is killed.
#[test]
fn nothing_that_was_answered_is_lost_when_the_receiver_is_killed() {
    for round in 0..3_u64 {
        let farm = Farm::local();
        let mut receiver = Receiver::start(farm.command(), &["--batch-time", "5ms", "--batch-size", "20KiB"]);
        let (http, grpc) = (receiver.http, receiver.grpc);
        let count = Arc::<AtomicU64>::default();
        let clients: Vec<_> = (0..8_u64)
            .map(|client| {
                let count = count.clone();
                std::thread::spawn(move || {
                    let first = client * 1_000_000;
                    match client % 2 {
                        0 => send_http(http, first, &count),
                        _ => runtime().block_on(send_grpc(grpc, first, &count)),
                    }
                })
            })
            .collect();
        while count.load(Ordering::SeqCst) < 30 + round * 17 {
            std::thread::sleep(Duration::from_millis(1));
        }
        receiver.child.kill().unwrap();
        receiver.child.wait().unwrap();
        let answered: BTreeSet<u64> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        let there = received(&farm);
        assert!(answered.len() >= 300, "{}", answered.len());
        let lost: Vec<_> = answered.difference(&there).collect();
        assert!(lost.is_empty(), "of {} answered these are lost: {lost:?}", answered.len());
        println!(
            "round {round}: {} spans answered, {} in the inbox, {} objects",
            answered.len(),
            there.len(),
            farm.files("inbox").len()
        );
        // A worker reads all of it.
        farm.work();
        let check = farm.json(&["check", "-o", "json"]);
        assert_eq!(check["spans"], there.len());
        assert_eq!((&check["quarantined"], check["violations"].as_array().unwrap().len()), (&0.into(), 0));
    }
}

/// Sends until it fails; what was answered with 200.
fn send_http(address: SocketAddr, first: u64, count: &AtomicU64) -> BTreeSet<u64> {
    let mut answered = BTreeSet::new();
    for number in (first..).step_by(10) {
        let Ok(mut stream) = TcpStream::connect(address) else { break };
        let body = if number % 20 == 0 { json(number..number + 10) } else { protobuf(number..number + 10) };
        let kind = if number % 20 == 0 { JSON } else { PROTOBUF };
        let mut answer = Vec::new();
        if stream.write_all(&request("POST", "/v1/traces", &[("content-type", kind)], &body)).is_err() {
            break;
        }
        let _ = stream.read_to_end(&mut answer);
        match parsed(&answer).status {
            200 => {
                answered.extend(number..number + 10);
                count.fetch_add(1, Ordering::SeqCst);
            }
            0 => break,
            _ => {}
        }
    }
    answered
}

async fn send_grpc(address: SocketAddr, first: u64, count: &AtomicU64) -> BTreeSet<u64> {
    let mut answered = BTreeSet::new();
    let mut client = grpc::Client::connect(address).await;
    for number in (first..).step_by(10) {
        match client.export(message((number..number + 10).map(span).collect()), &[]).await {
            Ok(_) => {
                answered.extend(number..number + 10);
                count.fetch_add(1, Ordering::SeqCst);
            }
            Err(_) => break,
        }
    }
    answered
}

#[test]
fn who_is_told_to_stop_answers_first() {
    let farm = Farm::local();
    let receiver = Receiver::start(farm.command(), &["--batch-time", "1h"]);
    let mut streams: Vec<TcpStream> = (0..5).map(|_| receiver.connect()).collect();
    for (number, stream) in (0..).zip(&mut streams) {
        stream.write_all(&request("POST", "/v1/traces", &[("content-type", JSON)], &json(number..number + 1))).unwrap();
    }
    // Connections are taken in one after the other: those that came later are answered, and a moment later all are read.
    for _ in 0..5 {
        assert_eq!(receiver.ask("GET", "/healthz", &[], b"").status, 200);
    }
    std::thread::sleep(Duration::from_millis(500));
    receiver.signal("TERM");
    let mut answered = BTreeSet::new();
    for (number, stream) in (0..).zip(&mut streams) {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        if parsed(&answer).status == 200 {
            answered.insert(number);
        }
    }
    let mut receiver = receiver;
    assert_eq!(receiver.child.wait().unwrap().code(), Some(0), "{}", receiver.log());
    assert_eq!(answered, (0..5).collect());
    assert_eq!(received(&farm), answered);
}

#[test]
fn mistakes_are_told_in_a_sentence() {
    let (farm, receiver) = &*SHARED;
    let taken = receiver.http.to_string();
    for args in [
        &["--http", "none", "--grpc", "none"][..],
        &["--http", &taken],
        &["--http", "nowhere"],
        &["--token", "short"],
        &["--memory", "1MiB"],
        &["--batch-time", "soon"],
    ] {
        let output =
            farm.command().arg("receive").args(["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]).args(args).output();
        let output = output.unwrap();
        // Of an option given twice the parser of the command line tells.
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// As many clients at once as there are requests.
#[test]
fn ten_thousand_requests_at_once_are_taken_or_put_off() {
    let farm = Farm::local();
    let receiver = Receiver::start(farm.command(), &[]);
    let (requests, address) = (clients(), receiver.http);
    let clock = tracefarm::clock::Clock::system(jiff::SignedDuration::ZERO);
    let (statuses, answered) = runtime().block_on(async {
        let all = (0..requests as u64).map(|number| async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let Ok(mut stream) = tokio::net::TcpStream::connect(address).await else { return (number, 0) };
            let body = protobuf(number * 20..number * 20 + 20);
            if stream.write_all(&request("POST", "/v1/traces", &[("content-type", PROTOBUF)], &body)).await.is_err() {
                return (number, 0);
            }
            let mut answer = Vec::new();
            let _ = tokio::time::timeout(Duration::from_secs(500), stream.read_to_end(&mut answer)).await;
            (number, parsed(&answer).status)
        });
        #[expect(clippy::disallowed_methods, reason = "clients of a test need no span")]
        let tasks: Vec<_> = all.map(tokio::spawn).collect();
        let (mut statuses, mut answered) = (BTreeMap::<u16, usize>::new(), BTreeSet::new());
        for task in tasks {
            let (number, status) = task.await.unwrap();
            *statuses.entry(status).or_default() += 1;
            if status == 200 {
                answered.extend(number * 20..number * 20 + 20);
            }
        }
        (statuses, answered)
    });
    let (seconds, peak) = (clock.monotonic().as_secs_f64(), receiver.peak_memory_bytes() >> 20);
    let objects = farm.files("inbox").len();
    println!("{requests} requests at once: {statuses:?} in {seconds:.1} s, {objects} objects, peak memory {peak} MiB");
    assert!(statuses.keys().all(|status| matches!(status, 200 | 429 | 503)), "{statuses:?}");
    assert!(statuses[&200] > requests / 20 && peak < 600, "{statuses:?} {peak}");
    assert!(answered.is_subset(&received(&farm)));
    assert_eq!(receiver.post(JSON, &[], &json(0..1)).status, 200, "it goes on");
}

/// A flag wins over its variable, that over the file, that over what is usual.
#[test]
fn a_receiver_takes_what_the_configuration_file_says() {
    let (farm, folder) = (Farm::local(), tempfile::tempdir().unwrap());
    let (file, token) = (folder.path().join("tracefarm.toml"), folder.path().join("token"));
    std::fs::write(&token, "the one of the file\n").unwrap();
    let config = format!(
        "[receive]\nhttp = '127.0.0.1:1'\ngrpc = 'none'\ntoken_file = {token:?}\nmax_request = '1KiB'\nmemory = '1MiB'\n\
         batch_time = '1ms'\nhost = ['traces.example']\nallow_origin = ['https://shop.example']\n"
    );
    std::fs::write(&file, config).unwrap();
    let mut command = farm.command();
    command.env("TRACEFARM_CONFIG", &file);
    let receiver = Receiver::start(command, &[]);
    let request = |token: &str, host: &str, bytes: usize| {
        let body = "x".repeat(bytes);
        let head =
            format!("POST /v1/traces HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\nconnection: close");
        let head = format!("{head}\r\ncontent-type: application/json\r\ncontent-length: {bytes}\r\n\r\n{body}");
        receiver.raw(head.as_bytes()).status
    };
    assert_eq!(request("another", "localhost", 1), 401);
    assert_eq!(request("the one of the file", "localhost", 1), 400, "that is no request");
    assert_eq!(request("the one of the file", "traces.example", 1), 400);
    assert_eq!(request("the one of the file", "elsewhere.example", 1), 421);
    assert_eq!(request("the one of the file", "localhost", 2_000), 413);

    let ended = |content: &str, args: &[&str]| {
        std::fs::write(&file, content).unwrap();
        let output = farm.command().arg("--config").arg(&file).arg("receive").args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = ended("[receive]\nhttp = 'none'\ngrpc = 'none'", &[]);
    assert!(code == Some(2) && said.contains("there is nothing to receive"), "{said}");
    let (code, said) = ended("[receive]\nmemory = '1GiB'\nhttp = '127.0.0.1:0'", &["--memory=1MiB", "--grpc=none"]);
    assert!(code == Some(2) && said.contains("--memory must hold"), "a flag wins: {said}");
    for wrong in ["htpt = '127.0.0.1:0'", "http = 4318", "batch_time = 'soon'", "allow_origin = ['*']"] {
        let (code, said) = ended(&format!("[receive]\n{wrong}"), &[]);
        assert!(code == Some(2) && said.contains("receive.") && said.lines().count() == 1, "{wrong}: {said}");
    }
}

#[test]
fn a_server_of_pages_takes_traces_if_it_is_told_to() {
    let farm = Farm::local();
    let server = server::Server::start(farm.command(), &["--receive"]);
    let post = |body: &[u8]| server.raw(&request("POST", "/v1/traces", &[("content-type", PROTOBUF)], body));
    assert_eq!(post(&protobuf(1..3)).status, 200);
    assert_eq!(received(&farm), [1, 2].into());
    assert_eq!(post(b"x").status, 400);
    assert_eq!(server.ask("POST", "/site/handlers.json", &[("content-length", "0")]).status, 405);
    assert_eq!(server.get("/v1/traces").status, 405);
    assert_eq!(server.get("/site/").status, 200);
    let without = server::Server::start(farm.command(), &[]);
    assert_eq!(without.get("/v1/traces").status, 404);
}

/// What is sent to `dev` stands on its pages, as often as one sends; what it had when it was killed does so later.
#[test]
fn dev_shows_what_it_is_sent() {
    let farm = Farm::local();
    let now: u64 = tracefarm::clock::Clock::system(jiff::SignedDuration::ZERO).wall().as_nanosecond() as u64;
    let fresh = |number: u64| {
        message(vec![Span {
            start_time_unix_nano: now,
            end_time_unix_nano: now + 1_000,
            name: format!("GET /{number}"),
            ..span(number)
        }])
    };
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tracefarm"));
        command.args(["--store", &farm.url, "--log-level", "warn"]);
        command
    };
    for round in 0..2 {
        let mut dev = Receiver::of(command(), "dev", &["--listen", "127.0.0.1:0"]);
        let pages = server::Page(dev.pages.unwrap());
        for number in round * 10..round * 10 + 3 {
            assert_eq!(dev.post(PROTOBUF, &[], &fresh(number).encode_to_vec()).status, 200);
            let trace = format!("{:032x}", u128::from_be_bytes(span(number).trace_id.try_into().unwrap()));
            let until = std::time::Duration::from_secs(60);
            let clock = tracefarm::clock::Clock::system(jiff::SignedDuration::ZERO);
            while !pages.shows(&trace) {
                assert!(clock.monotonic() < until, "trace {trace} does not come: {}", dev.log());
                std::thread::sleep(Duration::from_millis(20));
            }
            println!("round {round}, request {number}: on the page after {:.2} s", clock.monotonic().as_secs_f64());
        }
        assert_eq!(dev.post(PROTOBUF, &[], &fresh(round * 10 + 5).encode_to_vec()).status, 200);
        if round == 0 {
            // In the middle of it.
            dev.child.kill().unwrap();
            dev.child.wait().unwrap();
        } else {
            dev.signal("INT");
            assert_eq!(dev.child.wait().unwrap().code(), Some(0), "{}", dev.log());
        }
    }
    farm.forget_dead_workers();
    let output = command().args(["run", "--once", "--grace", "0s"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = command().args(["check", "-o", "json"]).output().unwrap();
    let check: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&check["spans"], &check["violation_count"]), (&8.into(), &0.into()), "{check}");
}
