// The frame of the pages: which one the address asks for, what stands while it loads, keys, titles.

import { el, fill } from "./dom.js";
import { Help } from "./help.js";
import { farm } from "./pages/farm.js";
import { handler } from "./pages/handler.js";
import { handlers } from "./pages/handlers.js";
import { failure, unknown } from "./pages/message.js";
import { notFound } from "./pages/not-found.js";
import { trace } from "./pages/trace.js";
import { parse } from "./router.js";
import { themeSwitch } from "./theme.js";

/** @typedef {import("./router.js").Route} Route */
/** @typedef {[key: string, does: string, act: () => void]} Shortcut */

/**
 * @typedef {object} View A page that is shown.
 * @property {string} title
 * @property {HTMLElement} node
 * @property {Shortcut[]} [keys]
 * @property {boolean} [fixed] it fills the window, and scrolls within
 * @property {() => void} [shown] it is in the document now
 * @property {(route: Route) => void} [update] the same page, another query
 * @property {() => Promise<void>} [refresh] reads again what workers write over
 * @property {() => void} [close]
 */

/** @type {Record<string, (route: Route, signal: AbortSignal) => Promise<View>>} */
const PAGES = { handlers, handler, trace, "not-found": notFound, farm };

/** Until then a page is expected to be there, and nothing is said. */
const PATIENCE_MS = 200;

/** Workers publish every minute at most; that of `tracefarm dev`, which says so in its pages' address, at once. */
const REFRESH_MS = new URLSearchParams(location.search).has("live") ? 1_000 : 60_000;

const main = /** @type {HTMLElement} */ (document.getElementById("main"));
const tools = /** @type {HTMLElement} */ (document.getElementById("tools"));
const help = new Help();
/** @type {{ route: Route, view: View | null, stop: AbortController, since: number } | null} */
let current = null;

async function go() {
  const route = parse(location.hash);
  if (current?.view?.update && current.route.page === route.page && current.route.id === route.id) {
    current.view.update(route);
    return;
  }
  current?.stop.abort();
  current?.view?.close?.();
  const mine = { route, view: /** @type {View | null} */ (null), stop: new AbortController(), since: Date.now() };
  const isFirst = current === null;
  current = mine;
  for (const link of document.querySelectorAll("#pages a")) {
    const page = parse(link.getAttribute("href") ?? "").page;
    // A handler and a trace are reached from the list.
    if (page === route.page) link.setAttribute("aria-current", "page");
    else if (page === "handlers" && ["handler", "trace"].includes(route.page))
      link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  const loading = setTimeout(() => {
    main.setAttribute("aria-busy", "true");
    fill(main, el("p", { class: "loading", role: "status" }, "Loading…"));
  }, PATIENCE_MS);
  const page = PAGES[route.page];
  let view;
  try {
    view = page ? await page(route, mine.stop.signal) : { title: "No such page", node: unknown(route) };
  } catch (error) {
    if (mine !== current) return;
    view = { title: "Not to be shown", node: failure(error, route, restart) };
  } finally {
    clearTimeout(loading);
  }
  if (mine !== current) {
    view.close?.();
    return;
  }
  mine.view = view;
  main.removeAttribute("aria-busy");
  document.title = `${view.title} – tracefarm`;
  document.body.classList.toggle("fixed", view.fixed ?? false);
  fill(main, view.node);
  if (!view.fixed) window.scrollTo(0, 0);
  view.shown?.();
  // A screen reader begins to read at the new page.
  if (!isFirst) main.focus({ preventScroll: true });
}

function restart() {
  current?.stop.abort();
  current?.view?.close?.();
  current = null;
  go();
}

/** @param {KeyboardEvent} event */
function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || help.isOpen()) return;
  const target = /** @type {HTMLElement} */ (event.target);
  const types = target.closest("input, select, textarea");
  if (types && event.key !== "Escape") return;
  if (event.key === "?") {
    help.show(current?.view?.keys ?? []);
    event.preventDefault();
    return;
  }
  const [, , act] = current?.view?.keys?.find(([name]) => name === event.key) ?? [];
  if (!act) return;
  event.preventDefault();
  act();
  if (types) target.blur();
}

function refresh() {
  if (document.hidden || !current?.view?.refresh || Date.now() - current.since < REFRESH_MS) return;
  current.since = Date.now();
  // What was there stays if the store does not answer just now.
  current.view.refresh().catch(() => {});
}

window.addEventListener("hashchange", go);
document.addEventListener("keydown", key);
document.addEventListener("visibilitychange", refresh);
setInterval(refresh, REFRESH_MS / 4);
document.getElementById("skip")?.addEventListener("click", () => main.focus());
fill(
  tools,
  help.button(() => help.show(current?.view?.keys ?? [])),
  themeSwitch(),
);
go();
