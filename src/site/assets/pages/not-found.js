// `#/404`: requests that hit no handler, by service.

import { commandOf, routeOf, takes } from "../adopt.js";
import { copyButton } from "../clipboard.js";
import { button, el, fill } from "../dom.js";
import { count, counted } from "../format.js";
import { isHandler } from "../id.js";
import { address, remember } from "../router.js";
import { notFound as read, handlers as readHandlers } from "../store.js";
import { orderText, parseOrder, plainTable, SortedTable } from "../table.js";
import { since } from "../when.js";
import { command } from "./message.js";

/** @typedef {import("../store.js").Path} Path */
/** @typedef {import("../store.js").NotFoundRow} NotFoundRow */
/** @typedef {import("../router.js").Route} Route */
/** @typedef {import("../main.js").View} View */
/** @typedef {{ path: Path, service: string, hint: string, list: NotFoundRow }} Line */

/** How many lists are asked for at once. */
const AT_ONCE = 6;

/**
 * @param {(line: Line) => void} adopt
 * @returns {import("../table.js").Column<Line>[]}
 */
const columns = (adopt) => [
  {
    key: "path",
    label: "Request",
    text: true,
    sort: ({ path }) => `${path.path}\n${path.method}`,
    cell: ({ path, hint }) => request(path, hint),
  },
  { key: "service", label: "Service", text: true, sort: ({ service }) => service, cell: ({ service }) => service },
  { key: "requests", label: "Requests", sort: ({ path }) => path.count, cell: ({ path }) => count(path.count) },
  { key: "seen", label: "Last seen", sort: ({ path }) => path.last_ms, cell: ({ path }) => since(path.last_ms) },
  {
    key: "now",
    label: "Would hit now",
    title: "Handlers whose routes match the path",
    text: true,
    sort: ({ path }) => path.matches?.[0] ?? null,
    cell: (line) => {
      const ids = (line.path.matches ?? []).filter(isHandler);
      const name = `Write a route for ${line.path.method} ${line.path.path}`;
      if (ids.length === 0) {
        return ["none ", button({ class: "small", "aria-label": name }, () => adopt(line), "Write a route")];
      }
      return ids.flatMap((id, i) => [i > 0 && ", ", el("a", { href: address("handler", id) }, id)]);
    },
  },
];

/**
 * @param {Route} route
 * @param {AbortSignal} signal
 * @returns {Promise<View>}
 */
