//! One test a rule, with attributes as instrumentations emit them.

use rstest::rstest;

use super::*;
use crate::otlp::typed_json;

/// A span of a service `shop`: its kind, its name, and attributes as typed JSON. A status is also in its column.
fn told(kind: i32, name: &str, attributes: &str) -> Told {
    told_of(SpanFacts { kind, name, is_root: true, ..SpanFacts::default() }, attributes)
}

fn told_of<'a>(mut facts: SpanFacts<'a>, attributes: &'a str) -> Told {
    facts.service = "shop";
    for (key, value) in typed_json::attributes(attributes).unwrap() {
        if matches!(&*key, "http.status_code" | "http.response.status_code") {
            facts.http_status = value.as_int().map(|status| status as i32);
        }
    }
    typed_json::visit(attributes, |key, value| facts.attribute(key, value, "tracefarm.handler")).unwrap();
    tell(&facts)
}

/// Kind, name and rule, which say all of the handler.
fn short(told: &Told) -> (&str, &str, &str) {
    (told.kind, &told.name, told.rule)
}

fn path(told: &Told) -> Option<&str> {
    told.path.as_deref()
}

#[rstest]
#[case(r#"{"tracefarm.handler":"Checkout.pay","http.request.method":"POST","http.route":"/pay"}"#, "Checkout.pay")]
#[case(r#"{"tracefarm.handler":7}"#, "7")]
fn a_users_own_attribute_comes_first(#[case] attributes: &str, #[case] name: &str) {
    assert_eq!(short(&told(SERVER, "POST /pay", attributes)), ("custom", name, "handler attribute"));
}

#[test]
fn an_empty_handler_attribute_names_nothing() {
    let told = told(SERVER, "GET /", r#"{"tracefarm.handler":"","http.request.method":"GET","http.route":"/"}"#);
    assert_eq!(short(&told), ("http", "GET /", "http route"));
}

#[rstest]
#[case(r#"{"graphql.operation.type":"query","graphql.operation.name":"GetUser4711","graphql.document":"query GetUser4711 { a }"}"#, "graphql query")]
#[case(
    r#"{"graphql.operation.type":"mutation","http.request.method":"POST","http.route":"/graphql"}"#,
    "graphql mutation"
)]
#[case(r#"{"graphql.operation.type":"made-up"}"#, "graphql _OTHER")]
fn graphql_goes_by_the_type_alone(#[case] attributes: &str, #[case] name: &str) {
    assert_eq!(short(&told(SERVER, "query GetUser4711", attributes)), ("graphql", name, "graphql operation"));
}

