// `#/`: every handler with its numbers.

import { el, fill } from "../dom.js";
import { filter, perMinute } from "../filter.js";
import { count, counted, duration, percent, rough } from "../format.js";
import { isTrace } from "../id.js";
import { address, remember } from "../router.js";
import { spark } from "../spark.js";
import { handlers as read } from "../store.js";
import { orderText, parseOrder, SortedTable } from "../table.js";
import { since } from "../when.js";

/** @typedef {import("../store.js").Row} Row */
/** @typedef {import("../store.js").Handlers} Handlers */
/** @typedef {import("../router.js").Route} Route */
/** @typedef {import("../main.js").View} View */

/**
 * What is read of a handler first: its method and route in the framework's own spelling, else its name.
 * @param {Row} row
 */
export function handlerName(row) {
  if (row.kind === "http" && row.method && row.route) {
    return [el("span", { class: "method" }, row.method), " ", row.route];
  }
  const name = row.name || row.id;
  if (row.kind === "http") return [name];
  // `job nightly-reindex`: the kind stands before the name already.
  const rest = name.startsWith(`${row.kind} `) ? name.slice(row.kind.length + 1) : name;
  return [el("span", { class: "method kind" }, row.kind), " ", rest];
}

/** @param {Row} row */
const share = (row) => (row.count === 0 ? 0 : row.errors / row.count);

/**
 * A column of durations.
 * @param {string} key
 * @param {string} title
 * @param {(row: Row) => number | null} value
 * @returns {import("../table.js").Column<Row>}
 */
const quantile = (key, title, value) => ({
  key,
  label: key,
  title,
  sort: value,
  cell: (row) => duration(value(row)),
});

/** @type {import("../table.js").Column<Row>[]} */
const COLUMNS = [
  {
    key: "name",
    label: "Handler",
    text: true,
    sort: (row) => row.name,
    cell: (row) => el("a", { href: address("handler", row.id), title: row.name }, ...handlerName(row)),
  },
  {
    key: "service",
    label: "Service",
    text: true,
    sort: (row) => `${row.service}\n${row.namespace}`,
    cell: (row) => [row.service, row.namespace && el("span", { class: "muted" }, ` ${row.namespace}`)],
  },
  {
    key: "requests",
    label: "Requests",
    title: "Requests that are kept",
    sort: (row) => row.count,
    cell: (row) => count(row.count),
  },
  {
    key: "rate",
    label: "/ min",
    title: "Requests a minute, on average over the hours of the trend",
    sort: perMinute,
    cell: (row) => rough(perMinute(row)),
  },
  {
    key: "errors",
    label: "Errors",
    title: "Requests that failed",
    sort: (row) => row.errors,
    cell: (row) =>
      row.errors === 0 ? el("span", { class: "muted" }, "0") : el("span", { class: "bad" }, count(row.errors)),
  },
  {
    key: "share",
    label: "Error %",
    title: "Requests that failed, of all",
    sort: share,
    cell: (row) =>
      row.errors === 0
        ? el("span", { class: "muted" }, "0 %")
        : el("span", { class: "bad" }, percent(row.errors, row.count)),
  },
  quantile("p50", "Half take at most so long", (row) => row.p50_ms),
  quantile("p95", "95 % take at most so long", (row) => row.p95_ms),
  quantile("p99", "99 % take at most so long", (row) => row.p99_ms),
  {
    key: "trend",
    label: "Trend",
    title: "Requests an hour, of the last 24 hours with any",
    cell: (row) => spark(row.spark),
  },
  {
    key: "seen",
    label: "Last seen",
    sort: (row) => row.last_ms,
    cell: (row) => since(row.last_ms),
  },
];

/**
 * @param {Route} route
 * @param {AbortSignal} signal
 * @returns {Promise<View>}
 */
