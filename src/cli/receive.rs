//! `tracefarm receive`

use std::future::pending;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::Router;
use axum::http::HeaderValue;
use bytesize::ByteSize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::run::stopped_by_signals;
use super::serve::{Secret, origin};
use super::{Exit, Session, out};
use crate::clock::Clock;
use crate::config::{Endpoint, ReceiveConfig};
use crate::error::{Mistake, Result, ResultExt};
use crate::farm::Settings;
use crate::farm::health::{server, systemd};
use crate::farm::settings::Span;
use crate::otlp::Limits;
use crate::receive::{Options, Receiver, grpc, http, metrics};
use crate::serve::guard;
use crate::serve::listen::{self, Speaks};
use crate::task;

/// Receive OTLP over HTTP and gRPC into the inbox; answers when it is durable
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Traces are taken at /v1/traces (protobuf or JSON, plain, gzip or zstd) and by gRPC. What is
answered with success stands in the store. Requests are written together: an object each
--batch-time, or sooner when --batch-size has come. Who cannot be served now is told to come again
(429, 503, UNAVAILABLE). Whoever can reach the receiver can write traces: without --token or
--token-file let only those reach it who may. It speaks HTTP; TLS is a proxy's work. Any number of
receivers may run; SIGTERM lets one answer and end.")]
pub struct Args {
    #[command(flatten)]
    at: Endpoints,
    #[command(flatten)]
    secret: Secret,
    /// How long the first request of a batch waits for others: what an answer takes, and how often objects are written
    /// [default: 500ms]
    #[arg(long, value_name = "TIME", value_parser = super::span, env = "TRACEFARM_BATCH_TIME", hide_env_values = true)]
    batch_time: Option<Span>,
    /// A batch is written at once when it has so many bytes, unpacked [default: 8MiB]
    #[arg(long, value_name = "SIZE", env = "TRACEFARM_BATCH_SIZE", hide_env_values = true)]
    batch_size: Option<ByteSize>,
    /// The largest request, unpacked [default: 16MiB]
    #[arg(long, value_name = "SIZE", env = "TRACEFARM_MAX_REQUEST", hide_env_values = true)]
    max_request: Option<ByteSize>,
    /// What all requests that wait may hold together; who would be beyond is told to come again [default: 256MiB]
    #[arg(long, value_name = "SIZE", env = "TRACEFARM_MEMORY", hide_env_values = true)]
    memory: Option<ByteSize>,
    /// Answer /healthz and /metrics (Prometheus) there, eg 0.0.0.0:8079 [default: nowhere]
    #[arg(long, value_name = "HOST:PORT", env = "TRACEFARM_HEALTH", hide_env_values = true)]
    health: Option<String>,
}

/// Where OTLP is taken.
#[derive(clap::Args, Debug)]
pub struct Endpoints {
    /// Where OTLP over HTTP is taken, or `none`; port 0 is a free one [default: 127.0.0.1:4318]
    #[arg(long, value_name = "ADDRESS", env = "TRACEFARM_HTTP", hide_env_values = true)]
    http: Option<Endpoint>,
    /// Where OTLP over gRPC is taken, or `none` [default: 127.0.0.1:4317]
    #[arg(long, value_name = "ADDRESS", env = "TRACEFARM_GRPC", hide_env_values = true)]
    grpc: Option<Endpoint>,
    /// A name under which clients know the server; may be said again. With one, or on a loopback address, requests over
    /// HTTP under any other name but localhost are refused
    #[arg(long = "host", value_name = "NAME", env = "TRACEFARM_HOST", hide_env_values = true, value_delimiter = ',')]
    pub hosts: Vec<String>,
    /// An origin, as `https://example.org`, whose pages may send traces, beside those of localhost on a loopback address;
    /// may be said again
    #[arg(
        long = "allow-origin",
        value_name = "ORIGIN",
        value_parser = origin,
        env = "TRACEFARM_ALLOW_ORIGIN",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub origins: Vec<HeaderValue>,
}

/// Listens for OTLP.
pub struct Ears {
    http: Option<TcpListener>,
    grpc: Option<TcpListener>,
}

/// Where it is taken if nothing is said: at OTLP's own ports, by this machine's programs.
const HTTP: Endpoint = Endpoint(Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4318)));
const GRPC: Endpoint = Endpoint(Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4317)));

impl Endpoints {
    /// What is not said takes from the configuration file.
    fn or(mut self, config: &ReceiveConfig) -> Result<Self> {
        self.http = self.http.or(config.http);
        self.grpc = self.grpc.or(config.grpc);
        if self.hosts.is_empty() {
            self.hosts.clone_from(&config.host);
        }
        if self.origins.is_empty() {
            let origin = |text: &String| origin(text).map_err(|why| Mistake(format!("`receive.allow_origin`: {why}")));
            self.origins = config.allow_origin.iter().map(origin).collect::<Result<_, _>>()?;
        }
        Ok(self)
    }

