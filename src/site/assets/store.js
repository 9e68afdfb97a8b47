// The documents of the store, by addresses relative to the page: a bucket, `tracefarm serve` and any server on the
// store's folder are alike. Their shapes are those of the JSON Schemas in `src/stage/publish/schema`.

import { isExtra, isHandler, isList, isPin, isTrace } from "./id.js";

/** The version of the documents that these pages read. */
const VERSION = 1;

/**
 * @typedef {object} Row A handler with its numbers.
 * @property {string} id
 * @property {string[]} aliases
 * @property {string} service
 * @property {string} namespace
 * @property {string} kind
 * @property {string} name
 * @property {string | null} method
 * @property {string | null} route
 * @property {number} count
 * @property {number} errors
 * @property {number | null} last_ms
 * @property {number | null} p50_ms
 * @property {number | null} p95_ms
 * @property {number | null} p99_ms
 * @property {number[]} spark
 * @property {number} adopted
 *
 * @typedef {{ service: string, namespace: string, handler: string, list: string, count: number, paths: number,
 *   last_ms: number | null }} NotFoundRow A 404 list.
 * @typedef {{ service: string, handlers: number, count: number, errors: number }} Others
 * @typedef {{ version: number, handlers: Row[], others: Others[], not_found: NotFoundRow[] }} Handlers
 *
 * @typedef {{ trace_id: string, span_id: string, start_ms: number, duration_ms: number, error: boolean }} Entry
 * @typedef {{ method: string, path: string, count: number, last_ms: number, newest: Entry, matches?: string[] }} Path
 * @typedef {{ service: string, operation: string, count: number, errors: number, p50_ms: number | null,
 *   p95_ms: number | null }} Call
 * @typedef {{ start_ms: number, seconds: number, count: number, errors: number }} Point
 * @typedef {{ le_ms: number | null, count: number }} Bucket
 * @typedef {{ name: string, key: string, bytes: number, content_type: string }} Extra
 *
 * @typedef {object} Summary
 * @property {number} version
 * @property {number} catalogue
 * @property {Row} handler
 * @property {number | null} first_ms
 * @property {{ quantile: number, ms: number }[]} latency
 * @property {Bucket[]} histogram
 * @property {Record<string, number>} statuses
 * @property {{ type: string, count: number, example: Entry | null }[]} error_types
 * @property {Point[]} history
 * @property {Entry[]} newest
 * @property {Entry[]} newest_errors
 * @property {Entry[]} slowest
 * @property {{ trace_id: string, start_ms: number, key: string }[]} pins
 * @property {Call[]} calls
 * @property {Path[]} adopted
 * @property {number} [route_added_ms] When a person wrote its route.
 * @property {Path[]} paths
 * @property {Extra[]} [extras] What the store's `publish_command` made of the handler.
 * @property {string} [extra_error] Why that failed.
 *
 * @typedef {{ version: number, list: NotFoundRow, requests: Path[] }} NotFound
 *
 * @typedef {{ objects: number, bytes: number, oldest_seconds: number, more: boolean, kept: boolean }} Backlog
 * @typedef {{ stage: string, item: string, why: string, times: number, since: string }} Failing
 * @typedef {{ from: number, until: number, shards: [number, number] | null }} Slice
 * @typedef {{ objects: number, bytes: number, oldest_seconds: number | null, newest: string[] }} Quarantined
 *
 * @typedef {object} Vitals What a worker says of itself.
 * @property {number | null} rank
 * @property {number} peers
 * @property {string | null} stage
 * @property {number} failing_items
 * @property {Failing[]} failing
 * @property {number} spans
 * @property {number | null} memory_bytes
 *
 * @typedef {object} Worker
 * @property {string} name
 * @property {number} seen_seconds
 * @property {boolean} alive
 * @property {string | null} version
 * @property {string | null} started
 * @property {number} in_hand
 * @property {Slice | null} slice
 * @property {boolean} kept_out Whether it has no place though it has had the time to find one.
 * @property {Vitals | null} vitals
 *
 * @typedef {object} Farm
 * @property {number} version
 * @property {number} written_ms
 * @property {number} again_seconds
 * @property {Worker[]} workers
 * @property {Backlog | null} backlog
 * @property {Record<string, Quarantined>} quarantine
 * @property {string[]} damaged_blocks
 * @property {{ day: string, requests: number, dollars: number }} today
 * @property {number} shards
 */

/**
 * A document, and when it was written.
 * @template T
 * @typedef {{ body: T, written_ms: number | null }} Document
 */

