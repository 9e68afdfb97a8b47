//! Who the peers are, and my place among them: what slices the work.
//!
//! Every worker asks one of the providers below, sorts the names and finds its own. Two workers that disagree for a
//! moment do some work twice, which rule 3 makes harmless; nobody has to agree with anybody.

mod aws;
mod gce;
mod http;
mod kubernetes;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::heartbeat::Other;
use crate::clock::Clock;
use crate::error::{Mistake, Report, Result, ResultExt, told};
use crate::model::WorkerName;

/// When a provider fails after its retries, its last answer counts for so long; then the worker stops working.
const ANSWER_LASTS: Duration = Duration::from_secs(300);

/// Who is asked (`--peers`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Provider {
    /// The heartbeats in the store.
    #[default]
    Store,
    /// The managed instance group of this instance, of Google's Compute Engine.
    Gce,
    /// The pods that are ready behind a headless service of this namespace.
    Kubernetes {
        /// The service's name.
        service: String,
    },
    /// The Auto Scaling group of this instance.
    Aws,
    /// A list that never changes.
    Static(Vec<WorkerName>),
}

impl FromStr for Provider {
    type Err = Mistake;

    fn from_str(text: &str) -> Result<Self, Mistake> {
        let (kind, rest) = text.split_once(':').map_or((text, None), |(kind, rest)| (kind, Some(rest)));
        match (kind, rest) {
            ("store", None) => Ok(Self::Store),
            ("gce", None) => Ok(Self::Gce),
            ("aws", None) => Ok(Self::Aws),
            ("kubernetes", service) => Ok(Self::Kubernetes { service: service.unwrap_or("tracefarm").to_owned() }),
            ("static", Some(names)) => {
                let name = |name: &str| {
                    name.parse().map_err(|why| Mistake(format!("`{name}` in `{text}` is no worker's name: {why}")))
                };
                Ok(Self::Static(names.split(',').map(str::trim).map(name).collect::<Result<_, _>>()?))
            }
            _ => Err(Mistake(format!(
                "`{text}` is no way to find peers; there are store, gce, kubernetes[:SERVICE], aws and static:NAME,NAME…"
            ))),
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store => f.write_str("store"),
            Self::Gce => f.write_str("gce"),
            Self::Aws => f.write_str("aws"),
            Self::Kubernetes { service } => write!(f, "kubernetes:{service}"),
            Self::Static(names) => {
                let names: Vec<&str> = names.iter().map(WorkerName::as_str).collect();
                write!(f, "static:{}", names.join(","))
            }
        }
    }
}

impl Provider {
    /// What this worker is called there, if nobody says so with `--name`; none if the provider knows no names of its own.
    ///
    /// # Errors
    /// When the provider does not answer, or this machine is none of its.
    pub async fn my_name(&self, clock: &Clock) -> Result<Option<WorkerName>> {
        let name = match self {
            Self::Store | Self::Static(_) => return Ok(None),
            Self::Gce => gce::Gce::from_env(clock)?.my_name().await?,
            Self::Aws => aws::Aws::from_env(clock)?.my_name().await?,
            Self::Kubernetes { .. } => kubernetes::my_name(),
        };
        Ok(Some(name.parse().context_with(|| format!("take `{name}` as the name of this worker"))?))
    }
}

/// The peers, as somebody said, and my place among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers {
    /// All names, sorted, each once.
    pub names: Vec<WorkerName>,
    /// Mine among them; none if I am not (yet) on the list: then I do nothing but ask again.
    pub rank: Option<usize>,
}

impl Peers {
    /// `me` among `names`.
    pub fn new(names: impl IntoIterator<Item = WorkerName>, me: &WorkerName) -> Self {
        let names: Vec<WorkerName> = names.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        let rank = names.binary_search(me).ok();
        Self { names, rank }
    }
}

/// The peers cannot be known: nobody answered for five minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("who the peers are is not known: nothing has been heard for {} minutes", ANSWER_LASTS.as_secs() / 60)]
pub struct Unknown;

/// Asks who the peers are.
pub struct Directory {
    provider: Asked,
    clock: Clock,
    me: WorkerName,
    /// The last answer, and when it came.
    last: Option<(Duration, Vec<WorkerName>)>,
}

enum Asked {
    Store,
    Gce(gce::Gce),
    Kubernetes(kubernetes::Kubernetes),
    Aws(aws::Aws),
    Static(Vec<WorkerName>),
}

impl Directory {
    /// A directory that asks `provider` for the peers of `me`.
    ///
    /// # Errors
    /// When this machine is not where the provider expects it: not in a pod, for one.
    pub fn new(provider: &Provider, clock: &Clock, me: WorkerName) -> Result<Self> {
        let provider = match provider {
            Provider::Store => Asked::Store,
            Provider::Gce => Asked::Gce(gce::Gce::from_env(clock)?),
            Provider::Kubernetes { service } => Asked::Kubernetes(kubernetes::Kubernetes::from_env(service, clock)?),
            Provider::Aws => Asked::Aws(aws::Aws::from_env(clock)?),
            Provider::Static(names) => Asked::Static(names.clone()),
        };
        Ok(Self { provider, clock: clock.clone(), me, last: None })
    }

    /// The peers now, or as they were at most five minutes ago if the provider fails. `others` have heartbeats.
    ///
    /// # Errors
    /// [`Unknown`] with what the provider said last; a [`Mistake`] that waiting does not mend.
    pub async fn peers(&mut self, others: &[Other]) -> Result<Peers> {
        let now = self.clock.monotonic();
        match self.ask(others).await {
            Ok(names) => self.last = Some((now, names)),
            Err(report) if crate::error::find::<Mistake>(&report).is_some() => return Err(report),
            Err(report) => self.make_do(report)?,
        }
        let names = self.last.iter().flat_map(|(_, names)| names.iter().cloned());
        Ok(Peers::new(names, &self.me))
    }

    /// The last answer counts for a while.
    fn make_do(&self, report: Report) -> Result<()> {
        match &self.last {
            Some((heard, _)) if self.clock.monotonic() - *heard < ANSWER_LASTS => {
                tracing::warn!(
                    failure = told(&report),
                    "who the peers are could not be asked; the last answer counts for now"
                );
                Ok(())
            }
            _ => Err(report.context(Unknown).into_dynamic()),
        }
    }

    async fn ask(&self, others: &[Other]) -> Result<Vec<WorkerName>> {
        match &self.provider {
            Asked::Static(names) => Ok(names.clone()),
            Asked::Store => Ok(living(others).chain([self.me.clone()]).collect()),
            Asked::Gce(gce) => named(gce.peers().await?),
            Asked::Kubernetes(kubernetes) => named(kubernetes.peers().await?),
            Asked::Aws(aws) => named(aws.peers().await?),
        }
    }
}

fn named(names: Vec<String>) -> Result<Vec<WorkerName>> {
    let name = |name: String| name.parse().context_with(|| format!("take `{name}` as the name of a worker"));
    Ok(names.into_iter().map(name).collect::<Result<_, _>>()?)
}

/// The names of those with a living heartbeat.
fn living(others: &[Other]) -> impl Iterator<Item = WorkerName> {
    others.iter().filter(|other| other.is_alive()).map(|other| other.name.clone())
}

#[cfg(test)]
mod tests;
