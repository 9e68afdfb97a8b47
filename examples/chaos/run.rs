//! One run: everything at once, then rest, then the verdict.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tracefarm::clock::Clock;
use tracefarm::error::{Result, ResultExt, report};
use tracefarm::farm::heartbeat::{FRESH, Heartbeat};
use tracefarm::store::{OpenOptions, Prefix, Store};
use tracefarm::table::read::Blocks;
use tracefarm::task;

use super::copies::Recording;
use super::farm::{Farm, State};
use super::feed::{Fed, Feed, OLD_PREFIX};
use super::news::News;
use super::plan::{self, What};
use super::proxy::Proxy;
use super::tally::{Seen, Tally};
use super::verdict::{Renamed, Verdict, json, named, rows, text};
use super::{Args, Kind, progress};

/// How often the workers are looked after.
const TICK: Duration = Duration::from_millis(50);
/// A kill that waits for somebody to have something in hand waits no longer.
const AIMS_FOR: Duration = Duration::from_secs(10);
/// How often it is looked whether there are handlers that can be renamed.
const TRIES_EVERY: Duration = Duration::from_secs(3);
/// How many workers are left when it comes to rest.
const LEFT: usize = 2;

/// Settings with which the store begins.
const SETTINGS: [&str; 5] = ["settle=1s", "settle_growing=1s", "shards=2", "batch_bytes=1MiB", "publish_every=10s"];

/// What is under way.
struct Chaos {
    clock: Clock,
    store: Store,
    farm: Farm,
    /// Workers that take another's place: when, under which name.
    starts: Vec<(Duration, Option<String>)>,
    /// Kills that wait for something in hand: until when, how long after, and what is then.
    aims: Vec<Aim>,
    /// Names of those that are still to be started again.
    rolling: Vec<String>,
    /// Which handler is to be renamed, and when to look whether there is one.
    rename: Option<(usize, Duration)>,
    renamed: Option<Renamed>,
    done: Done,
}

struct Aim {
    until: Duration,
    after: Duration,
    away: Duration,
    same_name: bool,
    /// Its victim, and when.
    at: Option<(String, Duration)>,
}

#[derive(Default)]
struct Done {
    kills_in_hand: usize,
    stops: usize,
    stops_that_looked_dead: usize,
    resizes: usize,
    rolling_restarts: usize,
}

/// Runs it all.
pub async fn run(args: &Args, clock: Clock) -> Result<News> {
    let temporary = tempfile::Builder::new().prefix("tracefarm-chaos.").tempdir().context("make a folder")?;
    let folder = args.folder.clone().unwrap_or_else(|| temporary.path().to_owned());
    let logs = folder.join("logs");
    std::fs::create_dir_all(&logs).context("make a folder for the logs")?;
    let (url, environment, proxy) = place(args, &folder, &clock).await?;
    let store = Store::open(&url, &OpenOptions::default(), clock.clone()).await?;
    let program = match &args.program {
        Some(program) => program.clone(),
        None => beside_me()?,
    };
    let farm = Farm::new(program, url, environment, logs);
    let grace = format!("grace={}s", args.grace().as_secs());
    let set: Vec<&str> = ["settings", "set", &grace].into_iter().chain(SETTINGS).chain(["-o", "json"]).collect();
    json(farm.command(), &set)?;

    let (fed, seen) = (Arc::<Mutex<Fed>>::default(), Arc::<Mutex<Seen>>::default());
    let feed = Feed {
        store: store.clone(),
        clock: clock.clone(),
        recording: Recording::read(&args.recording),
        seed: args.seed,
        object_spans: args.object_spans,
        rate: args.rate,
        fed: fed.clone(),
    };
    let tally = || Tally { store: store.clone(), clock: clock.clone(), seen: seen.clone() };
    let began = clock.monotonic();
    let feeding = task::spawn(feed.run(args.time));
    let tallying = task::spawn(tally().run());
    let mut chaos = Chaos {
        clock: clock.clone(),
        store: store.clone(),
        farm,
        starts: Vec::new(),
        aims: Vec::new(),
        rolling: Vec::new(),
        rename: None,
        renamed: None,
        done: Done::default(),
    };
    chaos.disturb(args, &fed, began).await?;
    feeding.join().await?;
    let rest_began = clock.monotonic();
    let mut verdict = Verdict::default();
    chaos.rest(args.rest, &mut verdict).await?;
    let rest_seconds = (clock.monotonic() - rest_began).as_secs();
    chaos.end().await?;
    drop(tallying);
    tally().look(&Blocks::new(store.clone(), 1 << 20)).await?;
    let cpu_seconds = children_cpu_seconds()?;
    let seconds = (clock.monotonic() - began).as_secs();

    let fed = std::mem::take(&mut *fed.lock().unwrap_or_else(PoisonError::into_inner));
    let check = chaos.judge(&fed, &mut verdict).await?;
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let (blocks, rows_indexed) = seen.indexed();
    let twice = rows_indexed as f64 / fed.spans() as f64 * 100.0 - 100.0;
    if twice > args.twice {
        verdict.wrong.push(format!("{twice:.2} % of the rows were indexed twice, more than {} %", args.twice));
    }
    let (strikes, objects_struck) = seen.strikes();
    let Chaos { farm, done, .. } = &mut chaos;
    verdict.wrong.append(&mut farm.ended.otherwise);
    if !verdict.wrong.is_empty() {
        let kept = if args.folder.is_some() { folder } else { temporary.keep() };
        eprintln!("chaos: the logs are in {}", kept.display());
    }
    Ok(News {
        seed: args.seed,
        store: if args.store == Kind::Local { "local" } else { "s3" },
        seconds,
        cpu_seconds,
        kills: farm.ended.killed,
        kills_in_hand: done.kills_in_hand,
        stops: done.stops,
        stops_that_looked_dead: done.stops_that_looked_dead,
        resizes: done.resizes,
        rolling_restarts: done.rolling_restarts,
        ended_as_asked: farm.ended.asked,
        requests: proxy.map(|proxy| proxy.counts()).unwrap_or_default(),
        objects: fed.objects,
        spans: fed.spans(),
        spans_old: fed.old.spans,
        blocks,
        rows_indexed,
        rows_twice_percent: twice,
        strikes,
        objects_struck,
        quarantined: check["quarantined"].as_u64().unwrap_or_default(),
        traces_compared: verdict.traces_read,
        rest_seconds,
        wrong: verdict.wrong,
    })
}

