// What changes after it was first seen: a 404 that gets a route, a handler that is renamed, a span that is sent again.

import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { start } from "./browser.mjs";
import { serve } from "./server.mjs";
import { ATTACKS, at, document, hex, more, of, serveProgram, span, text, tracefarm, typed } from "./stores.mjs";

const PICTURES = process.env.TRACEFARM_PICTURES ?? "target/pictures";
const NOT_THERE = /404 \(Not Found\).*(api\/trace|traces\/|handlers)/;

let browser;

before(async () => {
  await mkdir(PICTURES, { recursive: true });
  browser = await start();
});

after(() => browser?.close());

/** A request that was answered with 404 by no route. */
const missed = (n, path, now) =>
  span({
    trace: hex(0x4040 + n, 32),
    id: hex(1, 16),
    name: "GET",
    from: at(now - 60_000 + n, 0),
    to: at(now - 60_000 + n, 3),
    attributes: [
      text("http.request.method", "GET"),
      text("url.path", path),
      { key: "http.response.status_code", value: { intValue: 404 } },
    ],
  });

/** A request to a route. */
const hit = (n, route, now) =>
  span({
    trace: hex(0x2000 + n, 32),
    id: hex(1, 16),
    name: `GET ${route}`,
    from: at(now - 50_000 + n, 0),
    to: at(now - 50_000 + n, 3),
    attributes: [text("http.request.method", "GET"), text("http.route", route), text("url.path", "/x")],
  });

const summaryOf = async (folder, id) =>
  JSON.parse(await readFile(join(folder, "site/handlers", id, "summary.json"), "utf8"));
const listOf = async (folder) => JSON.parse(await readFile(join(folder, "site/handlers.json"), "utf8"));

test("a 404 becomes a handler by the command that its page shows, and both sides say so", async (t) => {
  const now = Date.now();
  // A service whose name a shell would run.
  const service = "it's $(touch ran) `touch ran`; web";
  // The newest traces are in the pages.
  const paths = [...ATTACKS.map((attack) => `/${attack}`), "/other", "/orders/4711", "/orders/4712", "/orders/4712"];
  const store = await of(
    document(
      service,
      paths.map((path, n) => missed(n, path, now)),
    ),
  );
  t.after(() => store.remove());
  const server = await serve(store.folder);
  t.after(() => server.close());
  const { page, done } = await browser.open(`${server.url}/site/#/404`);
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.getByRole("button", { name: "Write a route for GET /orders/4711" }).click();
  assert.equal(await page.locator("#route").inputValue(), "/orders/{id}");
  await page.getByText("It takes 2 paths of this list with 3 requests.").waitFor();
  await page.screenshot({ path: join(PICTURES, "adopt.png") });
  await page.getByRole("button", { name: "Copy the command" }).click();
  const command = await page.evaluate(() => navigator.clipboard.readText());
  assert.equal(command, await page.locator(".adopt code").innerText());
  // The address leads somebody else there.
  await page.reload();
  await page.locator("#route").fill("/orders/{number}");
  assert.match(await page.locator(".adopt code").innerText(), /'GET \/orders\/\{number\}'$/);
  // No command is offered that a terminal would do something with.
  await page.locator("#route").fill("/orders/\u001b[31m");
  await page.getByText("There is no command for this").waitFor();
  assert.equal(await page.locator(".adopt code").count(), 0);

  await typed(store.folder, `cd "$TRACEFARM_STORE"\n${command}`);
  await assert.rejects(readFile(join(store.folder, "ran")), { code: "ENOENT" });
  await tracefarm(store.folder, "run", "--once", "--grace", "0s");
  const { handlers, not_found } = await listOf(store.folder);
  const row = handlers.find(({ name }) => name === "GET /orders/{id}");
  assert.deepEqual([row.count, row.adopted, row.service], [0, 3, service]);
  assert.equal(not_found[0].count, paths.length, "they stay on the list");

  await page.goto(`${server.url}/site/#/`);
  await page.goto(`${server.url}/site/#/404?q=orders`);
  await page.getByRole("link", { name: row.id }).first().click();
  await page.getByText("was written by hand").waitFor();
  const adopted = page.getByRole("table", { name: "Requests of the 404 list" });
  assert.deepEqual(
    (await adopted.getByRole("link").allInnerTexts()).map((name) => name.replace(/\s+/g, " ").trim()).sort(),
    ["GET /orders/4711", "GET /orders/4712"],
  );
  await page.screenshot({ path: join(PICTURES, "adopted.png") });
  await page.getByRole("link", { name: "on the 404 list" }).click();
  await page.getByRole("link", { name: row.id }).first().waitFor();
  assert.equal(await page.locator("tbody tr[data-index]").count(), 2);
  await page.goBack();
  await adopted.getByRole("link", { name: "4711" }).click();
  await page.waitForSelector(".waterfall");
  assert.match(page.url(), new RegExp(hex(0x4040 + paths.indexOf("/orders/4711"), 32)));
  await done(NOT_THERE);
});

