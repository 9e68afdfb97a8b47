// The pages as people use them, on the demo's store.

import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { gunzipSync } from "node:zlib";

import { start } from "./browser.mjs";
import { serve } from "./server.mjs";
import { demo, empty } from "./stores.mjs";

/** Where pictures of all pages go, for a person to look at. */
const PICTURES = process.env.TRACEFARM_PICTURES ?? "target/pictures";

/** What a page may ask for without finding it: whoever serves a store finds any trace, a bucket does not. */
const NOT_THERE = /404 \(Not Found\).*(api\/trace|traces\/|farm\.json|handlers)/;

const axe = await readFile(
  createRequire(join(process.env.TRACEFARM_BROWSER_TOOLS, "package.json")).resolve("axe-core/axe.min.js"),
  "utf8",
);

let store;
let server;
let browser;
/** The list of handlers. */
let list;
/** A handler with errors, and its summary. */
let row;
let summary;

before(async () => {
  await mkdir(PICTURES, { recursive: true });
  [store, browser] = [await demo(), await start()];
  server = await serve(store.folder);
  list = await json("handlers.json");
  row = list.handlers.find(({ service, name }) => service === "web" && name === "POST /checkout");
  summary = await json(`handlers/${row.id}/summary.json`);
});

after(async () => {
  await browser?.close();
  await server?.close();
  await store?.remove();
});

const json = async (path) => {
  const bytes = await readFile(join(store.folder, "site", path));
  return JSON.parse(path.endsWith(".gz") ? gunzipSync(bytes) : bytes);
};

const open = (address, options) => browser.open(`${server.url}/site/${address}`, options);

const texts = (page, selector) => page.locator(selector).allInnerTexts();

/** The names of the first rows. */
const names = async (page) =>
  (await texts(page, "tbody tr[data-index] th")).map((name) => name.replace(/\s+/g, " ").trim());

test("every page opens in light, dark and narrow, says its title, and scrolls in one direction only", async () => {
  const entry = summary.newest_errors[0];
  const pages = {
    handlers: ["#/", "Handlers"],
    handler: [`#/h/${row.id}`, "POST /checkout · web"],
    trace: [`#/t/${entry.trace_id}?h=${row.id}`, `POST /checkout · ${entry.trace_id.slice(0, 8)}`],
    "not-found": ["#/404", "Requests that hit no handler"],
    farm: ["#/farm", "The farm"],
    "no-page": ["#/nothing", "No such page"],
  };
  const looks = {
    light: {},
    dark: { dark: true },
    narrow: { width: 375, height: 740 },
    "narrow-dark": { width: 375, height: 740, dark: true },
  };
  for (const [name, [address, title]] of Object.entries(pages)) {
    for (const [look, options] of Object.entries(looks)) {
      const { page, done } = await open(address, options);
      await page.waitForFunction((wanted) => document.title === `${wanted} – tracefarm`, title);
      await page.waitForTimeout(150);
      await page.screenshot({ path: join(PICTURES, `${name}-${look}.png`) });
      const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      assert.ok(over <= 0, `${name} in ${look} is ${over} pixels wider than the window`);
      await done(NOT_THERE);
    }
  }
});

test("nobody is left out: names, roles, contrast and order, in light and dark", async () => {
  const addresses = [
    "#/",
    `#/h/${row.id}`,
    `#/t/${summary.newest_errors[0].trace_id}?h=${row.id}`,
    "#/404",
    "#/farm",
    "#/nothing",
  ];
  for (const address of addresses) {
    for (const options of [{}, { dark: true }, { width: 375, height: 740 }]) {
      const { page, done } = await open(address, options);
      await page.waitForSelector("main h1", { state: "attached" });
      await page.waitForTimeout(150);
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() =>
        window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"] }),
      );
      const told = violations.map(
        ({ id, nodes }) =>
          `${id}: ${nodes
            .map((node) => node.html)
            .slice(0, 3)
            .join("\n")} ${nodes[0].failureSummary}`,
      );
      assert.deepEqual(told, [], `${address} ${JSON.stringify(options)}`);
      await done(NOT_THERE);
    }
  }
});

