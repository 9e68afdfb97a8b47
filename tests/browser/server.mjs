// A plain static server on a folder, as a bucket's website is one: no encodings, no listings.

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
  ".json": "application/json",
  ".gz": "application/gzip",
};

/**
 * Serves `folders`: the first that has a file answers.
 * @param {...string} folders
 * @returns {Promise<{ url: string, asked: string[], close: () => Promise<void> }>}
 */
export async function serve(...folders) {
  const asked = [];
  const server = createServer(async (request, answer) => {
    const path = decodeURIComponent(new URL(request.url, "http://x").pathname);
    asked.push(path);
    for (const folder of folders) {
      // What is left of dots is within the folder.
      let file = join(folder, normalize(`/${path}`));
      const known = await stat(file).catch(() => null);
      if (known?.isDirectory()) file = join(file, "index.html");
      const found = known?.isDirectory() ? await stat(file).catch(() => null) : known;
      if (!found?.isFile()) continue;
      answer.writeHead(200, {
        "content-type": TYPES[extname(file)] ?? "application/octet-stream",
        "content-length": found.size,
        "last-modified": found.mtime.toUTCString(),
      });
      createReadStream(file).pipe(answer);
      return;
    }
    answer.writeHead(404, { "content-type": "text/plain" }).end("not found");
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = () =>
    new Promise((resolve) => {
      server.closeAllConnections();
      server.close(resolve);
    });
  return { url: `http://127.0.0.1:${server.address().port}`, asked, close };
}
