// One span in full: everything it was sent with.

import { copyButton } from "../clipboard.js";
import { button, el, fill } from "../dom.js";
import { counted, moment, nanos, percent, utcNanos } from "../format.js";
import { isTrace } from "../id.js";
import { address } from "../router.js";
import { selfTime } from "./critical.js";
import { KINDS, shown, text } from "./otlp.js";
import { differences } from "./revisions.js";
import { skew } from "./tree.js";

/** @typedef {import("./otlp.js").Span} Span */
/** @typedef {import("./otlp.js").Trace} Trace */
/** @typedef {import("./otlp.js").KeyValue} KeyValue */
/** @typedef {import("./otlp.js").RawEvent} RawEvent */
/** @typedef {import("./tree.js").Node} Node */
/** @typedef {import("../dom.js").Child} Child */

/** Of a longer value this much is shown until somebody asks for the rest. */
const LONG = 1_500;

const STATUS = ["unset", "ok", "error"];

/**
 * What the details of a span need to know of everything around it.
 * @typedef {object} Around
 * @property {Trace} trace
 * @property {Node[]} nodes
 * @property {Map<string, number>} colours
 * @property {string} hint the handler from which the trace was opened
 * @property {(at: number) => void} select
 * @property {() => void} close
 */

/**
 * @param {HTMLElement} pane
 * @param {Around} around
 * @param {number} at its place in the tree
 * @param {Span} [revision] an older one of it
 */
export function showDetails(pane, around, at, revision) {
  const node = /** @type {Node} */ (around.nodes[at]);
  const span = revision ?? node.span;
  const { raw } = span;
  fill(
    pane,
    heading(around, span),
    notes(around, node, span),
    revisions(pane, around, at, node.span, span),
    facts(around, at, node, span),
    raw.status?.message && el("p", { class: "status-message" }, longText(raw.status.message)),
    exceptions(raw.events ?? []),
    attributes("Attributes", raw.attributes, raw.droppedAttributesCount, true),
    events(around, raw.events ?? [], raw.droppedEventsCount ?? 0),
    links(around, span),
    attributes("Resource", span.resource.resource?.attributes, span.resource.resource?.droppedAttributesCount, false),
    scope(span),
    ids(around, node, span),
  );
  pane.scrollTop = 0;
}

/** @param {Around} around @param {Span} span */
function heading(around, span) {
  return el(
    "header",
    {},
    el(
      "p",
      { class: "service", "data-colour": around.colours.get(span.service) ?? 0 },
      span.service || "(no service name)",
    ),
    el("h2", { id: "span-name" }, span.name || "(no name)"),
    button({ class: "icon close", title: "Close (Esc)", "aria-label": "Close the details" }, around.close, "×"),
  );
}

/** What is odd about it, in sentences. @param {Around} around @param {Node} node @param {Span} span */
function notes(around, node, span) {
  const early = skew(around.nodes, node);
  const sentences = [
    node.place === "orphan" && "Its parent is not in the store: it was never sent, or not yet.",
    node.place === "cycle" && "Its parents lead back to itself. It is shown at the top so that it is shown at all.",
    early > 0 &&
      `It starts ${nanos(early)} before its parent: the clocks of the two differ. It is shown as it was sent.`,
    span.duration < 0 && "It ends before it starts.",
    span.timeless && "It says no start. It is shown at the start of the trace.",
    (span.raw.endTimeUnixNano ?? "0") === "0" && "It says no end: it may not have ended when it was sent.",
  ].filter(Boolean);
  return sentences.length > 0 && el("ul", { class: "notes" }, ...sentences.map((sentence) => el("li", {}, sentence)));
}

/**
 * @param {HTMLElement} pane
 * @param {Around} around
 * @param {number} at
 * @param {Span} newest
 * @param {Span} span the one that is shown
 */
function revisions(pane, around, at, newest, span) {
  const all = [newest, ...newest.older];
  if (all.length === 1) return null;
  const one = (/** @type {Span} */ revision, /** @type {number} */ i) =>
    button(
      { class: "small", "aria-pressed": String(revision === span) },
      () => showDetails(pane, around, at, revision),
      i === 0 ? "newest" : i === all.length - 1 ? "first" : `${all.length - i}.`,
      revision.received_ms !== null && ` · received ${moment(revision.received_ms)}`,
    );
  return el(
    "div",
    { class: "revisions", role: "group", "aria-label": "Revisions" },
    el("p", {}, `It was sent ${all.length} times with different content:`),
    ...all.map(one),
    changes(all, span),
  );
}

