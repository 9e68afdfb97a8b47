// What people type to find handlers: words, and a few questions about numbers. Pure.
//
//   checkout post          both words, anywhere in the name, the route, the service or the id
//   -health                without that word
//   service:web kind:rpc   in one field
//   errors:>1%  p95:>200ms errors, requests, rate (a minute), p50, p95, p99 above or below

/** @typedef {import("./store.js").Row} Row */
/** @typedef {(row: Row) => boolean} Test */

/** @type {Record<string, (row: Row) => string>} */
const FIELDS = {
  service: (row) => row.service,
  namespace: (row) => row.namespace,
  kind: (row) => row.kind,
  method: (row) => row.method ?? "",
  id: (row) => `${row.id} ${row.aliases.join(" ")}`,
};

/** @type {Record<string, (row: Row) => number | null>} */
const NUMBERS = {
  requests: (row) => row.count,
  rate: (row) => perMinute(row),
  errors: (row) => row.errors,
  p50: (row) => row.p50_ms,
  p95: (row) => row.p95_ms,
  p99: (row) => row.p99_ms,
};

/** Other names for them. */
const ALSO = new Map([
  ["count", "requests"],
  ["error", "errors"],
  ["ns", "namespace"],
]);

/** @type {Record<string, number>} */
const UNITS = { "": 1, ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1e3, m: 6e4, min: 6e4, k: 1e3 };

/**
 * Entries a minute, on average over the hours of the spark line (24 at most).
 * @param {Row} row
 */
export function perMinute(row) {
  let rate = rates.get(row);
  if (rate === undefined) {
    rate = row.spark.length === 0 ? 0 : row.spark.reduce((sum, n) => sum + n, 0) / row.spark.length / 60;
    rates.set(row, rate);
  }
  return rate;
}

/** @type {WeakMap<Row, number>} */
const rates = new WeakMap();

/**
 * The test that a text asks for, and what in it was not understood.
 * @param {string} text
 * @returns {{ test: Test, misread: string[] }}
 */
export function filter(text) {
  /** @type {Test[]} */
  const tests = [];
  /** @type {string[]} */
  const misread = [];
  for (const word of text.toLowerCase().split(/\s+/).filter(Boolean)) {
    const not = word.length > 1 && word.startsWith("-");
    const plain = not ? word.slice(1) : word;
    const test = question(plain);
    if (test === null) misread.push(word);
    else tests.push(not ? (row) => !test(row) : test);
  }
  return { test: (row) => tests.every((test) => test(row)), misread };
}

/**
 * @param {string} word
 * @returns {Test | null} null if it is none
 */
function question(word) {
  const [, field = "", value = ""] = /^([a-z0-9]+):(.*)$/.exec(word) ?? [];
  const name = ALSO.get(field) ?? field;
  const text = FIELDS[name];
  if (text) return (row) => text(row).toLowerCase().includes(value);
  const number = NUMBERS[name];
  if (!number) return (row) => words(row).includes(word);
  const [, sign, digits, unit = ""] = /^(<=?|>=?|=?)(\d+(?:\.\d+)?)(%|ns|us|µs|ms|s|min|m|k)?$/.exec(value) ?? [];
  if (digits === undefined) return value === "" ? () => true : null;
  if (unit === "%" && name !== "errors") return null;
  const of = unit === "%" ? (/** @type {Row} */ row) => (100 * row.errors) / Math.max(row.count, 1) : number;
  const limit = Number(digits) * (unit === "%" ? 1 : (UNITS[unit] ?? 1));
  return (row) => {
    const n = of(row);
    if (n === null) return false;
    if (sign === "<") return n < limit;
    if (sign === "<=") return n <= limit;
    if (sign === ">") return n > limit;
    return sign === "=" ? n === limit : n >= limit;
  };
}

/** @type {WeakMap<Row, string>} */
const known = new WeakMap();

/**
 * All words of a row, made once.
 * @param {Row} row
 */
function words(row) {
  let text = known.get(row);
  if (text === undefined) {
    text = [row.service, row.namespace, row.kind, row.name, row.method, row.route, row.id, ...row.aliases]
      .join("\n")
      .toLowerCase();
    known.set(row, text);
  }
  return text;
}