test("handlers sort by any column, both ways, and the address remembers it", async () => {
  const { page, done } = await open("#/");
  await page.waitForSelector("tbody tr[data-index]");
  const label = ({ method, route, kind, name }) => (kind === "http" && route ? `${method} ${route}` : name);
  const sorted = (value) => [...list.handlers].sort((a, b) => value(b) - value(a)).map(label);
  assert.deepEqual((await names(page)).slice(0, 3), list.handlers.slice(0, 3).map(label));
  await page.getByRole("button", { name: "p95" }).click();
  assert.equal(await page.locator("th.p95").first().getAttribute("aria-sort"), "descending");
  assert.deepEqual((await names(page)).slice(0, 3), sorted(({ p95_ms }) => p95_ms).slice(0, 3));
  assert.match(page.url(), /sort=-p95/);
  await page.getByRole("button", { name: "p95" }).click();
  assert.deepEqual((await names(page))[0], sorted(({ p95_ms }) => -p95_ms)[0]);
  await page.reload();
  await page.waitForSelector("tbody tr[data-index]");
  assert.equal(await page.locator("th.p95").first().getAttribute("aria-sort"), "ascending");
  await page.getByRole("button", { name: "Handler" }).click();
  assert.match(page.url(), /sort=name/);
  await done();
});

test("handlers are filtered as one types, and the totals follow", async () => {
  const { page, done } = await open("#/");
  await page.waitForSelector("tbody tr[data-index]");
  await page.keyboard.press("/");
  await page.keyboard.type("service:web errors:>1%");
  const fits = list.handlers.filter(({ service, count, errors }) => service.includes("web") && errors / count > 0.01);
  assert.ok(fits.length > 0 && fits.length < list.handlers.length);
  await page.waitForFunction((n) => document.querySelectorAll("tbody tr[data-index]").length === n, fits.length);
  assert.match(
    await page.locator(".found").innerText(),
    new RegExp(`^${fits.length} of ${list.handlers.length} handlers$`),
  );
  assert.match(await page.locator(".totals").innerText(), new RegExp(`Handlers\\s+${fits.length}\\b`));
  assert.match(decodeURIComponent(page.url()), /q=service:web\+errors:>1%/);
  await page.keyboard.type(" p95:soon");
  await page.getByText("not understood: p95:soon").waitFor();
  await page.keyboard.press("Escape");
  await page.waitForFunction(
    (n) => document.querySelector(".found").textContent === `${n} handlers`,
    list.handlers.length,
  );
  await page.selectOption("form select", "payment");
  assert.deepEqual(new Set(await texts(page, "tbody td.service")), new Set(["payment"]));
  await page.goto(`${server.url}/site/#/?q=nothing-like-it`);
  await page.getByText("No handler fits.").waitFor();
  await page.getByRole("link", { name: "Show all" }).click();
  await page.waitForFunction(
    (n) => document.querySelector(".found").textContent === `${n} handlers`,
    list.handlers.length,
  );
  await page.fill("#filter", "post checkout");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => location.hash.startsWith("#/h/"));
  await done();
});

test("a handler's page says what its summary says, and leads to its traces", async () => {
  const { page, done } = await open(`#/h/${row.id}`);
  await page.waitForSelector(".tiles");
  const tiles = await page.locator(".tiles").innerText();
  assert.match(tiles, new RegExp(`Requests\\s+${row.count}\\b`));
  assert.match(tiles, new RegExp(`Errors\\s+${row.errors}\\b`));
  assert.equal(await page.locator(".chart canvas").count(), 2);
  const statuses = page.getByRole("table", { name: "HTTP statuses" });
  for (const [status, count] of Object.entries(summary.statuses)) {
    await statuses.getByRole("row", { name: new RegExp(`^${status} ${count} `) }).waitFor();
  }
  assert.equal(
    await page.getByRole("table", { name: "Newest traces" }).getByRole("row").count(),
    summary.newest.length + 1,
  );
  assert.equal(await page.locator(".calls tbody tr").count(), summary.calls.length);
  await page.getByRole("button", { name: "All, by hour" }).click();
  assert.match(
    await page.locator(".chart").first().getAttribute("aria-label"),
    new RegExp(`by the hour: ${row.count} requests, ${row.errors} errors`),
  );
  await page.getByRole("table", { name: "Slowest" }).getByRole("link").first().click();
  await page.waitForSelector(".waterfall");
  assert.match(page.url(), new RegExp(`#/t/${summary.slowest[0].trace_id}`));
  await page.goBack();
  await page.waitForSelector(".tiles");
  await done();
});

