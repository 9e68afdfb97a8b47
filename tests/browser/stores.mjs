// Stores to look at, made by the program itself from OTLP.

import { execFile, spawn } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** The program, as scripts/browser built it. */
const program = process.env.TRACEFARM ?? "target/debug/tracefarm";

/**
 * A new folder with a store in it.
 * @param {(folder: string) => Promise<void>} make
 * @returns {Promise<{ folder: string, remove: () => Promise<void> }>}
 */
async function made(make) {
  const folder = await mkdtemp(join(tmpdir(), "tracefarm-store."));
  await make(folder);
  return { folder, remove: () => rm(folder, { recursive: true, force: true }) };
}

/** Runs the program on a store: what it printed. @param {string} folder @param {string[]} args */
export const tracefarm = async (folder, ...args) => (await run(program, ["--store", folder, ...args])).stdout;

/** A shell's command, where the program is `tracefarm` and the store is named. @param {string} folder @param {string} text */
export const typed = (folder, text) =>
  run("sh", ["-euc", `tracefarm() { "$PROGRAM" "$@"; }\n${text}`], {
    env: { PATH: process.env.PATH, PROGRAM: program, TRACEFARM_STORE: folder },
  });

/** Puts more OTLP/JSON documents into a store, and works. @param {string} folder @param {Record<string, object>} documents */
export async function more(folder, documents) {
  for (const [name, document] of Object.entries(documents)) {
    await mkdir(join(folder, "inbox"), { recursive: true });
    await writeFile(join(folder, "inbox", `${name}.json`), JSON.stringify(document));
  }
  await tracefarm(folder, "run", "--once", "--grace", "0s");
}

/** `tracefarm serve` on a store. @param {string} folder */
export async function serveProgram(folder) {
  const child = spawn(program, ["--store", folder, "serve", "--listen", "127.0.0.1:0"]);
  const line = await new Promise((resolve) => child.stdout.once("data", (data) => resolve(String(data))));
  return { url: /http:\/\/[^/]+/.exec(line)[0], close: () => child.kill() };
}

/** The demo's store: two minutes of a small shop. */
export const demo = () => made((folder) => run(program, ["--store", folder, "demo", "--no-serve"]));

/** A store of these OTLP/JSON documents. @param {object[]} documents */
export const of = (...documents) =>
  made(async (folder) => {
    await mkdir(join(folder, "inbox"), { recursive: true });
    await Promise.all(
      documents.map((document, i) => writeFile(join(folder, "inbox", `${i}.json`), JSON.stringify(document))),
    );
    await run(program, ["--store", folder, "run", "--once", "--grace", "0s"]);
  });

/** A store in which nothing has been written but the pages. */
export const empty = () => of();

export const text = (key, stringValue) => ({ key, value: { stringValue } });

/** A span of a request. */
export function span({ trace, id, parent = "", name, from, to, kind = 2, attributes = [], ...more }) {
  return {
    traceId: trace,
    spanId: id,
    parentSpanId: parent,
    name,
    kind,
    startTimeUnixNano: from,
    endTimeUnixNano: to,
    attributes,
    ...more,
  };
}

/** A document of one service's spans. */
export function document(service, spans, { resource = [], scope = { name: "by hand" } } = {}) {
  return {
    resourceSpans: [
      { resource: { attributes: [text("service.name", service), ...resource] }, scopeSpans: [{ scope, spans }] },
    ],
  };
}

export const hex = (n, digits) => n.toString(16).padStart(digits, "0");

/** Nanoseconds since 1970, so many milliseconds after `began`. */
export const at = (began, ms) => String(BigInt(began) * 1_000_000n + BigInt(Math.round(ms * 1e6)));

/** What somebody would send who wants a page to run something. Each says its number when it does. */
export const ATTACKS = [
  "<script>alert(1)</script>",
  '"><img src=x onerror=alert(2)>',
  "'><svg/onload=alert(3)>",
  "javascript:alert(4)",
  "</title></style><iframe srcdoc='<script>parent.alert(5)</script>'>",
  "{{constructor.constructor('alert(6)')()}} ${alert(6)}",
  "\u202Egnp.exe \u0000\u001b[31m\u2028alert(7)",
  "https://evil.example/?x=<a href=https://evil.example onclick=alert(8)>",
  "<base href=https://evil.example><link rel=stylesheet href=https://evil.example/x.css>",
  "../../../../farm/settings/0000000001.json#/h/../..",
];

