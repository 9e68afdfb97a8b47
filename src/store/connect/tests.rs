use std::collections::VecDeque;

use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use sha2::{Digest, Sha256};

use super::super::open::{greet, retry};
use super::super::renew::Renewing;
use super::super::{Key, OpenOptions, Prefix, Store, StoreErrorKind, Time};
use super::*;
use crate::error::{Mistake, find};

#[test]
fn requests_are_told_by_method_and_query() {
    for (method, query, expected) in [
        ("GET", "list-type=2&prefix=a", Request::List),
        ("GET", "restype=container&comp=list", Request::List),
        ("GET", "", Request::Get),
        ("GET", "prefix=list-type", Request::Get),
        ("PUT", "", Request::Put),
        ("PUT", "partNumber=1&uploadId=x", Request::Part),
        ("POST", "uploads=", Request::Part),
        ("PUT", "comp=blocklist", Request::Part),
        ("DELETE", "", Request::Delete),
        ("POST", "", Request::Other),
    ] {
        assert_eq!(kind(method, query), expected, "{method} {query}");
    }
}

#[test]
fn dates_of_answers_are_read() {
    assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some("1994-11-06T08:49:37Z".parse().unwrap()));
    assert_eq!(http_date("yesterday"), None);
}

/// An answer of a server that follows a script, or the failure to get one.
enum Says {
    Status(u16, &'static str),
    Header(u16, &'static str, &'static str),
    Object(&'static str),
    Breaks(HttpErrorKind),
    Nothing,
}

/// A server that follows a script, and remembers what it was asked.
#[derive(Debug, Default)]
struct Server {
    says: Mutex<VecDeque<Says>>,
    asked: Mutex<Vec<Asked>>,
}

/// A connection to it.
#[derive(Debug)]
struct Line(Arc<Server>);

#[derive(Debug)]
struct Asked {
    line: String,
    headers: Vec<(String, String)>,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

impl std::fmt::Debug for Says {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Says")
    }
}

#[async_trait]
impl HttpService for Line {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let headers = request.headers().iter();
        let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        let line = format!("{} {}", request.method(), request.uri());
        self.0.asked.lock().unwrap().push(Asked { line, headers });
        let next = self.0.says.lock().unwrap().pop_front();
        let answer = |status: u16, body: &'static str, headers: &[(&'static str, &'static str)]| {
            let mut answer = HttpResponse::new(body.to_owned().into());
            *answer.status_mut() = status.try_into().unwrap();
            for (name, value) in headers {
                answer.headers_mut().insert(*name, HeaderValue::from_static(value));
            }
            answer.headers_mut().insert("content-length", HeaderValue::from(body.len()));
            answer.headers_mut().insert("date", HeaderValue::from_static("Sun, 22 Nov 2026 10:00:00 GMT"));
            answer
        };
        match next.expect("the script goes on") {
            Says::Status(status, body) => Ok(answer(status, body, &[("etag", "\"1\"")])),
            Says::Header(status, name, value) => Ok(answer(status, "", &[(name, value)])),
            Says::Object(body) => {
                let known = [("etag", "\"1\""), ("last-modified", "Sun, 22 Nov 2026 09:00:00 GMT")];
                Ok(answer(200, body, &known))
            }
            Says::Breaks(kind) => Err(HttpError::new(kind, std::io::Error::other("broken"))),
            Says::Nothing => std::future::pending().await,
        }
    }
}

