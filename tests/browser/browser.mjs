// A browser that is alone: its own empty profile, no request but to the server under test, no console error unseen.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

// Installed by scripts/browser, outside of the repository.
const { chromium } = createRequire(join(process.env.TRACEFARM_BROWSER_TOOLS ?? ".", "package.json"))("playwright-core");

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/**
 * Starts a browser.
 * @returns {Promise<{ open: (url: string, options?: object) => Promise<Watched>, close: () => Promise<void> }>}
 */
export async function start() {
  const profile = await mkdtemp(join(tmpdir(), "tracefarm-browser."));
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.TRACEFARM_CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: FLAGS,
    viewport: { width: 1440, height: 900 },
    locale: "en-GB",
    timezoneId: "UTC",
  });
  return {
    open: (url, options) => watched(browser, url, options),
    close: async () => {
      await browser.close();
      await rm(profile, { recursive: true, force: true });
    },
  };
}

/**
 * @typedef {object} Watched
 * @property {import("playwright-core").Page} page
 * @property {(...allowed: RegExp[]) => Promise<void>} done closes the page and fails if it did what no page may do;
 *   `allowed` console errors are expected
 */

/** A page that remembers whatever it should not have done. */
async function watched(browser, url, { width = 1440, height = 900, dark = false } = {}) {
  const page = await browser.newPage();
  await page.setViewportSize({ width, height });
  await page.emulateMedia({ colorScheme: dark ? "dark" : "light", reducedMotion: "reduce" });
  const origin = url === "about:blank" ? null : new URL(url).origin;
  const wrong = [];
  page.on("request", (request) => {
    if (origin && new URL(request.url()).origin !== origin) wrong.push(`a request to ${request.url()}`);
  });
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type()))
      wrong.push(`${message.type()}: ${message.text()} (${message.location().url})`);
  });
  page.on("pageerror", (error) => wrong.push(`an exception: ${error.stack}`));
  page.on("dialog", (dialog) => {
    wrong.push(`a dialogue: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("popup", (popup) => wrong.push(`another window: ${popup.url()}`));
  await page.addInitScript(() => {
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) =>
      window.violations.push(`${event.violatedDirective} ${event.blockedURI}`),
    );
    window.longTasks = [];
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) window.longTasks.push({ at: entry.startTime, ms: entry.duration });
    }).observe({ type: "longtask", buffered: true });
  });
  await page.goto(url);
  return {
    page,
    done: async (...allowed) => {
      const violations = await page.evaluate(() => window.violations);
      await page.close();
      assert.deepEqual(
        [...wrong, ...violations].filter((what) => !allowed.some((pattern) => pattern.test(what))),
        [],
      );
    },
  };
}