    /// Listens at both, if nothing else does.
    pub async fn listen(&self) -> Result<Ears> {
        let (Endpoint(http), Endpoint(grpc)) = (self.http.unwrap_or(HTTP), self.grpc.unwrap_or(GRPC));
        if http.is_none() && grpc.is_none() {
            return Err(Mistake("with both --http and --grpc `none` there is nothing to receive".to_owned()).into());
        }
        let listen = async |address: Option<SocketAddr>| match address {
            Some(address) => listen::bind(address).await.map(Some),
            None => Ok(None),
        };
        Ok(Ears { http: listen(http).await?, grpc: listen(grpc).await? })
    }
}

impl Ears {
    /// Their addresses: of HTTP and of gRPC.
    pub fn addresses(&self) -> Result<[Option<SocketAddr>; 2]> {
        let address = |listener: &Option<TcpListener>| listener.as_ref().map(TcpListener::local_addr).transpose();
        Ok([
            address(&self.http).context("tell where it listens")?,
            address(&self.grpc).context("tell where it listens")?,
        ])
    }

    /// Takes requests in until `stop`, and answers those in hand.
    pub async fn serve(self, receiver: Receiver, clock: &Clock, stop: &CancellationToken) -> Result<()> {
        let serve = async |listener: Option<TcpListener>, speaks: Speaks, router: Router| match listener {
            Some(listener) => listen::serve(listener, speaks, router, listen::Limits::default(), clock, stop).await,
            None => Ok(()),
        };
        let (http, grpc) = (http::router(&receiver), grpc::router(&receiver));
        drop(receiver);
        tokio::try_join!(serve(self.http, Speaks::Http1, http), serve(self.grpc, Speaks::Http2, grpc))?;
        Ok(())
    }
}

impl Args {
    /// Receives until it is stopped.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let (clock, config) = (&session.clock, &session.config.receive);
        let token = self.secret.token(config.token_file.as_deref())?;
        let at = self.at.or(config)?;
        let ears = at.listen().await?;
        let health = match self.health.as_ref().or(config.health.as_ref()) {
            Some(address) => Some(server::listen(address).await?),
            None => None,
        };
        let store = session.writer().await?;
        // What is taken must be readable for workers; what cannot be read at all is told now.
        let (_, settings) = Settings::load(&store).await?;
        let bytes = |size: ByteSize| usize::try_from(size.as_u64()).unwrap_or(usize::MAX);
        let message_bytes = bytes(ByteSize(settings.max_message_bytes));
        let [http, grpc] = ears.addresses()?;
        let usual = Options::default();
        let said = |flag: Option<ByteSize>, file: Option<ByteSize>, usual| flag.or(file).map_or(usual, bytes);
        let options = Options {
            batch_bytes: said(self.batch_size, config.batch_size, usual.batch_bytes),
            batch_time: self.batch_time.or(config.batch_time).map_or(usual.batch_time, |time| time.0),
            request_bytes: said(self.max_request, config.max_request, usual.request_bytes).min(message_bytes),
            memory_bytes: said(self.memory, config.memory, usual.memory_bytes),
            limits: Limits { message_bytes, ..Limits::default() },
            hosts: http.and_then(|address| guard::hosts(address, &at.hosts)),
            origins: at.origins,
            token,
        };
        if options.memory_bytes < options.request_bytes {
            let sentence = "--memory must hold the largest request at least (--max-request)";
            return Err(Mistake(sentence.to_owned()).into());
        }
        let is_open = options.token.is_none() && [http, grpc].into_iter().flatten().any(|at| !at.ip().is_loopback());
        let (receiver, batcher) = Receiver::new(store.clone(), clock.clone(), options);
        let (vitals, counts) = (metrics::Vitals::new(&receiver, clock.clone()), receiver.counts().clone());
        let telling = async {
            match health {
                Some(listener) => server::serve_of(listener, vitals, clock.clone()).await,
                None => pending().await,
            }
        };
        let stop = CancellationToken::new();
        let signals = stopped_by_signals(&stop)?;
        if is_open {
            tracing::warn!("whoever reaches this address can write traces: --token-file asks for a token");
        }
        let service = task::spawn(systemd::tell(counts, clock.clone(), stop.clone()));
        let at = |name, address: Option<SocketAddr>| {
            address.map(|address| format!("\n  {name}  http://{address}")).unwrap_or_default()
        };
        out::print(&format!("Receiving OTLP for {}{}{}", store.url(), at("HTTP", http), at("gRPC", grpc)))?;
        tokio::select! {
            ended = batcher.beside(ears.serve(receiver, clock, &stop), &stop, || {}) => ended?,
            ended = telling => ended?,
        }
        drop((signals, service));
        systemd::ends();
        Ok(Exit::Done)
    }
}
