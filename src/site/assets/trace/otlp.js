// OTLP/JSON into spans: one a span id, newest revision first. Pure.
//
// Times are nanoseconds since 1970 as text, too large for a number; a span has them as they were sent, and beside them
// numbers of nanoseconds since the trace's first start.

import { grouped } from "../group.js";

/**
 * @typedef {{ stringValue?: string, boolValue?: boolean, intValue?: string | number, doubleValue?: number | string,
 *   bytesValue?: string, arrayValue?: { values?: AnyValue[] }, kvlistValue?: { values?: KeyValue[] } }} AnyValue
 * @typedef {{ key: string, value?: AnyValue }} KeyValue
 * @typedef {{ timeUnixNano?: string, name?: string, attributes?: KeyValue[], droppedAttributesCount?: number }} RawEvent
 * @typedef {{ traceId?: string, spanId?: string, traceState?: string, attributes?: KeyValue[],
 *   droppedAttributesCount?: number, flags?: number }} RawLink
 * @typedef {{ traceId: string, spanId?: string, parentSpanId?: string, traceState?: string, flags?: number, name?: string,
 *   kind?: number, startTimeUnixNano?: string, endTimeUnixNano?: string, attributes?: KeyValue[], events?: RawEvent[],
 *   links?: RawLink[], status?: { code?: number, message?: string }, droppedAttributesCount?: number,
 *   droppedEventsCount?: number, droppedLinksCount?: number }} RawSpan
 * @typedef {{ attributes?: KeyValue[], droppedAttributesCount?: number }} RawResource
 * @typedef {{ name?: string, version?: string, attributes?: KeyValue[], droppedAttributesCount?: number }} RawScope
 * @typedef {{ scope?: RawScope, schemaUrl?: string, spans?: RawSpan[] }} ScopeSpans
 * @typedef {{ resource?: RawResource, schemaUrl?: string, scopeSpans?: ScopeSpans[] }} ResourceSpans
 * @typedef {{ resourceSpans?: ResourceSpans[], tracefarm?: { received?: number[], large?: string[] } }} TracesDocument
 *
 * @typedef {object} Span
 * @property {string} id in hex
 * @property {string} parent in hex, empty if none
 * @property {string} name
 * @property {string} service
 * @property {number} kind 1 internal, 2 server, 3 client, 4 producer, 5 consumer; 0 if the span does not say
 * @property {bigint} startNs since 1970, as sent
 * @property {number} start nanoseconds since the trace's first start
 * @property {number} duration nanoseconds; negative if the span ends before it starts
 * @property {boolean} timeless it says no start
 * @property {boolean} error
 * @property {number | null} received_ms
 * @property {RawSpan} raw
 * @property {ResourceSpans} resource
 * @property {ScopeSpans} scope
 * @property {Span[]} older revisions of it, the newest first
 *
 * @typedef {object} Trace
 * @property {string} id
 * @property {Span[]} spans one a span, by start
 * @property {bigint} startNs the first start
 * @property {number} duration from the first start to the last end, nanoseconds
 */

/** The names of the kinds. */
export const KINDS = ["unspecified", "internal", "server", "client", "producer", "consumer"];

/**
 * The trace `id` in a document, which may hold others; null if it is not in it.
 * @param {TracesDocument} document
 * @param {string} id
 * @returns {Trace | null}
 */
export function traceOf(document, id) {
  const all = spansOf(document, id);
  if (all.length === 0) return null;
  const spans = newestOf(all);
  const dated = spans.filter((span) => !span.timeless);
  const startNs = dated.reduce((first, span) => (span.startNs < first ? span.startNs : first), dated[0]?.startNs ?? 0n);
  for (const span of all) span.start = span.timeless ? 0 : Number(span.startNs - startNs);
  spans.sort((a, b) => a.start - b.start || (a.id < b.id ? -1 : a.id > b.id ? 1 : a.kind - b.kind));
  const duration = spans.reduce((last, span) => Math.max(last, span.start + span.duration), 0);
  return { id, spans, startNs, duration };
}

/**
 * @param {TracesDocument} document
 * @param {string} id
 */
