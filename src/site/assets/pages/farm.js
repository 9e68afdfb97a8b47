// `#/farm`: who works, what waits, what fails.

import { el } from "../dom.js";
import { farm as read, StoreError } from "../store.js";
import { command, message } from "./message.js";

/** @typedef {import("../router.js").Route} Route */
/** @typedef {import("../main.js").View} View */

/**
 * @param {Route} _route
 * @param {AbortSignal} signal
 * @returns {Promise<View>}
 */
export async function farm(_route, signal) {
  try {
    await read(signal);
  } catch (error) {
    if (!(error instanceof StoreError) || error.kind !== "missing") throw error;
  }
  return {
    title: "The farm",
    node: message(
      "The farm does not tell of itself yet",
      el("p", {}, "What its workers do is told by a command:"),
      command("tracefarm --store <this store> status"),
    ),
  };
}
