// `#/h/<handler>`: one handler in full.

import { historyChart, latencyChart } from "../chart.js";
import { copyButton } from "../clipboard.js";
import { button, el, fill } from "../dom.js";
import { bytes, count, counted, duration, NOTHING, percent, utc } from "../format.js";
import { isPin } from "../id.js";
import { address } from "../router.js";
import { byHour, byMinute } from "../series.js";
import { files, handlers, summary as read, StoreError } from "../store.js";
import { plainTable } from "../table.js";
import { since, when } from "../when.js";
import { handlerName } from "./handlers.js";
import { paths } from "./not-found.js";

/** @typedef {import("../store.js").Summary} Summary */
/** @typedef {import("../store.js").Entry} Entry */
/** @typedef {import("../router.js").Route} Route */
/** @typedef {import("../main.js").View} View */
/** @typedef {import("../dom.js").Child} Child */

/**
 * @param {Route} route
 * @param {AbortSignal} signal
 * @returns {Promise<View>}
 */
export async function handler(route, signal) {
  const { body, written_ms } = await readIt(route.id, signal);
  const { handler: row } = body;
  const charts = new AbortController();
  signal.addEventListener("abort", () => charts.abort());
  const node = el(
    "div",
    { class: "handler" },
    heading(body),
    tiles(body),
    // Before its own: a route that was written for its 404s begins with real requests.
    body.adopted.length > 0 &&
      section(
        "Requests from before the route",
        el(
          "span",
          {},
          `${counted(row.adopted, "request")} hit no handler, but would hit this one now: `,
          el("a", { href: address("not-found", "", { q: row.id, service: row.service }) }, "on the 404 list"),
          ".",
        ),
        paths(body.adopted, { hint: row.id, caption: "Requests of the 404 list that this route matches" }),
      ),
    history(body, charts.signal),
    el(
      "div",
      { class: "columns" },
      latencies(body, charts.signal),
      el("div", {}, statuses(body), errorTypes(body, row.id)),
    ),
    el(
      "div",
      { class: "columns three" },
      traces("Newest traces", body.newest, row.id, "No trace is kept."),
      traces("Newest failed", body.newest_errors, row.id, "None failed."),
      traces("Slowest", body.slowest, row.id, "No trace is kept."),
    ),
    calls(body),
    body.paths.length > 0 &&
      section(
        "Paths",
        "Its requests came without a route: these are their paths, the newest first.",
        paths(body.paths, { hint: row.id, caption: "Paths" }),
      ),
    pins(body, row.id),
    extras(body),
    el(
      "p",
      { class: "muted" },
      written_ms !== null && el("span", {}, "Written ", since(written_ms), ". "),
      "Made of ",
      el("a", { href: files.summary(row.id) }, "summary.json"),
      " and ",
      el("a", { href: files.traces(row.id) }, "traces.json.gz"),
      ".",
    ),
  );
  return { title: `${row.name || row.id} · ${row.service}`, node, close: () => charts.abort() };
}

/**
 * The summary, also under an id of before a rename.
 * @param {string} id
 * @param {AbortSignal} signal
 */
async function readIt(id, signal) {
  try {
    return await read(id, signal);
  } catch (error) {
    if (!(error instanceof StoreError) || error.kind !== "missing") throw error;
    const { body } = await handlers(signal);
    const renamed = body.handlers.find((row) => row.aliases.includes(id));
    if (!renamed) throw error;
    return read(renamed.id, signal);
  }
}

/** @param {string} title @param {Child} about @param {...Child} children */
function section(title, about, ...children) {
  return el(
    "section",
    { class: "panel" },
    el("h2", {}, title),
    about && el("p", { class: "muted" }, about),
    ...children,
  );
}

/** @param {Summary} body */
function heading({ handler: row, route_added_ms: added }) {
  return el(
    "header",
    { class: "heading" },
    el(
      "p",
      { class: "crumbs" },
      el("a", { href: address("handlers", "", { service: row.service }) }, row.service),
      row.namespace && el("span", { class: "muted" }, ` in ${row.namespace}`),
    ),
    el("h1", {}, ...handlerName(row)),
    el(
      "p",
      { class: "muted ids" },
      el("code", {}, row.id),
      " ",
      copyButton("Copy id", () => row.id),
      copyButton("Copy link", () => location.href),
    ),
    added !== undefined &&
      el("p", { class: "muted" }, "Its route ", el("code", {}, row.route), " was written by hand ", when(added), "."),
    row.aliases.length > 0 &&
      el(
        "p",
        { class: "muted" },
        "Counted with it (renamed): ",
        ...row.aliases.flatMap((alias, i) => [i > 0 && ", ", el("code", {}, alias)]),
      ),
  );
}

