//! `tracefarm dev`: all in one for one person's machine.

use std::net::SocketAddr;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::listen::Listen;
use super::receive::Endpoints;
use super::run::{self, stopped_by_signals};
use super::serve::KEPT_BYTES;
use super::{Exit, Session, out};
use crate::error::{Result, ResultExt};
use crate::farm::peers::Provider;
use crate::farm::worker::{self, Worker};
use crate::receive::{self, Receiver};
use crate::serve::farm::Farm;
use crate::serve::listen::{self, Speaks};
use crate::serve::{self, guard};
use crate::stage::Pace;
use crate::store::{Stage, Store};

/// The store, unless one is named.
const FOLDER: &str = "tracefarm-data";

/// How long a request waits for company: nobody pays for objects.
const BATCH_TIME: Duration = Duration::from_millis(20);

/// How many handlers `/metrics` tells apart.
const METRICS_HANDLERS: usize = 1000;

/// All in one for a laptop: receive OTLP, work on it, show it
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The store is the folder ./tracefarm-data unless --store names another; what is in it stays, and
every other command works on it meanwhile. A request is on the pages within two seconds of its
answer.")]
pub struct Args {
    #[command(flatten)]
    listen: Listen,
    #[command(flatten)]
    at: Endpoints,
}

impl Args {
    /// Runs all of it until it is stopped.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let clock = &session.clock;
        let url = session.store_url().unwrap_or(FOLDER);
        let ears = self.at.listen().await?;
        let pages = self.listen.bind().await?;
        let address = pages.local_addr().context("tell where the pages are")?;
        let [http, grpc] = ears.addresses()?;
        let store = Store::open(url, &session.options(), clock.clone()).await?;
        let receiving = receive::Options {
            batch_time: BATCH_TIME,
            hosts: http.and_then(|address| guard::hosts(address, &self.at.hosts)),
            origins: self.at.origins.clone(),
            ..receive::Options::default()
        };
        let (receiver, batcher) = Receiver::new(store.clone(), clock.clone(), receiving);
        let farm = Farm::new(store.for_stage(Stage::Read), clock.clone(), KEPT_BYTES);
        let served = serve::Options {
            hosts: guard::hosts(address, &self.at.hosts),
            metrics_handlers: METRICS_HANDLERS,
            ..serve::Options::default()
        };
        let router = serve::router(&farm, served);
        // Its pace is its own: nothing of it is a setting of the store. The list of peers is its own, too: one that was
        // killed a moment ago, and would be waited for, had this store for itself.
        let (name, pace) = (run::named(None)?, Pace::eager());
        let came = pace.came.clone();
        let options = worker::Options {
            peers: Provider::Static(vec![name.clone()]),
            guard: None,
            pace,
            archive: worker::Archive::Keep,
            ..worker::Options::new(name)
        };
        let worker = Worker::new(store, clock.clone(), options);

        out::print(&hello(url, address, http, grpc))?;
        let stop = CancellationToken::new();
        let signals = stopped_by_signals(&stop)?;
        let taking = batcher.beside(ears.serve(receiver, clock, &stop), &stop, || came.notify_one());
        let showing = listen::serve(pages, Speaks::Http1, router, listen::Limits::default(), clock, &stop);
        // What is in the inbox when the worker ends is indexed at the next start.
        let working = async {
            let outcome = worker.run(&stop).await;
            // By itself: then there is nothing left to receive for.
            stop.cancel();
            outcome
        };
        let ended = async { tokio::try_join!(taking, showing, working) }.await;
        drop(signals);
        match ended {
            // What failed was told, and is tried again at the next start.
            Ok(_) => Ok(Exit::Done),
            Err(report) => run::ended(report),
        }
    }
}

/// What to do with it.
fn hello(store: &str, pages: SocketAddr, http: Option<SocketAddr>, grpc: Option<SocketAddr>) -> String {
    let mut text = format!("Pages      http://{pages}/site/?live\n");
    let endpoints = [("OTLP/HTTP  ", http), ("OTLP/gRPC  ", grpc)];
    for (name, address) in endpoints {
        text.extend(address.map(|address| format!("{name}http://{address}\n")));
    }
    text.push_str(&format!("Store      {store}\n\nFor a program with an OpenTelemetry SDK:\n"));
    let (address, protocol) = match (http, grpc) {
        (Some(http), _) => (Some(http), "http/protobuf"),
        (None, grpc) => (grpc, "grpc"),
    };
    let address = address.map(|address| address.to_string()).unwrap_or_default();
    text.push_str(&format!(
        "  export OTEL_EXPORTER_OTLP_ENDPOINT=http://{address} OTEL_EXPORTER_OTLP_PROTOCOL={protocol}\n  \
         export OTEL_TRACES_EXPORTER=otlp OTEL_METRICS_EXPORTER=none OTEL_LOGS_EXPORTER=none\n"
    ));
    text
}
