//! From a URL to a store.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, resolve_bucket_region};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientConfigKey, ClientOptions, ObjectStore, RetryConfig, StaticCredentialProvider};
use percent_encoding::percent_decode_str;

use super::connect::{Connector, METADATA_SERVERS, Wire};
use super::renew::Renewing;
use super::sign::Signer;
use super::{Local, Prefix, Store, StoreErrorKind, Time, failure};
use crate::clock::Clock;
use crate::error::{Mistake, Result, ResultExt, bail};

pub use super::connect::Patience;

/// How to open a store, beyond its URL.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Never write or delete: a reader's store. A local directory must be there.
    pub read_only: bool,
    /// Another inbox (`--inbox URL`): every object in it is [`super::Key::Inbox`] under its whole name, whatever it is
    /// called, and [`Prefix::Inbox`] is the whole store. A local directory must be there.
    pub as_inbox: bool,
    /// Time-outs and waits; tests shorten them.
    pub patience: Patience,
}

/// What a URL names.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Directory(PathBuf),
    Memory,
    Bucket { cloud: Cloud, bucket: String, prefix: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cloud {
    S3,
    Gcs,
    Azure,
}

impl Cloud {
    fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }
}

const FORMS: &str = "a store is s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, or a directory \
                     (a path, or file:///path)";