/** @param {Summary} body */
function tiles({ handler: row, first_ms, latency }) {
  const most = latency.find(({ quantile }) => quantile === 1)?.ms ?? null;
  const tile = (/** @type {string} */ name, /** @type {Child} */ value, /** @type {Child} */ more = null) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, value, more && el("small", {}, more)));
  return el(
    "dl",
    { class: "tiles" },
    tile("Requests", count(row.count), first_ms !== null && el("span", {}, " since ", when(first_ms))),
    tile(
      "Errors",
      el("span", { class: row.errors > 0 ? "bad" : "" }, count(row.errors)),
      ` ${percent(row.errors, row.count)}`,
    ),
    tile("p50", duration(row.p50_ms)),
    tile("p95", duration(row.p95_ms)),
    tile("p99", duration(row.p99_ms)),
    tile("Longest", duration(most)),
    tile("Last seen", since(row.last_ms)),
  );
}

/**
 * @param {Summary} body
 * @param {AbortSignal} signal
 */
function history(body, signal) {
  const hours = byHour(body.history);
  const minutes = byMinute(body.history);
  if (hours.starts.length === 0) {
    return section(
      "Requests over time",
      body.pins.length > 0
        ? "None is left of those that are kept for a time; what is shown here is pinned."
        : "None has hit it yet.",
    );
  }
  const canvas = el("div", { class: "chart" });
  const say = el("p", { class: "chart-says", "aria-hidden": "true" });
  const choice = el("div", { class: "choice", role: "group", "aria-label": "Resolution" });
  let drawn = new AbortController();
  const show = (/** @type {"hours" | "minutes"} */ which) => {
    drawn.abort();
    drawn = new AbortController();
    fill(canvas);
    const series = which === "hours" ? hours : minutes;
    const requests = series.counts.reduce((sum, n) => sum + n, 0);
    const failed = series.errors.reduce((sum, n) => sum + n, 0);
    const most = Math.max(...series.counts);
    const unit = which === "hours" ? "hour" : "minute";
    canvas.setAttribute("role", "img");
    canvas.setAttribute(
      "aria-label",
      `Requests from ${utc((series.starts[0] ?? 0) * 1000)} on, by the ${unit}: ${counted(requests, "request")}, ${counted(failed, "error")}, at most ${count(most)} in one ${unit}.`,
    );
    historyChart(canvas, series, (text) => fill(say, text || `drag to zoom, double-click for all`), drawn.signal);
    for (const other of choice.children)
      other.setAttribute("aria-pressed", String(other.getAttribute("data-which") === which));
  };
  // With little history the hours are a bar or two: the minutes say more.
  const which = hours.starts.length < 4 && minutes.starts.length > 0 ? "minutes" : "hours";
  if (minutes.starts.length > 0) {
    choice.append(
      button({ class: "small", "data-which": "hours" }, () => show("hours"), "All, by hour"),
      button({ class: "small", "data-which": "minutes" }, () => show("minutes"), "Last hours, by minute"),
    );
  }
  signal.addEventListener("abort", () => drawn.abort());
  show(which);
  fill(say, "drag to zoom, double-click for all");
  return el(
    "section",
    { class: "panel" },
    el("div", { class: "panel-head" }, el("h2", {}, "Requests and errors over time"), choice),
    canvas,
    say,
  );
}

/**
 * @param {Summary} body
 * @param {AbortSignal} signal
 */
function latencies(body, signal) {
  if (body.histogram.length === 0) return section("Latency", "Nothing is left to measure.");
  const canvas = el("div", {
    class: "chart",
    role: "img",
    "aria-label": "A histogram of latencies; the table below has its quantiles.",
  });
  const say = el("p", { class: "chart-says", "aria-hidden": "true" }, "\u00a0");
  const name = (/** @type {number} */ quantile) => (quantile === 1 ? "max" : `p${Number((quantile * 100).toFixed(2))}`);
  const drawn = body.latency.filter(({ quantile }) => [0.5, 0.95, 0.99].includes(quantile));
  latencyChart(
    canvas,
    body.histogram,
    drawn.map(({ quantile, ms }) => ({ name: name(quantile), ms })),
    (text) => fill(say, text || "\u00a0"),
    signal,
  );
  return section(
    "Latency",
    null,
    canvas,
    say,
    wide(
      "Quantiles of latency",
      plainTable(
        "Quantiles of latency",
        body.latency.map(({ quantile }) => `#${name(quantile)}`),
        [body.latency.map(({ ms }) => [duration(ms)])],
        "quantiles",
      ),
    ),
  );
}

/** A table that scrolls within itself where the window is too narrow. @param {string} label @param {HTMLElement} table */
const wide = (label, table) => el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": label }, table);

