//! The configuration file: what is long to write on a command line, or is to be kept with a deployment.
//!
//! A flag wins over its environment variable, that over the file, and the file over the default. Keys that the
//! program does not know are refused with their path: a typing error must not become a default.
//!
//! ```toml
//! store = "s3://traces/shop"
//! log = "json"
//!
//! [run]
//! inbox = "s3://collector-output/otlp"
//! keep_inbox = true
//! memory = "1GiB"
//!
//! [receive]
//! http = "0.0.0.0:4318"
//! grpc = "none"
//! token_file = "/etc/tracefarm/token"
//!
//! # The settings with which a store begins; one that has settings keeps them (`tracefarm settings set`).
//! [settings]
//! keep_for = "14d"
//! shards = 4
//! redact_drop = ["http.request.header.*", "*.password"]
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytesize::ByteSize;
use serde::Deserialize;

use crate::error::{Mistake, Result};
use crate::farm::settings::Span;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `--store`
    pub store: Option<String>,
    /// `--log`
    pub log: Option<crate::telemetry::LogFormat>,
    /// `run`'s flags.
    pub run: RunConfig,
    /// `receive`'s flags.
    pub receive: ReceiveConfig,
    /// What a new store's settings are, where they are not the default.
    pub settings: toml::Table,
}

/// The flags of `run` under the same names.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// `--name`
    pub name: Option<String>,
    /// `--peers`
    pub peers: Option<String>,
    /// `--inbox`
    pub inbox: Option<String>,
    /// `--keep-inbox`
    pub keep_inbox: Option<bool>,
    /// `--memory`
    pub memory: Option<ByteSize>,
    /// `--grace`
    pub grace: Option<Span>,
    /// `--health`
    pub health: Option<String>,
    /// `--allow-publish-command`
    pub allow_publish_command: Option<bool>,
}

/// The flags of `receive` under the same names.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReceiveConfig {
    /// `--http`
    pub http: Option<Endpoint>,
    /// `--grpc`
    pub grpc: Option<Endpoint>,
    /// `--host`
    pub host: Vec<String>,
    /// `--allow-origin`
    pub allow_origin: Vec<String>,
    /// `--token-file`
    pub token_file: Option<PathBuf>,
    /// `--batch-time`
    pub batch_time: Option<Span>,
    /// `--batch-size`
    pub batch_size: Option<ByteSize>,
    /// `--max-request`
    pub max_request: Option<ByteSize>,
    /// `--memory`
    pub memory: Option<ByteSize>,
    /// `--health`
    pub health: Option<String>,
}

/// Where something is taken: `HOST:PORT`, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Endpoint(pub Option<SocketAddr>);

impl FromStr for Endpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Self(None));
        }
        text.parse().map(|address| Self(Some(address))).map_err(|_| "it is HOST:PORT, or `none`")
    }
}

impl TryFrom<String> for Endpoint {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// A [`Mistake`] that names the file, the key and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Mistake(format!("cannot read the configuration {}: {error}", path.display())))?;
        Ok(Self::parse(&text).map_err(|why| Mistake(format!("{}: {why}", path.display())))?)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file = toml::Deserializer::parse(text).map_err(|error| error.to_string())?;
        serde_path_to_error::deserialize(file).map_err(|error| {
            let path = error.path().to_string();
            let why = error.inner().message().to_owned();
            if path == "." { why } else { format!("`{path}`: {why}") }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_read() {
        let example: String = include_str!("config.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("//!"))
            .skip_while(|line| !line.starts_with(" ```toml"))
            .skip(1)
            .take_while(|line| !line.starts_with(" ```"))
            .map(|line| format!("{line}\n"))
            .collect();
        let config = Config::parse(&example).unwrap();
        assert_eq!(config.run.memory, Some(ByteSize::gib(1)));
        assert_eq!((config.receive.http, config.receive.grpc), ("0.0.0.0:4318".parse().ok(), Some(Endpoint(None))));
        assert_eq!(config.settings["shards"].as_integer(), Some(4));
    }

    #[test]
    fn unknown_keys_and_wrong_values_are_refused_with_their_path() {
        let refused = |text: &str| Config::parse(text).unwrap_err();
        assert_eq!(
            refused("[run]\nmemroy = '1GiB'"),
            "`run.memroy`: unknown field `memroy`, expected one of `name`, `peers`, `inbox`, `keep_inbox`, `memory`, `grace`, `health`, `allow_publish_command`"
        );
        for (text, path) in [
            ("[run]\nmemory = 'much'", "`run.memory`: "),
            ("[run]\ngrace = 10", "`run.grace`: "),
            ("[receive]\nhttp = '4318'", "`receive.http`: it is HOST:PORT"),
            ("[receive]\ntoken = 'secret'", "`receive.token`: unknown field"),
        ] {
            assert!(refused(text).starts_with(path), "{}", refused(text));
        }
        assert!(Config::parse("store = s3://x").is_err());
    }
}
