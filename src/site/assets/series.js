// A handler's history and latencies as series that a chart can draw. Pure.

/** @typedef {import("./store.js").Point} Point */
/** @typedef {import("./store.js").Bucket} Bucket */

const HOUR = 3600;
const MINUTE = 60;

/** A step without requests between two with is drawn as none, up to so many of them. */
const LONGEST_GAP = 24 * 366;

/**
 * @typedef {{ seconds: number, starts: number[], counts: number[], errors: number[] }} Series `starts` are seconds since
 *   1970; each stands for `seconds`
 */

/**
 * Requests an hour over all that is kept: the newest hours, which come by the minute, are added up.
 * @param {Point[]} history
 * @returns {Series}
 */
export const byHour = (history) => series(history, HOUR);

/**
 * Requests a minute, of the newest hours.
 * @param {Point[]} history
 * @returns {Series}
 */
export const byMinute = (history) =>
  series(
    history.filter((point) => point.seconds === MINUTE),
    MINUTE,
  );

/**
 * @param {Point[]} points
 * @param {number} seconds
 * @returns {Series}
 */
function series(points, seconds) {
  /** @type {Map<number, { count: number, errors: number }>} */
  const steps = new Map();
  for (const point of points) {
    const step = Math.floor(point.start_ms / 1000 / seconds);
    const sum = steps.get(step) ?? { count: 0, errors: 0 };
    steps.set(step, { count: sum.count + point.count, errors: sum.errors + point.errors });
  }
  const known = [...steps.keys()].sort((a, b) => a - b);
  const [first = 0] = known;
  const last = known.at(-1) ?? -1;
  // An archive may have an hour of last year and one of today: then only those with requests are drawn.
  const isDense = last - first <= LONGEST_GAP;
  const all = isDense ? Array.from({ length: last - first + 1 }, (_, i) => first + i) : known;
  return {
    seconds,
    starts: all.map((step) => step * seconds),
    counts: all.map((step) => steps.get(step)?.count ?? 0),
    errors: all.map((step) => steps.get(step)?.errors ?? 0),
  };
}

/**
 * Where a latency stands in a histogram: 0 is the left end of the first bar, 1 its right end. Within a bar in proportion
 * of the logarithm, as its ends are.
 * @param {Bucket[]} histogram
 * @param {number} ms
 * @returns {number | null} null if it is beyond the bars
 */
export function position(histogram, ms) {
  const at = histogram.findIndex(({ le_ms }) => le_ms === null || ms <= le_ms);
  const bucket = histogram[at];
  if (!bucket) return null;
  if (bucket.le_ms === null) return at + 0.5;
  const begin = histogram[at - 1]?.le_ms ?? before(bucket.le_ms);
  if (ms <= begin) return at;
  return at + Math.log(ms / begin) / Math.log(bucket.le_ms / begin);
}

/**
 * The end of the bar before one that ends at `ms`: ends are 1, 2 and 5 of each power of ten.
 * @param {number} ms
 */
function before(ms) {
  const power = 10 ** Math.floor(Math.log10(ms * 1.0001));
  const digit = Math.round(ms / power);
  return digit === 1 ? power / 2 : digit === 2 ? power : 2 * power;
}
