import assert from "node:assert/strict";
import test from "node:test";
import { isPin } from "../../src/site/assets/id.js";
import { address, parse } from "../../src/site/assets/router.js";
import { files } from "../../src/site/assets/store.js";

const HANDLER = "web/get-products-id-5b1f0c3a";
const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";

test("an address leads to its page and back", () => {
  for (const [page, id] of [
    ["handlers", ""],
    ["handler", HANDLER],
    ["trace", TRACE],
    ["not-found", ""],
    ["farm", ""],
  ]) {
    const route = parse(address(page, id, { q: "a b&c#d", none: "" }));
    assert.deepEqual(
      [route.page, route.id, route.query.get("q"), route.query.has("none")],
      [page, id, "a b&c#d", false],
    );
  }
  assert.equal(parse("").page, "handlers");
  assert.equal(parse(`#/t/${TRACE.toUpperCase()}`).id, TRACE);
});

test("what is no id is asked of nobody", () => {
  const tricks = [
    "#/h/../../farm/settings",
    "#/h/web/../x-5b1f0c3a",
    "#/h/web/%2e%2e%2fx-5b1f0c3a",
    "#/h/..%2F..%2Fx/y-5b1f0c3a",
    "#/h/web/x-5b1f0c3a/../y-5b1f0c3a",
    "#/h//evil.example/x-5b1f0c3a",
    "#/h/https://evil.example/x-5b1f0c3a",
    "#/h/web\\x/y-5b1f0c3a",
    "#/h/.web/y-5b1f0c3a",
    `#/t/${TRACE}/..`,
    "#/t/../latest",
    "#/t/4bf9",
    "#/constructor",
    "#/__proto__",
  ];
  for (const trick of tricks) assert.equal(parse(trick).page, "unknown", trick);
  for (const id of ["../x/y-5b1f0c3a", "web/..", "web/x-5b1f0c3a?", "web/x-5b1f0c3a#", "", "javascript:alert(1)"]) {
    assert.throws(() => files.summary(id), undefined, id);
    assert.throws(() => files.traces(id), undefined, id);
  }
  for (const id of ["../x", "", "a/b"]) assert.throws(() => files.notFound(id), undefined, id);
  for (const id of ["..", "", "4BF9"]) assert.throws(() => files.trace(id), undefined, id);
});

test("a pin's key is one, or it is not followed", () => {
  const pin = `latest/31/${HANDLER}/01795357800123456789-${TRACE}-0000000000000abc.json.gz`;
  assert.ok(isPin(pin));
  assert.equal(files.pin(pin), `../${pin}`);
  for (const trick of [
    `../${pin}`,
    `/${pin}`,
    pin.replace("latest", "farm"),
    pin.replace("web/", "../"),
    `${pin}?x`,
    `https://evil.example/${pin}`,
  ]) {
    assert.ok(!isPin(trick), trick);
    assert.throws(() => files.pin(trick));
  }
});

test("a file that a command made is asked for by the name it has in the store", () => {
  const folder = `site/handlers/${HANDLER}/extra`;
  assert.equal(
    files.extra(HANDLER, `${folder}/img/flame%20graph.svg`),
    `handlers/${HANDLER}/extra/img/flame%2520graph.svg`,
  );
  for (const trick of ["../summary.json", "a/../../b", "", "/", "a//b", "x?y", "x#y", "a b", "\\x"]) {
    assert.throws(() => files.extra(HANDLER, `${folder}/${trick}`), undefined, trick);
  }
  assert.throws(() => files.extra(HANDLER, "farm/settings/0000000001.json"));
});