/// A store on S3 whose server says these things, one for each request.
fn store(says: impl IntoIterator<Item = Says>) -> (Store, Arc<Server>) {
    let server = Arc::new(Server { says: Mutex::new(says.into_iter().collect()), asked: Mutex::default() });
    let (clock, patience) = (Clock::simulated("2026-11-22T12:00:00Z".parse().unwrap(), 1), Patience::default());
    let wire = Wire::new(clock.clone(), patience.clone());
    let client = AmazonS3Builder::new()
        .with_bucket_name("b")
        .with_region("us-east-1")
        .with_endpoint("https://s3.test")
        .with_access_key_id("key")
        .with_secret_access_key("secret")
        .with_http_connector(Connector::over(&wire, HttpClient::new(Line(server.clone()))))
        .with_retry(retry(&patience))
        .with_config(object_store::aws::AmazonS3ConfigKey::DisableBulkDelete, "true")
        .build()
        .unwrap();
    let credentials = client.credentials().clone();
    let credentials = Arc::new(Renewing::new(move || Ok(credentials.clone())).unwrap());
    wire.sign_with(Signer::Aws { credentials, region: "us-east-1".to_owned() });
    let client: Arc<dyn ObjectStore> = Arc::new(client);
    (Store::new(client, None, "s3://b", "", OpenOptions::default(), clock, Time::Answers(wire)), server)
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let pad = |with: u8| -> Vec<u8> { (0..64).map(|i| key.get(i).copied().unwrap_or(0) ^ with).collect() };
    let inner = Sha256::digest([&pad(0x36), text.as_bytes()].concat());
    Sha256::digest([&pad(0x5c)[..], &inner].concat()).to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a request is signed as S3 wants it (AWS Signature Version 4; its path is taken as it stands).
fn is_signed(asked: &Asked) -> bool {
    let authorization = asked.header("authorization").unwrap();
    let field = |name: &str| authorization.split([' ', ',']).find_map(|field| field.strip_prefix(name)).unwrap();
    let (method, uri) = asked.line.split_once(' ').unwrap();
    let (path, query) = uri.strip_prefix("https://s3.test").unwrap().split_once('?').unwrap_or((&uri[15..], ""));
    let names = field("SignedHeaders=");
    let value = |name| if name == "host" { "s3.test" } else { asked.header(name).unwrap() };
    let headers: String = names.split(';').map(|name| format!("{name}:{}\n", value(name))).collect();
    let payload = asked.header("x-amz-content-sha256").unwrap();
    let request = format!("{method}\n{path}\n{query}\n{headers}\n{names}\n{payload}");
    let date = asked.header("x-amz-date").unwrap();
    let scope = field("Credential=key/");
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(request)));
    let key = scope.split('/').fold(b"AWS4secret".to_vec(), |key, part| hmac(&key, part));
    field("Signature=") == hex(&hmac(&key, &to_sign))
}

#[tokio::test(start_paused = true)]
async fn a_name_with_an_empty_part_is_listed_read_and_deleted_on_s3() {
    let page = "<ListBucketResult><Contents><Key>inbox/a//b.json</Key><Size>2</Size><ETag>&quot;1&quot;</ETag>\
                <LastModified>2026-11-22T09:00:00.000Z</LastModified></Contents></ListBucketResult>";
    let script = [Says::Status(200, page), Says::Object("{}"), Says::Object("{}"), Says::Status(204, "")];
    let (store, server) = store(script);
    let listing = store.list(&Prefix::Inbox).await.unwrap();
    let object = &listing.objects[0];
    assert_eq!(object.key, Key::Inbox("a//b.json".to_owned()));
    assert_eq!(store.get(&object.key).await.unwrap().0, "{}");
    assert!(store.delete_if_unchanged(object).await.unwrap());
    let asked = server.asked.lock().unwrap();
    let lines: Vec<_> = asked.iter().map(|asked| asked.line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "GET https://s3.test/b?list-type=2&prefix=inbox%2F",
            "GET https://s3.test/b/inbox/a//b.json",
            "HEAD https://s3.test/b/inbox/a//b.json",
            "DELETE https://s3.test/b/inbox/a//b.json",
        ]
    );
    assert!(asked.iter().all(is_signed), "{asked:#?}");
    assert_eq!(asked[3].header("if-match"), Some("\"1\""));
}

