// A list of many handlers, as `site/handlers.json` has them: made up, in the shape of the JSON Schema.

/**
 * @param {number} count
 * @param {number} now milliseconds since 1970
 */
export function manyHandlers(count, now) {
  // A generator of its own: each run draws the same.
  let seed = 1;
  const random = () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return seed / 2 ** 32;
  };
  const pick = (list) => list[Math.floor(random() * list.length)];
  const services = Array.from(
    { length: Math.max(1, Math.min(40, Math.ceil(count / 250))) },
    (_, i) => `${pick(["orders", "billing", "search", "media", "users", "stock", "mail", "gate"])}-${i}`,
  );
  const nouns = ["orders", "invoices", "items", "users", "carts", "images", "teams", "events", "reports", "devices"];
  const handlers = Array.from({ length: count }, (_, i) => {
    const service = services[i % services.length];
    const method = pick(["GET", "GET", "GET", "POST", "PUT", "DELETE"]);
    const route = `/v${1 + (i % 3)}/${pick(nouns)}/:id/${pick(nouns)}${i % 7 === 0 ? `/:sub/${pick(nouns)}-${i}` : `-${i}`}`;
    const total = Math.floor(10 ** (random() * 6));
    const failed = random() < 0.4 ? Math.floor(total * random() ** 6) : 0;
    const p50 = 10 ** (random() * 3 - 0.5);
    return {
      id: `${service}/${method.toLowerCase()}-${i}-${(i + 0x10000000).toString(16)}`,
      aliases: [],
      service,
      namespace: "",
      kind: "http",
      name: `${method} ${route.replace(/:(\w+)/g, "{$1}")}`,
      method,
      route,
      count: total,
      errors: failed,
      last_ms: now - Math.floor(random() ** 4 * 7 * 86_400_000),
      p50_ms: p50,
      p95_ms: p50 * (1 + 4 * random()),
      p99_ms: p50 * (5 + 20 * random()),
      spark: Array.from({ length: 24 }, () => Math.floor((total / 168) * (0.3 + random()))),
      adopted: 0,
    };
  });
  handlers.sort((a, b) => (a.service < b.service ? -1 : a.service > b.service ? 1 : b.count - a.count));
  return { version: 1, parts: { "000-of-001": "made up" }, handlers, others: [], not_found: [] };
}
