use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{RawQuery, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use jiff::SignedDuration;
use object_store::StaticCredentialProvider;
use object_store::aws::AwsCredential;
use serde_json::{Value, json};

use super::*;
use crate::error::find;
use crate::farm::heartbeat::Heart;
use crate::store::{OpenOptions, Store};

/// Serves `router` on this machine until the test ends; where.
async fn served(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    #[expect(clippy::disallowed_methods, reason = "a server ends with its test's runtime")]
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

fn clock() -> Clock {
    Clock::system(SignedDuration::ZERO)
}

fn name(name: &str) -> WorkerName {
    name.parse().unwrap()
}

/// The metadata server of an instance that `creator` made.
fn metadata(creator: Option<&'static str>) -> Router {
    let key = move |headers: HeaderMap, value: Option<String>| match (headers.get("metadata-flavor"), value) {
        (None, _) => StatusCode::FORBIDDEN.into_response(),
        (Some(_), None) => StatusCode::NOT_FOUND.into_response(),
        (Some(_), Some(value)) => value.into_response(),
    };
    let token = json!({ "access_token": "ya29.secret", "expires_in": 3599, "token_type": "Bearer" });
    Router::new()
        .route(
            "/computeMetadata/v1/instance/name",
            get(move |headers| async move { key(headers, Some("farm-7x2k".into())) }),
        )
        .route(
            "/computeMetadata/v1/instance/attributes/created-by",
            get(move |headers| async move { key(headers, creator.map(str::to_owned)) }),
        )
        .route(
            "/computeMetadata/v1/instance/service-accounts/default/token",
            get(move |headers| async move { key(headers, Some(token.to_string())) }),
        )
}

fn instance(name: &str, status: &str, action: &str) -> Value {
    let mut instance = json!({
        "id": "4187643219876543210",
        "instance": format!("https://www.googleapis.com/compute/v1/projects/p/zones/z/instances/{name}"),
        "name": name,
        "instanceStatus": status,
        "currentAction": action,
        "version": { "instanceTemplate": "https://www.googleapis.com/compute/v1/projects/p/global/instanceTemplates/t" },
    });
    if status.is_empty() {
        instance.as_object_mut().unwrap().remove("instanceStatus");
    }
    instance
}

const ZONAL: &str = "projects/123456789/zones/us-east1-b/instanceGroupManagers/farm";
const REGIONAL: &str = "projects/123456789/regions/us-east1/instanceGroupManagers/farm";

async fn gce(creator: Option<&'static str>, compute: Router) -> gce::Gce {
    let mut gce = gce::Gce::at(&served(metadata(creator)).await, &served(compute).await, &clock()).unwrap();
    gce.hurry();
    gce
}

/// A Compute API that gives `answer` for the list of a group.
fn compute(group: &str, answer: impl Fn(usize, String) -> Response + Clone + Send + Sync + 'static) -> Router {
    let asked = Arc::new(AtomicUsize::new(0));
    let list = move |RawQuery(query): RawQuery, headers: HeaderMap| async move {
        if headers.get(header::AUTHORIZATION).is_none_or(|value| value != "Bearer ya29.secret") {
            return (StatusCode::UNAUTHORIZED, "no token").into_response();
        }
        answer(asked.fetch_add(1, Relaxed), query.unwrap_or_default())
    };
    Router::new().route(&format!("/{group}/listManagedInstances"), post(list))
}

#[tokio::test]
async fn a_managed_instance_group_is_its_running_instances_over_all_pages() {
    for group in [ZONAL, REGIONAL] {
        let gce = gce(
            Some(group),
            compute(group, |_, query| {
                match query.contains("pageToken=more%2F2") || query.contains("pageToken=more/2") {
                    false => axum::Json(json!({
                        "managedInstances": [
                            instance("farm-b", "RUNNING", "NONE"),
                            instance("farm-a", "RUNNING", "VERIFYING"),
                            instance("farm-c", "RUNNING", "DELETING"),
                            instance("farm-d", "", "CREATING"),
                            instance("farm-e", "STOPPING", "NONE"),
                        ],
                        "nextPageToken": "more/2",
                    }))
                    .into_response(),
                    true => axum::Json(json!({ "managedInstances": [
                    instance("farm-7x2k", "RUNNING", "REFRESHING"),
                    instance("farm-f", "RUNNING", "RECREATING"),
                    { "currentAction": "NONE", "instanceStatus": "RUNNING",
                      "instance": "https://www.googleapis.com/compute/v1/projects/p/zones/z/instances/farm-g" },
                ] }))
                    .into_response(),
                }
            }),
        )
        .await;
        assert_eq!(gce.my_name().await.unwrap(), "farm-7x2k");
        let peers = Peers::new(named(gce.peers().await.unwrap()).unwrap(), &name("farm-7x2k"));
        assert_eq!(peers.names, ["farm-7x2k", "farm-a", "farm-b", "farm-g"].map(name));
        assert_eq!(peers.rank, Some(0));
    }
}

#[tokio::test]
async fn an_instance_outside_of_a_group_is_a_mistake() {
    for creator in [None, Some("projects/1/global/instanceTemplates/by-hand")] {
        let error = gce(creator, Router::new()).await.peers().await.unwrap_err();
        assert!(find::<Mistake>(&error).unwrap().0.contains("no managed instance group"), "{error}");
    }
}

#[tokio::test]
async fn a_group_without_instances_is_nobody() {
    let gce = gce(Some(ZONAL), compute(ZONAL, |_, _| axum::Json(json!({})).into_response())).await;
    assert_eq!(gce.peers().await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn what_passes_is_asked_again_and_what_does_not_is_told() {
    let flaky = |asked: usize, _: String| match asked {
        0 => (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "0")], "try again").into_response(),
        1 => (StatusCode::TOO_MANY_REQUESTS, "slow down").into_response(),
        2 => StatusCode::BAD_GATEWAY.into_response(),
        _ => axum::Json(json!({ "managedInstances": [instance("farm-a", "RUNNING", "NONE")] })).into_response(),
    };
    assert_eq!(gce(Some(ZONAL), compute(ZONAL, flaky)).await.peers().await.unwrap(), ["farm-a"]);

    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let down = move |_: usize, _: String| {
        count.fetch_add(1, Relaxed);
        (StatusCode::INTERNAL_SERVER_ERROR, "backend error").into_response()
    };
    let error = gce(Some(ZONAL), compute(ZONAL, down)).await.peers().await.unwrap_err().to_string();
    assert!(error.contains("4 times: 500 Internal Server Error: backend error"), "{error}");
    assert_eq!(asked.load(Relaxed), 4);

    let forbidden = json!({ "error": { "code": 403, "message":
        "Required 'compute.instanceGroupManagers.get' permission for 'projects/p/zones/z/instanceGroupManagers/farm'" } });
    let denied = compute(ZONAL, move |_, _| (StatusCode::FORBIDDEN, axum::Json(forbidden.clone())).into_response());
    let error = gce(Some(ZONAL), denied).await.peers().await.unwrap_err().to_string();
    assert!(
        error.contains("403 Forbidden") && error.contains("Required 'compute.instanceGroupManagers.get'"),
        "{error}"
    );
    assert!(!error.contains("ya29"), "no token in a message: {error}");
}

#[tokio::test]
async fn bad_and_slow_answers_are_errors() {
    let garbage = compute(ZONAL, |_, _| "<html>a proxy's page</html>".into_response());
    let error = gce(Some(ZONAL), garbage).await.peers().await.unwrap_err().to_string();
    assert!(error.contains("a proxy's page"), "{error}");

    let slow = post(|| async {
        std::future::pending::<()>().await;
    });
    let slow = Router::new().route(&format!("/{ZONAL}/listManagedInstances"), slow);
    let error = gce(Some(ZONAL), slow).await.peers().await.unwrap_err().to_string();
    assert!(error.contains("no answer within"), "{error}");

    // Nobody listens there.
    let mut gce = gce::Gce::at("http://127.0.0.1:1", "http://127.0.0.1:1", &clock()).unwrap();
    gce.hurry();
    let error = gce.my_name().await.unwrap_err().to_string();
    assert!(error.contains("is this an instance of Compute Engine?") && error.contains("no connection"), "{error}");
}

fn account() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("namespace"), "traces\n").unwrap();
    std::fs::write(folder.path().join("token"), "first\n").unwrap();
    folder
}

