// `#/t/<trace id>`: one trace as a waterfall. `?h=` says in which handler's documents it stands.

import { copyButton } from "../clipboard.js";
import { button, el, fill } from "../dom.js";
import { count, counted, nanos } from "../format.js";
import { isHandler, isSpan } from "../id.js";
import { address, remember } from "../router.js";
import { coloursOf } from "../trace/colours.js";
import { criticalPath } from "../trace/critical.js";
import { showDetails } from "../trace/details.js";
import { find, lookEverywhere } from "../trace/find.js";
import { Minimap } from "../trace/minimap.js";
import { otlpOf } from "../trace/otlp.js";
import { parseRange, rangeOf } from "../trace/scale.js";
import { search } from "../trace/search.js";
import { treeOf } from "../trace/tree.js";
import { Waterfall } from "../trace/waterfall.js";
import { when } from "../when.js";
import { command, message } from "./message.js";

/** @typedef {import("../router.js").Route} Route */
/** @typedef {import("../main.js").View} View */
/** @typedef {import("../trace/tree.js").Node} Node */

/** Wide enough for the details beside the waterfall. */
const WIDE = "(min-width: 1000px)";

/**
 * @param {Route} route
 * @param {AbortSignal} signal
 * @returns {Promise<View>}
 */
export async function trace(route, signal) {
  const hint = isHandler(route.query.get("h")) ? (route.query.get("h") ?? "") : "";
  const found = await find(route.id, hint, signal);
  if (!found) return { title: "Trace not found", node: missing(route, hint, signal) };
  const { trace: known, from } = found;
  const nodes = treeOf(known.spans);
  const colours = coloursOf(known.spans.map((span) => span.service));
  const whole = { from: 0, to: Math.max(known.duration, 1) };

  const pane = el("aside", { class: "details", "aria-labelledby": "span-name", tabindex: "-1" });
  const stage = el("div", { class: "stage" });
  const around = {
    trace: known,
    nodes,
    colours,
    hint,
    select: (/** @type {number} */ at) => waterfall.select(at),
    close: () => open(false),
  };
  const waterfall = new Waterfall({
    nodes,
    colours,
    critical: criticalPath(nodes),
    range: parseRange(route.query.get("zoom"), whole.to) ?? whole,
    onSelect: (at) => {
      showDetails(pane, around, at);
      open(true);
      remember(route, { span: nodes[at]?.span.id });
    },
  });
  const minimap = new Minimap(nodes, colours, whole.to, zoom);
  const open = (/** @type {boolean} */ isOpen) => stage.classList.toggle("with-details", isOpen);

  const reset = button({ class: "small", title: "Show the whole time (0)" }, () => zoom(whole), "Whole time");
  /** @param {import("../trace/scale.js").Range} range */
  function zoom(range) {
    const isWhole = range.from <= 0 && range.to >= whole.to;
    waterfall.zoom(range);
    minimap.show(range);
    reset.hidden = isWhole;
    remember(route, { zoom: isWhole ? "" : `${Math.round(range.from)}-${Math.round(range.to)}` });
  }

  const finder = searchBox(nodes, waterfall, route, signal);
  const critical = button(
    { class: "small", "aria-pressed": "true", title: "What the duration is made of (c)" },
    () => {
      const shown = stage.classList.toggle("without-critical") === false;
      critical.setAttribute("aria-pressed", String(shown));
    },
    "Critical path",
  );
  const document = () => JSON.stringify(otlpOf(known));

  fill(
    stage,
    el(
      "div",
      { class: "main-pane" },
      el(
        "div",
        { class: "toolbar" },
        finder.node,
        critical,
        button(
          { class: "small", title: "Hide all but the tops and what they call" },
          () => waterfall.toggleAll(false),
          "Collapse",
        ),
        button({ class: "small" }, () => waterfall.toggleAll(true), "Expand"),
        reset,
        el("span", { class: "gap" }),
        copyButton("Copy OTLP/JSON", document, "The trace as other tools read it"),
        copyButton("Copy link", () => location.href),
      ),
      minimap.node,
      waterfall.grid,
    ),
    pane,
  );
  const node = el("div", { class: "trace" }, heading(route, known, nodes, colours, hint, from), stage);

  const focus = () => waterfall.grid.focus({ preventScroll: true });
  const toSpan = () => {
    const at = waterfall.selected;
    const span = nodes[at]?.span;
    // A little of what was before and comes after.
    const margin = Math.max(span?.duration ?? 0, 1) * 0.1;
    if (span) zoom(rangeOf(span.start - margin, span.start + span.duration + margin, whole.to));
  };
  return {
    title: `${topOf(nodes)?.name || "trace"} · ${route.id.slice(0, 8)}`,
    node,
    fixed: true,
    shown() {
      waterfall.draw();
      zoom(waterfall.range);
      const wanted = route.query.get("span");
      const at = isSpan(wanted) ? nodes.findIndex(({ span }) => span.id === wanted) : -1;
      // Nobody asked for a span: the first is described where there is room for it.
      if (at >= 0) waterfall.select(at);
      else if (matchMedia(WIDE).matches) {
        waterfall.select(0);
        remember(route, { span: "" });
      }
      if (!matchMedia(WIDE).matches) open(false);
      focus();
      finder.run();
    },
    update(to) {
      route.query = to.query;
      zoom(parseRange(to.query.get("zoom"), whole.to) ?? whole);
      const at = nodes.findIndex(({ span }) => span.id === to.query.get("span"));
      if (at >= 0 && at !== waterfall.selected) waterfall.select(at);
    },
    close() {
      waterfall.close();
      minimap.close();
    },
    keys: [
      ["/", "search in the trace", finder.focus],
      ["n", "the next span that was found", () => finder.step(1)],
      ["N", "the one before", () => finder.step(-1)],
      ["ArrowDown", "the span below; likewise up, Page up and down, Home, End", focus],
      ["ArrowRight", "open a span; left: close it, or go to its parent", focus],
      ["Enter", "open or close a span", focus],
      ["z", "zoom to the span", toSpan],
      ["0", "the whole time", () => zoom(whole)],
      ["c", "show the critical path, or not", () => critical.click()],
      [
        "Escape",
        "close the details; leave the search",
        () => {
          open(false);
          focus();
        },
      ],
    ],
  };
}

