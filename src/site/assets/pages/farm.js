// `#/farm`: who works, what waits, what fails, as rank 0 of the workers wrote it last.

import { el, fill } from "../dom.js";
import { bytes, count, counted, duration, NOTHING } from "../format.js";
import { farm as read, StoreError } from "../store.js";
import { plainTable } from "../table.js";
import { since, when } from "../when.js";
import { command, message } from "./message.js";

/** @typedef {import("../store.js").Farm} Farm */
/** @typedef {import("../store.js").Worker} Worker */
/** @typedef {import("../router.js").Route} Route */
/** @typedef {import("../main.js").View} View */
/** @typedef {import("../dom.js").Child} Child */

/** A worker that writes a little late is none that is gone. */
const PATIENCE = 1.5;

/**
 * @param {Route} _route
 * @param {AbortSignal} signal
 * @returns {Promise<View>}
 */
export async function farm(_route, signal) {
  const node = el("div", { class: "farm" });
  const draw = async () => {
    try {
      fill(node, ...shown((await read(signal)).body));
    } catch (error) {
      if (!(error instanceof StoreError) || error.kind !== "missing") throw error;
      fill(node, nothing());
    }
  };
  await draw();
  return { title: "The farm", node, refresh: draw };
}

function nothing() {
  return message(
    "The farm has not told of itself yet",
    el("p", {}, "A worker writes what all of them do beside the pages, within a minute of its start:"),
    command("tracefarm --store <this store> run"),
    el("p", {}, "Right now it is told by a command:"),
    command("tracefarm --store <this store> status"),
  );
}

/** @param {Farm} body @returns {Child[]} */
function shown(body) {
  const alive = body.workers.filter((worker) => worker.alive);
  const age = (Date.now() - body.written_ms) / 1000;
  const isLate = age > body.again_seconds * PATIENCE;
  return [
    el(
      "header",
      { class: "heading" },
      el("h1", {}, "The farm"),
      el("p", { class: "muted" }, "As it was ", since(body.written_ms), "."),
      isLate &&
        el(
          "p",
          { class: "notes" },
          `A worker writes this every ${duration(body.again_seconds * 1000)} at least. None has since: no worker is running, ` +
            "or the one that should cannot write. What follows is as it was then.",
        ),
    ),
    tiles(body, alive),
    slices(alive),
    workers(body.workers),
    failures(alive),
    quarantine(body),
  ];
}

/** @param {Farm} body @param {Worker[]} alive */
function tiles(body, alive) {
  const tile = (/** @type {string} */ name, /** @type {Child} */ value, /** @type {Child} */ more = null) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, value, more && el("small", {}, " ", more)));
  const { backlog } = body;
  const failing = alive.reduce((sum, worker) => sum + (worker.vitals?.failing_items ?? 0), 0);
  const set = Object.values(body.quarantine).reduce((sum, { objects }) => sum + objects, 0);
  const versions = [...new Set(alive.map((worker) => worker.version ?? "unknown"))].sort();
  const dollars = body.today.dollars;
  return el(
    "dl",
    { class: "tiles" },
    tile(
      "Workers",
      count(alive.length),
      alive.length < body.workers.length && `${count(body.workers.length - alive.length)} gone`,
    ),
    tile(
      "Waiting",
      backlog ? `${count(backlog.objects)}${backlog.more ? "+" : ""}` : NOTHING,
      backlog &&
        backlog.objects > 0 &&
        `${bytes(backlog.bytes)}, the oldest ${duration(backlog.oldest_seconds * 1000)}`,
    ),
    tile("Failing", el("span", { class: failing > 0 ? "bad" : "" }, count(failing))),
    tile("Quarantined", el("span", { class: set > 0 ? "bad" : "" }, count(set))),
    tile("Requests today", count(body.today.requests), dollars > 0 && `$${dollars.toFixed(2)}`),
    tile("Shards", count(body.shards)),
    tile(versions.length > 1 ? "Versions" : "Version", versions.join(", ") || NOTHING),
  );
}

/** @param {string} title @param {...Child} children */
const section = (title, ...children) => el("section", { class: "panel" }, el("h2", {}, title), ...children);

/** Who does which part of the work: a bar of all of it. @param {Worker[]} alive */
function slices(alive) {
  const placed = alive.flatMap(({ name, slice }) => (slice ? [{ name, slice }] : []));
  if (placed.length < 2) return null;
  placed.sort((a, b) => a.slice.from - b.slice.from);
  const parts = placed.map(({ name, slice }, i) => {
    const part = el("span", { class: "slice", "data-colour": i % 12, title: `${name}: ${places(slice)}` }, name);
    part.style.left = `${slice.from * 100}%`;
    part.style.width = `${(slice.until - slice.from) * 100}%`;
    return part;
  });
  return section(
    "Who does what",
    el("p", { class: "muted" }, "Every list of work, sorted, from its beginning to its end."),
    el("div", { class: "slices", "aria-hidden": "true" }, ...parts),
  );
}

