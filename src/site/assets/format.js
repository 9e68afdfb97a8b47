// Numbers, durations and times as people read them. Everything here is pure.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const two = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });
const three = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

/** What stands where there is nothing to tell. */
export const NOTHING = "–";

/**
 * A number of things, eg `12,345`.
 * @param {number} n
 */
export const count = (n) => whole.format(n);

/**
 * A number of things with their name, eg `1 span`, `12,345 spans`.
 * @param {number} n
 * @param {string} one
 * @param {string} [many]
 */
export const counted = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/**
 * A rate or another number that need not be exact, eg `0.0123`, `4.56`, `1,230`.
 * @param {number} n
 */
export const rough = (n) => (Math.abs(n) >= 100 ? whole.format(n) : three.format(n));

/**
 * A part of a whole, eg `1.4 %`; neither none nor all unless it is.
 * @param {number} part
 * @param {number} all
 */
export function percent(part, all) {
  if (all <= 0) return NOTHING;
  const percents = (100 * part) / all;
  if (part > 0 && percents < 0.01) return "< 0.01 %";
  if (part < all && percents > 99.9) return "> 99.9 %";
  return `${percents < 10 ? two.format(percents) : rough(percents)} %`;
}

/**
 * Milliseconds as a duration, eg `12.3 µs`, `4.56 ms`, `1.23 s`, `2 min 5 s`, `3 h 10 min`.
 * @param {number | null | undefined} ms
 * @returns {string}
 */
export function duration(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return NOTHING;
  if (ms < 0) return `−${duration(-ms)}`;
  if (ms === 0) return "0";
  if (ms < 0.0009995) return `${three.format(ms * 1e6)} ns`;
  if (ms < 0.9995) return `${three.format(ms * 1e3)} µs`;
  if (ms < 999.5) return `${three.format(ms)} ms`;
  if (ms < 59_950) return `${three.format(ms / 1e3)} s`;
  const seconds = Math.round(ms / 1e3);
  const [unit, below, first, second] =
    seconds < 3600 ? [60, 1, "min", "s"] : seconds < 86_400 ? [3600, 60, "h", "min"] : [86_400, 3600, "d", "h"];
  // Rounded before it is divided: 59.9 minutes are an hour.
  const small = Math.round(seconds / Number(below));
  const per = Number(unit) / Number(below);
  const big = Math.floor(small / per);
  return small % per === 0 ? `${big} ${first}` : `${big} ${first} ${small % per} ${second}`;
}

/**
 * Nanoseconds as a duration.
 * @param {number} ns
 */
export const nanos = (ns) => duration(ns / 1e6);

/**
 * How long ago, eg `now`, `40 s ago`, `5 min ago`, `3 d ago`; `in 5 min` of a clock that runs ahead.
 * @param {number} ms since 1970
 * @param {number} now
 */
export function ago(ms, now) {
  const seconds = Math.round((now - ms) / 1e3);
  const away = Math.abs(seconds);
  if (away < 5) return "now";
  const text =
    away < 60
      ? `${away} s`
      : away < 3600
        ? `${Math.floor(away / 60)} min`
        : away < 2 * 86_400
          ? `${Math.floor(away / 3600)} h`
          : `${count(Math.floor(away / 86_400))} d`;
  return seconds < 0 ? `in ${text}` : `${text} ago`;
}

const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const dayOfYear = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const time = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/**
 * A moment on the reader's clock, eg `22 Nov, 02:16:27`, with the year if it is another one than `now`'s.
 * @param {number} ms since 1970
 * @param {number} [now]
 */
export function moment(ms, now = Date.now()) {
  const date = new Date(ms);
  if (Number.isNaN(date.getTime())) return NOTHING;
  const sameYear = date.getFullYear() === new Date(now).getFullYear();
  return `${(sameYear ? day : dayOfYear).format(date)}, ${time.format(date)}`;
}

/**
 * A moment in UTC, eg `2026-11-22T01:16:27.123Z`.
 * @param {number} ms since 1970
 */
export function utc(ms) {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? NOTHING : date.toISOString();
}

/**
 * A moment in UTC with all its digits.
 * @param {bigint} ns since 1970
 */
export function utcNanos(ns) {
  const seconds = utc(Number(ns / 1_000_000_000n) * 1e3);
  return seconds.replace(".000Z", `.${String(ns % 1_000_000_000n).padStart(9, "0")}Z`);
}

/**
 * A size, eg `512 B`, `4.56 kB`, `1.23 GB`.
 * @param {number} n
 */
export function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (n >= 999.5 && unit < units.length - 1) {
    n /= 1000;
    unit += 1;
  }
  return `${rough(n)} ${units[unit]}`;
}
