//! Requests, counted.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::store::{Counts, Request, Stage, Tally};

/// Requests by stage and kind, and by folder.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    counts: BTreeMap<(Stage, Request), f64>,
    /// By folder: writes and listings, and reads, of the minute in hand, and the most that a minute had.
    folders: BTreeMap<String, Minute>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Minute {
    at: u64,
    writes: f64,
    reads: f64,
    most: [f64; 2],
}

/// How busy a prefix is in its busiest minute. S3 gives a prefix 3,500 writes and 5,500 reads a second, and splits one that
/// stays busier.
#[derive(Clone, Debug, Serialize)]
pub struct Rate {
    /// The prefix.
    pub folder: String,
    /// Writes, deletes and listings a second.
    pub writes: f64,
    /// Reads a second.
    pub reads: f64,
}

impl Asked {
    /// `many` more requests of a kind below `folder`, at a second.
    pub(super) fn add(&mut self, second: u64, stage: Stage, request: Request, folder: &str, many: f64) {
        if many <= 0.0 {
            return;
        }
        *self.counts.entry((stage, request)).or_default() += many;
        if !self.folders.contains_key(folder) {
            self.folders.insert(folder.to_owned(), Minute::default());
        }
        let Some(minute) = self.folders.get_mut(folder) else { return };
        if minute.at != second / 60 {
            *minute = Minute { at: second / 60, most: minute.most, ..Minute::default() };
        }
        match request {
            Request::Get | Request::Head => minute.reads += many,
            _ => minute.writes += many,
        }
        minute.most = [minute.most[0].max(minute.writes), minute.most[1].max(minute.reads)];
    }

    /// Of a stage and a kind.
    pub fn of(&self, stage: Stage, request: Request) -> u64 {
        self.counts.get(&(stage, request)).copied().unwrap_or_default().round() as u64
    }

    /// All of them, times `factor`, as a meter has them.
    pub fn counts(&self, factor: f64) -> Counts {
        let mut counts = Counts::default();
        for ((stage, request), many) in &self.counts {
            let tally = Tally { requests: (many * factor).round() as u64, ..Tally::default() };
            counts.0.entry(*stage).or_default().insert(*request, tally);
        }
        counts
    }

    /// The busiest prefixes, the busiest first.
    pub fn rates(&self) -> Vec<Rate> {
        let rate = |(folder, minute): (&String, &Minute)| Rate {
            folder: folder.clone(),
            writes: minute.most[0] / 60.0,
            reads: minute.most[1] / 60.0,
        };
        let mut rates: Vec<Rate> = self.folders.iter().map(rate).collect();
        rates.sort_by(|a, b| (b.reads / 5500.0 + b.writes / 3500.0).total_cmp(&(a.reads / 5500.0 + a.writes / 3500.0)));
        rates
    }
}