/** The span that names the trace: its root, if it came. @param {Node[]} nodes */
const topOf = (nodes) => (nodes.find((node) => node.place === "root") ?? nodes[0])?.span;

/**
 * @param {Route} route
 * @param {import("../trace/otlp.js").Trace} known
 * @param {Node[]} nodes
 * @param {Map<string, number>} colours
 * @param {string} hint
 * @param {string} from
 */
function heading(route, known, nodes, colours, hint, from) {
  const top = topOf(nodes);
  const failed = known.spans.filter((span) => span.error).length;
  const deepest = nodes.reduce((most, node) => Math.max(most, node.depth), 0) + 1;
  const spans = new Map();
  for (const { service } of known.spans) spans.set(service, (spans.get(service) ?? 0) + 1);
  const legend = [...spans].sort(([, a], [, b]) => b - a);
  const one = (/** @type {string} */ name, /** @type {import("../dom.js").Child[]} */ ...value) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, ...value));
  return el(
    "header",
    { class: "heading" },
    el(
      "p",
      { class: "crumbs" },
      hint ? el("a", { href: address("handler", hint) }, hint) : el("a", { href: address("handlers") }, "Handlers"),
      el("span", { class: "muted mono", title: `from ${from}` }, ` ${route.id}`),
    ),
    el("h1", {}, top?.service && el("span", { class: "muted" }, `${top.service} `), top?.name || "(no name)"),
    el(
      "dl",
      { class: "strip" },
      one("Started", when(Number(known.startNs / 1_000_000n))),
      one("Took", el("strong", {}, nanos(known.duration))),
      one("Spans", count(known.spans.length)),
      one("Errors", el("span", { class: failed > 0 ? "bad" : "" }, count(failed))),
      one("Depth", count(deepest)),
    ),
    el(
      "ul",
      { class: "legend", "aria-label": "Services" },
      ...legend
        .slice(0, 12)
        .map(([service, n]) =>
          el(
            "li",
            { "data-colour": colours.get(service) ?? 0 },
            service || "(no service)",
            el("span", { class: "muted" }, ` ${count(n)}`),
          ),
        ),
      legend.length > 12 && el("li", {}, `and ${legend.length - 12} more`),
    ),
  );
}

