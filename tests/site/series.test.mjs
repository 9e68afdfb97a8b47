import assert from "node:assert/strict";
import test from "node:test";
import { byHour, byMinute, position } from "../../src/site/assets/series.js";

const HOUR = 3_600_000;
const point = (start_ms, seconds, count, errors = 0) => ({ start_ms, seconds, count, errors });

test("minutes are added up to hours, and hours without requests are drawn as none", () => {
  const begin = 100 * HOUR;
  const history = [
    point(begin, 3600, 7, 1),
    point(begin + 3 * HOUR, 60, 2),
    point(begin + 3 * HOUR + 120_000, 60, 3, 3),
  ];
  const hours = byHour(history);
  assert.deepEqual(
    [hours.counts, hours.errors],
    [
      [7, 0, 0, 5],
      [1, 0, 0, 3],
    ],
  );
  assert.equal(hours.starts[3], (begin + 3 * HOUR) / 1000);
  assert.deepEqual(byMinute(history).counts, [2, 0, 3]);
  assert.deepEqual(byHour([]).starts, []);
});

test("an archive's gap of years is not drawn hour by hour", () => {
  assert.equal(byHour([point(0, 3600, 1), point(40 * 365 * 24 * HOUR, 3600, 1)]).starts.length, 2);
});

test("a latency stands where it belongs in a histogram of 1, 2, 5", () => {
  const histogram = [1, 2, 5, 10].map((le_ms) => ({ le_ms, count: 1 }));
  assert.equal(position(histogram, 1), 1);
  assert.equal(position(histogram, 0.5), 0);
  assert.equal(position(histogram, 10), 4);
  assert.ok(position(histogram, 3) > 2 && position(histogram, 3) < 3);
  assert.equal(position(histogram, 20), null);
  assert.equal(position([...histogram, { le_ms: null, count: 1 }], 20), 4.5);
});
