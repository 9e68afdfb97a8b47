//! Which service calls which, from the digests of calls in compacted blocks of spans.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use futures::{StreamExt, TryStreamExt, stream};

use super::{AT_A_TIME, Reader, relisted};
use crate::error::{Result, ResultExt};
use crate::handler::id::shown_service;
use crate::model::{Hour, Table};
use crate::store::Key;
use crate::table::digest::CallsDigest;
use crate::table::view::{Block, Scope};

/// Calls of one service by another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// Who calls.
    pub caller: String,
    /// Who is called.
    pub callee: String,
    /// How often.
    pub calls: u64,
}

/// The dependencies in `hours`, by caller and callee. What has not been compacted yet (the newest minutes) is not
/// counted: a trace's spans are together only after that.
///
/// # Errors
/// Those of the store, and of damaged blocks.
pub async fn between(reader: &Reader, hours: RangeInclusive<Hour>) -> Result<Vec<Dependency>> {
    relisted(|| once(reader, hours.clone())).await
}

async fn once(reader: &Reader, hours: RangeInclusive<Hour>) -> Result<Vec<Dependency>> {
    let grace = reader.settings.grace.0;
    let spans = reader.view(&Scope::all(Table::Spans, grace).within(hours.clone())).await?;
    // A level-1 block counts for its one shard, so none comes twice; level 0 has no digest.
    let compacted: Vec<&Block> =
        spans.visible_parts().into_iter().map(|(_, block)| block).filter(|block| !block.is_level0()).collect();
    let reads = stream::iter(compacted).map(|block| async move {
        let calls = reader.blocks.calls(&block.key, block.size_bytes).await;
        Result::<_>::Ok(calls.context_with(|| format!("read the calls of {}", Key::Block(block.key).path()))?)
    });
    let mut reads = reads.buffered(AT_A_TIME);
    let mut all = CallsDigest::default();
    while let Some(calls) = reads.try_next().await? {
        calls.iter().for_each(|calls| all.merge(calls));
    }
    // Databases are called, too, but send no spans: only what has entries is a service.
    let entries = reader.view(&Scope::all(Table::Entries, grace).within(hours)).await?;
    let digests = super::handlers::digests(&reader.blocks, &entries, |_| true, |_| true).await?;
    let services: BTreeSet<&str> = digests.values().map(|digest| digest.service.as_str()).collect();
    Ok(joined(&all, &services))
}

/// Pure.
fn joined(calls: &CallsDigest, services: &BTreeSet<&str>) -> Vec<Dependency> {
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let between_services =
        calls.calls.iter().filter(|call| call.service != call.callee && services.contains(call.callee.as_str()));
    for call in between_services {
        *counts.entry((shown_service(&call.service), &call.callee)).or_default() += call.count;
    }
    let dependency = |((caller, callee), calls): ((&str, &str), u64)| Dependency {
        caller: caller.to_owned(),
        callee: callee.to_owned(),
        calls,
    };
    counts.into_iter().map(dependency).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::digest::{Call, Latency};

    #[test]
    fn operations_are_summed_up_and_databases_are_no_services() {
        let call = |service: &str, callee: &str, count| Call {
            service: service.to_owned(),
            operation: "a".to_owned(),
            callee: callee.to_owned(),
            callee_operation: format!("b{count}"),
            count,
            errors: 0,
            latency: Latency::default(),
        };
        let calls =
            vec![call("web", "api", 2), call("web", "api", 3), call("api", "postgresql", 9), call("api", "api", 4)];
        let joined = joined(&CallsDigest { calls, dropped: 0 }, &["web", "api"].into());
        assert_eq!(joined, [Dependency { caller: "web".to_owned(), callee: "api".to_owned(), calls: 5 }]);
    }
}
