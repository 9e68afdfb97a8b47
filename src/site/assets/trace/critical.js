// The critical path: what a trace's duration is made of. Pure.
//
// As Jaeger's UI has it: from the end of the top backwards, at each span the child that was the last to end before what
// is on the path already; between children the span itself. To make one of these shorter is to make the trace shorter.

import { push } from "../group.js";

/** @typedef {import("./tree.js").Node} Node */

/**
 * A child that goes on beyond the start of the next one on the path, by at most this part of itself, was waited for all
 * the same: a call's span often ends a moment after its caller has gone on.
 */
const OVERLAP = 0.1;

/**
 * @param {Node[]} nodes as `treeOf` makes them
 * @returns {Map<number, [number, number][]>} for a span's place in `nodes` the parts of it that are on the path,
 *   nanoseconds since the trace's first start
 */
export function criticalPath(nodes) {
  /** @type {Map<number, [number, number][]>} */
  const path = new Map();
  const top = topOf(nodes);
  if (top < 0) return path;
  const children = lastFirst(nodes);
  const { start, duration } = /** @type {Node} */ (nodes[top]).span;
  // What is still to be walked: a span, and the window in which it counts (an asynchronous child outlives its parent).
  const stack = [{ at: top, from: start, to: start + Math.max(duration, 0) }];
  for (let next = stack.pop(); next; next = stack.pop()) {
    const { at, from } = next;
    let to = next.to;
    for (const child of children.get(at) ?? []) {
      const span = /** @type {Node} */ (nodes[child]).span;
      const childFrom = Math.max(span.start, from);
      const end = Math.min(span.start + span.duration, next.to);
      const childTo = Math.min(end, to);
      if (childTo <= childFrom || end - to > OVERLAP * (end - childFrom)) continue;
      if (childTo < to) push(path, at, [childTo, to]);
      stack.push({ at: child, from: childFrom, to: childTo });
      to = childFrom;
    }
    if (to > from) push(path, at, [from, to]);
  }
  return path;
}

/**
 * Where the path begins: the longest root, or the longest top if none has no parent.
 * @param {Node[]} nodes
 */
function topOf(nodes) {
  let best = -1;
  /** @param {Node | undefined} node */
  const weight = (node) => (node ? [node.place === "root" ? 1 : 0, node.span.duration] : [-1, 0]);
  for (const [at, node] of nodes.entries()) {
    if (node.parent >= 0) continue;
    const [a = 0, b = 0] = weight(node);
    const [c = 0, d = 0] = weight(nodes[best]);
    if (a > c || (a === c && b > d)) best = at;
  }
  return best;
}

/**
 * The children of each span, the last to end first.
 * @param {Node[]} nodes
 */
function lastFirst(nodes) {
  /** @type {Map<number, number[]>} */
  const children = new Map();
  for (const [at, node] of nodes.entries()) push(children, node.parent, at);
  const end = (/** @type {number} */ at) => {
    const span = /** @type {Node} */ (nodes[at]).span;
    return span.start + span.duration;
  };
  for (const siblings of children.values()) siblings.sort((a, b) => end(b) - end(a));
  return children;
}

/**
 * How long each span did nothing but its own work: its duration without what its children cover of it.
 * @param {Node[]} nodes
 * @param {number} at
 */
export function selfTime(nodes, at) {
  const node = /** @type {Node} */ (nodes[at]);
  const { start, duration } = node.span;
  const end = start + duration;
  const parts = [];
  for (let child = at + 1; child <= at + node.below; child++) {
    const { span, parent } = /** @type {Node} */ (nodes[child]);
    if (parent === at) parts.push([Math.max(span.start, start), Math.min(span.start + span.duration, end)]);
  }
  parts.sort(([a = 0], [b = 0]) => a - b);
  let covered = 0;
  let until = start;
  for (const [from = 0, to = 0] of parts) {
    if (to <= until) continue;
    covered += to - Math.max(from, until);
    until = to;
  }
  return Math.max(0, duration - covered);
}
