// A trace as a tree of spans: parents, orphans, cycles. Pure; the same tree as `tracefarm get` prints.

import { grouped, push } from "../group.js";

/** @typedef {import("./otlp.js").Span} Span */

/**
 * @typedef {"root" | "child" | "orphan" | "cycle"} Place why a span is a top, or that it hangs below its parent: an
 *   orphan names a parent that is not in the trace, of a cycle the parents lead back to itself
 * @typedef {{ span: Span, depth: number, place: Place, parent: number, below: number }} Node `parent` is its parent's
 *   place in the list, -1 of a top; `below` is how many spans hang below it, and they follow it in the list
 */

/**
 * The spans depth first, each below its parent, siblings by start.
 * @param {Span[]} spans by start
 * @returns {Node[]}
 */
export function treeOf(spans) {
  const byId = grouped(spans, (span) => span.id);
  /** @type {Map<Span, Span[]>} */
  const children = new Map();
  const tops = [];
  for (const span of spans) {
    const parent = parentOf(span, byId);
    if (parent === undefined) tops.push(span);
    else if (parent !== span) push(children, parent, span);
  }
  /** @type {Node[]} */
  const nodes = [];
  const seen = new Set();
  for (const top of tops) grow(nodes, children, seen, top, top.parent === "" ? "root" : "orphan");
  // Whatever no top leads to hangs in a cycle: its first span is made a top, so that it is shown at all.
  for (const span of spans) if (!seen.has(span)) grow(nodes, children, seen, span, "cycle");
  for (let at = nodes.length - 1; at >= 0; at--) {
    const node = /** @type {Node} */ (nodes[at]);
    const parent = nodes[node.parent];
    if (parent) parent.below += node.below + 1;
  }
  return nodes;
}

/**
 * In Zipkin-style traces a client's and a server's span share an id: the server's hangs below the client's, and what
 * names the id as its parent below the server's.
 * @param {Span} span
 * @param {Map<string, Span[]>} byId
 */
function parentOf(span, byId) {
  const twin = (byId.get(span.id) ?? []).find((other) => other !== span);
  if (twin && span.kind === 2 && twin.kind !== 2) return twin;
  if (span.parent === "") return undefined;
  const candidates = byId.get(span.parent) ?? [];
  return candidates.find((other) => other.kind === 2 && other !== span) ?? candidates[0];
}

/**
 * Adds `top` and what hangs below it, without recursion: a trace may be 20,000 spans deep.
 * @param {Node[]} nodes
 * @param {Map<Span, Span[]>} children
 * @param {Set<Span>} seen
 * @param {Span} top
 * @param {Place} place
 */
function grow(nodes, children, seen, top, place) {
  const stack = [{ span: top, depth: 0, place, parent: -1 }];
  for (let next = stack.pop(); next; next = stack.pop()) {
    if (seen.has(next.span)) continue;
    seen.add(next.span);
    const at = nodes.push({ ...next, below: 0 }) - 1;
    const depth = next.depth + 1;
    for (const span of (children.get(next.span) ?? []).toReversed()) {
      stack.push({ span, depth, place: "child", parent: at });
    }
  }
}

/**
 * Which spans are to be seen: those that no collapsed one hides.
 * @param {Node[]} nodes
 * @param {Set<number>} collapsed
 * @returns {number[]} their places in `nodes`
 */
export function visible(nodes, collapsed) {
  const rows = [];
  for (let at = 0; at < nodes.length; at++) {
    rows.push(at);
    if (collapsed.has(at)) at += nodes[at]?.below ?? 0;
  }
  return rows;
}

/**
 * How far a span lies outside of its parent, which only clocks that differ explain: it cannot have been called before its
 * parent began. A span that goes on after its parent is nothing odd.
 * @param {Node[]} nodes
 * @param {Node} node
 * @returns {number} nanoseconds before its parent's start; 0 if it is as it should be
 */
export function skew(nodes, node) {
  const parent = nodes[node.parent]?.span;
  if (!parent || parent.timeless || node.span.timeless) return 0;
  return Math.max(0, parent.start - node.span.start);
}