#[rstest]
// Express 5 (instrumentation-http, new conventions)
#[case("GET /products/:id", r#"{"http.request.method":"GET","http.scheme":"http","url.scheme":"http","url.path":"/products/17","server.address":"localhost","http.response.status_code":200,"http.route":"/products/:id"}"#, "GET /products/{id}")]
// Express 4, old conventions
#[case("GET /products/:id", r#"{"http.url":"http://localhost:3000/products/17","http.method":"GET","http.target":"/products/17?x=1","net.host.name":"localhost","http.flavor":"1.1","http.status_code":200,"http.route":"/products/:id"}"#, "GET /products/{id}")]
// FastAPI
#[case("GET /products/{product_id}", r#"{"http.request.method":"GET","url.path":"/products/17","http.route":"/products/{product_id}","http.response.status_code":200}"#, "GET /products/{product_id}")]
// Flask, both conventions at once (http/dup)
#[case("POST /carts/<user_id>/items", r#"{"http.method":"POST","http.request.method":"POST","http.target":"/carts/7/items","url.path":"/carts/7/items","http.route":"/carts/<user_id>/items","http.status_code":201,"http.response.status_code":201}"#, "POST /carts/{user_id}/items")]
// Django
#[case("GET users/<int:pk>/", r#"{"http.method":"GET","http.server_name":"testserver","http.scheme":"http","http.url":"http://testserver/users/7/","http.route":"users/<int:pk>/","http.status_code":200}"#, "GET /users/{pk}")]
// Spring Web MVC (Java agent)
#[case("GET /owners/{ownerId}", r#"{"http.request.method":"GET","url.path":"/owners/1","url.scheme":"http","http.route":"/owners/{ownerId}","http.response.status_code":200,"network.protocol.version":"1.1"}"#, "GET /owners/{ownerId}")]
// ASP.NET Core
#[case("GET api/Products/{id:int}", r#"{"http.request.method":"GET","url.path":"/api/Products/1","http.route":"api/Products/{id:int}","http.response.status_code":200}"#, "GET /api/Products/{id}")]
// Go: otelhttp with http.ServeMux of Go 1.22
#[case(
    "GET /items/{id}",
    r#"{"http.request.method":"GET","url.path":"/items/7","http.route":"GET shop.example.com/items/{id}"}"#,
    "GET /items/{id}"
)]
// Rails with Rack
#[case("UsersController#show", r#"{"http.method":"GET","http.host":"example.org","http.scheme":"http","http.target":"/users/7","http.status_code":200,"code.namespace":"UsersController","code.function":"show","http.route":"/users/:id(.:format)"}"#, "GET /users/{id}")]
// Laravel
#[case(
    "GET /users/{id}",
    r#"{"http.request.method":"GET","url.path":"/users/7","http.route":"users/{id}","http.response.status_code":200}"#,
    "GET /users/{id}"
)]
// Next.js
#[case("GET /posts/[id]", r#"{"next.span_name":"GET /posts/[id]","next.span_type":"BaseServer.handleRequest","http.method":"GET","http.target":"/posts/7","http.status_code":200,"next.route":"/posts/[id]","http.route":"/posts/[id]"}"#, "GET /posts/{id}")]
// AWS Lambda behind API Gateway
#[case("/users/{id}", r#"{"faas.trigger":"http","faas.invocation_id":"af9d5aa4","http.request.method":"GET","http.route":"/users/{id}","url.path":"/users/7"}"#, "GET /users/{id}")]
// ASP.NET Core with gRPC: the route was hit first
#[case("POST /shop.Cart/GetItem", r#"{"http.request.method":"POST","http.route":"/shop.Cart/GetItem","rpc.system":"grpc","rpc.service":"shop.Cart","rpc.method":"GetItem"}"#, "POST /shop.Cart/GetItem")]
// A client's own method
#[case(
    "HTTP /products/:id",
    r#"{"http.request.method":"_OTHER","http.request.method_original":"BREW","http.route":"/products/:id"}"#,
    "_OTHER /products/{id}"
)]
#[case("BREW /products/:id", r#"{"http.method":"BREW","http.route":"/products/:id"}"#, "_OTHER /products/{id}")]
// By hand, without a method
#[case("pick", r#"{"http.route":"/pick"}"#, "HTTP /pick")]
// A 404 of a route that is known stays with it.
#[case("GET /products/:id", r#"{"http.request.method":"GET","http.route":"/products/:id","url.path":"/products/0","http.response.status_code":404}"#, "GET /products/{id}")]
// A catch-all that serves
#[case(
    "GET /*",
    r#"{"http.request.method":"GET","http.route":"/*","url.path":"/about","http.response.status_code":200}"#,
    "GET /{*}"
)]
fn an_http_route_is_its_method_and_canonical_route(#[case] span: &str, #[case] attributes: &str, #[case] name: &str) {
    let told = told(SERVER, span, attributes);
    assert_eq!(short(&told), ("http", name, "http route"));
    assert!(told.route.is_some() && told.path.is_none(), "{told:?}");
}

#[test]
fn the_route_keeps_the_frameworks_spelling() {
    let told = told(SERVER, "GET", r#"{"http.request.method":"GET","http.route":"users/<int:pk>/"}"#);
    assert_eq!((told.route.as_deref(), told.method.as_deref()), (Some("users/<int:pk>/"), Some("GET")));
    assert_eq!(told.id, handler_id("", "shop", Kind::Http, "GET /users/{pk}"));
}

#[rstest]
// Express: new and old conventions
#[case(
    "GET",
    r#"{"http.request.method":"GET","url.path":"/wp-login.php","url.query":"a=1","http.response.status_code":404}"#,
    "GET",
    "/wp-login.php"
)]
#[case(
    "GET",
    r#"{"http.method":"GET","http.target":"/.env?x=1","http.url":"http://h/.env?x=1","http.status_code":404}"#,
    "GET",
    "/.env"
)]
#[case(
    "HTTP GET",
    r#"{"http.method":"GET","http.url":"https://h:8443/a/b?x=1#y","http.status_code":404}"#,
    "GET",
    "/a/b"
)]
#[case("HTTP GET", r#"{"http.method":"GET","http.url":"https://h","http.status_code":404}"#, "GET", "/")]
// A route that says nothing: Spring's resource handler, a mounted application, FastAPI's fallback
#[case(
    "GET /**",
    r#"{"http.request.method":"GET","http.route":"/**","url.path":"/nope","http.response.status_code":404}"#,
    "GET",
    "/nope"
)]
#[case(
    "GET",
    r#"{"http.request.method":"GET","http.route":"","url.path":"/nope","http.response.status_code":404}"#,
    "GET",
    "/nope"
)]
#[case(
    "GET /{path:path}",
    r#"{"http.request.method":"GET","http.route":"/{path:path}","url.path":"/nope","http.response.status_code":404}"#,
    "GET",
    "/nope"
)]
// A method that no route takes
#[case(
    "PUT",
    r#"{"http.request.method":"PUT","url.path":"/products","http.response.status_code":405}"#,
    "PUT",
    "/products"
)]
#[case("HTTP", r#"{"http.request.method":"_OTHER","http.request.method_original":"X1","url.path":"/a","http.response.status_code":405}"#, "_OTHER", "/a")]
// A proxy's absolute form
#[case("GET", r#"{"http.method":"GET","http.target":"http://evil.example/x","http.status_code":404}"#, "GET", "/x")]
fn a_404_without_a_route_is_on_the_services_list(
    #[case] span: &str,
    #[case] attributes: &str,
    #[case] method: &str,
    #[case] expected: &str,
) {
    let told = told(SERVER, span, attributes);
    assert_eq!(short(&told), ("not-found", "404", "http 404 without a route"));
    assert_eq!((told.method.as_deref(), path(&told), told.route.as_deref()), (Some(method), Some(expected), None));
    assert_eq!(told.id, not_found_id("", "shop"));
    assert!(told.id.is_not_found());
}