/** A bar of a table. @param {number} part 0 to 1 @param {string} className */
function meter(part, className) {
  const bar = el("span", { class: `fill ${className}`, "aria-hidden": "true" });
  bar.style.width = `${Math.max(1, 100 * part)}%`;
  return bar;
}

/** @param {number} n */
const errorCount = (n) => el("span", { class: n > 0 ? "bad" : "muted" }, count(n));

/** @param {Summary} body */
function statuses(body) {
  const all = Object.entries(body.statuses).sort(([a], [b]) => Number(a) - Number(b));
  if (all.length === 0) return null;
  const most = Math.max(...all.map(([, n]) => n));
  const sum = all.reduce((total, [, n]) => total + n, 0);
  const rows = all.map(([status, n]) => {
    const kind = `http s${status[0]}`;
    return [[el("span", { class: kind }, status)], [count(n)], [percent(n, sum)], [meter(n / most, kind)]];
  });
  return section("Statuses", null, plainTable("HTTP statuses", ["Status", "#Requests", "#Part", ""], rows));
}

/** @param {Summary} body @param {string} id */
function errorTypes(body, id) {
  if (body.error_types.length === 0) return section("Error types", "No request failed.");
  const rows = body.error_types.map(({ type, count: n, example }) => [
    [type || el("span", { class: "muted" }, "(no error.type)")],
    [count(n)],
    [example ? el("a", { href: entryAddress(example, id) }, "trace") : NOTHING],
  ]);
  return section("Error types", null, plainTable("Errors by type", ["Type", "#Requests", "Newest"], rows));
}

/** The address of a trace, at its entry span. @param {Entry} entry @param {string} hint */
export const entryAddress = (entry, hint) => address("trace", entry.trace_id, { h: hint, span: entry.span_id });

/**
 * @param {string} title
 * @param {Entry[]} entries
 * @param {string} id
 * @param {string} none
 */
function traces(title, entries, id, none) {
  if (entries.length === 0) return section(title, none);
  const most = Math.max(...entries.map((entry) => entry.duration_ms), 1e-6);
  const rows = entries.map((entry) => [
    [el("a", { href: entryAddress(entry, id), class: "mono", title: entry.trace_id }, entry.trace_id.slice(0, 8))],
    [when(entry.start_ms)],
    [
      el("span", { class: entry.error ? "bad" : "" }, duration(entry.duration_ms)),
      entry.error && el("span", { class: "off-screen" }, " failed"),
    ],
    [meter(Math.max(entry.duration_ms, 0) / most, entry.error ? "bad" : "")],
  ]);
  return section(title, null, plainTable(title, ["Trace", "Started", "#Took", ""], rows, "traces"));
}

/** @param {Summary} body */
function calls(body) {
  if (body.calls.length === 0) {
    const none = "What it calls is known once its spans are compacted, minutes after the hour; maybe it calls nothing.";
    return section("Calls", none);
  }
  const rows = body.calls.map((call) => [
    [call.operation || "(no name)"],
    [call.service || el("span", { class: "muted" }, "not told")],
    [count(call.count)],
    [errorCount(call.errors)],
    [duration(call.p50_ms)],
    [duration(call.p95_ms)],
  ]);
  const table = plainTable("Calls", ["Operation", "Of", "#Calls", "#Errors", "#p50", "#p95"], rows, "calls");
  return section("Calls", "What its requests call elsewhere, as the caller sees it.", wide("Calls", table));
}

/** @param {Summary} body @param {string} id */
function pins(body, id) {
  const known = body.pins.filter((pin) => isPin(pin.key));
  if (known.length === 0) return null;
  const row = (/** @type {Summary["pins"][number]} */ pin) =>
    el(
      "li",
      {},
      el("a", { href: address("trace", pin.trace_id, { h: id }), class: "mono" }, pin.trace_id.slice(0, 8)),
      " ",
      when(pin.start_ms),
    );
  return section(
    "Pinned traces",
    "Kept however old, because they are its newest.",
    el("ul", { class: "pins" }, ...known.map(row)),
  );
}

/**
 * What the store's `publish_command` made. Whatever is in such a file, traces have a part in it: it is kept, not opened,
 * for as a page of this site it could do what these pages can.
 * @param {Summary} body
 */
function extras({ handler: row, extras: all = [], extra_error: failed }) {
  const link = (/** @type {import("../store.js").Extra} */ { name, key, bytes: size }) =>
    el(
      "li",
      {},
      el("a", { href: files.extra(row.id, key), download: name.split("/").at(-1) }, name),
      el("span", { class: "muted" }, ` ${bytes(size)}`),
    );
  if (all.length === 0 && !failed) return null;
  return section(
    "Files",
    "Made of this handler by the store's publish_command.",
    failed && el("p", { class: "notes" }, "It failed when it was last run; what is here is older: ", failed),
    el("ul", { class: "pins" }, ...all.map(link)),
  );
}