test("every trace that a handler names opens, with all its spans", async () => {
  const spans = await spansOf(row.id);
  const { page, done } = await open("#/farm");
  const entries = new Map(
    [...summary.newest, ...summary.newest_errors, ...summary.slowest].map((entry) => [entry.trace_id, entry]),
  );
  for (const [id, entry] of entries) {
    await page.goto(`${server.url}/site/#/t/${id}?h=${row.id}&span=${entry.span_id}`);
    const known = new Set(spans.get(id).map((span) => `${span.spanId}${span.kind === 2}`));
    await page.waitForFunction((wanted) => document.title.endsWith(`${wanted} – tracefarm`), id.slice(0, 8));
    assert.match(await page.locator(".strip").innerText(), new RegExp(`Spans\\s+${known.size}\\b`), id);
    assert.equal(
      await page.locator(".row.selected").getAttribute("id"),
      await page.locator(".waterfall").getAttribute("aria-activedescendant"),
    );
  }
  await done(NOT_THERE);
});

/** The spans of each trace in a handler's document. */
async function spansOf(id) {
  const { resourceSpans } = await json(`handlers/${id}/traces.json.gz`);
  const spans = new Map();
  for (const span of resourceSpans.flatMap((resource) => resource.scopeSpans.flatMap((scope) => scope.spans))) {
    spans.set(span.traceId, [...(spans.get(span.traceId) ?? []), span]);
  }
  return spans;
}

test("a trace is walked by keys: opened, collapsed, searched, zoomed", async () => {
  // One that is whole: some were cut when the recording ended.
  const isWhole = ([, spans]) => {
    const ids = new Set(spans.map(({ spanId }) => spanId));
    return spans.filter(({ parentSpanId }) => !ids.has(parentSpanId)).length === 1 && spans.length > 10;
  };
  const [id] = [...(await spansOf(row.id))].find(isWhole);
  const { page, done } = await open(`#/t/${id}?h=${row.id}`);
  await page.waitForSelector(".row");
  const rows = () => page.locator(".row").count();
  const selected = async () => Number(await page.locator(".row.selected").getAttribute("data-at"));
  const all = await rows();
  assert.ok(all > 5);
  assert.equal(await selected(), 0);
  await page.keyboard.press("ArrowDown");
  assert.equal(await selected(), 1);
  await page.keyboard.press("End");
  assert.equal(await selected(), all - 1);
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowLeft");
  assert.equal(await rows(), 1);
  assert.equal(await page.locator(".row.selected").getAttribute("aria-expanded"), "false");
  await page.keyboard.press("ArrowRight");
  assert.equal(await rows(), all);
  await page.getByRole("button", { name: "Collapse", exact: true }).click();
  assert.ok((await rows()) < all);

  // What a search finds is shown, whatever hides it.
  await page.keyboard.press("/");
  await page.keyboard.type("service.name=payment");
  await page.waitForFunction(() => /\d+ spans?$/.test(document.querySelector(".search .found").textContent));
  const found = Number.parseInt(await page.locator(".search .found").innerText(), 10);
  assert.ok(found > 0);
  await page.keyboard.press("Enter");
  await page.locator(".row.selected.found").waitFor();
  assert.match(await page.locator(".search .found").innerText(), new RegExp(`^1 of ${found} span`));
  assert.match(await page.locator(".details header").innerText(), /payment/);
  await page.keyboard.press("Escape");
  assert.ok(await page.locator(".details").isHidden());
  const first = await selected();
  await page.keyboard.press("n");
  assert.ok(found === 1 || (await selected()) !== first);
  await page.keyboard.press("N");
  assert.equal(await selected(), first);
  assert.match(page.url(), /q=service.name%3Dpayment/);

  await page.keyboard.press("z");
  await page.waitForFunction(() => /zoom=\d+-\d+/.test(location.hash));
  const zoomed = page.url();
  await page.keyboard.press("0");
  assert.doesNotMatch(page.url(), /zoom=/);
  await page.goto(zoomed);
  await page.getByRole("button", { name: "Whole time" }).waitFor();
  const map = await page.locator(".minimap").boundingBox();
  await page.mouse.move(map.x + map.width * 0.2, map.y + 10);
  await page.mouse.down();
  await page.mouse.move(map.x + map.width * 0.4, map.y + 10, { steps: 4 });
  await page.mouse.up();
  await page.waitForFunction((before) => location.href !== before, zoomed);

  await page.keyboard.press("?");
  await page.getByRole("dialog").getByText("the critical path").waitFor();
  await page.keyboard.press("Escape");
  await done();
});

test("a trace is copied as OTLP/JSON, whole", async () => {
  const id = summary.newest[0].trace_id;
  const { page, done } = await open(`#/t/${id}?h=${row.id}`);
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.getByRole("button", { name: "Copy OTLP/JSON" }).click();
  await page.getByRole("button", { name: "Copied" }).waitFor();
  const copiedDocument = JSON.parse(await page.evaluate(() => navigator.clipboard.readText()));
  const copied = copiedDocument.resourceSpans.flatMap((resource) =>
    resource.scopeSpans.flatMap((scope) => scope.spans),
  );
  const byId = (a, b) => (a.spanId < b.spanId ? -1 : 1);
  assert.deepEqual(copied.sort(byId), (await spansOf(row.id)).get(id).sort(byId));
  await done();
});

