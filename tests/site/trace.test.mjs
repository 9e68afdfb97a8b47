import assert from "node:assert/strict";
import test from "node:test";
import { COLOURS, coloursOf } from "../../src/site/assets/trace/colours.js";
import { criticalPath, selfTime } from "../../src/site/assets/trace/critical.js";
import { otlpOf, shown, traceOf } from "../../src/site/assets/trace/otlp.js";
import { parseRange, place, rangeOf, ticks } from "../../src/site/assets/trace/scale.js";
import { search } from "../../src/site/assets/trace/search.js";
import { skew, treeOf, visible } from "../../src/site/assets/trace/tree.js";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const BEGIN = 1_795_310_317_000_000_000n;

const hex = (n) => n.toString(16).padStart(16, "0");

/** A span as OTLP has it: id, parent, name, start and end in nanoseconds after the beginning. */
const span = (id, parent, name, from, to, more = {}) => ({
  traceId: TRACE,
  spanId: hex(id),
  ...(parent ? { parentSpanId: hex(parent) } : {}),
  name,
  startTimeUnixNano: String(BEGIN + BigInt(from)),
  endTimeUnixNano: String(BEGIN + BigInt(to)),
  ...more,
});

const resource = (service, ...spans) => ({
  resource: { attributes: [{ key: "service.name", value: { stringValue: service } }] },
  scopeSpans: [{ scope: { name: "by hand" }, spans }],
});

const document = (resources, received) => ({
  resourceSpans: resources,
  ...(received ? { tracefarm: { received } } : {}),
});

const tree = (...spans) => treeOf(traceOf(document([resource("web", ...spans)]), TRACE).spans);

const shape = (nodes) => nodes.map((node) => `${".".repeat(node.depth)}${node.span.name}:${node.place}:${node.below}`);

test("spans hang below their parents in order of start", () => {
  const nodes = tree(
    span(1, 0, "root", 0, 100),
    span(2, 1, "second", 30, 40),
    span(3, 1, "first", 20, 30),
    span(4, 3, "below", 25, 26),
  );
  assert.deepEqual(shape(nodes), ["root:root:3", ".first:child:1", "..below:child:0", ".second:child:0"]);
});

test("orphans and cycles are shown, and each span once", () => {
  const nodes = tree(
    span(1, 9, "orphan", 10, 20),
    span(2, 3, "round", 20, 30),
    span(3, 2, "and round", 30, 40),
    span(4, 4, "own", 40, 50),
  );
  assert.deepEqual(shape(nodes), ["orphan:orphan:0", "round:cycle:1", ".and round:child:0", "own:cycle:0"]);
});

test("a server's span that shares its client's id hangs below it", () => {
  const nodes = tree(
    span(1, 0, "client", 10, 50, { kind: 3 }),
    span(1, 0, "server", 11, 49, { kind: 2 }),
    span(2, 1, "inside", 12, 13),
  );
  assert.deepEqual(shape(nodes), ["client:root:2", ".server:child:1", "..inside:child:0"]);
});

test("twenty thousand spans, each below the other or all below one, are a tree like another", () => {
  const many = (parent) => Array.from({ length: 20_000 }, (_, i) => span(i + 1, parent(i), `s${i}`, i, 40_000 - i));
  for (const parent of [(i) => i, (i) => (i === 0 ? 0 : 1)]) {
    const nodes = tree(...many(parent));
    criticalPath(nodes);
    assert.equal(nodes[0].below, 19_999);
  }
});

test("collapsed spans hide what is below them", () => {
  const nodes = tree(
    span(1, 0, "a", 0, 9),
    span(2, 1, "b", 1, 8),
    span(3, 2, "c", 2, 7),
    span(4, 1, "d", 8, 9),
    span(5, 0, "e", 9, 9),
  );
  const names = (...collapsed) =>
    visible(nodes, new Set(collapsed))
      .map((at) => nodes[at].span.name)
      .join("");
  assert.deepEqual([names(), names(1), names(0), names(0, 1, 4)], ["abcde", "abde", "ae", "ae"]);
});