#[rstest]
// otelgrpc for Go, old form
#[case(
    "shop.Cart/GetItem",
    r#"{"rpc.system":"grpc","rpc.service":"shop.Cart","rpc.method":"GetItem","rpc.grpc.status_code":0}"#
)]
// new form
#[case(
    "shop.Cart/GetItem",
    r#"{"rpc.system.name":"grpc","rpc.method":"shop.Cart/GetItem","rpc.response.status_code":"OK"}"#
)]
// grpc for Python: the span's name has a slash in front
#[case("/shop.Cart/GetItem", r#"{"rpc.system":"grpc","rpc.grpc.status_code":0,"rpc.method":"GetItem","rpc.service":"shop.Cart","net.peer.ip":"127.0.0.1"}"#)]
// Connect for Go, on an HTTP server that records the request, too
#[case("shop.Cart/GetItem", r#"{"http.request.method":"POST","http.response.status_code":200,"url.path":"/shop.Cart/GetItem","rpc.system":"connect_rpc","rpc.service":"shop.Cart","rpc.method":"GetItem"}"#)]
// Connect's new form
#[case(
    "shop.Cart/GetItem",
    r#"{"rpc.system.name":"connectrpc","rpc.method":"shop.Cart/GetItem","rpc.connect_rpc.error_code":"not_found"}"#
)]
fn an_rpc_has_one_name_in_old_and_new_form(#[case] span: &str, #[case] attributes: &str) {
    let told = told(SERVER, span, attributes);
    assert_eq!(short(&told), ("rpc", "shop.Cart/GetItem", "rpc method"));
    assert_eq!(told.id, handler_id("", "shop", Kind::Rpc, "shop.Cart/GetItem"));
}

#[test]
fn an_unknown_rpc_method_is_on_the_404_list() {
    let told = told(
        SERVER,
        "grpc",
        r#"{"rpc.system.name":"grpc","rpc.method":"_OTHER","rpc.method_original":"shop.Cart/Gone"}"#,
    );
    assert_eq!(short(&told), ("not-found", "404", "rpc method"));
    assert_eq!((told.method.as_deref(), path(&told)), (Some("_OTHER"), Some("/shop.Cart/Gone")));
}