export async function handlers(route, signal) {
  let { body, written_ms } = await read(signal);
  const input = el("input", {
    type: "search",
    id: "filter",
    placeholder: "Filter: words, service:web, errors:>1%, p95:>200ms",
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
    enterkeyhint: "search",
    "aria-describedby": "filter-help",
  });
  const services = el("select", { "aria-label": "Service" });
  const order = el("select", { "aria-label": "Sort by", class: "narrow-only" });
  const totals = el("div", { class: "totals" });
  const live = el("p", { class: "found", role: "status" });
  const below = el("div", { class: "below" });
  const table = new SortedTable({
    caption: "Handlers. The heads of columns sort.",
    className: "handlers",
    columns: COLUMNS,
    order: parseOrder(route.query.get("sort")),
    onOrder: (order) => {
      remember(route, { sort: orderText(order) });
      choose();
    },
  });
  const node = el(
    "div",
    {},
    el("h1", { class: "off-screen" }, "Handlers"),
    totals,
    el(
      "form",
      { class: "toolbar", role: "search" },
      el("label", { for: "filter", class: "off-screen" }, "Filter handlers"),
      input,
      services,
      order,
      live,
    ),
    help(),
    table.node,
    below,
  );

  const fillServices = () => {
    const names = [...new Set(body.handlers.map((row) => row.service))].sort();
    const option = (/** @type {string} */ name) => el("option", { value: name }, name);
    fill(services, el("option", { value: "" }, counted(names.length, "service")), ...names.map(option));
  };
  const choose = () => {
    input.value = route.query.get("q") ?? "";
    services.value = route.query.get("service") ?? "";
    order.value = orderText(table.order);
  };
  const draw = () => {
    const text = route.query.get("q") ?? "";
    const service = route.query.get("service") ?? "";
    const { test, misread } = filter(text);
    const all = body.handlers;
    const rows =
      text === "" && service === "" ? all : all.filter((row) => (!service || row.service === service) && test(row));
    table.show(rows);
    sums(totals, rows, body);
    fill(
      live,
      rows.length === all.length
        ? counted(all.length, "handler")
        : `${count(rows.length)} of ${counted(all.length, "handler")}`,
      misread.length > 0 && el("span", { class: "bad" }, ` not understood: ${misread.join(" ")}`),
    );
    fill(
      below,
      rest(body, rows, text, service),
      written_ms !== null && el("p", { class: "muted" }, "Written ", since(written_ms), "."),
    );
  };

  fill(
    order,
    el("option", { value: "" }, "by service"),
    ...COLUMNS.filter((column) => column.sort).map(({ key, label, text }) =>
      el("option", { value: orderText({ key, falling: !text }) }, label.replace("/ min", "Rate")),
    ),
  );
  fillServices();
  choose();
  draw();

  // Drawn once a frame at most, however fast somebody types: what was typed shows first.
  let waiting = 0;
  const type = () => {
    cancelAnimationFrame(waiting);
    waiting = 0;
    remember(route, { q: input.value.trim() });
    if (window.scrollY > 0) window.scrollTo(0, 0);
    draw();
  };
  input.addEventListener("input", () => {
    waiting ||= requestAnimationFrame(type);
  });
  input.form?.addEventListener("submit", (event) => {
    event.preventDefault();
    if (waiting) type();
    const id = input.value.trim().toLowerCase();
    const [only] = table.rows;
    if (isTrace(id)) location.hash = address("trace", id);
    else if (only) location.hash = address("handler", only.id);
  });
  services.addEventListener("change", () => {
    remember(route, { service: services.value });
    draw();
  });
  order.addEventListener("change", () => table.sortBy(parseOrder(order.value)));
  // Anywhere in a row is its link.
  table.body.addEventListener("click", (event) => {
    const target = /** @type {Element} */ (event.target);
    if (target.closest("a") || getSelection()?.toString()) return;
    target.closest("tr")?.querySelector("a")?.click();
  });

  return {
    title: "Handlers",
    node,
    close() {
      cancelAnimationFrame(waiting);
      table.close();
    },
    shown: draw,
    update(to) {
      route.query = to.query;
      table.order = parseOrder(to.query.get("sort"));
      table.heads();
      choose();
      draw();
    },
    async refresh() {
      const fresh = await read(signal);
      // Times are told in seconds.
      if (fresh.written_ms === written_ms && JSON.stringify(fresh.body) === JSON.stringify(body)) return;
      ({ body, written_ms } = fresh);
      fillServices();
      choose();
      draw();
    },
    keys: [
      ["/", "filter", () => input.focus()],
      [
        "Escape",
        "all handlers again",
        () => {
          input.value = "";
          remember(route, { q: "" });
          draw();
        },
      ],
    ],
  };
}

/**
 * @param {HTMLElement} totals
 * @param {Row[]} rows
 * @param {Handlers} body
 */
function sums(totals, rows, body) {
  const requests = rows.reduce((sum, row) => sum + row.count, 0);
  const errors = rows.reduce((sum, row) => sum + row.errors, 0);
  const rate = rows.reduce((sum, row) => sum + perMinute(row), 0);
  const missed = body.not_found.reduce((sum, list) => sum + list.count, 0);
  const one = (/** @type {string} */ name, /** @type {import("../dom.js").Child[]} */ ...value) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, ...value));
  fill(
    totals,
    el(
      "dl",
      {},
      one("Handlers", count(rows.length)),
      one("Services", count(new Set(rows.map((row) => row.service)).size)),
      one("Requests", count(requests), el("small", {}, ` ${rough(rate)} / min`)),
      one(
        "Errors",
        el("span", { class: errors > 0 ? "bad" : "" }, count(errors)),
        el("small", {}, ` ${percent(errors, requests)}`),
      ),
      missed > 0 && one("Hit no handler", el("a", { href: address("not-found") }, count(missed))),
    ),
  );
}

/**
 * What stands below the table: nothing found, and what is summed up.
 * @param {Handlers} body
 * @param {Row[]} rows
 * @param {string} text
 * @param {string} service
 */
function rest(body, rows, text, service) {
  const notes = [];
  const id = text.trim().toLowerCase();
  if (isTrace(id)) {
    notes.push(el("p", {}, "That is a trace's id: ", el("a", { href: address("trace", id) }, "open the trace"), "."));
  } else if (body.handlers.length === 0) {
    notes.push(el("p", { class: "empty" }, "No handler yet: nothing that was indexed entered a service."));
  } else if (rows.length === 0) {
    notes.push(el("p", { class: "empty" }, "No handler fits. ", el("a", { href: address("handlers") }, "Show all")));
  }
  for (const others of body.others) {
    if (service && others.service !== service) continue;
    notes.push(
      el(
        "p",
        { class: "muted" },
        `${others.service} has ${counted(others.handlers, "more handler")} with ${counted(others.count, "request")} ` +
          `(${counted(others.errors, "error")}): beyond its busiest, which alone are listed (setting max_handlers).`,
      ),
    );
  }
  return el("div", {}, ...notes);
}

function help() {
  const row = (/** @type {string} */ example, /** @type {string} */ meaning) =>
    el("li", {}, el("code", {}, example), " ", meaning);
  return el(
    "details",
    { class: "help", id: "filter-help" },
    el("summary", {}, "How to filter"),
    el(
      "ul",
      {},
      row("checkout post", "both words, in the name, route, service or id"),
      row("-health", "without a word"),
      row("service:web kind:rpc method:get", "in one field; also namespace: and id:"),
      row("errors:>1% errors:>10", "a part of the requests, or a number of them"),
      row("p95:>200ms p50:<5s", "latency; ns, us, ms, s, min"),
      row("requests:>1000 rate:<0.1", "how many, in all and a minute"),
    ),
  );
}