test("the newest revision counts, and the others stay within reach", () => {
  const twice = document(
    [
      resource("web", span(1, 0, "first", 0, 10), span(1, 0, "second", 0, 20)),
      resource("web", span(1, 0, "of the server", 0, 5, { kind: 2 })),
    ],
    [5_000, 9_000, 1_000],
  );
  const trace = traceOf(twice, TRACE);
  assert.deepEqual(
    trace.spans.map((each) => [each.name, each.older.map((old) => old.name)]),
    [
      ["second", ["first"]],
      ["of the server", []],
    ],
  );
  assert.equal(trace.duration, 20);
  const names = otlpOf(trace).resourceSpans.flatMap((each) =>
    each.scopeSpans.flatMap((scope) => scope.spans.map((one) => one.name)),
  );
  assert.deepEqual(names, ["second", "of the server"]);
});

test("a document of several traces gives one, as it was sent", () => {
  const other = { ...span(7, 0, "other", 0, 1), traceId: "1".repeat(32) };
  const mine = span(1, 0, "mine", 0, 10, { attributes: [{ key: "big", value: { intValue: "9223372036854775807" } }] });
  const trace = traceOf(document([resource("web", other, mine)], [1, 2]), TRACE);
  assert.equal(trace.spans[0].received_ms, 2);
  assert.deepEqual(otlpOf(trace).resourceSpans, [resource("web", mine)]);
  assert.equal(traceOf(document([resource("web", other)]), TRACE), null);
  assert.equal(traceOf({}, TRACE), null);
});

test("odd times are shown and put nothing out of place", () => {
  const trace = traceOf(
    document([
      resource(
        "web",
        span(1, 0, "root", 0, 100),
        { ...span(2, 1, "timeless", 0, 0), startTimeUnixNano: "0", endTimeUnixNano: "0" },
        span(3, 1, "backwards", 50, 20),
        { ...span(4, 1, "nonsense", 0, 0), startTimeUnixNano: "soon" },
      ),
    ]),
    TRACE,
  );
  assert.equal(trace.startNs, BEGIN);
  assert.equal(trace.duration, 100);
  const by = Object.fromEntries(trace.spans.map((each) => [each.name, each]));
  assert.deepEqual(
    [by.timeless.timeless, by.timeless.duration, by.backwards.duration, by.nonsense.timeless],
    [true, 0, -30, true],
  );
});

test("a child that starts before its parent tells of clocks that differ", () => {
  const nodes = tree(span(1, 0, "root", 100, 200), span(2, 1, "early", 40, 150), span(3, 1, "late", 190, 900));
  const early = Object.fromEntries(nodes.map((node) => [node.span.name, skew(nodes, node)]));
  assert.deepEqual(early, { root: 0, early: 60, late: 0 });
});

const pathOf = (nodes) => {
  const parts = [...criticalPath(nodes)].flatMap(([at, all]) =>
    all.map(([from, to]) => [from, to, nodes[at].span.name]),
  );
  return parts.sort(([a], [b]) => a - b).map((part) => part.join(" "));
};

test("the critical path is what the duration is made of", () => {
  const nodes = tree(
    span(1, 0, "root", 0, 100),
    span(2, 1, "a", 10, 40),
    span(3, 1, "beside a", 15, 30),
    span(4, 1, "b", 50, 90),
    span(5, 4, "in b", 60, 70),
  );
  assert.deepEqual(pathOf(nodes), [
    "0 10 root",
    "10 40 a",
    "40 50 root",
    "50 60 b",
    "60 70 in b",
    "70 90 b",
    "90 100 root",
  ]);
});

test("a child that ends a moment after the next began is on the path, one that runs beside it is not", () => {
  const nodes = tree(
    span(1, 0, "root", 0, 100),
    span(2, 1, "a", 0, 51),
    span(3, 1, "beside", 30, 80),
    span(4, 1, "b", 50, 100),
  );
  assert.deepEqual(pathOf(nodes), ["0 50 a", "50 100 b"]);
});