test("a renamed handler is reached by its old and its new id, and says so", async (t) => {
  const now = Date.now();
  const store = await of(
    document("web", [hit(1, "/old/{id}", now), hit(2, "/new/{id}", now), hit(3, "/new/{id}", now)]),
  );
  t.after(() => store.remove());
  const ids = (await listOf(store.folder)).handlers.map(({ id }) => id);
  const [old, fresh] = ["old", "new"].map((word) => ids.find((id) => id.includes(`-${word}-`)));
  await tracefarm(store.folder, "handlers", "rename", old, fresh);
  await tracefarm(store.folder, "run", "--once", "--grace", "0s");
  const server = await serve(store.folder);
  t.after(() => server.close());
  const { page, done } = await browser.open(`${server.url}/site/#/`);
  for (const id of [old, fresh]) {
    await page.goto(`${server.url}/site/#/h/${id}`);
    await page.getByText("Counted with it (renamed)").waitFor();
    assert.equal(await page.locator(".ids code").innerText(), old);
    assert.match(await page.locator(".tiles").innerText(), /Requests\s+3\b/);
    await page.getByText(fresh, { exact: true }).waitFor();
    await page.goto(`${server.url}/site/#/?q=id:${id}`);
    await page.waitForFunction(() => document.querySelectorAll("tbody tr[data-index]").length === 1);
  }
  await done(NOT_THERE);
});