#[tokio::test(start_paused = true)]
async fn what_can_pass_is_tried_five_times_and_every_attempt_is_counted() {
    let slow = || Says::Status(503, "SlowDown");
    let (store, _server) = store([slow(), slow(), slow(), Says::Breaks(HttpErrorKind::Connect), Says::Object("{}")]);
    let key = Key::Settings(1);
    let begun = store.shared.clock.monotonic();
    assert_eq!(store.get(&key).await.unwrap().0, "{}");
    assert_eq!(store.meter().snapshot().of(Request::Get).requests, 5);
    // 1 s, then 1 to 3 s, 1 to 9 s, 1 to 15 s.
    let took = store.shared.clock.monotonic() - begun;
    assert!((4..=28).contains(&took.as_secs()), "{took:?}");

    let (store, _server) = self::store([slow(), slow(), slow(), slow(), slow()]);
    assert_eq!(store.get(&key).await.unwrap_err().kind, StoreErrorKind::Unavailable);
    let (store, _server) = self::store([Says::Status(403, "AccessDenied")]);
    assert_eq!(store.get(&key).await.unwrap_err().kind, StoreErrorKind::Denied);
    let (store, _server) = self::store([Says::Status(404, "NoSuchBucket")]);
    assert_eq!(store.get(&key).await.unwrap_err().kind, StoreErrorKind::Denied);
    let (store, _server) = self::store([Says::Nothing, Says::Nothing, Says::Nothing, Says::Nothing, Says::Nothing]);
    let begun = store.shared.clock.monotonic();
    assert_eq!(store.get(&key).await.unwrap_err().kind, StoreErrorKind::Unavailable);
    let took = store.shared.clock.monotonic() - begun;
    assert!(took.as_secs() >= 50 + 4, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_asks_to_wait_is_given_the_time() {
    let (store, _server) = store([Says::Header(429, "retry-after", "20"), Says::Object("{}")]);
    let begun = store.shared.clock.monotonic();
    store.get(&Key::Settings(1)).await.unwrap();
    assert!((store.shared.clock.monotonic() - begun).as_secs() >= 20);
}

#[tokio::test(start_paused = true)]
async fn a_create_whose_answer_is_lost_is_settled_by_reading_back() {
    let key = Key::Settings(1);
    let lost = || Says::Breaks(HttpErrorKind::Interrupted);
    let (store, server) = store([lost(), Says::Object("mine")]);
    assert_eq!(store.create(&key, "mine".into()).await.unwrap().etag, "1");
    assert_eq!(server.asked.lock().unwrap()[0].header("if-none-match"), Some("*"));

    let (store, _server) = self::store([lost(), Says::Object("another's")]);
    assert_eq!(store.create(&key, "mine".into()).await.unwrap_err().kind, StoreErrorKind::AlreadyExists);
    let (store, _server) = self::store([lost(), Says::Status(404, "NoSuchKey")]);
    assert_eq!(store.create(&key, "mine".into()).await.unwrap_err().kind, StoreErrorKind::Unavailable);
    // Repeated by the client after its first attempt had its effect.
    let script = [Says::Status(500, ""), Says::Status(412, "PreconditionFailed"), Says::Object("mine")];
    let (store, _server) = self::store(script);
    assert_eq!(store.create(&key, "mine".into()).await.unwrap().etag, "1");
    // Another write of the name was in flight, and failed.
    let script =
        [Says::Status(409, "ConditionalRequestConflict"), Says::Status(404, "NoSuchKey"), Says::Status(200, "")];
    let (store, _server) = self::store(script);
    assert_eq!(store.create(&key, "mine".into()).await.unwrap().modified, "2026-11-22T10:00:00Z".parse().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_delete_on_a_condition_deletes_nothing_else() {
    let key = Key::Inbox("x".to_owned());
    let seen = async |store: &Store| store.head(&key).await.unwrap();
    let (store, _server) = store([Says::Object(""), Says::Object(""), Says::Status(412, "PreconditionFailed")]);
    assert!(!store.delete_if_unchanged(&seen(&store).await).await.unwrap());
    // A server that knows no such condition: the question right before has to do.
    let (store, server) =
        self::store([Says::Object(""), Says::Object(""), Says::Status(501, "NotImplemented"), Says::Status(204, "")]);
    assert!(store.delete_if_unchanged(&seen(&store).await).await.is_ok_and(|deleted| deleted));
    assert_eq!(server.asked.lock().unwrap()[3].header("if-match"), None);
}

#[tokio::test(start_paused = true)]
async fn the_first_request_says_in_one_sentence_what_is_wrong() {
    for (says, expected) in [
        (Says::Status(404, "NoSuchBucket"), "there is no bucket `b`"),
        (Says::Status(403, "AccessDenied"), "s3://b cannot be opened: 403 "),
    ] {
        let (store, _server) = store([says]);
        let report = greet(&store, "b").await.unwrap_err();
        let mistake = find::<Mistake>(&report).unwrap();
        assert!(mistake.0.starts_with(expected), "{mistake}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_credentials_one_question_is_enough() {
    let server = Arc::new(Server::default());
    server.says.lock().unwrap().push_back(Says::Breaks(HttpErrorKind::Connect));
    let clock = Clock::simulated("2026-11-22T12:00:00Z".parse().unwrap(), 1);
    let wire = Wire::new(clock.clone(), Patience::default());
    let client = AmazonS3Builder::new()
        .with_bucket_name("b")
        .with_region("us-east-1")
        .with_http_connector(Connector::over(&wire, HttpClient::new(Line(server.clone()))))
        .with_retry(retry(&Patience::default()))
        .build()
        .unwrap();
    let store = Store::new(Arc::new(client), None, "s3://b", "", OpenOptions::default(), clock, Time::Answers(wire));
    let report = greet(&store, "b").await.unwrap_err();
    assert!(find::<Mistake>(&report).unwrap().0.starts_with("no credentials for s3://b"), "{report}");
    assert_eq!(server.asked.lock().unwrap().len(), 1);
}