fn place(url: &str) -> Result<Place, Mistake> {
    let mistake = |what: &str| Mistake(format!("`{url}` {what}: {FORMS}"));
    let Some((scheme, rest)) = url.split_once("://") else {
        return match url {
            "" => Err(Mistake(format!("the store's URL is empty: {FORMS}"))),
            path => Ok(Place::Directory(path.into())),
        };
    };
    let cloud = match scheme.to_ascii_lowercase().as_str() {
        "s3" | "s3a" => Cloud::S3,
        "gs" | "gcs" => Cloud::Gcs,
        "az" | "azure" | "abfs" | "abfss" => Cloud::Azure,
        "memory" => return Ok(Place::Memory),
        "file" => {
            let path = rest.strip_prefix("localhost").unwrap_or(rest);
            if !path.starts_with('/') {
                return Err(mistake("names a host; a file URL has three slashes (file:///path)"));
            }
            let path = percent_decode_str(path).decode_utf8().map_err(|_| mistake("is not UTF-8"))?;
            return Ok(Place::Directory(path.into_owned().into()));
        }
        _ => return Err(mistake("is of no kind that tracefarm knows")),
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() || bucket.contains(['?', '#', '@', ':']) {
        return Err(mistake("names no bucket"));
    }
    let prefix = prefix.trim_end_matches('/');
    if prefix.starts_with('/') || prefix.contains(['?', '#']) || Path::parse(prefix).is_err() {
        return Err(mistake("has a prefix that no client could use"));
    }
    Ok(Place::Bucket { cloud, bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

impl Store {
    /// Opens the store at `url`: `s3://bucket/prefix`, `gs://…`, `az://…`, `file:///path`, a plain path, or
    /// `memory://` (for tests; each open is a store of its own). Clouds take their usual environment variables,
    /// credential chains and custom endpoints:
    ///
    /// - S3: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, web identity, container
    ///   and instance roles; `AWS_ENDPOINT_URL` (with `AWS_ALLOW_HTTP=true` for a plain one; requests are then in path
    ///   style) for other servers.
    /// - GCS: `GOOGLE_APPLICATION_CREDENTIALS`, the metadata server; `STORAGE_EMULATOR_HOST` for an emulator.
    /// - Azure: `AZURE_STORAGE_ACCOUNT_NAME`, `AZURE_STORAGE_ACCOUNT_KEY`, service principals, workload and managed
    ///   identity; `AZURE_STORAGE_USE_EMULATOR=true` (and `AZURITE_BLOB_STORAGE_URL`) for Azurite.
    ///
    /// A cloud is asked once (one page of a listing), which also tells its time. A local directory that is not there
    /// is made by the first write.
    ///
    /// # Errors
    /// A [`Mistake`] for a URL that names no store, a bucket or directory that is not there, missing credentials; a
    /// [`super::StoreError`] if the store does not answer.
    pub async fn open(url: &str, options: &OpenOptions, clock: Clock) -> Result<Self> {
        match place(url)? {
            Place::Memory => {
                let objects = Arc::new(InMemory::new());
                Ok(Self::new(objects, None, url, "", options.clone(), clock, Time::Machine))
            }
            Place::Directory(path) => open_directory(url, &path, options, clock).await,
            Place::Bucket { cloud, bucket, prefix } => {
                let wire = Wire::new(clock.clone(), options.patience.clone());
                let objects = connect(url, cloud, &bucket, &wire, &options.patience).await?;
                // One spelling, so that two stores can be told to overlap.
                let url = format!("{}://{bucket}/{prefix}", cloud.scheme());
                let store = Self::new(objects, None, &url, &prefix, options.clone(), clock, Time::Answers(wire));
                greet(&store, &bucket).await?;
                Ok(store)
            }
        }
    }
}

/// The first request: is there such a bucket, and do we have the right to use it?
pub(super) async fn greet(store: &Store, bucket: &str) -> Result<()> {
    let Err(error) = store.list_some(&Prefix::Settings, None, 1).await else { return Ok(()) };
    let text = chain(&error);
    let url = store.url();
    if failure::ABSENT.iter().any(|code| text.contains(code)) || text.contains("404 Not Found") {
        bail!(Mistake(format!("there is no bucket `{bucket}` for {url}: make it first, or correct its name")));
    }
    if METADATA_SERVERS.iter().any(|host| text.contains(host)) {
        bail!(Mistake(format!(
            "no credentials for {url}: neither the environment has any, nor does a role of this machine"
        )));
    }
    if error.kind == StoreErrorKind::Denied {
        let said = error.said().map_or_else(|| error.to_string(), ToString::to_string);
        let advice = error.said().and_then(|said| said.advice.as_deref()).unwrap_or("a person must look");
        bail!(Mistake(format!("{url} cannot be opened: {said}: {advice}")));
    }
    Err(error).context("open the store")?
}

async fn open_directory(url: &str, path: &FilePath, options: &OpenOptions, clock: Clock) -> Result<Store> {
    match std::fs::metadata(path) {
        Ok(meta) if !meta.is_dir() => bail!(Mistake(format!("`{url}` is a file, not a directory"))),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if options.read_only || options.as_inbox {
                bail!(Mistake(format!("there is no directory `{}`", path.display())));
            }
        }
        Err(error) => bail!(Mistake(format!("the directory `{}` cannot be used: {error}", path.display()))),
    }
    // Absolute, so that a change of the working directory does not move the store.
    let path = std::path::absolute(path).context_with(|| format!("find the directory {}", path.display()))?;
    let local = Local::new(path, clock.clone());
    if !options.read_only {
        local.sweep().await;
    }
    Ok(Store::new(Arc::new(local.clone()), Some(local), url, "", options.clone(), clock, Time::Machine))
}

/// Waits are drawn between the first and three times the last.
pub(super) fn retry(patience: &Patience) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig { init_backoff: patience.first_wait, max_backoff: patience.longest_wait, base: 3.0 },
        max_retries: patience.retries,
        ..RetryConfig::default()
    }
}

async fn connect(
    url: &str,
    cloud: Cloud,
    bucket: &str,
    wire: &Arc<Wire>,
    patience: &Patience,
) -> Result<Arc<dyn ObjectStore>> {
    let unusable = |error: object_store::Error| Mistake(format!("{url} cannot be opened: {error}"));
    let connector = Connector::new(wire);
    let retry = retry(patience);
    Ok(match cloud {
        Cloud::S3 => {
            let mut builder = AmazonS3Builder::from_env()
                .with_bucket_name(bucket)
                .with_http_connector(connector)
                .with_retry(retry)
                // One request an object: a delete on a condition exists only there.
                .with_config(AmazonS3ConfigKey::DisableBulkDelete, "true");
            let region = match builder.get_config_value(&AmazonS3ConfigKey::Region) {
                Some(region) => region,
                None if builder.get_config_value(&AmazonS3ConfigKey::Endpoint).is_none() => {
                    // AWS tells anybody a bucket's region. If it does not, the first request says what is wrong.
                    let options = ClientOptions::new().with_timeout(patience.answer);
                    resolve_bucket_region(bucket, &options).await.unwrap_or_else(|_| REGION.to_owned())
                }
                None => REGION.to_owned(),
            };
            builder = builder.with_region(&region);
            let chain = builder.clone();
            let credentials =
                Arc::new(Renewing::new(move || Ok(chain.clone().build()?.credentials().clone())).map_err(unusable)?);
            let store = builder.with_credentials(credentials.clone()).build().map_err(unusable)?;
            wire.sign_with(Signer::Aws { credentials, region });
            Arc::new(store)
        }
        Cloud::Gcs => {
            let mut builder = GoogleCloudStorageBuilder::from_env()
                .with_bucket_name(bucket)
                .with_http_connector(connector)
                .with_retry(retry);
            // What Google's own clients read. Emulators take any credentials, so none are looked for.
            if let Ok(host) = std::env::var("STORAGE_EMULATOR_HOST")
                && !host.is_empty()
            {
                let anybody = GcpCredential { bearer: "anybody".to_owned() };
                let base = if host.contains("://") { host } else { format!("http://{host}") };
                builder = builder
                    .with_base_url(base.trim_end_matches('/'))
                    .with_credentials(Arc::new(StaticCredentialProvider::new(anybody)))
                    .with_config(GoogleConfigKey::Client(ClientConfigKey::AllowHttp), "true");
            }
            wire.sign_with(Signer::Bearer);
            Arc::new(builder.build().map_err(unusable)?)
        }
        Cloud::Azure => {
            let builder = MicrosoftAzureBuilder::from_env()
                .with_container_name(bucket)
                .with_http_connector(connector)
                .with_retry(retry);
            let emulator = builder.get_config_value(&AzureConfigKey::UseEmulator).is_some_and(|is| is == "true");
            let account = builder.get_config_value(&AzureConfigKey::AccountName);
            let account = account.unwrap_or_else(|| if emulator { EMULATOR_ACCOUNT } else { "" }.to_owned());
            let store = builder.build().map_err(unusable)?;
            wire.sign_with(Signer::Azure { credentials: store.credentials().clone(), account });
            Arc::new(store)
        }
    })
}

/// Where buckets are that nobody says a region of.
const REGION: &str = "us-east-1";

/// The account that Azurite has unless told otherwise.
const EMULATOR_ACCOUNT: &str = "devstoreaccount1";

/// All that an error and its causes say.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}
