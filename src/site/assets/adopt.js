// From a request that hit nothing to the command that writes a route for it. Pure; what is made here is pasted into a
// shell, and the path in it is whatever a client sent.

/** The methods that a route may have. */
const METHODS = new Set("GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH QUERY _OTHER *".split(" "));

/** Characters that a route's spelling gives a meaning to, or that no terminal should be given. */
const ODD = /[*{}[\]<>()^\\$?:|]|[\p{C}\p{Zl}\p{Zp}]/u;

/**
 * A route that takes requests like these: what looks made up for one request is a parameter. None of a path in which
 * something would be read as more than text.
 * @param {string} path
 * @returns {string | null}
 */
export function routeOf(path) {
  if (!path.startsWith("/") || path.length > 1000 || ODD.test(path)) return null;
  let parameters = 0;
  const segments = path.split("/").map((segment) => {
    if (!isMadeUp(segment)) return segment;
    parameters += 1;
    return parameters === 1 ? "{id}" : `{id${parameters}}`;
  });
  const route = segments.join("/");
  return parameters === segments.length ? null : route;
}

/** Numbers, dates, UUIDs, ULIDs, and other long texts with digits among letters. @param {string} segment */
const isMadeUp = (segment) =>
  /\d/.test(segment) &&
  (/^[\d._+-]+$/.test(segment) ||
    /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i.test(segment) ||
    /^(0x)?[\da-f]{12,}$/i.test(segment) ||
    /^[\dA-HJKMNP-TV-Z]{26}$/.test(segment) ||
    (/^[\w-]{20,}={0,2}$/.test(segment) && /[a-z]/.test(segment) && /[A-Z]/.test(segment)));

/**
 * Whether a route takes a path; null if the route is spelled in a way that only the program reads.
 * @param {string} route with `{id}` and `{rest*}` for what changes
 * @param {string} path
 */
export function takes(route, path) {
  const parts = route.replace(/\/$/, "").split("/");
  if (!route.startsWith("/") || parts.some((part) => ODD.test(part.replace(/^\{[\w]+\*?\}$/, "")))) return null;
  const segments = path.replace(/\/$/, "").split("/");
  const rest = parts.findIndex((part) => part.endsWith("*}"));
  if (rest >= 0 && rest < parts.length - 1) return null;
  if (rest >= 0 ? segments.length <= rest : segments.length !== parts.length) return false;
  return parts.every((part, i) => i === rest || (part.startsWith("{") ? segments[i] !== "" : part === segments[i]));
}

/**
 * The command that writes a route; null if something in it is not for a command line.
 * @param {{ service: string, namespace: string }} list as the list of handlers names it
 * @param {string} method
 * @param {string} route
 */
export function commandOf({ service, namespace }, method, route) {
  // What lists call so has no name.
  const name = service === "unknown_service" ? "" : service;
  const words = [name, `${method} ${route}`, namespace];
  if (!METHODS.has(method) || !/^\/./.test(route) || words.some((word) => /[\p{C}\p{Zl}\p{Zp}]/u.test(word)))
    return null;
  return [
    "tracefarm handlers add",
    ...(namespace ? [quoted(`--namespace=${namespace}`)] : []),
    // A name that begins with a dash is no option.
    ...(name.startsWith("-") ? ["--"] : []),
    quoted(name),
    quoted(`${method} ${route}`),
  ].join(" ");
}

/** A word for a POSIX shell, in which nothing of it means anything. @param {string} word */
export const quoted = (word) => (/^[\w./=-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
