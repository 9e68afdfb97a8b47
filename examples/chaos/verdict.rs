//! What must have come of it: exactly what was fed, and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::process::Command;

use serde_json::Value;
use tracefarm::clock::Clock;
use tracefarm::error::{Result, ResultExt, report};
use tracefarm::query::Reader;
use tracefarm::query::trace::{self, Lookup};
use tracefarm::store::Store;

use super::feed::{Fed, hashed};
use super::official;
use super::recording;

/// The settings' default.
const KEEP_LAST: usize = 10;

/// A handler by what people call it: service and name.
pub type Named = (String, String);

/// A handler that counts as another from now on: ids and names of both, the one that stays first.
pub type Renamed = [(String, Named); 2];

/// What is wrong; nothing, if all is well.
#[derive(Default)]
pub struct Verdict {
    pub wrong: Vec<String>,
    /// Traces that were read and compared.
    pub traces_read: u64,
}

impl Verdict {
    fn same<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: T, expected: T) {
        if found != expected {
            self.wrong.push(format!("{what}: {found:?} where {expected:?} were fed"));
        }
    }

    /// Says what differs, not what does not.
    fn same_map<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
        &mut self,
        what: &str,
        found: &BTreeMap<K, V>,
        expected: &BTreeMap<K, V>,
    ) {
        let keys: BTreeSet<&K> = found.keys().chain(expected.keys()).collect();
        for key in keys.into_iter().filter(|key| found.get(key) != expected.get(key)) {
            self.same(&format!("{what} {key:?}"), found.get(key), expected.get(key));
        }
    }

    /// `tracefarm check`, and what was fed.
    pub fn check(&mut self, check: &Value, list: &Value, renamed: Option<&Renamed>, fed: &Fed) {
        let number = |field: &str| check[field].as_u64().unwrap_or(u64::MAX);
        for violation in check["violations"].as_array().into_iter().flatten().take(20) {
            self.wrong.push(format!("check: {violation}"));
        }
        self.same("violations", number("violation_count"), 0);
        self.same("objects in the inbox", number("inbox"), 0);
        self.same("objects in quarantine (all were innocent)", number("quarantined"), 0);
        self.same("revisions", number("revisions"), 0);
        self.same("names that are none of ours", check["foreign"].as_array().map(Vec::len), Some(0));
        self.same("spans", number("spans"), fed.recent.spans);
        self.same("traces", number("traces"), fed.recent.traces.len() as u64);
        self.same("entries", number("entries"), fed.recent.entries);

        let mut names: BTreeMap<String, Named> = rows(list).map(|row| (text(row, "id"), named(row))).collect();
        names.extend(renamed.into_iter().flatten().cloned());
        let mut handlers = BTreeMap::new();
        for (id, counted) in check["handlers"].as_object().into_iter().flatten() {
            // What hit no handler is counted by its path.
            if let Some(named) = names.get(id) {
                let numbers = ["count", "errors"].map(|field| counted[field].as_u64().unwrap_or(u64::MAX));
                handlers.insert(named.clone(), <(u64, u64)>::from(numbers));
            }
        }
        self.same_map("entries and errors of", &handlers, &fed.recent.handlers);
        let not_found = check["not_found"].as_array().into_iter().flatten().map(|line| {
            let key = ["service", "method", "path"].map(|field| text(line, field));
            (<(String, String, String)>::from(key), line["count"].as_u64().unwrap_or(u64::MAX))
        });
        self.same_map("not found:", &not_found.collect(), &fed.recent.not_found);
    }

    /// The newest traces of every handler, each as it was fed. `shown`: rows of the list, and their summaries.
    pub async fn newest(
        &mut self,
        shown: &[(&Value, Value)],
        renamed: Option<&Renamed>,
        fed: &Fed,
        (store, clock): (Store, Clock),
    ) -> Result<()> {
        let reader = Reader::open(store, clock, 64 << 20).await?;
        let mut seen = BTreeSet::new();
        for (row, summary) in shown {
            let id = text(row, "id");
            let together = match renamed {
                Some(both) if both[0].0 == id => both.iter().map(|(_, named)| named.clone()).collect(),
                _ => vec![named(row)],
            };
            let is_old = together.iter().all(|handler| fed.old.handlers.contains_key(handler));
            let truth = if is_old { &fed.old } else { &fed.recent };
            let expected = truth.newest_of_all(&together, KEEP_LAST);
            let newest: Vec<String> =
                summary["newest"].as_array().into_iter().flatten().map(|entry| text(entry, "trace_id")).collect();
            self.same(&format!("the newest traces of {together:?}"), &newest, &expected);
            for id in &expected {
                let whole = !(is_old && fed.scattered.contains(id));
                self.trace(&reader, id, &truth.traces[id], whole).await?;
            }
            seen.extend(together);
        }
        let all: BTreeSet<Named> = fed.recent.handlers.keys().chain(fed.old.handlers.keys()).cloned().collect();
        self.same("handlers that are shown", &seen, &all);
        Ok(())
    }

    async fn trace(&mut self, reader: &Reader, id: &str, expected: &HashSet<Vec<u8>>, whole: bool) -> Result<()> {
        self.traces_read += 1;
        let Lookup::Found(found) = trace::find(reader, id.parse()?).await? else {
            self.wrong.push(format!("the trace {id} is not there, though it is one of its handler's newest"));
            return Ok(());
        };
        let document = serde_json::from_str(&found.otlp_json(false)?).context("read a trace")?;
        let document = official::from_json(document).map_err(|why| report!("read the trace {id}: {why}"))?;
        let found: HashSet<Vec<u8>> = recording::wholes(&document).map(|(_, whole)| hashed(&whole)).collect();
        if found.is_empty() || !found.is_subset(expected) || (whole && found.len() < expected.len()) {
            let right = found.intersection(expected).count();
            let (found, expected) = (found.len(), expected.len());
            self.wrong.push(format!("the trace {id} has {found} spans, of which {right} are right of {expected}"));
        }
        Ok(())
    }
}

/// The rows of `handlers ls`.
pub fn rows(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// What a row or a summary is of.
pub fn named(row: &Value) -> Named {
    (text(row, "service"), text(row, "name"))
}

pub fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

/// Runs a command that must succeed and print JSON.
pub fn json(mut command: Command, args: &[&str]) -> Result<Value> {
    let output = command.args(args).output().context("start tracefarm")?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(report!("tracefarm {args:?} ended with {}:\n{error}", output.status));
    }
    Ok(serde_json::from_slice(&output.stdout).context("read what it printed")?)
}
