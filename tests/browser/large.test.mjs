// Ten thousand handlers, and a trace of twenty thousand spans.

import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { availableParallelism, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { start } from "./browser.mjs";
import { manyHandlers } from "./many.mjs";
import { serve } from "./server.mjs";
import { empty, largeTrace, of } from "./stores.mjs";

const require = createRequire(join(process.env.TRACEFARM_BROWSER_TOOLS, "package.json"));
const Ajv = require("ajv/dist/2020").default;

/** What the list is allowed to take. */
const LISTED_MS = 2_000;

/** A machine that does other things besides is slow whatever the page does. */
const isBusy = () => loadavg()[0] > 1.5 * availableParallelism();

let browser;

before(async () => {
  browser = await start();
});

after(() => browser?.close());

/** The longest task since `mark`, in milliseconds. */
const longest = (page, mark = 0) =>
  page.evaluate(
    (since) => Math.round(Math.max(0, ...window.longTasks.filter(({ at }) => at >= since).map(({ ms }) => ms))),
    mark,
  );

const clock = (page) => page.evaluate(() => performance.now());

test("ten thousand handlers are listed in two seconds, and filtered and scrolled without a pause", async () => {
  const list = manyHandlers(10_000, Date.now());
  const validate = new Ajv({ strict: false, validateFormats: false }).compile(
    JSON.parse(await readFile("src/stage/publish/schema/handlers.json", "utf8")),
  );
  assert.ok(validate(list), JSON.stringify(validate.errors));
  const [pages, made] = [await empty(), await mkdtemp(join(tmpdir(), "tracefarm-many."))];
  await mkdir(join(made, "site"));
  await writeFile(join(made, "site/handlers.json"), JSON.stringify(list));
  const server = await serve(made, pages.folder);
  const times = [];
  for (let attempt = 0; attempt < 3; attempt++) {
    const { page, done } = await browser.open("about:blank".replace("about:blank", `${server.url}/site/#/farm`));
    await page.goto("about:blank");
    const began = Date.now();
    await page.goto(`${server.url}/site/`);
    await page.waitForSelector("tbody tr[data-index]");
    times.push(Date.now() - began);
    if (attempt === 2) {
      const loaded = await longest(page);
      const mark = await clock(page);
      await page.locator("#filter").pressSequentially("orders p95:>100ms -users", { delay: 30 });
      await page.waitForTimeout(300);
      const typed = await longest(page, mark);
      await page.fill("#filter", "");
      await page.waitForFunction(() => document.querySelector(".found").textContent === "10,000 handlers");
      const second = await clock(page);
      await page.getByRole("button", { name: "p95" }).click();
      const sorted = await longest(page, second);
      const third = await clock(page);
      for (let i = 0; i < 40; i++) {
        await page.mouse.wheel(0, 2_500);
        await page.waitForTimeout(25);
      }
      const scrolled = await longest(page, third);
      const rows = await page.locator("tbody tr[data-index]").count();
      assert.ok(rows < 150, `${rows} rows in the page`);
      console.log(
        `10,000 handlers (made up, ${JSON.stringify(list).length} bytes): listed in ${times.join(", ")} ms; longest task while loading ${loaded}, typing ${typed}, sorting ${sorted}, scrolling ${scrolled} ms`,
      );
      for (const width of [1440, 375]) {
        await page.setViewportSize({ width, height: 800 });
        await page.evaluate(() => window.scrollTo(0, 0));
        await page.waitForTimeout(100);
        await page.screenshot({ path: join(process.env.TRACEFARM_PICTURES ?? "target/pictures", `many-${width}.png`) });
      }
      await page.evaluate(() => window.scrollTo(0, document.documentElement.scrollHeight));
      await page.locator('tr[data-index="9999"]').waitFor();
    }
    await done(/farm\.json/);
  }
  if (isBusy()) console.log("the machine is busy with other things: the time is not held against the page");
  else assert.ok(Math.min(...times) < LISTED_MS, `listed in ${times.join(", ")} ms`);
  await server.close();
  await pages.remove();
  await rm(made, { recursive: true });
});

test("a trace of twenty thousand spans is opened, scrolled, searched and collapsed", async () => {
  const { trace, documents } = largeTrace(20_000, Date.now());
  const store = await of(...documents);
  const { handlers } = JSON.parse(await readFile(join(store.folder, "site/handlers.json"), "utf8"));
  const server = await serve(store.folder);
  const { page, done } = await browser.open(`${server.url}/site/#/404`);
  const began = Date.now();
  await page.goto(`${server.url}/site/#/t/${trace}?h=${handlers[0].id}`);
  await page.waitForSelector(".row");
  const opened = Date.now() - began;
  const loaded = await longest(page);
  assert.match(await page.locator(".strip").innerText(), /Spans\s+20,000\b/);
  let mark = await clock(page);
  await page.locator(".scroller").hover();
  for (let i = 0; i < 60; i++) {
    await page.mouse.wheel(0, 4_000);
    await page.waitForTimeout(20);
  }
  const scrolled = await longest(page, mark);
  const rows = await page.locator(".row").count();
  assert.ok(rows < 150, `${rows} rows in the page`);
  mark = await clock(page);
  await page.keyboard.press("/");
  await page.keyboard.type("id = 19999");
  await page.waitForFunction(() => document.querySelector(".search .found").textContent === "1 span", undefined, {
    timeout: 20_000,
  });
  await page.keyboard.press("Enter");
  await page.locator(".row.selected", { hasText: "select row 19999" }).waitFor();
  const searched = await longest(page, mark);
  mark = await clock(page);
  await page.getByRole("button", { name: "Collapse", exact: true }).click();
  await page.getByRole("button", { name: "Expand", exact: true }).click();
  const toggled = await longest(page, mark);
  console.log(
    `20,000 spans (indexed and published by the program): opened in ${opened} ms; longest task while loading ${loaded}, scrolling ${scrolled}, searching ${searched}, collapsing and expanding ${toggled} ms`,
  );
  await page.screenshot({ path: join(process.env.TRACEFARM_PICTURES ?? "target/pictures", "large-trace.png") });
  await done();
  await server.close();
  await store.remove();
});
