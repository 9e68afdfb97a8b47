//! The summary: what was done, what it cost, and what is wrong.

use std::fmt;

use serde::Serialize;

use super::proxy::Counts;

/// What a run came to.
#[derive(Serialize)]
pub struct News {
    pub seed: u64,
    pub store: &'static str,
    pub seconds: u64,
    /// Of the workers, in all.
    pub cpu_seconds: f64,
    pub kills: usize,
    /// Of those, soon after one had something in hand.
    pub kills_in_hand: usize,
    pub stops: usize,
    /// Of those, for more than a minute.
    pub stops_that_looked_dead: usize,
    pub resizes: usize,
    pub rolling_restarts: usize,
    /// Workers that ended well when they were told to.
    pub ended_as_asked: usize,
    /// By what happened to them; empty without a proxy.
    pub requests: Counts,
    pub objects: u64,
    /// Spans fed, and of those the old ones that expired.
    pub spans: u64,
    pub spans_old: u64,
    /// Level-0 blocks of spans that ever were, and their rows.
    pub blocks: usize,
    pub rows_indexed: u64,
    pub rows_twice_percent: f64,
    pub strikes: usize,
    pub objects_struck: usize,
    pub quarantined: u64,
    /// Newest traces of handlers that were read and compared.
    pub traces_compared: u64,
    /// From the end of the disturbances to an empty inbox.
    pub rest_seconds: u64,
    pub wrong: Vec<String>,
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: String| writeln!(f, "{name:<34}{value:>14}");
        row("seed, store", format!("{}, {}", self.seed, self.store))?;
        row("seconds, CPU of the workers", format!("{}, {:.0}", self.seconds, self.cpu_seconds))?;
        row("kills (with something in hand)", format!("{} ({})", self.kills, self.kills_in_hand))?;
        row("stops (longer than a minute)", format!("{} ({})", self.stops, self.stops_that_looked_dead))?;
        row("resizes, rolling restarts", format!("{}, {}", self.resizes, self.rolling_restarts))?;
        row("workers ended as asked", self.ended_as_asked.to_string())?;
        for (fate, count) in &self.requests {
            let fate = serde_json::to_value(fate).unwrap_or_default();
            row(&format!("requests {}", fate.as_str().unwrap_or_default()), count.to_string())?;
        }
        row("objects", self.objects.to_string())?;
        row("spans (of them old)", format!("{} ({})", self.spans, self.spans_old))?;
        row("level-0 blocks of spans", self.blocks.to_string())?;
        row("rows indexed twice", format!("{:.2} %", self.rows_twice_percent))?;
        row("strikes (objects)", format!("{} ({})", self.strikes, self.objects_struck))?;
        row("quarantined", self.quarantined.to_string())?;
        row("newest traces compared", self.traces_compared.to_string())?;
        row("seconds until the inbox was empty", self.rest_seconds.to_string())?;
        if self.wrong.is_empty() {
            return write!(f, "\nNothing was lost, and nothing is left over.");
        }
        writeln!(f, "\n{} things are wrong:", self.wrong.len())?;
        self.wrong.iter().take(40).try_for_each(|wrong| writeln!(f, "- {wrong}"))
    }
}
