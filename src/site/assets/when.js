// Moments in the page: on the reader's clock, with UTC behind.

import { el } from "./dom.js";
import { ago, moment, NOTHING, utc } from "./format.js";

/**
 * A moment, eg `22 Nov, 02:16:27`.
 * @param {number | null | undefined} ms since 1970
 */
export function when(ms) {
  if (ms === null || ms === undefined) return NOTHING;
  return el("time", { datetime: utc(ms), title: utc(ms) }, moment(ms));
}

/**
 * How long ago, eg `5 min ago`.
 * @param {number | null | undefined} ms since 1970
 */
export function since(ms) {
  if (ms === null || ms === undefined) return NOTHING;
  return el("time", { datetime: utc(ms), title: `${moment(ms)} here, ${utc(ms)}` }, ago(ms, Date.now()));
}
