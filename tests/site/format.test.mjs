import assert from "node:assert/strict";
import test from "node:test";
import { ago, bytes, count, counted, duration, moment, percent, utcNanos } from "../../src/site/assets/format.js";

test("durations are read at a glance, from nanoseconds to days", () => {
  const read = [
    [0, "0"],
    [0.000001, "1 ns"],
    [0.0123, "12.3 µs"],
    [0.9996, "1 ms"],
    [4.5678, "4.57 ms"],
    [999.6, "1 s"],
    [1234, "1.23 s"],
    [59_949, "59.9 s"],
    [59_951, "1 min"],
    [125_000, "2 min 5 s"],
    [3_599_600, "1 h"],
    [11_400_000, "3 h 10 min"],
    [86_400_000 * 3 + 3_600_000, "3 d 1 h"],
    [-1.5, "−1.5 ms"],
    [null, "–"],
  ];
  for (const [ms, text] of read) assert.equal(duration(ms), text, String(ms));
});

test("a part is neither none nor all unless it is", () => {
  assert.equal(percent(0, 10), "0 %");
  assert.equal(percent(10, 10), "100 %");
  assert.equal(percent(1, 1_000_000), "< 0.01 %");
  assert.equal(percent(999_999, 1_000_000), "> 99.9 %");
  assert.equal(percent(14, 1000), "1.4 %");
  assert.equal(percent(0, 0), "–");
});

test("numbers have separators, and things their plural", () => {
  assert.equal(count(1234567), "1,234,567");
  assert.equal(counted(1, "span"), "1 span");
  assert.equal(counted(0, "entry", "entries"), "0 entries");
  assert.equal(bytes(999), "999 B");
  assert.equal(bytes(1_234_567), "1.23 MB");
});

test("moments say the year only if it is another one, and UTC keeps all digits", () => {
  const now = Date.parse("2026-11-26T20:00:00Z");
  assert.match(moment(Date.parse("2026-11-22T12:16:27Z"), now), /^22 Nov, \d\d:16:27$/);
  assert.match(moment(Date.parse("2025-06-15T12:00:00Z"), now), /2025/);
  assert.equal(moment(Number.NaN, now), "–");
  assert.equal(utcNanos(1_795_310_317_123_456_789n), "2026-11-22T01:18:37.123456789Z");
  assert.equal(ago(now - 90_000, now), "1 min ago");
  assert.equal(ago(now + 7_200_000, now), "in 2 h");
});
