// Addresses: everything a page shows stands after the `#`, so that a link shows it to somebody else.

import { isHandler, isTrace } from "./id.js";

/**
 * @typedef {"handlers" | "handler" | "trace" | "not-found" | "farm" | "unknown"} Page
 * @typedef {{ page: Page, id: string, query: URLSearchParams }} Route
 */

/**
 * What an address asks for. An id that is none leads to `unknown`: it is shown, and never asked for.
 * @param {string} hash with its `#`
 * @returns {Route}
 */
export function parse(hash) {
  const [path = "", query = ""] = split(hash.replace(/^#/, ""), "?");
  const parameters = new URLSearchParams(query);
  const [, first = "", rest = ""] = /^\/([^/]*)(?:\/(.*))?$/.exec(path) ?? [];
  /** @param {Page} page @param {string} [id] */
  const route = (page, id = "") => ({ page, id, query: parameters });
  if (path === "" || path === "/") return route("handlers");
  if (first === "h" && isHandler(rest)) return route("handler", rest);
  if (first === "t" && isTrace(rest.toLowerCase())) return route("trace", rest.toLowerCase());
  if (first === "404" && rest === "") return route("not-found");
  if (first === "farm" && rest === "") return route("farm");
  return route("unknown", path);
}

/**
 * The address of a page.
 * @param {Page} page
 * @param {string} [id]
 * @param {Record<string, string | null | undefined> | URLSearchParams} [query] what is empty is left out
 */
export function address(page, id = "", query = {}) {
  const paths = { handlers: "", handler: `h/${id}`, trace: `t/${id}`, "not-found": "404", farm: "farm", unknown: "" };
  const parameters = new URLSearchParams();
  const entries = query instanceof URLSearchParams ? query : Object.entries(query);
  for (const [name, value] of entries) if (value) parameters.append(name, value);
  const text = parameters.toString();
  return `#/${paths[page]}${text ? `?${text}` : ""}`;
}

/**
 * Writes what a page shows now into its address, without a step in the history.
 * @param {Route} route
 * @param {Record<string, string | null | undefined>} changes empty values take a parameter away
 */
export function remember(route, changes) {
  for (const [name, value] of Object.entries(changes)) {
    if (value) route.query.set(name, value);
    else route.query.delete(name);
  }
  const now = address(route.page, route.id, route.query);
  if (now !== location.hash) history.replaceState(null, "", now);
}

/**
 * @param {string} text
 * @param {string} mark
 */
function split(text, mark) {
  const at = text.indexOf(mark);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}
