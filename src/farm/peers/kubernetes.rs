//! The pods that are ready behind a headless service, by its EndpointSlices (`discovery.k8s.io/v1`).

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::http::{Http, shown};
use crate::clock::Clock;
use crate::error::{Mistake, Result, ResultExt, report};

/// What every pod is given to speak with the API server.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A service and who answers for it.
pub(super) struct Kubernetes {
    api: Http,
    url: String,
    service: String,
    /// Read for every request: it is replaced while the pod lives.
    token: PathBuf,
}

#[derive(Deserialize)]
struct Slices {
    #[serde(default)]
    items: Vec<Slice>,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(rename = "continue")]
    next: Option<String>,
}

#[derive(Deserialize)]
struct Slice {
    endpoints: Option<Vec<Endpoint>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    #[serde(default)]
    conditions: Conditions,
    target_ref: Option<Target>,
}

/// Absent is true for `ready` and false for `terminating`, says the API.
#[derive(Default, Deserialize)]
struct Conditions {
    ready: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Deserialize)]
struct Target {
    kind: Option<String>,
    name: Option<String>,
}

impl Endpoint {
    /// The pod's name, if it is ready and is to stay.
    fn member(self) -> Option<String> {
        let target = self.target_ref.filter(|target| target.kind.as_deref() == Some("Pod"))?;
        let stays = self.conditions.ready.unwrap_or(true) && !self.conditions.terminating.unwrap_or(false);
        target.name.filter(|_| stays)
    }
}

/// The pod's name: its host name.
pub(super) fn my_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

impl Kubernetes {
    /// The API server of the cluster in which this pod runs.
    pub fn from_env(service: &str, clock: &Clock) -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (Some(host), Some(port)) = (variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_SERVICE_PORT"))
        else {
            return Err(report!(Mistake(
                "this is no pod (KUBERNETES_SERVICE_HOST is not set), so its peers cannot be asked for with --peers \
                 kubernetes: use --peers store"
                    .to_owned()
            ))
            .into_dynamic());
        };
        // An IPv6 address in a URL stands in brackets.
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        Self::at(&format!("https://{host}:{port}"), Path::new(ACCOUNT), service, clock)
    }

    pub(super) fn at(url: &str, account: &Path, service: &str, clock: &Clock) -> Result<Self> {
        let read = |name: &str| {
            let path = account.join(name);
            std::fs::read(&path).context_with(|| format!("read {} (has the pod a service account?)", path.display()))
        };
        let namespace = String::from_utf8_lossy(&read("namespace")?).trim().to_owned();
        let certificates = url.starts_with("https:").then(|| read("ca.crt")).transpose()?;
        Ok(Self {
            api: Http::new(certificates.as_deref(), clock)?,
            url: format!("{url}/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"),
            service: service.to_owned(),
            token: account.join("token"),
        })
    }

    /// The names of all pods that are ready. A service may have several slices, and a pod may stand in two of them.
    pub async fn peers(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let answer = self.list(next.as_deref()).await?;
            let endpoints = answer.items.into_iter().flat_map(|slice| slice.endpoints.unwrap_or_default());
            names.extend(endpoints.filter_map(Endpoint::member));
            next = answer.metadata.next.filter(|next| !next.is_empty());
            if next.is_none() {
                return Ok(names);
            }
        }
    }

    async fn list(&self, next: Option<&str>) -> Result<Slices> {
        let selector = format!("kubernetes.io/service-name={}", self.service);
        let mut query = vec![("labelSelector", selector.as_str()), ("limit", "500")];
        query.extend(next.map(|next| ("continue", next)));
        let what = format!("the pods behind the service {}", self.service);
        let body = self
            .api
            .get(&what, async |client| {
                let token =
                    std::fs::read_to_string(&self.token).context("read the token of the pod's service account")?;
                Ok(client.get(&self.url).query(&query).bearer_auth(token.trim()))
            })
            .await
            .context(
                "ask the API server (the service account needs get and list on endpointslices.discovery.k8s.io)",
            )?;
        Ok(serde_json::from_slice(&body).context_with(|| format!("read {what}: {}", shown(&body)))?)
    }
}
