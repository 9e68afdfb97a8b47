// The README's pictures: the demo's store, a minute after it was recorded. `scripts/picture` runs this.

import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";

import { start } from "./browser.mjs";
import { serve } from "./server.mjs";
import { demo } from "./stores.mjs";

const [folder] = process.argv.slice(2);
await mkdir(folder, { recursive: true });
const [store, browser] = [await demo(), await start()];
const server = await serve(store.folder);
const json = async (path) => JSON.parse(await readFile(join(store.folder, "site", path), "utf8"));
const { handlers } = await json("handlers.json");
const { id } = handlers.find(({ service, name }) => service === "web" && name === "POST /checkout");
// Of its newest traces the one with the most spans.
const { newest } = await json(`handlers/${id}/summary.json`);
const { resourceSpans } = JSON.parse(
  gunzipSync(await readFile(join(store.folder, "site/handlers", id, "traces.json.gz"))),
);
const spans = resourceSpans.flatMap((resource) => resource.scopeSpans.flatMap((scope) => scope.spans));
const size = ({ trace_id }) => spans.filter(({ traceId }) => traceId === trace_id).length;
const { trace_id, span_id } = newest.toSorted((a, b) => size(b) - size(a))[0];
const pictures = {
  handlers: ["#/?sort=-p99", 1280, 620],
  trace: [`#/t/${trace_id}?h=${id}&span=${span_id}`, 1280, 620],
};
for (const [name, [address, width, height]] of Object.entries(pictures)) {
  const { page, done } = await browser.open("about:blank", { width, height });
  await page.clock.setFixedTime(new Date("2026-11-22T01:20:00Z"));
  await page.goto(`${server.url}/site/${address}`);
  await page.waitForSelector("[data-index], .row");
  await page.waitForTimeout(300);
  await page.screenshot({ path: join(folder, `${name}.png`) });
  await done(/./);
}
await Promise.all([browser.close(), server.close(), store.remove()]);
