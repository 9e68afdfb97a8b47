//! Logical workers: the library's own stages and loop over a simulated store.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use futures::future::{Either, select};
use jiff::{SignedDuration, Timestamp};
use tracefarm::clock::Clock;
use tracefarm::error::Result;
use tracefarm::farm::heartbeat::Heart;
use tracefarm::farm::strikes::Coroner;
use tracefarm::farm::{Settings, documents};
use tracefarm::handler::{self, Rules};
use tracefarm::otlp::redact::Redact;
use tracefarm::otlp::{Limits, ObjectDecoder, SpanRows};
use tracefarm::query::Reader;
use tracefarm::stage::{Desk, Inbox, Pace, Round, StageReport, compact, expire, forget, index, publish};
use tracefarm::store::fault::Client;
use tracefarm::store::{Stage, Store};
use tracefarm::table::read::Blocks;

use super::spans::{Form, Made, object};

/// The stages that a worker may be made to do a round of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Index,
    Compact,
    Publish,
    Expire,
    Forget,
    /// The coroner's: looks for dead workers. Not a stage of its own.
    Examine,
}

pub const STEPS: [Step; 5] = [Step::Index, Step::Compact, Step::Publish, Step::Expire, Step::Forget];

/// One life of a worker.
pub struct Boot {
    pub clock: Clock,
    pub store: Store,
    pub heart: Heart,
    pub desk: Desk,
    pub round: Round,
}

/// The store as `client` sees it. The worker's own clock may say anything; the store's time comes from the store.
pub fn store(client: &Client, clock: &Clock) -> Store {
    let bucket = client.bucket().clone();
    Store::over_with_time(
        Arc::new(client.clone()),
        "memory://simulation",
        clock.clone(),
        Arc::new(move || bucket.now()),
    )
}

impl Boot {
    /// Starts as `tracefarm run` does: a heartbeat, then settings and catalogue.
    pub async fn start(client: &Client, name: &str, clock: &Clock) -> Result<Self> {
        let store = store(client, clock);
        let heart = Heart::new(clock.clone(), name.parse().unwrap());
        heart.beat(&store).await?;
        let (_, settings) = Settings::begin(&store).await?;
        let catalogue = documents::load_newest(&store).await?;
        let desk = Desk {
            store: store.clone(),
            inbox: Inbox { store: store.clone(), keep: false },
            blocks: Blocks::new(store.clone(), 1 << 20),
            clock: clock.clone(),
            heart: heart.clone(),
            grace: settings.grace.0,
            settings: Arc::new(settings),
            settings_read: clock.monotonic(),
            catalogue: Arc::new(catalogue),
            once: false,
            memory_bytes: 64 << 20,
            file_bytes: compact::FILE_BYTES,
            many_blocks: publish::plan::MANY,
            worker: name.parse().unwrap(),
            guard: None,
            pace: Pace::default(),
        };
        let round = Round::alone(clock);
        Ok(Self { clock: clock.clone(), store, heart, desk, round })
    }

    /// Reads settings and catalogue again.
    pub async fn refresh(&mut self) -> Result<()> {
        let (_, settings) = Settings::load(&self.store).await?;
        self.desk.grace = settings.grace.0;
        self.desk.settings = Arc::new(settings);
        self.desk.catalogue = Arc::new(documents::load_newest(&self.store).await?);
        self.desk.settings_read = self.clock.monotonic();
        Ok(())
    }

    /// One round of a stage.
    pub async fn step(&self, step: Step) -> Result<StageReport> {
        let (desk, round) = (&self.desk, &self.round);
        // On the heap: a scene has dozens of these in its own future.
        match step {
            Step::Index => Box::pin(index::run(&desk.for_stage(Stage::Index), round)).await,
            Step::Compact => Box::pin(compact::run(&desk.for_stage(Stage::Compact), round)).await,
            Step::Publish => Box::pin(publish::run(&desk.for_stage(Stage::Publish), round)).await,
            Step::Expire => Box::pin(expire::run(&desk.for_stage(Stage::Expire), round)).await,
            Step::Forget => Box::pin(forget::run(&desk.for_stage(Stage::Expire), round)).await,
            Step::Examine => {
                let others = self.heart.others(&self.store).await?;
                let strikes = Coroner::default().examine(&self.desk, &others).await?;
                Ok(StageReport { done: strikes, ..StageReport::default() })
            }
        }
    }

    /// Does `work` while the heart beats.
    pub async fn while_beating<T>(&self, work: impl Future<Output = T>) -> T {
        while_beating(&self.heart, &self.store, work).await
    }
}

/// Does `work` while `heart` beats.
pub async fn while_beating<T>(heart: &Heart, store: &Store, work: impl Future<Output = T>) -> T {
    match select(pin!(work), pin!(heart.keep_beating(store))).await {
        Either::Left((done, _)) => done,
        Either::Right(((), _)) => unreachable!("a heart beats for ever"),
    }
}

/// The id of the handler that an entry span hits.
pub fn handler_id(made: &Made) -> String {
    let body = object(std::slice::from_ref(made), Form::Proto);
    let received = Timestamp::from_nanosecond(i128::from(made.end_ns)).unwrap();
    let mut decoder = ObjectDecoder::new(body.as_slice(), received, Limits::default());
    let mut rows = SpanRows::new(Redact::default());
    decoder.decode(&mut rows, usize::MAX).unwrap();
    let entries = handler::entries(&rows.finish(), &Rules::default()).unwrap();
    let ids = arrow::compute::cast(entries.column_by_name("handler").unwrap(), &arrow::datatypes::DataType::Utf8);
    ids.unwrap().as_string::<i32>().value(0).to_owned()
}

/// A runtime of one thread whose time passes only when all wait.
pub fn simulate<F: Future>(work: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(work)
}

/// Lets time pass while nobody works.
pub async fn pass(time: SignedDuration) {
    tokio::time::advance(Duration::try_from(time).unwrap()).await;
}

/// Somebody reads.
pub async fn reader(client: &Client, clock: &Clock) -> Result<Reader> {
    Reader::open(store(client, clock), clock.clone(), 1 << 20).await
}
