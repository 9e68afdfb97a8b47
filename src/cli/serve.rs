//! `tracefarm serve`

use std::path::{Path, PathBuf};

use axum::Router;
use axum::http::HeaderValue;
use tokio_util::sync::CancellationToken;

use super::listen::Listen;
use super::run::stopped_by_signals;
use super::{Exit, Session, out};
use crate::error::{Mistake, Result, ResultExt};
use crate::farm::Settings;
use crate::farm::health::systemd;
use crate::receive::{self, Receiver};
use crate::serve::farm::Farm;
use crate::serve::guard::{self, Token};
use crate::serve::listen::Speaks;
use crate::serve::{self, Options, listen};
use crate::store::Stage;
use crate::task;

/// How much memory footers, digests and names are kept in: those of some hundred thousand blocks.
pub const KEPT_BYTES: usize = 128 << 20;

/// Serve pages, Jaeger's query API and metrics of a store; reads only, but for --receive
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Pages are at /site/; /api/trace/ID and /api/search answer as `get -o otlp-json` and `search -o json`;
/api/services, /api/traces, /api/v3/… are Jaeger's query API; /metrics is for Prometheus, /healthz for
whoever watches the server. Whoever can reach the server can read every trace: without --token or
--token-file let only those reach it who may. It speaks HTTP; TLS is a proxy's work.")]
pub struct Args {
    #[command(flatten)]
    listen: Listen,
    /// A name under which browsers know the server; may be said again. With one, or on a loopback address, requests
    /// under any other name but localhost are refused
    #[arg(long = "host", value_name = "NAME", env = "TRACEFARM_HOST", hide_env_values = true, value_delimiter = ',')]
    hosts: Vec<String>,
    #[command(flatten)]
    secret: Secret,
    /// An origin, as `https://example.org`, whose pages may read answers; may be said again
    #[arg(
        long = "allow-origin",
        value_name = "ORIGIN",
        value_parser = origin,
        env = "TRACEFARM_ALLOW_ORIGIN",
        hide_env_values = true,
        value_delimiter = ','
    )]
    origins: Vec<HeaderValue>,
    /// How many handlers /metrics tells apart, the busiest first; the others of a service are summed up
    #[arg(long, value_name = "N", default_value_t = 1000, env = "TRACEFARM_METRICS_HANDLERS", hide_env_values = true)]
    metrics_handlers: usize,
    /// Take OTLP over HTTP at /v1/traces, too, into the inbox, as `tracefarm receive` does
    #[arg(long, env = "TRACEFARM_SERVE_RECEIVE", hide_env_values = true, value_parser = out::boolish())]
    receive: bool,
}

/// What clients must know, if anything.
#[derive(clap::Args, Debug)]
pub struct Secret {
    /// A file with the token that clients must know: as bearer token, or as password of any user
    #[arg(long, value_name = "FILE", env = "TRACEFARM_TOKEN_FILE", hide_env_values = true, conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// The token itself: in the environment rather than here, where others see it
    #[arg(long, value_name = "SECRET", env = "TRACEFARM_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

impl Secret {
    /// The token, read; where none is named here that of the configuration `file`.
    pub fn token(&self, file: Option<&Path>) -> Result<Option<Token>, Mistake> {
        let file = file.filter(|_| self.token.is_none());
        let read = self.token_file.as_deref().or(file).map(|path| {
            std::fs::read_to_string(path)
                .map_err(|error| Mistake(format!("cannot read the token in {}: {error}", path.display())))
        });
        read.transpose()?.as_ref().or(self.token.as_ref()).map(|secret| Token::new(secret)).transpose()
    }
}

/// Parses an origin.
pub fn origin(text: &str) -> Result<HeaderValue, String> {
    let wrong = || "an origin is a scheme and a host: https://example.org, http://localhost:3000".to_owned();
    let (_, host) =
        text.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https")).ok_or_else(wrong)?;
    if host.is_empty() || host.contains(['/', '*', '?', '#', '@']) {
        return Err(wrong());
    }
    HeaderValue::from_str(text).map_err(|_| wrong())
}

impl Args {
    /// Serves until it is stopped.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let store = match self.receive {
            true => session.writer().await?,
            false => session.reader().await?,
        };
        let store = store.for_stage(Stage::Read);
        // What cannot be read at all is told now, and not to the first who asks.
        Settings::load(&store).await?;
        let token = self.secret.token(None)?;
        let is_open = token.is_none() && !self.listen.address.ip().is_loopback();
        let listener = self.listen.bind().await?;
        let address = listener.local_addr().context("tell where the server listens")?;
        let hosts = guard::hosts(address, &self.hosts);
        let stop = CancellationToken::new();
        let (taken, batcher) = match self.receive {
            true => {
                let (hosts, token, origins) = (hosts.clone(), token.clone(), self.origins.clone());
                let options = receive::Options { hosts, token, origins, ..receive::Options::default() };
                let (receiver, batcher) = Receiver::new(store.clone(), session.clock.clone(), options);
                (receive::http::routes(&receiver), Some(batcher))
            }
            false => (Router::new(), None),
        };
        let options = Options { hosts, token, origins: self.origins, metrics_handlers: self.metrics_handlers };
        let farm = Farm::new(store, session.clock.clone(), KEPT_BYTES);
        let router = serve::router(&farm, options).merge(taken);
        let signals = stopped_by_signals(&stop)?;
        if is_open {
            tracing::warn!(%address, "whoever reaches this address can read every trace: --token-file asks for a token");
        }
        let telling = task::spawn(systemd::tell(farm.clone(), session.clock.clone(), stop.clone()));
        out::print(&format!("Serving {} at http://{address}/", farm.store().url()))?;
        let limits = listen::Limits::default();
        let serving = listen::serve(listener, Speaks::Http1, router, limits, &session.clock, &stop);
        match batcher {
            Some(batcher) => batcher.beside(serving, &stop, || {}).await?,
            None => serving.await?,
        }
        drop((signals, telling));
        systemd::ends();
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_and_a_host() {
        for text in ["https://example.org", "http://localhost:3000"] {
            assert_eq!(origin(text).unwrap(), text);
        }
        for text in ["*", "example.org", "https://", "https://example.org/", "https://*.example.org", "ftp://x"] {
            assert!(origin(text).is_err(), "{text}");
        }
    }
}