/// The store's URL, what workers find in their environment, and the network between them.
async fn place(args: &Args, folder: &Path, clock: &Clock) -> Result<(String, Vec<(String, String)>, Option<Proxy>)> {
    if args.store == Kind::Local {
        let store = folder.join("store");
        std::fs::create_dir_all(&store).context("make the store's folder")?;
        return Ok((store.display().to_string(), Vec::new(), None));
    }
    let variable = |name: &str| std::env::var(name).context_with(|| format!("read {name}: run this by scripts/chaos"));
    let servers = variable("TRACEFARM_SERVERS")?;
    let bucket = servers.split_whitespace().find(|url| url.starts_with("s3://"));
    let bucket = bucket.ok_or_else(|| report!("no S3 server among {servers}"))?;
    let server = variable("AWS_ENDPOINT_URL")?;
    let host = server.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let proxy = Proxy::start(host, args.seed, clock.clone()).await?;
    let environment = vec![("AWS_ENDPOINT_URL".to_owned(), format!("http://{}", proxy.address))];
    Ok((format!("{bucket}/chaos-{}", clock.ulid()), environment, Some(proxy)))
}

/// `target/<profile>/tracefarm`, of `target/<profile>/examples/chaos`.
fn beside_me() -> Result<PathBuf> {
    let me = std::env::current_exe().context("find this program")?;
    let folder = me.parent().and_then(Path::parent).ok_or_else(|| report!("this program is in no folder"))?;
    Ok(folder.join("tracefarm"))
}

/// Of all processes that were waited for (Linux).
fn children_cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("read /proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    // cutime and cstime are the 16th and 17th, the first two of which are gone; a tick is 10 ms everywhere.
    Ok((ticks(13) + ticks(14)) / 100.0)
}

impl Chaos {
    /// What the plan says, until its time is over.
    async fn disturb(&mut self, args: &Args, fed: &Mutex<Fed>, began: Duration) -> Result<()> {
        let mut plan = plan::plan(&args.terms()).into_iter().peekable();
        let mut told = Duration::ZERO;
        for _ in 0..args.workers {
            self.farm.start(None).context("start a worker")?;
        }
        loop {
            let now = self.clock.monotonic();
            if now - began >= args.time && plan.peek().is_none() {
                return Ok(());
            }
            while let Some((_, what)) = plan.next_if(|(at, _)| began + *at <= now) {
                self.disturbance(what, now)?;
            }
            self.tick(now).await?;
            let spans = fed.lock().unwrap_or_else(PoisonError::into_inner).spans();
            let line = format!(
                "{:>5} s  {} workers, {} killed, {} stops, {} resizes, {spans} spans",
                (now - began).as_secs(),
                self.farm.living(),
                self.farm.ended.killed,
                self.done.stops,
                self.done.resizes,
            );
            progress(&line, &mut told, now);
            self.clock.sleep(TICK).await;
        }
    }