test("spans that come later join their trace, and a span that came anew shows what differs, hostile or not", async (t) => {
  const now = Date.now();
  const trace = hex(0xbeef, 32);
  const [attack] = ATTACKS;
  const top = (attributes, more = {}) =>
    span({
      trace,
      id: hex(1, 16),
      name: "GET /cart",
      from: at(now - 40_000, 0),
      to: at(now - 40_000, 50),
      attributes: [text("http.request.method", "GET"), text("http.route", "/cart"), ...attributes],
      ...more,
    });
  const child = (n, name) =>
    span({
      trace,
      id: hex(n, 16),
      parent: hex(1, 16),
      name,
      kind: 3,
      from: at(now - 40_000, n),
      to: at(now - 40_000, n + 5),
    });
  const store = await of(
    document("web", [top([text("user.tier", "free"), text("gone", "soon")]), child(2, "first call")]),
  );
  t.after(() => store.remove());
  const [{ id }] = (await listOf(store.folder)).handlers;
  const server = await serve(store.folder);
  t.after(() => server.close());
  const { page, done } = await browser.open(`${server.url}/site/#/t/${trace}?h=${id}`);
  await page.waitForSelector(".row");
  assert.equal(await page.locator(".row").count(), 2);
  assert.equal(await page.locator(".revisions").count(), 0);

  // A second later, so that it is told which came first.
  await new Promise((resolve) => setTimeout(resolve, 1_100));
  const anew = top([text("user.tier", attack), text(attack, attack)], {
    status: { code: 2, message: attack },
    events: [{ name: attack, timeUnixNano: at(now - 40_000, 5), attributes: [text("x", attack)] }],
  });
  await more(store.folder, { later: document("web", [child(3, "second call")]), again: document("web", [anew]) });
  assert.equal((await summaryOf(store.folder, id)).handler.errors, 1, "the newest counts");
  await page.reload();
  await page.waitForSelector(".revisions");
  assert.equal(await page.locator(".row").count(), 3);
  const cells = async () =>
    (await page.locator(".changes tbody tr").all()).map((row) => row.locator("th, td").allInnerTexts());
  const rows = await Promise.all(await cells());
  assert.deepEqual(
    rows.filter(([what]) => !what.startsWith("event")).sort(),
    [
      [`attribute ${attack}`, "not there", attack],
      ["attribute gone", "soon", "not there"],
      ["attribute user.tier", "free", attack],
      ["status", "not there", "error"],
      ["status message", "not there", attack],
    ].sort(),
  );
  assert.ok(rows.some(([what, old, fresh]) => what === "event 1" && old === "not there" && fresh.includes(attack)));
  await page.screenshot({ path: join(PICTURES, "revisions.png") });
  await page.getByRole("button", { name: /^first/ }).click();
  await page.getByText("This is how it came first. It stays as it is.").waitFor();
  const shown = await page.locator(".details").innerText();
  assert.ok(shown.includes("user.tier") && shown.includes("free") && !shown.includes(attack));
  await page.getByRole("button", { name: /^newest/ }).click();
  await page.locator(".changes").waitFor();
  assert.equal(await page.locator("main script, main img, main iframe").count(), 0);
  await done(NOT_THERE);
  const base = await tracefarm(store.folder, "get", trace, "--base", "-o", "otlp-json");
  assert.ok(base.includes("free") && !base.includes(attack), "the base stays");
});

test("a file of publish_command that is opened runs nothing where the program serves it", async (t) => {
  const now = Date.now();
  const store = await of(document("web", [hit(1, "/x", now)]));
  t.after(() => store.remove());
  const [{ id }] = (await listOf(store.folder)).handlers;
  const folder = join(store.folder, "site/handlers", id, "extra");
  await mkdir(folder, { recursive: true });
  const steal = `document.title = "ran"; try { localStorage.theme = "stolen" } catch {}`;
  await writeFile(join(folder, "x.js"), steal);
  const tricks = {
    "x.html": `<title>made</title><p>shown</p><script>${steal}</script><script src="x.js"></script><img src=x onerror='${steal}'>`,
    "x.svg": `<svg xmlns="http://www.w3.org/2000/svg"><title>made</title><text y="20">shown</text><script>${steal}</script></svg>`,
  };
  for (const [name, body] of Object.entries(tricks)) await writeFile(join(folder, name), body);
  const served = await serveProgram(store.folder);
  t.after(() => served.close());
  const plain = await serve(store.folder);
  t.after(() => plain.close());
  for (const [server, title] of [
    [served, "made"],
    // So the tricks work where nobody forbids them.
    [plain, "ran"],
  ]) {
    for (const name of Object.keys(tricks)) {
      const { page, done } = await browser.open(`${server.url}/site/handlers/${id}/extra/${name}`);
      await page.getByText("shown").waitFor();
      await page.waitForTimeout(200);
      assert.equal(await page.title(), title, `${name} of ${server.url}`);
      await done(/sandboxed|NotSameOrigin|Content Security Policy|script-src|img-src|default-src|404|trusted/i);
      const { page: home, done: close } = await browser.open(`${server.url}/site/#/`);
      assert.equal(await home.evaluate(() => localStorage.theme ?? null), title === "ran" ? "stolen" : null);
      await close(NOT_THERE);
    }
  }
});