/**
 * @param {Node[]} nodes
 * @param {Waterfall} waterfall
 * @param {Route} route
 * @param {AbortSignal} signal
 */
function searchBox(nodes, waterfall, route, signal) {
  const input = el("input", {
    type: "search",
    placeholder: "Search spans",
    "aria-label": "Search spans",
    autocomplete: "off",
    spellcheck: "false",
  });
  input.value = route.query.get("q") ?? "";
  const live = el("span", { class: "found", role: "status" });
  /** @type {number[]} */
  let found = [];
  let at = -1;
  let running = new AbortController();
  const say = () => {
    const place = at >= 0 ? `${at + 1} of ` : "";
    fill(
      live,
      input.value.trim() === "" ? "" : found.length === 0 ? "none" : `${place}${counted(found.length, "span")}`,
    );
  };
  const run = async () => {
    running.abort();
    running = new AbortController();
    const stop = AbortSignal.any([running.signal, signal]);
    remember(route, { q: input.value.trim() });
    try {
      found = await search(
        nodes.map((node) => node.span),
        input.value,
        stop,
      );
    } catch {
      // Somebody typed on.
      return;
    }
    at = -1;
    waterfall.highlight(found);
    say();
  };
  const step = (/** @type {number} */ by) => {
    if (found.length === 0) return;
    // From the span that is selected, if none of those found is.
    if (at < 0)
      at =
        by > 0
          ? found.findIndex((row) => row > waterfall.selected) - 1
          : found.findLastIndex((row) => row < waterfall.selected) + 1;
    if (at === -2) at = -1;
    at = (at + by + found.length) % found.length;
    waterfall.select(found[at] ?? -1);
    say();
  };
  input.addEventListener("input", run);
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    step(event.shiftKey ? -1 : 1);
  });
  const node = el(
    "div",
    { class: "search", role: "search" },
    input,
    live,
    button({ class: "small", title: "The one before (N)", "aria-label": "Previous span found" }, () => step(-1), "↑"),
    button({ class: "small", title: "The next (n)", "aria-label": "Next span found" }, () => step(1), "↓"),
  );
  return { node, step, run: () => input.value.trim() && run(), focus: () => input.focus() };
}

/**
 * What to do about a trace that is not in the pages.
 * @param {Route} route
 * @param {string} hint
 * @param {AbortSignal} signal
 */
function missing(route, hint, signal) {
  const { id } = route;
  const live = el("p", { role: "status" });
  const look = button(
    {},
    async () => {
      look.disabled = true;
      try {
        const handler = await lookEverywhere(
          id,
          (done, all) => fill(live, `${count(done)} of ${counted(all, "handler")}`),
          signal,
        );
        if (handler) location.hash = address("trace", id, { h: handler });
        else fill(live, "No handler's page has it.");
      } catch (error) {
        if (!signal.aborted) fill(live, error instanceof Error ? error.message : String(error));
      }
      look.disabled = false;
    },
    "Look through all handlers' pages",
  );
  return message(
    "This trace is not in the pages",
    el(
      "p",
      {},
      "Pages hold the newest, the slowest and the newest failed traces of each handler. ",
      el("code", {}, id),
      hint ? " is not among those of " : " was opened without saying of which handler it is.",
      hint && el("a", { href: address("handler", hint) }, hint),
      hint && ".",
    ),
    el("p", {}, "The store may have it all the same:"),
    command(`tracefarm --store <this store> get ${id}`),
    el("p", {}, "or open it where ", el("code", {}, "tracefarm serve"), " serves these pages: it finds every trace."),
    el("p", {}, look),
    live,
  );
}