const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/traces/endpointslices";

#[tokio::test]
async fn pods_that_are_ready_are_peers_whatever_slices_they_stand_in() {
    let tokens = Arc::new(Mutex::new(Vec::new()));
    let seen = tokens.clone();
    let list = move |RawQuery(query): RawQuery, headers: HeaderMap| async move {
        let token = headers[header::AUTHORIZATION].to_str().unwrap().to_owned();
        seen.lock().unwrap().push(token);
        let query = query.unwrap();
        assert!(query.contains("labelSelector=kubernetes.io%2Fservice-name%3Dfarm"), "{query}");
        let pod = |name: &str, conditions: Value| {
            json!({ "addresses": ["10.1.2.3"], "conditions": conditions,
            "targetRef": { "kind": "Pod", "name": name, "namespace": "traces" } })
        };
        axum::Json(match query.contains("continue=next") {
            false => {
                json!({ "kind": "EndpointSliceList", "metadata": { "continue": "next" }, "items": [{ "endpoints": [
                pod("farm-1", json!({ "ready": true, "serving": true, "terminating": false })),
                pod("farm-0", json!({})),
                pod("farm-2", json!({ "ready": false })),
            ] }, { "endpoints": null }] })
            }
            true => json!({ "metadata": {}, "items": [{ "endpoints": [
                pod("farm-1", json!({ "ready": true })),
                pod("farm-3", json!({ "ready": true, "terminating": true })),
                { "addresses": ["10.9.9.9"], "conditions": { "ready": true } },
                { "addresses": ["10.9.9.8"], "targetRef": { "kind": "Node", "name": "node-1" } },
            ] }] }),
        })
    };
    let url = served(Router::new().route(SLICES, get(list))).await;
    let account = account();
    let kubernetes = kubernetes::Kubernetes::at(&url, account.path(), "farm", &clock()).unwrap();
    let peers = Peers::new(named(kubernetes.peers().await.unwrap()).unwrap(), &name("farm-1"));
    assert_eq!((peers.names, peers.rank), (["farm-0", "farm-1"].map(name).to_vec(), Some(1)));

    // The token is replaced while the pod lives.
    std::fs::write(account.path().join("token"), "second").unwrap();
    kubernetes.peers().await.unwrap();
    assert_eq!(*tokens.lock().unwrap(), ["Bearer first", "Bearer first", "Bearer second", "Bearer second"]);
}

