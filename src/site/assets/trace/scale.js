// The time axis: which part of a trace is shown, and where the ticks stand. Pure.

/** @typedef {{ from: number, to: number }} Range nanoseconds since the trace's first start */

/**
 * Nice moments between the ends of `range`, at most `most` of them.
 * @param {Range} range
 * @param {number} most
 */
export function ticks({ from, to }, most) {
  const length = Math.max(to - from, 1);
  const rough = length / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5, 10].find((n) => n * power >= rough) ?? 10) * power;
  const moments = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) moments.push(at);
  return moments;
}

/**
 * Where a moment stands in `range`, in percent of its length.
 * @param {Range} range
 * @param {number} at
 */
export const place = ({ from, to }, at) => (100 * (at - from)) / Math.max(to - from, 1);

/**
 * A range within the whole, at least a nanosecond long, whichever end comes first.
 * @param {number} a
 * @param {number} b
 * @param {number} whole nanoseconds
 * @returns {Range}
 */
export function rangeOf(a, b, whole) {
  const from = Math.max(0, Math.min(Math.min(a, b), whole - 1));
  return { from, to: Math.max(Math.min(Math.max(a, b), whole), from + 1) };
}

/**
 * A range as it stands in an address, eg `1200000-3400000`.
 * @param {string | null} text
 * @param {number} whole
 * @returns {Range | null}
 */
export function parseRange(text, whole) {
  const [, from, to] = /^(\d{1,16})-(\d{1,16})$/.exec(text ?? "") ?? [];
  return from === undefined || to === undefined ? null : rangeOf(Number(from), Number(to), whole);
}