/** Traces that say each of them in every place where text may stand. @param {number} now */
export function hostile(now) {
  return ATTACKS.map((attack, i) => {
    const trace = hex(0xabc0 + i, 32);
    const began = now - 60_000 - i * 1000;
    const everywhere = [
      text(attack, attack),
      text("http.request.header.x", attack),
      { key: "list", value: { arrayValue: { values: [{ stringValue: attack }] } } },
    ];
    const spans = [
      // A handler whose name is the attack.
      span({
        trace,
        id: hex(1, 16),
        name: attack,
        from: at(began, 0),
        to: at(began, 40),
        attributes: [
          text("http.request.method", "GET"),
          text("http.route", `/${attack}`),
          text("url.path", `/${attack}`),
          text("error.type", attack),
          ...everywhere,
        ],
        traceState: attack,
        status: { code: 2, message: attack },
        events: [
          { name: attack, timeUnixNano: at(began, 5), attributes: everywhere },
          {
            name: "exception",
            timeUnixNano: at(began, 6),
            attributes: [
              text("exception.type", attack),
              text("exception.message", attack),
              text("exception.stacktrace", `at ${attack}\n`.repeat(3)),
            ],
          },
        ],
        links: [
          {
            traceId: hex(0xabc0 + ((i + 1) % ATTACKS.length), 32),
            spanId: hex(1, 16),
            traceState: attack,
            attributes: everywhere,
          },
        ],
      }),
      span({
        trace,
        id: hex(2, 16),
        parent: hex(1, 16),
        name: attack,
        kind: 3,
        from: at(began, 1),
        to: at(began, 9),
        attributes: [text("db.system", attack), text("peer.service", attack), text("db.operation.name", attack)],
      }),
      // A request that hits nothing, and a job.
      span({
        trace: hex(0xdef0 + i, 32),
        id: hex(3, 16),
        name: "GET",
        from: at(began, 0),
        to: at(began, 2),
        attributes: [
          text("http.request.method", "GET"),
          text("url.path", `/${attack}`),
          { key: "http.response.status_code", value: { intValue: 404 } },
        ],
      }),
      span({ trace: hex(0xfed0 + i, 32), id: hex(4, 16), name: attack, kind: 1, from: at(began, 0), to: at(began, 2) }),
      span({
        trace: hex(0xced0 + i, 32),
        id: hex(5, 16),
        name: attack,
        kind: 5,
        from: at(began, 0),
        to: at(began, 2),
        attributes: [text("messaging.operation.name", attack), text("messaging.destination.name", attack)],
      }),
    ];
    const scope = { name: attack, version: attack, attributes: everywhere };
    return document(attack, spans, { resource: [text("service.namespace", attack), ...everywhere], scope });
  });
}

/** One trace of `count` spans: below a request, three deep. @param {number} count @param {number} now */
export function largeTrace(count, now) {
  const trace = hex(0x1a46e, 32);
  const began = now - 60_000;
  const spans = Array.from({ length: count }, (_, i) => {
    const [parent, from, length] =
      i === 0 ? ["", 0, 30_000] : i % 10 === 1 ? [hex(1, 16), i, 12] : [hex(i - (i % 10 || 10) + 2, 16), i + 0.5, 0.9];
    return span({
      trace,
      id: hex(i + 1, 16),
      parent,
      name: i === 0 ? "GET /report" : `select row ${i}`,
      kind: i === 0 ? 2 : 3,
      from: at(began, from),
      to: at(began, from + length),
      attributes:
        i === 0
          ? [text("http.request.method", "GET"), text("http.route", "/report")]
          : [text("db.system", "sqlite"), text("db.query.text", `select * from stock where id = ${i}`)],
    });
  });
  return { trace, documents: [document("reports", spans)] };
}