#[tokio::test]
async fn a_pod_without_rights_says_which_it_needs() {
    let denied =
        get(|| async { (StatusCode::FORBIDDEN, r#"{"kind":"Status","message":"endpointslices is forbidden"}"#) });
    let url = served(Router::new().route(SLICES, denied)).await;
    let account = account();
    let kubernetes = kubernetes::Kubernetes::at(&url, account.path(), "farm", &clock()).unwrap();
    let error = kubernetes.peers().await.unwrap_err().to_string();
    assert!(error.contains("get and list on endpointslices") && error.contains("is forbidden"), "{error}");
    let nowhere = kubernetes::Kubernetes::at(&url, std::path::Path::new("/nowhere"), "farm", &clock());
    assert!(nowhere.err().unwrap().to_string().contains("has the pod a service account?"));
}

const MY_GROUP: &str = r#"<DescribeAutoScalingInstancesResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/">
  <DescribeAutoScalingInstancesResult><AutoScalingInstances><member>
    <AutoScalingGroupName>farm &amp; co</AutoScalingGroupName><AvailabilityZone>us-east-1a</AvailabilityZone>
    <HealthStatus>HEALTHY</HealthStatus><InstanceId>i-05b4f7d5be44822a6</InstanceId>
    <LifecycleState>InService</LifecycleState><ProtectedFromScaleIn>false</ProtectedFromScaleIn>
  </member></AutoScalingInstances></DescribeAutoScalingInstancesResult>
  <ResponseMetadata><RequestId>7c6e177f-f082-11e1-ac58-3714bEXAMPLE</RequestId></ResponseMetadata>
</DescribeAutoScalingInstancesResponse>"#;

fn group(instances: &[(&str, &str, &str)]) -> String {
    let member = |(id, state, health): &(&str, &str, &str)| {
        format!(
            "<member><InstanceId>{id}</InstanceId><AvailabilityZone>us-east-1a</AvailabilityZone>\
             <HealthStatus>{health}</HealthStatus><LifecycleState>{state}</LifecycleState></member>"
        )
    };
    let members: String = instances.iter().map(member).collect();
    format!(
        r#"<DescribeAutoScalingGroupsResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/">
        <DescribeAutoScalingGroupsResult><AutoScalingGroups><member><AutoScalingGroupName>farm</AutoScalingGroupName>
        <Instances>{members}</Instances></member></AutoScalingGroups></DescribeAutoScalingGroupsResult>
        </DescribeAutoScalingGroupsResponse>"#
    )
}

async fn aws(api: Router) -> aws::Aws {
    let word = |word: &'static str| {
        get(move |headers: HeaderMap| async move {
            match headers.get("x-aws-ec2-metadata-token").is_some_and(|token| token == "session") {
                true => word.into_response(),
                false => StatusCode::UNAUTHORIZED.into_response(),
            }
        })
    };
    let metadata = Router::new()
        .route("/latest/api/token", put(|| async { "session" }))
        .route("/latest/meta-data/instance-id", word("i-05b4f7d5be44822a6"))
        .route("/latest/meta-data/placement/region", word("us-east-1"));
    let credential =
        AwsCredential { key_id: "AKIAEXAMPLE".into(), secret_key: "secret".into(), token: Some("t".into()) };
    let credentials = Arc::new(StaticCredentialProvider::new(credential));
    let mut aws = aws::Aws::at(&served(metadata).await, Some(served(api).await), credentials, &clock()).unwrap();
    aws.hurry();
    aws
}

#[tokio::test]
async fn an_auto_scaling_group_is_its_instances_in_service() {
    let api = |request: Request| async move {
        let signed = request.headers()[header::AUTHORIZATION].to_str().unwrap().to_owned();
        assert!(signed.starts_with("AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/"), "{signed}");
        assert!(signed.contains("/us-east-1/autoscaling/aws4_request"), "{signed}");
        let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
        let form = String::from_utf8(body.to_vec()).unwrap();
        assert!(form.contains("Version=2011%2D01%2D01"), "{form}");
        match form.contains("Action=DescribeAutoScalingInstances") {
            true => MY_GROUP.to_owned(),
            false => {
                assert!(form.contains("AutoScalingGroupNames.member.1=farm%20%26%20co"), "{form}");
                group(&[
                    ("i-0b", "InService", "Healthy"),
                    ("i-05b4f7d5be44822a6", "InService", "Healthy"),
                    ("i-0c", "Terminating:Wait", "Healthy"),
                    ("i-0d", "InService", "Unhealthy"),
                    ("i-0e", "Pending", "Healthy"),
                ])
            }
        }
    };
    let aws = aws(Router::new().route("/", post(api))).await;
    assert_eq!(aws.my_name().await.unwrap(), "i-05b4f7d5be44822a6");
    assert_eq!(aws.peers().await.unwrap(), ["i-0b", "i-05b4f7d5be44822a6"]);
}

#[tokio::test]
async fn an_instance_that_aws_does_not_know_and_a_role_without_rights_are_told_apart() {
    let empty = "<DescribeAutoScalingInstancesResponse><DescribeAutoScalingInstancesResult><AutoScalingInstances/>\
                 </DescribeAutoScalingInstancesResult></DescribeAutoScalingInstancesResponse>";
    let error = aws(Router::new().route("/", post(move || async move { empty }))).await.peers().await.unwrap_err();
    assert!(find::<Mistake>(&error).unwrap().0.contains("in no Auto Scaling group"), "{error}");

    let denied = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>User is not authorized to \
                  perform: autoscaling:DescribeAutoScalingInstances</Message></Error></ErrorResponse>";
    let denied = post(move || async move { (StatusCode::FORBIDDEN, denied) });
    let error = aws(Router::new().route("/", denied)).await.peers().await.unwrap_err();
    assert!(find::<Mistake>(&error).is_none());
    assert!(error.to_string().contains("is not authorized to perform"), "{error}");
}

#[test]
fn providers_are_said_as_they_are_shown() {
    for text in ["store", "gce", "aws", "kubernetes:farm", "static:farm-1,farm-2"] {
        assert_eq!(text.parse::<Provider>().unwrap().to_string(), text);
    }
    assert_eq!("kubernetes".parse::<Provider>().unwrap().to_string(), "kubernetes:tracefarm");
    for wrong in ["", "gcp", "static", "static:", "static:a/b", "store:x"] {
        let why = wrong.parse::<Provider>().unwrap_err().0;
        assert!(why.contains(&format!("`{wrong}`")), "{why}");
    }
}

#[tokio::test]
async fn living_workers_are_peers() {
    let clock = clock();
    let store = Store::open("memory://", &OpenOptions::default(), clock.clone()).await.unwrap();
    let [one, two] = ["farm-1", "farm-2"].map(|worker| Heart::new(clock.clone(), name(worker)));
    one.beat(&store).await.unwrap();
    two.beat(&store).await.unwrap();
    let mut directory = Directory::new(&Provider::Store, &clock, name("farm-2")).unwrap();
    let both = Peers { names: vec![name("farm-1"), name("farm-2")], rank: Some(1) };
    assert_eq!(directory.peers(&two.others(&store).await.unwrap()).await.unwrap(), both);
    one.remove(&store).await.unwrap();
    assert_eq!(directory.peers(&two.others(&store).await.unwrap()).await.unwrap().names, [name("farm-2")]);
    // Not on the list: nothing to do but to ask again.
    assert_eq!(Peers::new([name("farm-1")], &name("farm-2")).rank, None);
}

#[tokio::test]
async fn a_provider_that_fails_is_believed_for_five_minutes() {
    let clock = clock();
    let down = Arc::new(AtomicUsize::new(0));
    let is_down = down.clone();
    let answer = move |_: usize, _: String| match is_down.load(Relaxed) {
        0 => axum::Json(json!({ "managedInstances": [instance("farm-7x2k", "RUNNING", "NONE")] })).into_response(),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    let mut directory = Directory::new(&Provider::Static(Vec::new()), &clock, name("farm-7x2k")).unwrap();
    directory.provider = Asked::Gce(gce(Some(ZONAL), compute(ZONAL, answer)).await);
    assert_eq!(directory.peers(&[]).await.unwrap().rank, Some(0));
    down.store(1, Relaxed);
    assert_eq!(directory.peers(&[]).await.unwrap().rank, Some(0), "as it was");
    // Five minutes later.
    tokio::time::pause();
    tokio::time::advance(ANSWER_LASTS).await;
    tokio::time::resume();
    let error = directory.peers(&[]).await.unwrap_err();
    assert!(find::<Unknown>(&error).is_some() && error.to_string().contains("500"), "{error}");
}