export async function notFound(route, signal) {
  const { body } = await readHandlers(signal);
  /** @type {Line[]} */
  let lines = [];
  /** @type {string[]} */
  const failed = [];
  const input = el("input", {
    type: "search",
    id: "filter",
    placeholder: "Filter by method and path",
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
  });
  const services = el("select", { "aria-label": "Service" });
  const live = el("p", { class: "found", role: "status" });
  const below = el("div", { class: "below" });
  const panel = el("div");
  const table = new SortedTable({
    caption: "Requests that hit no handler. The heads of columns sort.",
    className: "not-found",
    columns: columns((line) => {
      remember(route, { adopt: line.path.path, method: line.path.method, list: line.list.list });
      showPanel();
      panel.querySelector("input")?.focus();
    }),
    order: parseOrder(route.query.get("sort")),
    onOrder: (order) => remember(route, { sort: orderText(order) }),
  });
  const requests = body.not_found.reduce((sum, list) => sum + list.count, 0);
  const node = el(
    "div",
    {},
    el(
      "header",
      { class: "heading" },
      el("h1", {}, "Requests that hit no handler"),
      el(
        "p",
        { class: "muted" },
        requests === 0
          ? "Every request hit a handler."
          : `${counted(requests, "request")} to ${counted(body.not_found.length, "service")} were answered with 404 or 405 by no route. ` +
              "When a route appears that matches them, they become its first traces.",
      ),
    ),
    body.not_found.length > 0 &&
      el(
        "form",
        { class: "toolbar", role: "search" },
        el("label", { for: "filter", class: "off-screen" }, "Filter requests"),
        input,
        services,
        live,
      ),
    panel,
    body.not_found.length > 0 && table.node,
    below,
  );

  const showPanel = () => {
    const [path, method, list] = ["adopt", "method", "list"].map((name) => route.query.get(name));
    const line = lines.find(
      (line) => line.path.path === path && line.path.method === method && line.list.list === list,
    );
    const close = () => {
      remember(route, { adopt: "", method: "", list: "" });
      showPanel();
    };
    fill(panel, path !== null && line && adoption(line, lines, close));
  };
  const choose = () => {
    input.value = route.query.get("q") ?? "";
    services.value = route.query.get("service") ?? "";
  };
  const draw = () => {
    const words = (route.query.get("q") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    const service = route.query.get("service") ?? "";
    const fits = (/** @type {Line} */ { path, service: of }) => {
      const text = `${path.method} ${path.path} ${(path.matches ?? []).join(" ")}`.toLowerCase();
      return (!service || of === service) && words.every((word) => text.includes(word));
    };
    const shown = lines.filter(fits);
    table.show(shown);
    fill(
      live,
      shown.length === lines.length
        ? counted(lines.length, "path")
        : `${count(shown.length)} of ${counted(lines.length, "path")}`,
    );
    fill(
      below,
      shown.length === 0 &&
        lines.length > 0 &&
        el("p", { class: "empty" }, "No request fits. ", el("a", { href: address("not-found") }, "Show all")),
      ...body.not_found
        .filter((list) => list.paths >= 1000 && (!service || list.service === service))
        .map((list) =>
          el("p", { class: "muted" }, `Of ${list.service} the newest ${count(list.paths)} paths are listed.`),
        ),
      failed.length > 0 && el("p", { class: "bad" }, `Not to be read just now: ${failed.join(", ")}.`),
    );
  };

  const names = [...new Set(body.not_found.map((list) => list.service))].sort();
  fill(
    services,
    el("option", { value: "" }, counted(names.length, "service")),
    ...names.map((name) => el("option", { value: name }, name)),
  );
  choose();
  input.addEventListener("input", () => {
    remember(route, { q: input.value.trim() });
    draw();
  });
  input.form?.addEventListener("submit", (event) => event.preventDefault());
  services.addEventListener("change", () => {
    remember(route, { service: services.value });
    draw();
  });

  const waiting = [...body.not_found];
  const readSome = async () => {
    for (let list = waiting.shift(); list; list = waiting.shift()) {
      try {
        const { service, handler } = list;
        const { body: document } = await read(list.list, signal);
        lines.push(...document.requests.map((path) => ({ path, service, hint: handler, list })));
      } catch {
        signal.throwIfAborted();
        failed.push(list.service);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, readSome));
  lines = lines.sort((a, b) => b.path.last_ms - a.path.last_ms);
  showPanel();

  return {
    title: "Requests that hit no handler",
    node,
    close: () => table.close(),
    shown: draw,
    update(to) {
      route.query = to.query;
      table.order = parseOrder(to.query.get("sort"));
      table.heads();
      choose();
      showPanel();
      draw();
    },
    keys: [
      ["/", "filter", () => input.focus()],
      [
        "Escape",
        "all requests again",
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
 * How requests like this one become a handler's: the command that writes its route. Pages only read; whoever may write to
 * the store runs it.
 * @param {Line} line
 * @param {Line[]} lines
 * @param {() => void} close
 */
function adoption({ path: { method, path }, list }, lines, close) {
  const input = el("input", {
    id: "route",
    type: "text",
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
  });
  input.value = routeOf(path) ?? "";
  const words = el("div", { class: "command" });
  const taken = el("p", { class: "muted", role: "status" });
  const draw = () => {
    const route = input.value.trim();
    const text = route === "" ? null : commandOf(list, method, route);
    fill(words, text !== null && command(text), text !== null && copyButton("Copy the command", () => text));
    const fits = lines.filter((line) => line.list.list === list.list && line.path.method === method);
    const told = fits.map((line) => takes(route, line.path.path));
    const paths = told.filter(Boolean).length;
    const requests = fits.reduce((sum, line, i) => sum + (told[i] ? line.path.count : 0), 0);
    fill(
      taken,
      text === null
        ? "There is no command for this: a route begins with a slash, and what goes into a shell has no control characters."
        : told.includes(null)
          ? "Which paths it takes shows once it is written."
          : `It takes ${counted(paths, "path")} of this list with ${counted(requests, "request")}.`,
    );
  };
  input.addEventListener("input", draw);
  draw();
  return el(
    "section",
    { class: "panel adopt", "aria-label": "Write a route" },
    el(
      "div",
      { class: "panel-head" },
      el("h2", {}, "Write a route for ", el("span", { class: "method" }, method), " ", path),
      button({ class: "small" }, close, "Close"),
    ),
    el(
      "p",
      { class: "muted" },
      "With a route these requests are the first of its handler. They stay on this list, and no trace moves. ",
      "Where TRACEFARM_STORE names this store (else add --store), run:",
    ),
    el("p", {}, el("label", { for: "route" }, "Route "), input),
    words,
    taken,
  );
}

/**
 * A table of paths within another page.
 * @param {Path[]} all
 * @param {{ hint: string, caption: string }} about `hint`: the handler where their traces are looked for
 */
export function paths(all, { hint, caption }) {
  const rows = all.map((path) => [[request(path, hint)], [count(path.count)], [since(path.last_ms)]]);
  return plainTable(caption, ["Request", "#Requests", "Last seen"], rows);
}

/**
 * A request, which leads to the newest of its kind.
 * @param {Path} path
 * @param {string} hint
 */
function request({ method, path, newest }, hint) {
  return el(
    "a",
    { href: address("trace", newest.trace_id, { h: hint, span: newest.span_id }), title: `${method} ${path}` },
    el("span", { class: "method" }, method || "–"),
    " ",
    path || "(no path)",
  );
}