    fn disturbance(&mut self, what: What, now: Duration) -> Result<()> {
        match what {
            What::Kill { aimed: Some(after), away, same_name, .. } => {
                self.aims.push(Aim { until: now + AIMS_FOR, after, away, same_name, at: None });
            }
            What::Kill { which, away, same_name, .. } => match self.farm.working(which) {
                Some(at) => self.kill(at, now + away, same_name),
                // All are gone, or stand still.
                None => self.aims.push(Aim { until: now + AIMS_FOR, after: Duration::ZERO, away, same_name, at: None }),
            },
            What::Stop { which, pause } => {
                if let Some(at) = self.farm.working(which) {
                    self.farm.stop(at, now + pause);
                    self.done.stops += 1;
                    self.done.stops_that_looked_dead += usize::from(pause > FRESH);
                }
            }
            What::Add => {
                self.farm.start(None).context("start a worker")?;
                self.done.resizes += 1;
            }
            What::Remove { which } => {
                if let Some(at) = self.farm.working(which) {
                    self.farm.tell(at, now);
                    self.done.resizes += 1;
                }
            }
            What::Roll => {
                let working = self.farm.workers.iter().filter(|worker| worker.state == State::Works);
                self.rolling = working.map(|worker| worker.name.clone()).collect();
                self.done.rolling_restarts += 1;
            }
            What::Set(setting) => drop(json(self.farm.command(), &["settings", "set", setting, "-o", "json"])?),
            What::Rename { which } => self.rename = Some((which, now)),
        }
        Ok(())
    }

    fn kill(&mut self, at: usize, back: Duration, same_name: bool) {
        let name = self.farm.workers[at].name.clone();
        self.farm.kill(at);
        self.starts.push((back, same_name.then_some(name)));
    }

    /// What goes on all the time.
    async fn tick(&mut self, now: Duration) -> Result<()> {
        for (name, state) in self.farm.look(now) {
            // Of one that was killed the place is taken otherwise.
            if self.rolling.first() == Some(&name) && matches!(state, State::Told(_)) {
                self.rolling.remove(0);
                self.starts.push((now, Some(name)));
            }
        }
        for (_, name) in self.starts.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>() {
            self.farm.start(name).context("start a worker")?;
        }
        if let Some(name) = self.rolling.first() {
            match self.farm.workers.iter().position(|worker| worker.name == *name) {
                Some(at) if self.farm.workers[at].state == State::Works => self.farm.tell(at, now),
                // It stands still, or has been told.
                Some(_) => {}
                // It has been killed in the meantime.
                None => drop(self.rolling.remove(0)),
            }
        }
        self.aim(now).await?;
        if let Some((which, _)) = self.rename.take_if(|(_, at)| *at <= now) {
            self.renamed = self.try_rename(which)?;
            self.rename = self.renamed.is_none().then_some((which, now + TRIES_EVERY));
        }
        Ok(())
    }

    /// Kills whoever has something in hand, where a kill waits for that.
    async fn aim(&mut self, now: Duration) -> Result<()> {
        if self.aims.iter().any(|aim| aim.at.is_none()) {
            let busy = self.busy().await?;
            for (aim, name) in self.aims.iter_mut().filter(|aim| aim.at.is_none()).zip(busy) {
                aim.at = Some((name, now + aim.after));
            }
        }
        let somebody = self.farm.working(0).is_some();
        let is_due = |aim: &mut Aim| somebody && aim.at.as_ref().map_or(aim.until, |(_, at)| *at) <= now;
        for aim in self.aims.extract_if(.., is_due).collect::<Vec<_>>() {
            let named = |name: &String| {
                let is_it = |worker: &super::farm::Worker| worker.name == *name && worker.state == State::Works;
                self.farm.workers.iter().position(is_it)
            };
            let victim = aim.at.as_ref().and_then(|(name, _)| named(name));
            self.done.kills_in_hand += usize::from(victim.is_some());
            if let Some(at) = victim.or_else(|| self.farm.working(0)) {
                self.kill(at, now + aim.away, aim.same_name);
            }
        }
        Ok(())
    }

