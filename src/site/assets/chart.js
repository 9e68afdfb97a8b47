// Charts, drawn by uPlot (vendor/uplot, MIT): requests over time, and latencies.

import { count, duration } from "./format.js";
import { position } from "./series.js";
import { colour, onTheme } from "./theme.js";
import uPlot from "./vendor/uplot/uPlot.esm.js";

/** @typedef {import("./series.js").Series} Series */
/** @typedef {import("./store.js").Bucket} Bucket */

const HEIGHT = 180;
const FONT = "11px system-ui, sans-serif";

/**
 * Draws a chart into `parent`, as wide as it is, and anew when the width or the colours change.
 * @param {HTMLElement} parent
 * @param {(width: number) => { options: uPlot.Options, data: uPlot.AlignedData }} make
 * @param {AbortSignal} signal ends it
 */
function draw(parent, make, signal) {
  /** @type {uPlot | null} */
  let chart = null;
  const again = () => {
    chart?.destroy();
    chart = null;
    if (signal.aborted || parent.clientWidth === 0) return;
    const { options, data } = make(parent.clientWidth);
    chart = new uPlot(options, data, parent);
  };
  let width = 0;
  const observer = new ResizeObserver(() => {
    if (parent.clientWidth === width) return;
    width = parent.clientWidth;
    again();
  });
  observer.observe(parent);
  onTheme(again, signal);
  signal.addEventListener("abort", () => {
    observer.disconnect();
    chart?.destroy();
  });
}

const axis = () => ({
  stroke: colour("--muted"),
  font: FONT,
  grid: { stroke: colour("--line"), width: 1 },
  ticks: { stroke: colour("--line"), width: 1, size: 4 },
});

/** Bars from where a step begins, at most so many pixels wide. @param {number} widest */
const bars = (widest) =>
  /** @type {uPlot.Series.BarsPathBuilderFactory} */ (uPlot.paths.bars)({ size: [0.92, widest, 1], align: 1, gap: 0 });

/** @param {unknown} _ @param {number} __ @param {number} most @returns {uPlot.Range.MinMax} */
const fromZero = (_, __, most) => [0, Math.max(most, 1) * 1.05];

/** Half a request is none. @param {unknown} _ @param {number[]} marks */
const wholes = (_, marks) => marks.map((n) => (Number.isInteger(n) ? count(n) : ""));

const hours = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const days = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

/** Times of the day, and the day where it begins. @param {unknown} _ @param {number[]} marks */
function times(_, marks) {
  let before = "";
  return marks.map((seconds) => {
    const date = new Date(seconds * 1000);
    const day = days.format(date);
    const isNew = day !== before;
    before = day;
    return isNew ? `${hours.format(date)}\n${day}` : hours.format(date);
  });
}

/**
 * Requests and errors over time, as bars.
 * @param {HTMLElement} parent
 * @param {Series} series
 * @param {(text: string) => void} say what the pointer is on
 * @param {AbortSignal} signal
 */
export function historyChart(parent, series, say, signal) {
  const { seconds, starts, counts, errors } = series;
  const time = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
  draw(
    parent,
    (width) => {
      const one = (/** @type {string} */ name) => ({
        fill: colour(name),
        width: 0,
        paths: bars(60),
        points: { show: false },
      });
      const first = starts[0] ?? 0;
      const last = (starts.at(-1) ?? first) + seconds;
      // One lonely bar stands in the middle of some hours rather than across the page.
      const pad = Math.max(0, 12 - starts.length) * seconds * 0.5;
      /** @type {uPlot.Options} */
      const options = {
        width,
        height: HEIGHT,
        padding: [8, 8, 0, 0],
        legend: { show: false },
        cursor: { points: { show: false }, y: false, drag: { setScale: true, x: true, y: false } },
        scales: {
          x: {
            time: true,
            // All of it, unless a part was dragged over.
            range: (_, from, to) => (from === first && to === starts.at(-1) ? [first - pad, last + pad] : [from, to]),
          },
          y: { range: fromZero },
        },
        axes: [
          { ...axis(), grid: { show: false }, space: 64, size: 40, values: times },
          { ...axis(), size: 48, values: wholes },
        ],
        series: [{}, one("--bar"), one("--bad-bar")],
        hooks: {
          setCursor: [
            (chart) => {
              const i = chart.cursor.idx;
              if (i === null || i === undefined) return say("");
              const unit = seconds === 60 ? "minute" : "hour";
              say(
                `${time.format(new Date((starts[i] ?? 0) * 1000))}: ${count(counts[i] ?? 0)} requests, ${count(errors[i] ?? 0)} errors in this ${unit}`,
              );
            },
          ],
        },
      };
      return { options, data: [starts, counts, errors] };
    },
    signal,
  );
}

