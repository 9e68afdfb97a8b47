//! A trace as a tree of spans: parents, orphans, cycles.

use std::collections::HashMap;

use arrow::record_batch::RecordBatch;
use serde::Serialize;

use crate::error::Result;
use crate::model::SpanId;
use crate::query::columns::Spans;

/// A span in its place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Node {
    /// The span's id, in hex.
    pub span_id: String,
    /// How deep it lies below the top: 0 is a top.
    pub depth: usize,
    /// Why it is a top, or where it hangs.
    pub place: Place,
    /// `service.name`, empty if none.
    pub service: String,
    /// The span's name.
    pub name: String,
    /// SpanKind: 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    pub kind: i32,
    /// Nanoseconds since 1970, as sent.
    pub start: u64,
    /// Nanoseconds; negative if the span ends before it starts.
    pub duration_ns: i64,
    /// Nanoseconds after the trace's first start.
    pub offset_ns: i64,
    /// Whether its status is an error.
    pub error: bool,
    /// The status message, empty if none.
    pub status_message: String,
    /// The HTTP status.
    pub http_status: Option<i32>,
}

/// How a span hangs in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// It has no parent.
    Root,
    /// It hangs below its parent.
    Child,
    /// It names a parent that is not in the trace.
    Orphan,
    /// Its parents lead back to itself; it is shown as a top so that it is shown at all.
    Cycle,
}

/// A trace's spans, each below its parent, siblings by start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Tree {
    /// Depth first.
    pub nodes: Vec<Node>,
    /// The first start, nanoseconds since 1970.
    pub start: u64,
    /// From the first start to the last end, nanoseconds.
    pub duration_ns: i64,
}

impl Tree {
    /// The tree of `rows`: one row a span of one trace.
    ///
    /// A parent is looked for by its id. In Zipkin-style traces a client's and a server's span share one: the server's
    /// span then hangs below the client's, and what names the id as parent below the server's.
    pub fn of(rows: &RecordBatch) -> Result<Self> {
        let spans = Spans::of(rows)?;
        let mut order: Vec<usize> = (0..spans.len()).collect();
        order.sort_by_key(|row| (spans.start(*row), spans.span(*row), spans.kind(*row)));

        let mut by_id: HashMap<SpanId, Vec<usize>> = HashMap::new();
        for row in &order {
            by_id.entry(spans.span(*row)).or_default().push(*row);
        }
        let is_server = |row: usize| spans.kind(row) == 2;
        let parents: Vec<Option<usize>> = (0..spans.len())
            .map(|row| {
                let twin = by_id.get(&spans.span(row)).and_then(|rows| rows.iter().find(|other| **other != row));
                if let Some(twin) = twin
                    && is_server(row)
                    && !is_server(*twin)
                {
                    return Some(*twin);
                }
                let candidates = by_id.get(&spans.parent(row)?)?;
                let server = candidates.iter().find(|candidate| is_server(**candidate) && **candidate != row);
                server.or_else(|| candidates.first()).copied()
            })
            .collect();
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); spans.len()];
        let mut tops = Vec::new();
        for row in &order {
            match parents[*row] {
                Some(parent) if parent != *row => children[parent].push(*row),
                Some(_) => {}
                None => tops.push(*row),
            }
        }
        let start = order.first().map_or(0, |row| spans.start(*row));
        let mut tree = Self { nodes: Vec::with_capacity(spans.len()), start, duration_ns: 0 };
        let mut seen = vec![false; spans.len()];
        for row in tops {
            let place = if spans.parent(row).is_some() { Place::Orphan } else { Place::Root };
            tree.grow(&spans, &children, &mut seen, row, place);
        }
        // Whatever no top leads to hangs in a cycle: its first span is made a top.
        for row in order {
            if !seen[row] {
                tree.grow(&spans, &children, &mut seen, row, Place::Cycle);
            }
        }
        let end = |node: &Node| node.offset_ns.saturating_add(node.duration_ns);
        tree.duration_ns = tree.nodes.iter().map(end).max().unwrap_or(0).max(0);
        Ok(tree)
    }

    /// Adds `top` and what hangs below it, without recursion: a trace may be 20,000 spans deep.
    fn grow(&mut self, spans: &Spans<'_>, children: &[Vec<usize>], seen: &mut [bool], top: usize, place: Place) {
        let mut stack = vec![(top, 0, place)];
        while let Some((row, depth, place)) = stack.pop() {
            if std::mem::replace(&mut seen[row], true) {
                continue;
            }
            self.nodes.push(Node {
                span_id: spans.span(row).to_string(),
                depth,
                place,
                service: spans.service.or_empty(row).to_owned(),
                name: spans.name.or_empty(row).to_owned(),
                kind: spans.kind(row),
                start: spans.start(row),
                duration_ns: spans.duration(row),
                offset_ns: spans.start(row).wrapping_sub(self.start) as i64,
                error: spans.status(row) == 2,
                status_message: spans.status_message.or_empty(row).to_owned(),
                http_status: spans.http_status(row),
            });
            stack.extend(children[row].iter().rev().map(|child| (*child, depth + 1, Place::Child)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::testing::{self, Span};

    fn shape(spans: &[Span]) -> Vec<(String, usize, Place)> {
        let tree = Tree::of(&testing::rows(spans)).unwrap();
        tree.nodes.into_iter().map(|node| (node.name, node.depth, node.place)).collect()
    }

    fn at(name: &str, depth: usize, place: Place) -> (String, usize, Place) {
        (name.to_owned(), depth, place)
    }

    #[test]
    fn spans_hang_below_their_parents_in_order_of_start() {
        let spans = [
            Span::new(1, 0, "root").at(10),
            Span::new(2, 1, "second").at(30),
            Span::new(3, 1, "first").at(20),
            Span::new(4, 3, "below first").at(25),
        ];
        let shown = shape(&spans);
        assert_eq!(
            shown,
            [
                at("root", 0, Place::Root),
                at("first", 1, Place::Child),
                at("below first", 2, Place::Child),
                at("second", 1, Place::Child),
            ]
        );
    }

    #[test]
    fn orphans_and_cycles_are_shown_and_each_span_once() {
        let spans = [
            Span::new(1, 9, "orphan").at(10),
            Span::new(2, 3, "round").at(20),
            Span::new(3, 2, "and round").at(30),
            Span::new(4, 4, "own parent").at(40),
        ];
        assert_eq!(
            shape(&spans),
            [
                at("orphan", 0, Place::Orphan),
                at("round", 0, Place::Cycle),
                at("and round", 1, Place::Child),
                at("own parent", 0, Place::Cycle),
            ]
        );
    }

    #[test]
    fn a_server_span_that_shares_its_clients_id_hangs_below_it() {
        let spans = [
            Span::new(1, 0, "client").at(10).kind(3),
            Span::new(1, 0, "server").at(11).kind(2),
            Span::new(2, 1, "inside").at(12),
        ];
        assert_eq!(
            shape(&spans),
            [at("client", 0, Place::Root), at("server", 1, Place::Child), at("inside", 2, Place::Child),]
        );
    }

    #[test]
    fn a_chain_of_twenty_thousand_spans_is_no_problem() {
        let spans: Vec<Span> = (1..=20_000).map(|n| Span::new(n, n - 1, "link").at(n)).collect();
        assert_eq!(shape(&spans).last().unwrap().1, 19_999);
    }
}