    /// Names of workers that say in their heartbeats that they have something in hand.
    async fn busy(&self) -> Result<Vec<String>> {
        let mut busy = Vec::new();
        for object in self.store.list(&Prefix::Workers).await?.objects {
            // It may have been removed since, or be half of a newer one.
            let Ok((body, _)) = self.store.get(&object.key).await else { continue };
            let Ok(says) = serde_json::from_slice::<Heartbeat>(&body) else { continue };
            let works =
                |name: &str| self.farm.workers.iter().any(|worker| worker.name == name && worker.state == State::Works);
            if !says.in_hand.is_empty() && works(says.name.as_str()) {
                busy.push(says.name.to_string());
            }
        }
        Ok(busy)
    }

    /// Renames a handler, if there are two.
    fn try_rename(&self, which: usize) -> Result<Option<Renamed>> {
        let list = json(self.farm.command(), &["handlers", "ls", "-o", "json"])?;
        let fits = |row: &&Value| !text(row, "service").starts_with(OLD_PREFIX);
        let handlers: Vec<_> = rows(&list).filter(fits).map(|row| (text(row, "id"), named(row))).collect();
        if handlers.len() < 2 {
            return Ok(None);
        }
        let both = [handlers[which % handlers.len()].clone(), handlers[(which + 1) % handlers.len()].clone()];
        json(self.farm.command(), &["handlers", "rename", &both[0].0, &both[1].0, "-o", "json"])?;
        Ok(Some(both))
    }

    /// Nothing happens any more: a few workers are left, and must empty the inbox by themselves.
    async fn rest(&mut self, within: Duration, verdict: &mut Verdict) -> Result<()> {
        let began = self.clock.monotonic();
        let mut told = Duration::ZERO;
        (self.rolling, self.aims) = (Vec::new(), Vec::new());
        loop {
            let now = self.clock.monotonic();
            self.tick(now).await?;
            let is_settled = self.starts.is_empty() && self.rename.is_none() && self.stands().is_none();
            if is_settled && self.farm.living() > LEFT {
                let at = self.farm.working(0).unwrap_or_default();
                self.farm.tell(at, now);
            }
            if is_settled && self.farm.living() < LEFT {
                self.farm.start(None).context("start a worker")?;
            }
            let left = self.store.list(&Prefix::Inbox).await?.objects;
            if is_settled && left.is_empty() && self.farm.workers.len() <= LEFT {
                return Ok(());
            }
            if now - began > within {
                let some: Vec<String> = left.iter().take(5).map(|object| object.key.path()).collect();
                verdict.wrong.push(format!("{} objects stay in the inbox: {some:?} …", left.len()));
                return Ok(());
            }
            let line = format!("rest: {} workers, {} objects in the inbox", self.farm.living(), left.len());
            progress(&line, &mut told, now);
            self.clock.sleep(TICK * 10).await;
        }
    }

    fn stands(&self) -> Option<&super::farm::Worker> {
        self.farm.workers.iter().find(|worker| matches!(worker.state, State::Stands(_)))
    }

    /// The last workers end; the dead have been dead for a minute.
    async fn end(&mut self) -> Result<()> {
        while !self.farm.workers.is_empty() {
            let now = self.clock.monotonic();
            while let Some(at) = self.farm.working(0) {
                self.farm.tell(at, now);
            }
            self.farm.look(now);
            self.clock.sleep(TICK).await;
        }
        loop {
            let listed = self.store.list(&Prefix::Workers).await?;
            let is_alive = |at: jiff::Timestamp| listed.began.duration_since(at).unsigned_abs() <= FRESH;
            if !listed.objects.iter().any(|object| is_alive(object.modified)) {
                return Ok(());
            }
            self.clock.sleep(Duration::from_secs(1)).await;
        }
    }

    /// Does what is left, and looks; what `check` said.
    async fn judge(&self, fed: &Fed, verdict: &mut Verdict) -> Result<Value> {
        let command = |args: &[&str]| json(self.farm.command(), args);
        command(&["run", "--once", "--grace", "0s", "--yes", "-o", "json"])?;
        let check = command(&["check", "-o", "json"])?;
        let list = command(&["handlers", "ls", "-o", "json"])?;
        verdict.check(&check, &list, self.renamed.as_ref(), fed);
        let mut shown = Vec::new();
        for row in rows(&list) {
            shown.push((row, command(&["handlers", "show", &text(row, "id"), "-o", "json"])?));
        }
        let place = (self.store.clone(), self.clock.clone());
        verdict.newest(&shown, self.renamed.as_ref(), fed, place).await?;
        Ok(check)
    }
}