test("what is odd about a trace is said, and shown as it was sent", async () => {
  const warehouse = list.handlers.find(({ service }) => service === "warehouse");
  const { newest } = await json(`handlers/${warehouse.id}/summary.json`);
  const { page, done } = await open(`#/t/${newest[0].trace_id}?h=${warehouse.id}&span=${newest[0].span_id}`);
  await page.locator(".row .mark.odd", { hasText: "clock" }).first().waitFor();
  await page.getByText("before its parent: the clocks of the two differ").waitFor();
  await done();
});

test("requests that hit no handler lead to their traces, and to the handler that would take them now", async () => {
  const { page, done } = await open("#/404");
  await page.waitForSelector("tbody tr[data-index]");
  const document = await json(`not-found/${list.not_found[0].list}.json`);
  assert.match(await page.locator(".found").innerText(), new RegExp(`^${document.requests.length} paths$`));
  await page.fill("#filter", "get /orders");
  const fits = document.requests.filter(({ method, path }) => method === "GET" && path.includes("/orders"));
  await page.waitForFunction((n) => document.querySelectorAll("tbody tr[data-index]").length === n, fits.length);
  await page.getByRole("link", { name: "web/get-orders-orderid" }).first().click();
  await page.waitForSelector(".tiles");
  await page.goBack();
  await page.getByRole("button", { name: "Requests" }).click();
  assert.match(page.url(), /sort=-requests/);
  const entry = (await json(`handlers/${list.not_found[0].handler}/summary.json`)).newest[0];
  await page.goto(`${server.url}/site/#/404?q=`);
  await page.locator(`a[href*="${entry.trace_id}"]`).first().click();
  await page.waitForSelector(".waterfall");
  await done(NOT_THERE);
});

test("a trace that no page has is looked for, and a person is told what to do", async () => {
  const { page, done } = await open(`#/t/${"1".repeat(32)}?h=${row.id}`);
  await page.getByText(`tracefarm --store <this store> get ${"1".repeat(32)}`).waitFor();
  await page.getByRole("button", { name: "Look through all handlers' pages" }).click();
  await page.getByText("No handler's page has it.").waitFor({ timeout: 30_000 });
  // Opened without saying where: the handlers are asked.
  await page.goto(`${server.url}/site/#/t/${summary.newest[0].trace_id}`);
  await page.getByText("was opened without saying of which handler it is").waitFor();
  await page.getByRole("button", { name: "Look through all handlers' pages" }).click();
  await page.waitForSelector(".waterfall", { timeout: 30_000 });
  await done(NOT_THERE);
});

test("a server that finds every trace is asked", async () => {
  const id = summary.newest[0].trace_id;
  const document = await json(`handlers/${row.id}/traces.json.gz`);
  const { page, done } = await open("#/farm");
  await page.route(`**/api/trace/${id}`, (route) => route.fulfill({ json: { resourceSpans: document.resourceSpans } }));
  await page.goto(`${server.url}/site/#/t/${id}`);
  await page.waitForSelector(".waterfall");
  await done(NOT_THERE);
});

test("a server that says how the gzip'd files are encoded does no harm", async () => {
  const { page, done } = await open("#/farm");
  await page.route("**/traces.json.gz", async (route) => {
    const answer = await route.fetch();
    await route.fulfill({ response: answer, body: gunzipSync(await answer.body()) });
  });
  await page.goto(`${server.url}/site/#/t/${summary.newest[0].trace_id}?h=${row.id}`);
  await page.waitForSelector(".waterfall");
  await done(NOT_THERE);
});