/** Why a document cannot be shown. */
export class StoreError extends Error {
  /**
   * @param {"missing" | "unreachable" | "refused" | "damaged" | "other-version"} kind
   * @param {string} path
   * @param {string} message
   */
  constructor(kind, path, message) {
    super(message);
    this.kind = kind;
    this.path = path;
  }
}

/** The addresses of files, relative to the page. Ids are checked here, once more: none leads out of its folder. */
export const files = {
  handlers: "handlers.json",
  farm: "farm.json",
  /** @param {string} id */
  summary: (id) => `handlers/${sure(isHandler, id)}/summary.json`,
  /** @param {string} id */
  traces: (id) => `handlers/${sure(isHandler, id)}/traces.json.gz`,
  /** @param {string} id @param {string} key as the summary has it, within the store */
  extra(id, key) {
    const folder = `site/handlers/${sure(isHandler, id)}/extra/`;
    const name = sure((text) => text.startsWith(folder) && isExtra(text.slice(folder.length)), key).slice(
      folder.length,
    );
    // What is escaped in the key is part of its name.
    return `handlers/${id}/extra/${name.replaceAll("%", "%25")}`;
  },
  /** @param {string} id */
  trace: (id) => `traces/${sure(isTrace, id)}.json.gz`,
  /** @param {string} list */
  notFound: (list) => `not-found/${sure(isList, list)}.json`,
  /** @param {string} key */
  pin: (key) => `../${sure(isPin, key)}`,
  /** @param {string} id */
  api: (id) => `../api/trace/${sure(isTrace, id)}`,
};

/** @param {AbortSignal} [signal] @returns {Promise<Document<Handlers>>} */
export const handlers = (signal) => versioned(files.handlers, signal);

/** @param {string} id @param {AbortSignal} [signal] @returns {Promise<Document<Summary>>} */
export const summary = (id, signal) => versioned(files.summary(id), signal);

/** @param {string} list @param {AbortSignal} [signal] @returns {Promise<Document<NotFound>>} */
export const notFound = (list, signal) => versioned(files.notFound(list), signal);

/** @param {AbortSignal} [signal] @returns {Promise<Document<Farm>>} */
export const farm = (signal) => versioned(files.farm, signal);

/**
 * A document, or null if it is not in the store.
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export async function ifThere(path, signal) {
  try {
    return (await read(path, signal)).body;
  } catch (error) {
    if (error instanceof StoreError && error.kind === "missing") return null;
    throw error;
  }
}

/**
 * @param {(text: string) => boolean} fits
 * @param {string} text
 */
function sure(fits, text) {
  if (!fits(text)) throw new StoreError("missing", text, "This is not an id of this store.");
  return text;
}

/**
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @returns {Promise<Document<any>>}
 */
async function versioned(path, signal) {
  const document = await read(path, signal);
  const version = document.body?.version;
  if (version !== VERSION) {
    const message = `It has version ${version}, these pages read version ${VERSION}. Reload the page; if that does not help, the workers of this farm run different versions of tracefarm.`;
    throw new StoreError("other-version", path, message);
  }
  return document;
}

/**
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @returns {Promise<Document<any>>}
 */
async function read(path, signal) {
  let answer;
  try {
    // Asked again each time: workers write these over. An unchanged one costs no more than the question.
    answer = await fetch(new URL(path, document.baseURI), { cache: "no-cache", signal: signal ?? null });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new StoreError(
      "unreachable",
      path,
      "The store does not answer. Is the server still running, and are you online?",
    );
  }
  // A bucket whose contents may not be listed says 403 of what is not there.
  if (answer.status === 404 || answer.status === 403) {
    throw new StoreError("missing", path, `The store answered ${answer.status}.`);
  }
  if (!answer.ok) throw new StoreError("refused", path, `The store answered ${answer.status} ${answer.statusText}.`);
  const written = Date.parse(answer.headers.get("last-modified") ?? "");
  try {
    return { body: await json(await answer.blob()), written_ms: Number.isNaN(written) ? null : written };
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new StoreError("damaged", path, "It is not the JSON that it should be.");
  }
}

/**
 * JSON, gzip'd or not: the `.gz` are stored without Content-Encoding, but some servers add it, so the bytes tell.
 * @param {Blob} body
 */
async function json(body) {
  const [first, second] = new Uint8Array(await body.slice(0, 2).arrayBuffer());
  const isGzip = first === 0x1f && second === 0x8b;
  const text = isGzip ? new Response(body.stream().pipeThrough(new DecompressionStream("gzip"))) : body;
  return JSON.parse(await text.text());
}
