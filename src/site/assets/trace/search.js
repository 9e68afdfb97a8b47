// Searching in a trace: names, services, ids, attributes, events. Words are looked for together in one span.

import { shown } from "./otlp.js";

/** @typedef {import("./otlp.js").Span} Span */
/** @typedef {import("./otlp.js").KeyValue} KeyValue */

/** How long it works before it lets the page do something else, in milliseconds. */
const SLICE = 12;

/** @type {WeakMap<Span, string>} */
const known = new WeakMap();

/**
 * The text of a span, made once.
 * @param {Span} span
 */
function textOf(span) {
  let text = known.get(span);
  if (text === undefined) {
    const { raw, resource } = span;
    const parts = [span.name, span.service, span.id, raw.status?.message ?? ""];
    pairs(parts, raw.attributes);
    for (const event of raw.events ?? []) {
      parts.push(event.name ?? "");
      pairs(parts, event.attributes);
    }
    for (const link of raw.links ?? []) parts.push(link.traceId ?? "");
    pairs(parts, resource.resource?.attributes);
    text = parts.join("\n").toLowerCase();
    known.set(span, text);
  }
  return text;
}

/**
 * @param {string[]} parts
 * @param {KeyValue[] | undefined} attributes
 */
function pairs(parts, attributes) {
  for (const { key, value } of attributes ?? []) parts.push(`${key}=${shown(value).shown}`);
}

/**
 * Whether a span has all words of a text.
 * @param {Span} span
 * @param {string[]} words in small letters
 */
export function matches(span, words) {
  const text = textOf(span);
  return words.every((word) => text.includes(word));
}

/**
 * The words of a text.
 * @param {string} text
 */
export const wordsOf = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);

/**
 * The places of the spans that have all words, in slices, so that the page stays awake.
 * @param {Span[]} spans
 * @param {string} text
 * @param {AbortSignal} signal
 * @returns {Promise<number[]>}
 */
export async function search(spans, text, signal) {
  const words = wordsOf(text);
  /** @type {number[]} */
  const found = [];
  if (words.length === 0) return found;
  let began = performance.now();
  for (const [at, span] of spans.entries()) {
    if (matches(span, words)) found.push(at);
    if (at % 64 === 63 && performance.now() - began > SLICE) {
      await new Promise((resume) => setTimeout(resume));
      signal.throwIfAborted();
      began = performance.now();
    }
  }
  return found;
}