test("the farm's page says who works, what waits and what could not be read, and when that is too old to count", async () => {
  const told = await json("farm.json");
  const { page, done } = await open("#/farm");
  const workers = page.getByRole("table", { name: "Workers" });
  await workers.waitFor();
  assert.equal(await workers.getByRole("row").count(), told.workers.length + 1);
  await page.getByText("Everything that came in could be read.").waitFor();
  assert.ok(await page.getByText("None has since").isHidden());
  const failing = [
    { stage: "index", item: "inbox/<b>bad</b>.json", why: "it <i>broke</i>", times: 3, since: "2026-11-22T01:00:00Z" },
  ];
  const [worker] = told.workers;
  const busy = {
    ...told,
    written_ms: told.written_ms - 3_600_000,
    workers: ["a", "b"].map((name, i) => ({
      ...worker,
      name,
      slice: { from: i / 2, until: (i + 1) / 2, shards: [i, i] },
      vitals: { ...worker.vitals, rank: i, peers: 2, failing_items: i, failing: i ? failing : [] },
    })),
    backlog: { objects: 12, bytes: 5_000_000, oldest_seconds: 95, more: false, kept: false },
    quarantine: {
      truncated: { objects: 2, bytes: 10, oldest_seconds: 60, newest: ["quarantine/truncated/x@y.error.json"] },
    },
  };
  await page.route("**/farm.json", (route) => route.fulfill({ json: busy }));
  await page.reload();
  await page.getByText("None has since").waitFor();
  await page.getByText("inbox/<b>bad</b>.json").waitFor();
  assert.deepEqual(await texts(page, ".slice"), ["a", "b"]);
  assert.match(await page.locator(".tiles").innerText(), /Waiting\s+12 5 MB, the oldest 1 min 35 s/);
  await page.getByRole("table", { name: "Quarantine" }).getByText("truncated", { exact: true }).waitFor();

  // Who has just begun has no place yet; who has none much later is kept out; an old program does not say.
  const unplaced = {
    ...worker,
    alive: true,
    slice: null,
    vitals: { ...worker.vitals, rank: null, peers: 0, stage: null },
  };
  const young = {
    ...told,
    workers: [
      { ...unplaced, name: "new", kept_out: false },
      { ...unplaced, name: "out", kept_out: true },
      { ...unplaced, name: "old", vitals: null },
    ],
  };
  await page.unroute("**/farm.json");
  await page.route("**/farm.json", (route) => route.fulfill({ json: young }));
  await page.reload();
  await workers.getByText("starting").first().waitFor();
  const places = (/** @type {string} */ name) => workers.getByRole("row", { name }).locator("td, th").allInnerTexts();
  assert.deepEqual((await places("new")).slice(1, 4), ["starting", "starting", "starting"]);
  assert.deepEqual((await places("out")).slice(1, 4), ["no place", "no place", "no place"]);
  assert.deepEqual((await places("old")).slice(1, 4), ["resting", "–", "–"]);
  await done();
});

test("an address that is no id is asked of nobody", async () => {
  const { page, done } = await open("#/nothing");
  const before = server.asked.length;
  for (const trick of [
    "#/h/../../farm/settings/0000000001",
    "#/h/web/%2e%2e%2f%2e%2e-5b1f0c3a",
    "#/h//evil.example/x-5b1f0c3a",
    "#/t/../../farm/x",
    "#/h/https://evil.example/x-5b1f0c3a",
  ]) {
    await page.evaluate((hash) => {
      location.hash = hash;
    }, trick);
    await page.getByText("There is no such page").waitFor();
  }
  assert.deepEqual(server.asked.slice(before), []);
  await done();
});

test("the choice of colours is remembered", async () => {
  const { page, done } = await open("#/");
  const colours = () => page.evaluate(() => getComputedStyle(document.documentElement).colorScheme);
  await page.locator("button.theme").click();
  await page.locator("button.theme").click();
  assert.equal(await colours(), "dark");
  await page.reload();
  assert.equal(await colours(), "dark");
  await page.locator("button.theme").click();
  assert.equal(await colours(), "light dark");
  await done();
});

test("a store in which nothing is indexed yet says so, and what to do", async () => {
  const fresh = await empty();
  const other = await serve(fresh.folder);
  const { page, done } = await browser.open(`${other.url}/site/`);
  await page.getByText("No handler yet").or(page.getByText("There is nothing here yet")).first().waitFor();
  await page.goto(`${other.url}/site/#/h/web/get-x-00000000`);
  await page.getByText("There is no such handler").waitFor();
  await done(NOT_THERE);
  await other.close();
  await fresh.remove();
});

test("a store that stops to answer is told from one that has nothing", async () => {
  const { page, done } = await open("#/farm");
  await page.route("**/handlers.json", (route) => route.abort());
  await page.goto(`${server.url}/site/#/`);
  await page.getByText("The store does not answer").waitFor();
  await page.unroute("**/handlers.json");
  await page.route("**/handlers.json", (route) => route.fulfill({ json: { version: 99 } }));
  await page.getByRole("button", { name: "Try again" }).click();
  await page.getByText("It has version 99").waitFor();
  await page.unroute("**/handlers.json");
  await page.getByRole("button", { name: "Try again" }).click();
  await page.waitForSelector("tbody tr[data-index]");
  await done(NOT_THERE, /ERR_FAILED/);
});
