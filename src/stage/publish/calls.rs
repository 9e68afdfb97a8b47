//! What handlers call, from the digests of compacted spans.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};

use super::document::Call;
use super::summary::CALLS;
use crate::error::{Result, ResultExt};
use crate::model::HandlerId;
use crate::query::AT_A_TIME;
use crate::query::handlers::Handlers;
use crate::store::Key;
use crate::table::digest::CallsDigest;
use crate::table::read::Blocks;
use crate::table::view::{Block, View};

/// The calls of each of `handlers`, the most frequent first. Digests of calls name the caller by its service and the name
/// of its entry span; the handlers' own digests say which names are theirs. Two handlers whose entry spans have one name
/// share its calls.
pub(super) async fn read(blocks: &Blocks, spans: &View, handlers: &Handlers) -> Result<BTreeMap<HandlerId, Vec<Call>>> {
    // A level-1 block counts for its one shard, so none comes twice; level 0 has no digest.
    let compacted: Vec<&Block> =
        spans.visible_parts().into_iter().map(|(_, block)| block).filter(|block| !block.is_level0()).collect();
    let reads = stream::iter(compacted).map(|block| async move {
        let calls = blocks.calls(&block.key, block.size_bytes).await;
        Result::<_>::Ok(calls.context_with(|| format!("read the calls of {}", Key::Block(block.key).path()))?)
    });
    let mut reads = reads.buffered(AT_A_TIME);
    let mut all = CallsDigest::default();
    while let Some(calls) = reads.try_next().await? {
        if let Some(calls) = calls {
            all.merge(&calls);
        }
    }
    Ok(by_handler(&all, handlers))
}

/// Pure.
fn by_handler(all: &CallsDigest, handlers: &Handlers) -> BTreeMap<HandlerId, Vec<Call>> {
    let mut callers: BTreeMap<(&str, &str), Vec<&HandlerId>> = BTreeMap::new();
    for (id, known) in &handlers.0 {
        for name in known.digest.span_names.keys() {
            callers.entry((&known.digest.service, name)).or_default().push(id);
        }
    }
    let mut calls: BTreeMap<HandlerId, Vec<Call>> = BTreeMap::new();
    for call in &all.calls {
        for id in callers.get(&(call.service.as_str(), call.operation.as_str())).into_iter().flatten() {
            calls.entry((*id).clone()).or_default().push(Call {
                service: call.callee.clone(),
                operation: call.callee_operation.clone(),
                count: call.count,
                errors: call.errors,
                p50_ms: call.latency.quantile(0.5).map(|ns| ns / 1e6),
                p95_ms: call.latency.quantile(0.95).map(|ns| ns / 1e6),
            });
        }
    }
    for calls in calls.values_mut() {
        let name = |call: &Call| (call.service.clone(), call.operation.clone());
        calls.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| name(a).cmp(&name(b))));
        calls.truncate(CALLS);
    }
    calls
}
