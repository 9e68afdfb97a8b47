import assert from "node:assert/strict";
import test from "node:test";
import { filter, perMinute } from "../../src/site/assets/filter.js";
import { orderText, parseOrder, sorted } from "../../src/site/assets/table.js";

const row = (id, more) => ({
  id,
  aliases: [],
  service: id.split("/")[0],
  namespace: "",
  kind: "http",
  name: id,
  method: "GET",
  route: null,
  count: 100,
  errors: 0,
  last_ms: null,
  p50_ms: 1,
  p95_ms: 2,
  p99_ms: 3,
  spark: [],
  adopted: 0,
  ...more,
});
const rows = [
  row("web/get-cart-00000001", { name: "GET /cart", errors: 2, p95_ms: 250 }),
  row("web/post-checkout-00000002", { name: "POST /checkout", method: "POST", count: 10, errors: 0 }),
  row("mailer/process-00000003", {
    name: "process emails",
    kind: "messaging",
    method: null,
    p95_ms: null,
    spark: [60, 180],
  }),
];
const found = (text) => {
  const { test: fits, misread } = filter(text);
  assert.deepEqual(misread, [], text);
  return rows
    .filter(fits)
    .map((each) => each.id.slice(-1))
    .join("");
};

test("words are looked for together, fields by their names, numbers by their size", () => {
  const asked = {
    "": "123",
    "  GET  ": "1",
    "post check": "2",
    "-web": "3",
    "service:web": "12",
    "service:web -cart": "2",
    "kind:messaging": "3",
    "method:post": "2",
    "errors:>1%": "1",
    "errors:2": "1",
    "errors:>0": "1",
    "error:<=0": "23",
    "p95:>200ms": "1",
    "p95:>=0.2s": "1",
    "p95:<1s": "12",
    "requests:>50": "13",
    "requests:<0.05k": "2",
    "rate:>1": "3",
    "-p95:>200ms": "23",
    "service:": "123",
    "p95:": "123",
    "nothing:like": "",
  };
  for (const [text, expected] of Object.entries(asked)) assert.equal(found(text), expected, text);
  assert.equal(perMinute(rows[2]), 2);
});

test("what is not understood is said, and the rest still filters", () => {
  const { test: fits, misread } = filter("service:web p95:fast errors:>1ms% p50:>1%");
  assert.deepEqual(misread, ["p95:fast", "errors:>1ms%", "p50:>1%"]);
  assert.equal(rows.filter(fits).length, 2);
});

test("rows sort by a column both ways, those without a value last", () => {
  const columns = [{ key: "p95", label: "", sort: (each) => each.p95_ms, cell: () => null }];
  const order = (text) =>
    sorted(rows, columns, parseOrder(text))
      .map((each) => each.id.slice(-1))
      .join("");
  assert.equal(order("p95"), "213");
  assert.equal(order("-p95"), "123");
  assert.equal(order(""), "123");
  assert.equal(order("nothing"), "123");
  assert.equal(parseOrder("p95;drop"), null);
  assert.equal(orderText(parseOrder("-p95")), "-p95");
});