#[rstest]
// Next.js with a server of one's own, node:http: no route at all
#[case("GET", r#"{"next.span_name":"GET","next.span_type":"BaseServer.handleRequest","http.method":"GET","http.target":"/posts/7","http.status_code":200}"#, "GET (no route)")]
// Rack alone, older Node.js
#[case("HTTP GET", r#"{"http.method":"GET","http.target":"/posts/7","http.status_code":200}"#, "GET (no route)")]
#[case(
    "HTTP",
    r#"{"http.request.method":"_OTHER","url.path":"/posts/7","http.response.status_code":400}"#,
    "_OTHER (no route)"
)]
#[case("BREW", r#"{"http.method":"BREW","http.target":"/posts/7"}"#, "_OTHER (no route)")]
// Rails without http.route
#[case(
    "UsersController#show",
    r#"{"http.method":"GET","http.target":"/posts/7","http.status_code":200}"#,
    "UsersController#show"
)]
// The route in the name only
#[case("GET /posts/:id", r#"{"http.method":"GET","http.target":"/posts/7","http.status_code":200}"#, "GET /posts/{id}")]
#[case(
    "GET posts/<int:id>/",
    r#"{"http.method":"GET","http.target":"/posts/7","http.status_code":200}"#,
    "GET /posts/{id}"
)]
#[case("/posts/{id}", r#"{"http.method":"GET","http.target":"/posts/7","http.status_code":200}"#, "GET /posts/{id}")]
#[case(
    "HTTP GET /posts/:id",
    r#"{"http.method":"GET","http.target":"/posts/7","http.status_code":200}"#,
    "GET /posts/{id}"
)]
// The path in the name
#[case("GET /posts/7", r#"{"http.method":"GET","http.target":"/posts/7","http.status_code":200}"#, "GET /posts/{}")]
#[case("/posts/7?page=3", r#"{"http.method":"GET","http.target":"/posts/7","http.status_code":200}"#, "GET /posts/{}")]
fn without_a_route_the_spans_name_counts_if_it_says_more(
    #[case] span: &str,
    #[case] attributes: &str,
    #[case] name: &str,
) {
    let told = told(SERVER, span, attributes);
    assert_eq!(short(&told), ("http", name, "http span name"));
    assert_eq!((path(&told), told.route.as_deref()), (Some("/posts/7"), None));
}

#[test]
fn setting_the_route_later_renames_nothing() {
    let before = told(SERVER, "GET /posts/:id", r#"{"http.method":"GET","http.target":"/posts/7"}"#);
    let after = told(SERVER, "GET /posts/:id", r#"{"http.request.method":"GET","http.route":"/posts/:id"}"#);
    assert_eq!(before.id, after.id);
}

#[rstest]
// AWS Lambda (Node.js): the function's name is the span's
#[case(SERVER, "my-function", r#"{"faas.execution":"79104eb1","faas.id":"arn:aws:lambda:us-east-1:1:function:my-function","cloud.account.id":"1"}"#, "my-function")]
#[case(
    SERVER,
    "my-function",
    r#"{"faas.invocation_id":"79104eb1","cloud.resource_id":"arn:…","faas.coldstart":true}"#,
    "my-function"
)]
// SQS
#[case(CONSUMER, "orders process", r#"{"faas.trigger":"pubsub","faas.name":"orders-fn","messaging.operation.type":"process","messaging.destination.name":"orders"}"#, "pubsub orders-fn")]
#[case(SERVER, "cron", r#"{"faas.trigger":"timer","faas.cron":"0/5 * * * ? *"}"#, "timer cron")]
#[case(SERVER, "x", r#"{"faas.trigger":"made-up"}"#, "other x")]
fn a_function_goes_by_its_name_and_trigger(
    #[case] kind: i32,
    #[case] span: &str,
    #[case] attributes: &str,
    #[case] name: &str,
) {
    assert_eq!(short(&told(kind, span, attributes)), ("faas", name, "function"));
}

#[test]
fn a_function_may_be_named_by_its_resource() {
    let facts = SpanFacts { kind: SERVER, name: "handler", resource_faas_name: Some("resize"), ..SpanFacts::default() };
    assert_eq!(told_of(facts.clone(), r#"{"faas.trigger":"datasource"}"#).name, "datasource resize");
    assert_eq!(told_of(facts, "{}").name, "handler", "other spans of the function are not its invocation");
}

#[rstest]
// Kafka (Java agent), new and old
#[case("process orders", r#"{"messaging.system":"kafka","messaging.operation.type":"process","messaging.operation.name":"consume","messaging.destination.name":"orders","messaging.consumer.group.name":"billing"}"#, "process orders")]
#[case("orders process", r#"{"messaging.system":"kafka","messaging.operation":"process","messaging.destination.name":"orders","messaging.kafka.consumer.group":"billing"}"#, "process orders")]
#[case("orders process", r#"{"messaging.system":"kafka","messaging.destination":"orders","messaging.destination_kind":"topic","messaging.operation":"process"}"#, "process orders")]
// An instrumentation that only knows its system's word
#[case(
    "consume orders",
    r#"{"messaging.system":"kafka","messaging.operation.name":"consume","messaging.destination.name":"orders"}"#,
    "consume orders"
)]
// RabbitMQ (amqplib): a queue of its own for each client
#[case("amq.gen-JzTY20BRgKO-HjmUJj0wLg process", r#"{"messaging.system":"rabbitmq","messaging.operation":"process","messaging.destination.name":"amq.gen-JzTY20BRgKO-HjmUJj0wLg"}"#, "process amq.gen-{}")]
#[case("process", r#"{"messaging.operation.type":"process","messaging.destination.name":"/reply/8f3","messaging.destination.temporary":true}"#, "process (temporary)")]
#[case("process", r#"{"messaging.operation.type":"process","messaging.destination.name":"customers.4711.orders","messaging.destination.template":"customers.{id}.orders"}"#, "process customers.{id}.orders")]
// Redis lists, by hand
#[case("process emails", r#"{"messaging.system":"redis","messaging.operation.name":"process","messaging.operation.type":"process","messaging.destination.name":"emails"}"#, "process emails")]
fn a_consumer_goes_by_operation_and_destination(#[case] span: &str, #[case] attributes: &str, #[case] name: &str) {
    assert_eq!(short(&told(CONSUMER, span, attributes)), ("messaging", name, "messaging destination"));
}