test("a child that outlives its parent counts up to its parent's end", () => {
  const nodes = tree(span(1, 0, "root", 0, 100), span(2, 1, "goes on", 20, 400), span(3, 1, "outside", 150, 160));
  assert.deepEqual(pathOf(nodes), ["0 20 root", "20 100 goes on"]);
  assert.deepEqual(pathOf([]), []);
});

test("without a root the path begins at the longest top", () => {
  const nodes = tree(span(1, 8, "short", 0, 10), span(2, 9, "long", 0, 50));
  assert.deepEqual(pathOf(nodes), ["0 50 long"]);
});

test("own time is what no child covers, whether they overlap or not", () => {
  const nodes = tree(
    span(1, 0, "root", 0, 100),
    span(2, 1, "a", 10, 40),
    span(3, 1, "b", 30, 60),
    span(4, 1, "c", 90, 300),
    span(5, 2, "in a", 12, 13),
  );
  assert.equal(selfTime(nodes, 0), 100 - 50 - 10);
});

test("values are shown as they were sent, with their types", () => {
  const pairs = [
    [{ stringValue: "<b>x</b>" }, "<b>x</b>", ""],
    [{ intValue: "9223372036854775807" }, "9223372036854775807", "int"],
    [{ doubleValue: "NaN" }, "NaN", "double"],
    [{ boolValue: false }, "false", "bool"],
    [{ bytesValue: "AAE=" }, "AAE=", "bytes, base64"],
    [{ arrayValue: { values: [{ stringValue: "a" }, { intValue: "1" }, {}] } }, '["a", 1, null]', "array"],
    [{ kvlistValue: { values: [{ key: "k", value: { boolValue: true } }] } }, '{"k": true}', "map"],
    [{}, "", "no value"],
    [undefined, "", "no value"],
  ];
  for (const [value, text, type] of pairs) assert.deepEqual(shown(value), { shown: text, type });
});

test("a search finds words in names, attributes, events and resources of one span", async () => {
  const spans = traceOf(
    document([
      resource("web", span(1, 0, "GET /cart", 0, 9, { attributes: [{ key: "user.id", value: { intValue: "42" } }] })),
      resource(
        "db",
        span(2, 1, "SELECT", 1, 2, {
          events: [{ name: "exception", attributes: [{ key: "exception.type", value: { stringValue: "Deadlock" } }] }],
        }),
      ),
    ]),
    TRACE,
  ).spans;
  const found = (text) => search(spans, text, new AbortController().signal);
  assert.deepEqual(await found("user.id=42"), [0]);
  assert.deepEqual(await found("deadlock db"), [1]);
  assert.deepEqual(await found("deadlock cart"), []);
  assert.deepEqual(await found("  "), []);
});

test("no two of twelve services have one colour, and a service keeps its own", () => {
  const names = Array.from({ length: COLOURS }, (_, i) => `service-${i}`);
  assert.equal(new Set(coloursOf(names).values()).size, COLOURS);
  assert.deepEqual(coloursOf(["web", "cart"]), coloursOf(["cart", "web", "cart"]));
  assert.ok([...coloursOf([...names, "one", "more"]).values()].every((colour) => colour < COLOURS));
});

test("ticks are few and round, and ranges stay within the trace", () => {
  assert.deepEqual(ticks({ from: 0, to: 1000 }, 5), [0, 200, 400, 600, 800, 1000]);
  assert.deepEqual(ticks({ from: 130, to: 470 }, 5), [200, 300, 400]);
  assert.ok(ticks({ from: 0, to: 1 }, 5).length <= 6);
  assert.equal(place({ from: 100, to: 300 }, 200), 50);
  assert.deepEqual(rangeOf(80, 20, 100), { from: 20, to: 80 });
  assert.deepEqual(rangeOf(-5, 500, 100), { from: 0, to: 100 });
  assert.deepEqual(rangeOf(100, 100, 100), { from: 99, to: 100 });
  assert.deepEqual(parseRange("20-80", 100), { from: 20, to: 80 });
  for (const text of [null, "", "a-b", "1", "-1-2", "1-2-3"]) assert.equal(parseRange(text, 100), null);
});
