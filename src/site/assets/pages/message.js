// What stands in place of a page that cannot be shown: what is wrong, and what a person can do.

import { button, el } from "../dom.js";
import { isHandler } from "../id.js";
import { address } from "../router.js";
import { StoreError } from "../store.js";

/** @typedef {import("../router.js").Route} Route */
/** @typedef {import("../dom.js").Child} Child */

/**
 * @param {string} title
 * @param {...Child} children
 */
export function message(title, ...children) {
  return el("section", { class: "message" }, el("h1", {}, title), ...children);
}

/** A command to type. @param {string} text */
export const command = (text) => el("pre", {}, el("code", {}, text));

/**
 * @param {unknown} error
 * @param {Route} route
 * @param {() => void} again
 */
export function failure(error, route, again) {
  const retry = el("p", {}, button({}, again, "Try again"));
  if (!(error instanceof StoreError)) {
    const text = error instanceof Error ? error.message : String(error);
    return message(
      "This page failed",
      el("p", {}, "That is a mistake in the page itself: ", el("code", {}, text)),
      retry,
    );
  }
  const file = el("code", {}, `site/${error.path}`);
  if (error.kind !== "missing") return message("This cannot be shown", el("p", {}, file, ": ", error.message), retry);
  if (route.page === "handler") {
    return message(
      "There is no such handler",
      el("p", {}, "The store has no summary of ", el("code", {}, route.id), "."),
      el("p", {}, "It may have been renamed or removed, or all of its traces may have been forgotten."),
      el("p", {}, el("a", { href: address("handlers") }, "All handlers")),
      retry,
    );
  }
  return message(
    "There is nothing here yet",
    el("p", {}, "This store has no ", file, ". A worker writes it when it has indexed its first traces:"),
    command("tracefarm --store <this store> run"),
    el("p", {}, "New traces show here a minute or two after they are in the inbox."),
    retry,
  );
}

/** @param {Route} route */
export function unknown(route) {
  return message(
    "There is no such page",
    el("p", {}, "The address ", el("code", {}, route.id || "/"), " names neither a handler nor a trace of a store."),
    isHandler(route.id.replace(/^\//, "")) &&
      el("p", {}, el("a", { href: address("handler", route.id.replace(/^\//, "")) }, "Is it this handler?")),
    el("p", {}, el("a", { href: address("handlers") }, "All handlers")),
  );
}