#[test]
fn a_celery_task_is_its_own_handler_and_not_its_queues() {
    let attributes = r#"{"celery.action":"run","celery.state":"SUCCESS","messaging.conversation_id":"8a","messaging.destination":"celery","celery.task_name":"tasks.add","messaging.message.id":"8a"}"#;
    assert_eq!(short(&told(CONSUMER, "run/tasks.add", attributes)), ("other", "run/tasks.add", "span name"));
}

#[rstest]
#[case(INTERNAL, "nightly-reindex", "{}", ("job", "job nightly-reindex", "job"))]
#[case(INTERNAL, "import 📦 Größe ☃", "{}", ("job", "job import 📦 Größe ☃", "job"))]
#[case(INTERNAL, "backup 2026-11-22", "{}", ("job", "job backup {}", "job"))]
#[case(INTERNAL, "", "{}", ("job", "job (unnamed)", "job"))]
#[case(CLIENT, "RPOP", r#"{"db.system.name":"redis"}"#, ("client", "client RPOP", "client"))]
#[case(CLIENT, "insert /srv/shopdata/logs/catalog.db", r#"{"db.system":"sqlite"}"#, ("client", "client insert /srv/shopdata/logs/catalog.db", "client"))]
#[case(CLIENT, "GET", r#"{"http.request.method":"GET","url.full":"https://pay.example.com/v1/charge?x=1","http.response.status_code":404}"#, ("client", "client GET", "client"))]
#[case(CLIENT, "GET /v1/charge/{id}", r#"{"http.request.method":"GET","url.template":"/v1/charge/:id"}"#, ("client", "client GET /v1/charge/{id}", "client"))]
#[case(PRODUCER, "publish orders", r#"{"messaging.operation.type":"send","messaging.destination.name":"orders"}"#, ("client", "client publish orders", "client"))]
#[case(SERVER, "handle 4711", "{}", ("other", "handle {}", "span name"))]
#[case(CONSUMER, "", "{}", ("other", "(unnamed)", "span name"))]
#[case(0, "odd", "{}", ("other", "odd", "span name"))]
#[case(99, "odd", "{}", ("other", "odd", "span name"))]
fn what_says_no_more_goes_by_its_name(
    #[case] kind: i32,
    #[case] span: &str,
    #[case] attributes: &str,
    #[case] expected: (&str, &str, &str),
) {
    let told = told(kind, span, attributes);
    assert_eq!(short(&told), expected);
    assert_eq!((told.method, told.path), (None, None), "a request that went out is none that came in");
}

#[test]
fn services_of_one_name_in_two_namespaces_have_lists_of_their_own() {
    let of = |namespace| {
        let mut facts = SpanFacts { namespace, kind: SERVER, http_status: Some(404), ..SpanFacts::default() };
        facts.http_method = Some("GET".into());
        tell(&facts).id
    };
    assert_ne!(of("a"), of("b"));
    assert!(of("a").is_not_found() && of("b").is_not_found());
}

#[test]
fn every_rule_is_told_by_its_name() {
    let mut names: Vec<&str> = TABLE.iter().map(|rule| rule.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), TABLE.len());
    assert_eq!(TABLE[TABLE.len() - 1].name, "span name");
}

#[test]
fn long_names_and_paths_are_cut() {
    let long = "é".repeat(5_000);
    let told =
        told(SERVER, &long, &format!(r#"{{"http.method":"GET","http.target":"/{long}","http.status_code":200}}"#));
    assert_eq!((told.name.len(), told.path.unwrap().len()), (1024, 2047));
}
