//! The Auto Scaling group of this instance, by the query protocol of the API `autoscaling/2011-01-01` (botocore's
//! description); the instance's own metadata (IMDSv2) say who I am.

use object_store::aws::{AmazonS3Builder, AwsAuthorizer, AwsCredentialProvider};
use object_store::client::HttpRequestBody;
use reqwest::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::http::{Http, shown};
use crate::clock::Clock;
use crate::error::{Mistake, Result, ResultExt, bail, report};

/// Where the metadata of an instance are, if `AWS_EC2_METADATA_SERVICE_ENDPOINT` does not say.
const METADATA: &str = "http://169.254.169.254";
/// How long a session with the metadata server lasts: a request or two.
const SESSION_SECONDS: &str = "60";

/// A group and those who answer for it.
pub(super) struct Aws {
    metadata: Http,
    api: Http,
    metadata_url: String,
    /// Instead of the region's own.
    api_url: Option<String>,
    credentials: AwsCredentialProvider,
}

#[derive(Deserialize)]
struct MyGroup {
    #[serde(rename = "DescribeAutoScalingInstancesResult")]
    result: MyGroupResult,
}

#[derive(Deserialize)]
struct MyGroupResult {
    #[serde(rename = "AutoScalingInstances", default)]
    instances: Members,
}

#[derive(Deserialize)]
struct Groups {
    #[serde(rename = "DescribeAutoScalingGroupsResult")]
    result: GroupsResult,
}

#[derive(Deserialize)]
struct GroupsResult {
    #[serde(rename = "AutoScalingGroups")]
    groups: GroupList,
}

#[derive(Deserialize)]
struct GroupList {
    #[serde(default)]
    member: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(rename = "Instances", default)]
    instances: Members,
}

#[derive(Default, Deserialize)]
struct Members {
    #[serde(default)]
    member: Vec<Instance>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Instance {
    instance_id: String,
    auto_scaling_group_name: Option<String>,
    lifecycle_state: Option<String>,
    health_status: Option<String>,
}

impl Instance {
    /// Whether it works and is to stay. (The API writes `Healthy` in one answer and `HEALTHY` in another.)
    fn is_member(&self) -> bool {
        self.lifecycle_state.as_deref() == Some("InService")
            && self.health_status.as_deref().is_none_or(|health| health.eq_ignore_ascii_case("healthy"))
    }
}

impl Aws {
    /// The real servers, unless the environment names others (as the AWS SDKs have it).
    pub fn from_env(clock: &Clock) -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let metadata = variable("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| METADATA.to_owned());
        // The store's client knows every way to credentials; the bucket's name has no part in them.
        let client = AmazonS3Builder::from_env().with_bucket_name("none").build();
        let credentials = client.context("look for credentials of AWS")?.credentials().clone();
        Self::at(&metadata, variable("AWS_ENDPOINT_URL_AUTO_SCALING"), credentials, clock)
    }

    /// As patient as a test.
    #[cfg(test)]
    pub fn hurry(&mut self) {
        self.metadata.hurry();
        self.api.hurry();
    }

    pub(super) fn at(
        metadata: &str,
        api_url: Option<String>,
        credentials: AwsCredentialProvider,
        clock: &Clock,
    ) -> Result<Self> {
        let metadata_url = format!("{}/latest/", metadata.trim_end_matches('/'));
        Ok(Self { metadata: Http::direct(clock)?, api: Http::new(None, clock)?, metadata_url, api_url, credentials })
    }

    /// The id of this instance.
    pub async fn my_name(&self) -> Result<String> {
        self.metadata("instance-id").await
    }

    /// The ids of all instances of the group that are in service.
    pub async fn peers(&self) -> Result<Vec<String>> {
        let (me, region) = (self.my_name().await?, self.metadata("placement/region").await?);
        let mine = [("Action", "DescribeAutoScalingInstances"), ("InstanceIds.member.1", &me)];
        let mine: MyGroup = self.call(&region, "the Auto Scaling group of this instance", &mine).await?;
        let instance = mine.result.instances.member.into_iter().find(|instance| instance.instance_id == me);
        let Some(group) = instance.and_then(|instance| instance.auto_scaling_group_name) else {
            return Err(report!(Mistake(format!(
                "the instance {me} is in no Auto Scaling group, so its peers cannot be asked for with --peers aws: use \
                 --peers store"
            )))
            .into_dynamic());
        };
        // A group's instances come in one piece: only groups have pages.
        let what = format!("the instances of the group {group}");
        let asked = [("Action", "DescribeAutoScalingGroups"), ("AutoScalingGroupNames.member.1", &group)];
        let groups: Groups = self.call(&region, &what, &asked).await?;
        let instances = groups.result.groups.member.into_iter().flat_map(|group| group.instances.member);
        Ok(instances.filter(Instance::is_member).map(|instance| instance.instance_id).collect())
    }

    /// A word of the instance's metadata, in a session of its own (IMDSv2).
    async fn metadata(&self, key: &str) -> Result<String> {
        let what = format!("`{key}` of the instance's metadata");
        let (session, key) =
            (format!("{}api/token", self.metadata_url), format!("{}meta-data/{key}", self.metadata_url));
        let asked = async {
            let header = ("X-aws-ec2-metadata-token-ttl-seconds", SESSION_SECONDS);
            let token =
                self.metadata.get(&what, async |client| Ok(client.put(&session).header(header.0, header.1))).await?;
            let token = String::from_utf8_lossy(&token).into_owned();
            self.metadata
                .get(&what, async |client| Ok(client.get(&key).header("X-aws-ec2-metadata-token", &token)))
                .await
        };
        let body = asked.await.context("ask this instance's metadata server (is this an instance of EC2?)")?;
        Ok(String::from_utf8_lossy(&body).trim().to_owned())
    }

    async fn call<T: DeserializeOwned>(&self, region: &str, what: &str, asked: &[(&str, &str)]) -> Result<T> {
        let own = || format!("https://autoscaling.{region}.amazonaws.com/");
        let url = self.api_url.clone().unwrap_or_else(own);
        let form: Vec<String> = asked.iter().chain(&[("Version", "2011-01-01")]).map(field).collect();
        let form = form.join("&");
        let answer = self.api.send(what, async |client| self.signed(client, region, &url, &form).await).await;
        let answer = answer.context(
            "ask the Auto Scaling API (the role needs autoscaling:DescribeAutoScalingInstances and \
             autoscaling:DescribeAutoScalingGroups)",
        )?;
        let text = String::from_utf8_lossy(&answer.body);
        if answer.status != StatusCode::OK {
            bail!("{what}: {}: {}", answer.status, shown(&answer.body));
        }
        Ok(quick_xml::de::from_str(&text).context_with(|| format!("read {what}: {}", shown(&answer.body)))?)
    }

    /// A request, signed by Signature Version 4.
    async fn signed(
        &self,
        client: &reqwest::Client,
        region: &str,
        url: &str,
        form: &str,
    ) -> Result<reqwest::RequestBuilder> {
        let credential = self.credentials.get_credential().await.context("get credentials of AWS")?;
        let request = http::Request::post(url)
            .header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
            .body(HttpRequestBody::from(form.to_owned()));
        let mut request = request.context_with(|| format!("make a request of {url}"))?;
        let authorizer = AwsAuthorizer::new(&credential, "autoscaling", region);
        authorizer.try_authorize(&mut request, None).context("sign a request")?;
        Ok(client.post(url).headers(request.headers().clone()).body(form.to_owned()))
    }
}

/// A field of a form. The names are ours and plain.
fn field((name, value): &(&str, &str)) -> String {
    format!("{name}={}", percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC))
}
