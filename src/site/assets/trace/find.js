// Where a trace may lie, and looking there: a page cannot ask a bucket for a trace by its id.

import { files, handlers, ifThere, summary } from "../store.js";
import { traceOf } from "./otlp.js";

/** @typedef {import("./otlp.js").Trace} Trace */
/** @typedef {import("./otlp.js").TracesDocument} TracesDocument */
/** @typedef {{ trace: Trace, from: string }} Found `from` is the document, relative to the page */

/** How many summaries are asked for at once when every handler is looked at. */
const AT_ONCE = 6;

/**
 * The trace, from where it is likeliest to where it is least: the documents of the handler that the address names, its
 * pins, the traces that are objects of their own, whoever answers questions (`tracefarm serve`), and the service's 404
 * list, from which the handler may have adopted it.
 * @param {string} id
 * @param {string} hint a handler, or nothing
 * @param {AbortSignal} signal
 * @returns {Promise<Found | null>}
 */
export async function find(id, hint, signal) {
  /** @type {(() => Promise<Found | null>)[]} */
  const places = hint ? [() => ofHandler(id, hint, signal)] : [];
  places.push(() => at(id, files.api(id), signal));
  if (hint) places.push(() => ofNotFound(id, hint, signal));
  else places.push(() => at(id, files.trace(id), signal));
  for (const look of places) {
    const found = await look();
    if (found) return found;
  }
  return null;
}

/**
 * @param {string} id
 * @param {string} path
 * @param {AbortSignal} signal
 * @returns {Promise<Found | null>}
 */
async function at(id, path, signal) {
  const document = /** @type {TracesDocument | null} */ (await ifThere(path, signal));
  const trace = document && traceOf(document, id);
  return trace ? { trace, from: path } : null;
}

/**
 * @param {string} id
 * @param {string} handler
 * @param {AbortSignal} signal
 * @returns {Promise<Found | null>}
 */
async function ofHandler(id, handler, signal) {
  const path = files.traces(handler);
  const document = /** @type {TracesDocument | null} */ (await ifThere(path, signal));
  const trace = document && traceOf(document, id);
  if (trace) return { trace, from: path };
  if (document?.tracefarm?.large?.includes(id)) return at(id, files.trace(id), signal);
  const about = await ifThere(files.summary(handler), signal);
  const pin = /** @type {{ trace_id: string, key: string }[] | undefined} */ (about?.pins)?.find(
    (pin) => pin.trace_id === id,
  );
  return pin ? at(id, files.pin(pin.key), signal) : null;
}

/**
 * @param {string} id
 * @param {string} handler
 * @param {AbortSignal} signal
 */
async function ofNotFound(id, handler, signal) {
  const { body } = await handlers(signal);
  const service = body.handlers.find((row) => row.id === handler || row.aliases.includes(handler))?.service;
  for (const list of body.not_found) {
    if (list.service !== service || list.handler === handler) continue;
    const found = await ofHandler(id, list.handler, signal);
    if (found) return found;
  }
  return null;
}

/**
 * Looks through the summaries of all handlers for one that names the trace.
 * @param {string} id
 * @param {(done: number, all: number) => void} progress
 * @param {AbortSignal} signal
 * @returns {Promise<string | null>} the handler
 */
export async function lookEverywhere(id, progress, signal) {
  const { body } = await handlers(signal);
  const waiting = [...body.handlers.map((row) => row.id), ...body.not_found.map((list) => list.handler)];
  const all = waiting.length;
  let done = 0;
  /** @type {string | null} */
  let found = null;
  const look = async () => {
    for (let next = waiting.shift(); next && !found; next = waiting.shift()) {
      // One that cannot be read may be the one; the others are looked at all the same.
      const about = await summary(next, signal).catch(() => null);
      signal.throwIfAborted();
      done += 1;
      progress(done, all);
      if (about && names(about.body, id)) found = next;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, look));
  return found;
}

/**
 * Whether a handler's documents have the trace.
 * @param {import("../store.js").Summary} about
 * @param {string} id
 */
function names(about, id) {
  const entries = [...about.newest, ...about.newest_errors, ...about.slowest, ...about.pins];
  return entries.some((entry) => entry.trace_id === id);
}
