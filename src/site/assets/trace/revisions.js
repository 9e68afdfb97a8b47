// What differs between two revisions of a span. Pure.

import { KINDS, shown } from "./otlp.js";

/** @typedef {import("./otlp.js").Span} Span */
/** @typedef {import("./otlp.js").KeyValue} KeyValue */

/** @typedef {{ what: string, before: string | null, after: string | null }} Difference null: it is not there */

/**
 * Everything in which `after` is another than `before`, in words.
 * @param {Span} before
 * @param {Span} after
 * @returns {Difference[]}
 */
export function differences(before, after) {
  const [old, now] = [facts(before), facts(after)];
  const names = [...new Set([...old.keys(), ...now.keys()])];
  return names
    .map((what) => ({ what, before: old.get(what) ?? null, after: now.get(what) ?? null }))
    .filter((one) => one.before !== one.after);
}

/** @param {Span} span */
function facts(span) {
  const { raw } = span;
  /** @type {Map<string, string>} */
  const all = new Map();
  const set = (/** @type {string} */ name, /** @type {unknown} */ value) => {
    const text = String(value ?? "");
    if (text !== "" && text !== "0") all.set(name, text);
  };
  set("name", raw.name);
  set("kind", KINDS[raw.kind ?? 0] ?? raw.kind);
  set("parent", span.parent);
  set("start", raw.startTimeUnixNano);
  set("end", raw.endTimeUnixNano);
  set("status", ["", "ok", "error"][raw.status?.code ?? 0] ?? raw.status?.code);
  set("status message", raw.status?.message);
  set("trace state", raw.traceState);
  set("flags", raw.flags);
  set("dropped attributes", raw.droppedAttributesCount);
  set("dropped events", raw.droppedEventsCount);
  set("dropped links", raw.droppedLinksCount);
  pairs(all, "", raw.attributes);
  for (const [i, event] of (raw.events ?? []).entries())
    set(`event ${i + 1}`, words([event.name, event.timeUnixNano], event));
  for (const [i, link] of (raw.links ?? []).entries())
    set(`link ${i + 1}`, words([link.traceId, link.spanId, link.traceState], link));
  pairs(all, "resource ", span.resource.resource?.attributes);
  set("scope", `${span.scope.scope?.name ?? ""} ${span.scope.scope?.version ?? ""}`.trim());
  pairs(all, "scope ", span.scope.scope?.attributes);
  return all;
}

/** A key may stand several times. @param {Map<string, string>} all @param {string} before @param {KeyValue[]} [list] */
function pairs(all, before, list = []) {
  for (const { key, value } of list) {
    const { shown: words, type } = shown(value);
    const name = `${before}attribute ${key}`;
    const text = type ? `${words} (${type})` : words;
    const known = all.get(name);
    all.set(name, known === undefined ? text : `${known}, ${text}`);
  }
}

/** @param {(string | undefined)[]} first @param {{ attributes?: KeyValue[] }} of */
function words(first, { attributes = [] }) {
  const pairs = attributes.map(({ key, value }) => `${key}=${shown(value).shown}`);
  return [...first, ...pairs].filter(Boolean).join(" ");
}