/** @param {NonNullable<Worker["slice"]>} slice */
function places({ from, until, shards }) {
  const part = `${Math.round(from * 100)} to ${Math.round(until * 100)} %`;
  if (!shards) return part;
  return `${part}, pages of ${shards[0] === shards[1] ? `shard ${shards[0]}` : `shards ${shards[0]} to ${shards[1]}`}`;
}

/** What a worker without a place does instead; older programs do not say. @param {Worker} worker */
function unplaced({ alive, kept_out, vitals }) {
  if (!alive || !vitals || vitals.rank !== null) return NOTHING;
  return kept_out ? "no place" : "starting";
}

/** @param {Worker[]} all */
function workers(all) {
  if (all.length === 0) return section("Workers", el("p", { class: "muted" }, "None has ever written a heartbeat."));
  const order = [...all].sort(
    (a, b) => Number(b.alive) - Number(a.alive) || (a.vitals?.rank ?? 1e9) - (b.vitals?.rank ?? 1e9),
  );
  const rows = order.map((worker) => {
    const { vitals } = worker;
    const rank = vitals?.rank ?? null;
    const failing = vitals?.failing_items ?? 0;
    return [
      [worker.name],
      [
        worker.alive
          ? (vitals?.stage ?? (vitals?.rank === null ? unplaced(worker) : "resting"))
          : el("span", { class: "muted" }, `gone for ${duration(worker.seen_seconds * 1000)}`),
      ],
      [rank === null ? unplaced(worker) : `${rank + 1} of ${vitals?.peers ?? "?"}`],
      [worker.slice ? places(worker.slice) : unplaced(worker)],
      [count(worker.in_hand)],
      [vitals ? count(vitals.spans) : NOTHING],
      [el("span", { class: failing > 0 ? "bad" : "muted" }, count(failing))],
      [vitals?.memory_bytes ? bytes(vitals.memory_bytes) : NOTHING],
      [worker.version ?? NOTHING],
      [worker.started ? when(Date.parse(worker.started)) : NOTHING],
    ];
  });
  const heads = [
    "Worker",
    "Does",
    "Place",
    "Part of the work",
    "#In hand",
    "#Spans indexed",
    "#Failing",
    "#Memory",
    "Version",
    "Started",
  ];
  return section(
    "Workers",
    el(
      "div",
      { class: "wide", tabindex: "0", role: "region", "aria-label": "Workers" },
      plainTable("Workers", heads, rows, "workers"),
    ),
  );
}

/** @param {Worker[]} alive */
function failures(alive) {
  const all = alive.flatMap((worker) => (worker.vitals?.failing ?? []).map((item) => ({ worker, item })));
  if (all.length === 0) return null;
  all.sort((a, b) => b.item.times - a.item.times);
  const rows = all.map(({ worker, item }) => [
    [el("span", { class: "mono" }, item.item)],
    [item.stage],
    [item.why],
    [count(item.times)],
    [when(Date.parse(item.since))],
    [worker.name],
  ]);
  const hidden = alive.reduce(
    (sum, { vitals }) => sum + (vitals ? vitals.failing_items - vitals.failing.length : 0),
    0,
  );
  return section(
    "What fails",
    el("p", { class: "muted" }, "Each is tried again, less and less often."),
    el(
      "div",
      { class: "wide", tabindex: "0", role: "region", "aria-label": "What fails" },
      plainTable("What fails", ["Item", "Stage", "Why", "#Times", "Since", "Worker"], rows, "failing"),
    ),
    hidden > 0 && el("p", { class: "muted" }, `And ${counted(hidden, "other")}.`),
  );
}

/** @param {Farm} body */
function quarantine(body) {
  const reasons = Object.entries(body.quarantine).sort(([, a], [, b]) => b.objects - a.objects);
  if (reasons.length === 0 && body.damaged_blocks.length === 0) {
    return section("Quarantine", el("p", { class: "muted" }, "Everything that came in could be read."));
  }
  const rows = reasons.map(([reason, { objects, bytes: size, oldest_seconds, newest }]) => [
    [reason],
    [count(objects)],
    [size > 0 ? bytes(size) : NOTHING],
    [oldest_seconds === null ? NOTHING : `${duration(oldest_seconds * 1000)} ago`],
    [el("ul", {}, ...newest.map((key) => el("li", {}, el("code", {}, key))))],
  ]);
  return section(
    "Quarantine",
    reasons.length > 0 &&
      el(
        "div",
        { class: "wide", tabindex: "0", role: "region", "aria-label": "Quarantine" },
        plainTable("Quarantine", ["Reason", "#Objects", "#Size", "Since", "Explained by"], rows, "quarantine"),
      ),
    body.damaged_blocks.length > 0 &&
      el(
        "p",
        { class: "notes" },
        `${counted(body.damaged_blocks.length, "block")} cannot be read and ${body.damaged_blocks.length === 1 ? "is" : "are"} skipped: `,
        body.damaged_blocks.join(", "),
      ),
  );
}
