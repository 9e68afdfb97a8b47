//! The managed instance group of this instance: the metadata server says which, the Compute API who is in it.
//!
//! Sources: the metadata keys of `googleapis/google-cloud-go` (`compute/metadata`), and `listManagedInstances` of the
//! Compute API's discovery document (`compute.v1`).

use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::http::{Http, shown};
use crate::clock::Clock;
use crate::error::{Mistake, Result, ResultExt, bail, report};

/// Where the metadata server is, if `GCE_METADATA_HOST` does not say.
const METADATA: &str = "metadata.google.internal";
/// Where the Compute API is, if `CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE` (as `gcloud` has it) does not say.
const COMPUTE: &str = "https://compute.googleapis.com/compute/v1/";

/// A group and those who answer for it.
pub(super) struct Gce {
    metadata: Http,
    api: Http,
    metadata_url: String,
    compute_url: String,
}

/// `projects/P/zones/Z/instanceGroupManagers/G`, or `…/regions/R/…`.
#[derive(Debug, PartialEq, Eq)]
struct Group(String);

#[derive(Deserialize)]
struct Token {
    access_token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    managed_instances: Vec<Instance>,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Instance {
    name: Option<String>,
    /// The address of the instance, which ends with its name.
    instance: Option<String>,
    /// Absent: there is no machine yet.
    instance_status: Option<String>,
    current_action: Option<String>,
}

impl Instance {
    /// Its name, if it runs and is to stay.
    fn member(self) -> Option<String> {
        let runs = self.instance_status.as_deref() == Some("RUNNING");
        let stays = matches!(self.current_action.as_deref(), None | Some("NONE" | "VERIFYING" | "REFRESHING"));
        let name = self.name.or_else(|| Some(self.instance?.rsplit('/').next()?.to_owned()));
        name.filter(|_| runs && stays)
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.rsplit('/').next().unwrap_or(&self.0))
    }
}

impl Gce {
    /// The real servers, unless the environment names others.
    pub fn from_env(clock: &Clock) -> Result<Self> {
        let host = std::env::var("GCE_METADATA_HOST").unwrap_or_else(|_| METADATA.to_owned());
        let compute = std::env::var("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE").unwrap_or_else(|_| COMPUTE.to_owned());
        Self::at(&format!("http://{host}"), &compute, clock)
    }

    /// As patient as a test.
    #[cfg(test)]
    pub fn hurry(&mut self) {
        self.metadata.hurry();
        self.api.hurry();
    }

    pub(super) fn at(metadata: &str, compute: &str, clock: &Clock) -> Result<Self> {
        Ok(Self {
            metadata: Http::direct(clock)?,
            api: Http::new(None, clock)?,
            metadata_url: format!("{}/computeMetadata/v1/", metadata.trim_end_matches('/')),
            compute_url: compute.trim_end_matches('/').to_owned(),
        })
    }

    /// The name of this instance.
    pub async fn my_name(&self) -> Result<String> {
        match self.metadata("instance/name").await? {
            Some(name) => Ok(name),
            None => bail!("the metadata server knows no name of this instance"),
        }
    }

    /// The names of all instances of the group that run and are to stay.
    pub async fn peers(&self) -> Result<Vec<String>> {
        let group = self.group().await?;
        let mut names = Vec::new();
        let mut page: Option<String> = None;
        loop {
            let answer: Page = self.list(&group, page.as_deref()).await?;
            names.extend(answer.managed_instances.into_iter().filter_map(Instance::member));
            page = answer.next_page_token.filter(|token| !token.is_empty());
            if page.is_none() {
                return Ok(names);
            }
        }
    }

    /// Asked each time: instances can be taken out of a group and put into another.
    async fn group(&self) -> Result<Group> {
        let creator = self.metadata("instance/attributes/created-by").await?;
        match creator {
            // Somebody else's tool may have put its own word there.
            Some(creator) if creator.contains("/instanceGroupManagers/") => Ok(Group(creator)),
            _ => Err(report!(Mistake(
                "this instance is in no managed instance group, so its peers cannot be asked for with --peers gce: use \
                 --peers store"
                    .to_owned()
            ))
            .into_dynamic()),
        }
    }

    async fn metadata(&self, key: &str) -> Result<Option<String>> {
        let url = format!("{}{key}", self.metadata_url);
        let what = format!("`{key}` of the metadata server");
        let answer = self
            .metadata
            .send(&what, async |client| Ok(client.get(&url).header("Metadata-Flavor", "Google")))
            .await
            .context("ask this instance's metadata server (is this an instance of Compute Engine?)")?;
        match answer.status.as_u16() {
            200 => Ok(Some(String::from_utf8_lossy(&answer.body).trim().to_owned())),
            404 => Ok(None),
            _ => bail!("{what}: {}: {}", answer.status, shown(&answer.body)),
        }
    }

    async fn list(&self, group: &Group, page: Option<&str>) -> Result<Page> {
        let url = format!("{}/{}/listManagedInstances", self.compute_url, group.0);
        let mut query = vec![("maxResults", "500")];
        query.extend(page.map(|token| ("pageToken", token)));
        let body = self
            .api
            .get(&format!("the instances of the group {group}"), async |client| {
                // A token of its own for each attempt: the metadata server keeps them, and they grow old.
                let token = self.metadata("instance/service-accounts/default/token").await?;
                let token: Token = parsed(token.unwrap_or_default().as_bytes(), "the token of the service account")?;
                Ok(client.post(&url).query(&query).bearer_auth(token.access_token).header("content-length", "0"))
            })
            .await
            .context("ask the Compute API (the service account needs compute.instanceGroupManagers.get)")?;
        parsed(&body, "the list of the group's instances")
    }
}

fn parsed<T: DeserializeOwned>(body: &[u8], what: &str) -> Result<T> {
    Ok(serde_json::from_slice(body).context_with(|| format!("read {what}: {}", shown(body)))?)
}