/**
 * The latency histogram, with lines at quantiles.
 * @param {HTMLElement} parent
 * @param {Bucket[]} histogram
 * @param {{ name: string, ms: number }[]} quantiles
 * @param {(text: string) => void} say what the pointer is on
 * @param {AbortSignal} signal
 */
export function latencyChart(parent, histogram, quantiles, say, signal) {
  const all = histogram.reduce((sum, bucket) => sum + bucket.count, 0);
  const ends = histogram.map((bucket) => bucket.le_ms);
  const name = (/** @type {number} */ i) => {
    const end = ends[i];
    if (i < 0 || i >= ends.length) return "";
    return end === null || end === undefined ? "more" : duration(end);
  };
  draw(
    parent,
    (width) => {
      /** @type {uPlot.Options} */
      const options = {
        width,
        height: HEIGHT,
        padding: [18, 24, 0, 0],
        legend: { show: false },
        cursor: { points: { show: false }, y: false, drag: { x: false, y: false } },
        scales: {
          x: { time: false, range: () => [0, Math.max(histogram.length, 4)] },
          y: { range: fromZero },
        },
        axes: [
          {
            ...axis(),
            grid: { show: false },
            size: 30,
            space: 44,
            // A tick at the end of a bar.
            incrs: [1, 2, 3, 5, 10],
            values: (_, marks) => marks.map((mark) => name(mark - 1)),
          },
          { ...axis(), size: 48, values: wholes },
        ],
        series: [
          {},
          {
            fill: colour("--bar"),
            width: 0,
            points: { show: false },
            paths: bars(120),
          },
        ],
        hooks: {
          draw: [(chart) => lines(chart, histogram, quantiles)],
          setCursor: [
            (chart) => {
              const left = chart.cursor.left ?? -1;
              const i = left < 0 ? -1 : Math.floor(chart.posToVal(left, "x"));
              const bucket = histogram[i];
              if (!bucket) return say("");
              const from = i === 0 ? "up to" : `${name(i - 1)} to`;
              const to = bucket.le_ms === null ? "more" : duration(bucket.le_ms);
              say(
                `${from} ${to}: ${count(bucket.count)} requests (${((100 * bucket.count) / Math.max(all, 1)).toFixed(1)} %)`,
              );
            },
          ],
        },
      };
      return { options, data: [histogram.map((_, i) => i), histogram.map((bucket) => bucket.count)] };
    },
    signal,
  );
}

/**
 * Lines at quantiles, over the bars; a name that would stand on another one's is left out.
 * @param {uPlot} chart
 * @param {Bucket[]} histogram
 * @param {{ name: string, ms: number }[]} quantiles
 */
function lines(chart, histogram, quantiles) {
  /** @type {CanvasRenderingContext2D} */
  const context = chart.ctx;
  const { top, height } = chart.bbox;
  const ratio = window.devicePixelRatio || 1;
  context.save();
  context.strokeStyle = context.fillStyle = colour("--text");
  context.lineWidth = ratio;
  context.font = `${11 * ratio}px system-ui, sans-serif`;
  context.textAlign = "center";
  let taken = -Infinity;
  for (const { name, ms } of quantiles) {
    const at = position(histogram, ms);
    if (at === null) continue;
    const x = Math.round(chart.valToPos(at, "x", true));
    context.setLineDash([3 * ratio, 3 * ratio]);
    context.beginPath();
    context.moveTo(x, top);
    context.lineTo(x, top + height);
    context.stroke();
    const half = context.measureText(name).width / 2;
    if (x - half < taken + 6 * ratio) continue;
    context.fillText(name, x, top - 5 * ratio);
    taken = x + half;
  }
  context.restore();
}
