// What a trace says is hostile: it is shown, and never done.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { start } from "./browser.mjs";
import { serve } from "./server.mjs";
import { ATTACKS, hostile, of } from "./stores.mjs";

let store;
let server;
let browser;

before(async () => {
  [store, browser] = [await of(...hostile(Date.now())), await start()];
  server = await serve(store.folder);
});

after(async () => {
  await browser?.close();
  await server?.close();
  await store?.remove();
});

/** Whatever in a page is not of our own making, or could run something. */
const foreign = (page) =>
  page.evaluate(() => {
    const odd = [
      ...document.querySelectorAll(
        "script:not([src*='assets/']), iframe, object, embed, base, style, link[href*='evil'], img:not(.brand > img), form[action]",
      ),
    ];
    for (const element of document.querySelectorAll("*")) {
      for (const { name, value } of element.attributes) {
        if (
          name.startsWith("on") ||
          (["href", "src", "action"].includes(name) && /^\s*(javascript|data|vbscript|https?|\/\/)/i.test(value))
        )
          odd.push(element);
      }
    }
    return odd.map((element) => element.outerHTML.slice(0, 200));
  });

test("no page runs, asks for or becomes what a trace says", async () => {
  const list = JSON.parse(await readFile(join(store.folder, "site/handlers.json"), "utf8"));
  assert.ok(list.handlers.length >= 3 * ATTACKS.length, `${list.handlers.length} handlers`);
  const { page, done } = await browser.open(`${server.url}/site/`);
  const addresses = ["#/", "#/404", ...list.handlers.map(({ id }) => `#/h/${id}`)];
  for (const { id } of list.handlers) {
    const { newest } = JSON.parse(await readFile(join(store.folder, "site/handlers", id, "summary.json"), "utf8"));
    addresses.push(`#/t/${newest[0].trace_id}?h=${id}&span=${newest[0].span_id}`);
  }
  for (const attack of ATTACKS) {
    const text = encodeURIComponent(attack);
    addresses.push(
      `#/?q=${text}&sort=${text}&service=${text}`,
      `#/404?q=${text}`,
      `#/h/${text}`,
      `#/t/${text}?h=${text}`,
      `#/${text}`,
    );
  }
  let shown = "";
  for (const address of addresses) {
    await page.goto(`${server.url}/site/${address}`);
    await page.waitForFunction(
      () => document.querySelector("main h1, main .below") && !document.querySelector("main .loading"),
    );
    await page.evaluate(() => {
      for (const details of document.querySelectorAll("details")) details.open = true;
    });
    shown += await page.locator("main").textContent();
    assert.deepEqual(await foreign(page), [], address);
  }
  // It is there to be read, though.
  for (const attack of ATTACKS.slice(0, 6)) assert.ok(shown.includes(attack), attack);
  await done(/404 \(Not Found\).*(api\/trace|traces\/)/);
});

test("the program's answer to a page is forbidden everything else, too", async () => {
  const { page, done } = await browser.open(`${server.url}/site/`);
  const outcome = await page.evaluate(async () => {
    const tried = {};
    tried.elsewhere = await fetch("http://127.0.0.1:9/").catch(() => "refused");
    try {
      document.body.insertAdjacentHTML("beforeend", "<p>markup</p>");
      tried.markup = "done";
    } catch {
      tried.markup = "refused";
    }
    const script = document.createElement("script");
    try {
      script.textContent = "window.ran = true";
      document.body.append(script);
    } catch {
      // As it should be.
    }
    tried.script = window.ran ? "done" : "refused";
    return tried;
  });
  assert.deepEqual(outcome, { elsewhere: "refused", markup: "refused", script: "refused" });
  await page.close();
  await assert.rejects(done, "the guard saw it");
});
