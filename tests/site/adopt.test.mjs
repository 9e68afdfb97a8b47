import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";

import { commandOf, quoted, routeOf, takes } from "../../src/site/assets/adopt.js";

test("a route is made of a path: what was made up for one request is a parameter", () => {
  for (const [path, route] of [
    ["/orders/4711", "/orders/{id}"],
    ["/orders/4711/lines/3", "/orders/{id}/lines/{id2}"],
    ["/users/me", "/users/me"],
    ["/v2/items/5b1f0c3a-1111-2222-3333-444455556666/", "/v2/items/{id}/"],
    ["/wp-login.php", "/wp-login.php"],
    ["/it's/here", "/it's/here"],
  ]) {
    assert.equal(routeOf(path), route);
    assert.equal(takes(route, path), true, path);
  }
  for (const path of ["", "users", "/a/*", "/a/:b", "/a/{b}", "/a\nb", "/a\u202eb", "/$(x)", "/a\u0000", "/a\u2028b"]) {
    assert.equal(routeOf(path), null, JSON.stringify(path));
  }
});

test("which paths a route takes is told as the program tells it, or not at all", () => {
  assert.equal(takes("/orders/{id}", "/orders/1/"), true);
  assert.equal(takes("/orders/{id}", "/orders/"), false);
  assert.equal(takes("/orders/{id}", "/orders/1/2"), false);
  assert.equal(takes("/files/{rest*}", "/files/1/2"), true);
  assert.equal(takes("/files/{rest*}", "/other/1"), false);
  for (const odd of ["/a/:id", "/a/*", "^/a/(?P<x>.*)$", "a", "/{rest*}/a"])
    assert.equal(takes(odd, "/a/1"), null, odd);
});

test("a shell is given the service and the route as they are, whatever is in them", () => {
  const words = (/** @type {string} */ command) =>
    JSON.parse(
      execFileSync(
        "sh",
        ["-euc", `tracefarm() { node -e 'console.log(JSON.stringify(process.argv.slice(1)))' -- "$@"; }\n${command}`],
        { encoding: "utf8" },
      ),
    );
  const nasty = [
    "it's",
    "$(touch x)",
    "`x`",
    '"; rm -rf /; "',
    "a b",
    "\\",
    "-x",
    "!!",
    "a'\\''b",
    "#",
    "~",
    "é",
    "&&",
    "",
  ];
  for (const text of nasty) {
    const command = commandOf({ service: text, namespace: text }, "GET", `/${text}x`);
    const expected = ["handlers", "add"];
    if (text) expected.push(`--namespace=${text}`);
    if (text.startsWith("-")) expected.push("--");
    assert.deepEqual(words(command ?? ""), [...expected, text, `GET /${text}x`], text);
  }
  assert.equal(quoted("GET"), "GET");
  assert.deepEqual(words(commandOf({ service: "unknown_service", namespace: "" }, "*", "/x") ?? "").at(2), "");
  for (const bad of ["a\nb", "a\u001b[31m", "a\u202eb", "a\u0000"]) {
    assert.equal(commandOf({ service: bad, namespace: "" }, "GET", "/x"), null);
    assert.equal(commandOf({ service: "web", namespace: bad }, "GET", "/x"), null);
    assert.equal(commandOf({ service: "web", namespace: "" }, "GET", `/${bad}`), null);
  }
  for (const method of ["", "get", "; x"])
    assert.equal(commandOf({ service: "web", namespace: "" }, method, "/x"), null);
});