/**
 * In what a revision differs from the one before it.
 * @param {Span[]} all the newest first
 * @param {Span} span the one that is shown
 */
function changes(all, span) {
  const before = all[all.indexOf(span) + 1];
  if (!before) return el("p", { class: "muted" }, "This is how it came first. It stays as it is.");
  const some = (/** @type {string | null} */ text) =>
    text === null ? el("span", { class: "muted" }, "not there") : longText(text);
  const rows = differences(before, span).map(({ what, before: old, after }) =>
    el("tr", {}, el("th", { scope: "row" }, what), el("td", {}, some(old)), el("td", {}, some(after))),
  );
  const heads = ["What differs", "Before", "Now"].map((head) => el("th", { scope: "col" }, head));
  return el(
    "table",
    { class: "attributes changes" },
    el("caption", { class: "off-screen" }, "What differs from the revision before"),
    el("thead", {}, el("tr", {}, ...heads)),
    el("tbody", {}, ...rows),
  );
}

/** @param {Around} around @param {number} at @param {Node} node @param {Span} span */
function facts(around, at, node, span) {
  const own = node.below > 0 && span === node.span ? selfTime(around.nodes, at) : null;
  return list([
    ["Duration", el("strong", {}, nanos(span.duration))],
    around.trace.duration > 0 && span.duration > 0 && ["Of the trace", percent(span.duration, around.trace.duration)],
    own !== null && ["Own time", nanos(own)],
    ["Starts after", nanos(span.start)],
    ["Start", span.timeless ? "not said" : el("span", { class: "mono" }, utcNanos(span.startNs))],
    ["Kind", KINDS[span.kind] ?? String(span.kind)],
    [
      "Status",
      el(
        "span",
        { class: span.error ? "bad" : "" },
        STATUS[span.raw.status?.code ?? 0] ?? String(span.raw.status?.code),
      ),
    ],
    node.below > 0 && ["Below it", counted(node.below, "span")],
  ]);
}

