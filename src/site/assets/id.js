// Ids that become parts of addresses. What is not exactly of these forms is never asked for.

const PART = "(?!\\.)[A-Za-z0-9._~-]{1,200}";
const HANDLER = new RegExp(`^${PART}/(?!\\.)[A-Za-z0-9._~-]{1,191}-[0-9a-f]{8}$`);
const LIST = new RegExp(`^${PART}$`);
const TRACE = /^[0-9a-f]{32}$/;
const SPAN = /^[0-9a-f]{16}$/;
const EXTRA = /^(?!\.{1,2}$)[A-Za-z0-9._~%-]{1,200}$/;
const PIN = /^latest\/[0-9a-f]{2}\/(.+)\/-?\d{1,20}-[0-9a-f]{32}-[0-9a-f]{16}\.json\.gz$/;

/**
 * A handler's id: `<service>/<slug>-<8 hex digits>`.
 * @param {string | null | undefined} text
 */
export const isHandler = (text) => HANDLER.test(text ?? "");

/**
 * The name of a 404 list's document.
 * @param {string | null | undefined} text
 */
export const isList = (text) => LIST.test(text ?? "");

/**
 * A trace's id in hex, small letters.
 * @param {string | null | undefined} text
 */
export const isTrace = (text) => TRACE.test(text ?? "");

/**
 * A span's id in hex, small letters.
 * @param {string | null | undefined} text
 */
export const isSpan = (text) => SPAN.test(text ?? "");

/**
 * The key of a pinned trace, as `summary.json` names it.
 * @param {string} key
 */
export function isPin(key) {
  const handler = PIN.exec(key)?.[1];
  return handler !== undefined && isHandler(handler);
}

/**
 * The name of a file that the store's `publish_command` made, as it stands in a key.
 * @param {string} name
 */
export const isExtra = (name) => name.length <= 500 && name.split("/").every((part) => EXTRA.test(part));