function spansOf(document, id) {
  /** @type {Span[]} */
  const spans = [];
  const received = document.tracefarm?.received;
  let at = 0;
  for (const resource of document.resourceSpans ?? []) {
    const service = text(resource.resource?.attributes, "service.name");
    for (const scope of resource.scopeSpans ?? []) {
      for (const raw of scope.spans ?? []) {
        const received_ms = received?.[at++] ?? null;
        if (raw.traceId !== id) continue;
        const [startNs, endNs] = [nanoseconds(raw.startTimeUnixNano), nanoseconds(raw.endTimeUnixNano)];
        spans.push({
          id: raw.spanId ?? "",
          parent: /^0*$/.test(raw.parentSpanId ?? "") ? "" : (raw.parentSpanId ?? ""),
          name: raw.name ?? "",
          service,
          kind: raw.kind ?? 0,
          startNs,
          start: 0,
          // One that has not ended, or says no start, lasts for nothing.
          duration: startNs === 0n || endNs === 0n ? 0 : Number(endNs - startNs),
          timeless: startNs === 0n,
          error: raw.status?.code === 2,
          received_ms,
          raw,
          resource,
          scope,
          older: [],
        });
      }
    }
  }
  return spans;
}

/**
 * The newest revision of each span, with the older ones in it. A server's and a client's span may share an id (Zipkin).
 * @param {Span[]} spans in the document's order
 */
function newestOf(spans) {
  const revisions = grouped(spans, (span) => `${span.id}${span.kind === 2 ? "s" : ""}`);
  return [...revisions.values()].map((all) => {
    // Of two received at once the later one in the document.
    all.reverse().sort((a, b) => (b.received_ms ?? 0) - (a.received_ms ?? 0));
    const [newest, ...older] = all;
    const span = /** @type {Span} */ (newest);
    span.older = older;
    return span;
  });
}

/**
 * The trace as one OTLP/JSON document: each span as it was sent, without older revisions and other traces.
 * @param {Trace} trace
 * @returns {TracesDocument}
 */
export function otlpOf(trace) {
  const resourceSpans = [...grouped(trace.spans, (span) => span.resource)].map(([resource, spans]) => ({
    ...resource,
    scopeSpans: [...grouped(spans, (span) => span.scope)].map(([scope, those]) => ({
      ...scope,
      spans: those.map((span) => span.raw),
    })),
  }));
  return { resourceSpans };
}

/**
 * An attribute's text, empty if there is none or it is no text.
 * @param {KeyValue[] | undefined} attributes
 * @param {string} key
 */
export function text(attributes, key) {
  return attributes?.find((attribute) => attribute.key === key)?.value?.stringValue ?? "";
}

/**
 * A value as people read it, and its type if it is not text.
 * @param {AnyValue | undefined} value
 * @returns {{ shown: string, type: string }}
 */
export function shown(value) {
  if (value?.stringValue !== undefined) return { shown: value.stringValue, type: "" };
  if (value?.boolValue !== undefined) return { shown: String(value.boolValue), type: "bool" };
  if (value?.intValue !== undefined) return { shown: String(value.intValue), type: "int" };
  if (value?.doubleValue !== undefined) return { shown: String(value.doubleValue), type: "double" };
  if (value?.bytesValue !== undefined) return { shown: value.bytesValue, type: "bytes, base64" };
  if (value?.arrayValue !== undefined) {
    return { shown: `[${(value.arrayValue.values ?? []).map(within).join(", ")}]`, type: "array" };
  }
  if (value?.kvlistValue !== undefined) {
    const pairs = (value.kvlistValue.values ?? []).map((pair) => `${JSON.stringify(pair.key)}: ${within(pair.value)}`);
    return { shown: `{${pairs.join(", ")}}`, type: "map" };
  }
  return { shown: "", type: "no value" };
}

/** @param {AnyValue | undefined} value @returns {string} */
function within(value) {
  if (value?.stringValue !== undefined) return JSON.stringify(value.stringValue);
  const { shown: text, type } = shown(value);
  return type === "no value" ? "null" : text;
}

/** @param {string | number | undefined} value */
function nanoseconds(value) {
  try {
    return BigInt(value ?? 0);
  } catch {
    return 0n;
  }
}