/** @param {([string, Child] | false)[]} pairs */
function list(pairs) {
  const known = /** @type {[string, Child][]} */ (pairs.filter(Boolean));
  return el("dl", { class: "facts" }, ...known.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

/** @param {string} title @param {number} count @param {boolean} open @param {...Child} children */
function section(title, count, open, ...children) {
  const name = el("summary", {}, title, count > 0 && el("span", { class: "muted" }, ` ${count}`));
  return el("details", { open }, name, ...children);
}

/** @param {number | undefined} dropped @param {string} what */
const droppedNote = (dropped, what) =>
  !!dropped && el("p", { class: "muted" }, `${counted(dropped, what)} dropped by the sender.`);

/**
 * @param {string} title
 * @param {KeyValue[] | undefined} pairs
 * @param {number | undefined} dropped
 * @param {boolean} open
 */
function attributes(title, pairs, dropped, open) {
  if (!pairs?.length && !dropped) return null;
  return section(title, pairs?.length ?? 0, open, table(pairs ?? []), droppedNote(dropped, "attribute"));
}

/** @param {KeyValue[]} pairs */
function table(pairs) {
  if (pairs.length === 0) return null;
  const row = (/** @type {KeyValue} */ { key, value }) => {
    const { shown: words, type } = shown(value);
    const kind = type && el("span", { class: "type" }, type);
    return el("tr", {}, el("th", { scope: "row" }, key), el("td", {}, longText(words), kind));
  };
  return el("table", { class: "attributes" }, el("tbody", {}, ...pairs.map(row)));
}

/** @param {RawEvent[]} all */
function exceptions(all) {
  return all.some(isException)
    ? el(
        "div",
        {},
        ...all
          .filter(isException)
          .map((event) =>
            el(
              "div",
              { class: "exception" },
              el("p", {}, el("strong", {}, text(event.attributes, "exception.type") || "exception")),
              el("p", {}, longText(text(event.attributes, "exception.message"))),
              text(event.attributes, "exception.stacktrace") &&
                el(
                  "details",
                  {},
                  el("summary", {}, "Stack trace"),
                  el("pre", { tabindex: "0" }, text(event.attributes, "exception.stacktrace")),
                ),
            ),
          ),
      )
    : null;
}

const isException = (/** @type {RawEvent} */ event) => event.name === "exception";

/** @param {Around} around @param {RawEvent[]} all @param {number} dropped */
function events(around, all, dropped) {
  if (all.length === 0 && dropped === 0) return null;
  const one = (/** @type {RawEvent} */ event) =>
    el(
      "li",
      {},
      el(
        "p",
        {},
        el("span", { class: "mono" }, offset(around, event.timeUnixNano)),
        " ",
        el("strong", {}, event.name || "(no name)"),
      ),
      // The stack trace stands above already.
      table((event.attributes ?? []).filter(({ key }) => !isException(event) || key !== "exception.stacktrace")),
      droppedNote(event.droppedAttributesCount, "attribute"),
    );
  return section(
    "Events",
    all.length,
    true,
    el("ul", { class: "events" }, ...all.map(one)),
    droppedNote(dropped, "event"),
  );
}

/** @param {Around} around @param {string | undefined} time */
function offset(around, time) {
  try {
    return time ? `+${nanos(Number(BigInt(time) - around.trace.startNs))}` : "no time";
  } catch {
    return "no time";
  }
}

/** @param {Around} around @param {Span} span */
function links(around, span) {
  const all = span.raw.links ?? [];
  const dropped = span.raw.droppedLinksCount ?? 0;
  if (all.length === 0 && dropped === 0) return null;
  const one = (/** @type {import("./otlp.js").RawLink} */ link) => {
    const id = (link.traceId ?? "").toLowerCase();
    const query = { h: around.hint, span: link.spanId };
    return el(
      "li",
      {},
      isTrace(id)
        ? el("a", { href: address("trace", id, query), class: "mono" }, id === around.trace.id ? "this trace" : id)
        : el("span", { class: "mono" }, link.traceId ?? "(no trace)"),
      el("span", { class: "muted" }, ` span ${link.spanId ?? "–"}`),
      table(link.attributes ?? []),
    );
  };
  return section(
    "Links",
    all.length,
    true,
    el("ul", { class: "events" }, ...all.map(one)),
    droppedNote(dropped, "link"),
  );
}

/** @param {Span} span */
function scope({ scope: { scope: known, schemaUrl } }) {
  if (!known?.name && !known?.attributes?.length && !schemaUrl) return null;
  return section(
    "Scope",
    known?.attributes?.length ?? 0,
    false,
    list([
      ["Name", known?.name || "–"],
      !!known?.version && ["Version", known.version],
      !!schemaUrl && ["Schema", schemaUrl],
    ]),
    table(known?.attributes ?? []),
  );
}

/** @param {Around} around @param {Node} node @param {Span} span */
function ids(around, node, span) {
  const parent = node.parent >= 0 ? node.parent : null;
  const id = (/** @type {string} */ name) => el("span", { class: "mono" }, name);
  return section(
    "Ids",
    0,
    false,
    list([
      ["Span", id(span.id)],
      [
        "Parent",
        parent === null
          ? id(span.parent || "none")
          : button({ class: "link mono" }, () => around.select(parent), span.parent || span.id),
      ],
      ["Trace", id(around.trace.id)],
      !!span.raw.traceState && ["Trace state", id(span.raw.traceState)],
      span.raw.flags !== undefined && ["Flags", id(`0x${span.raw.flags.toString(16)}`)],
      span.received_ms !== null && ["Received", moment(span.received_ms)],
    ]),
    copyButton("Copy the span as JSON", () => JSON.stringify(span.raw, null, 2)),
  );
}

/**
 * A text of any length: cut, until somebody asks for the rest.
 * @param {string} words
 */
function longText(words) {
  if (words.length <= LONG) return el("span", { class: "value" }, words);
  const value = el("span", { class: "value" }, words.slice(0, LONG));
  const more = button(
    { class: "link" },
    () => {
      value.textContent = words;
      more.remove();
    },
    `… all ${counted(words.length, "character")}`,
  );
  return el("span", {}, value, " ", more);
}
