// A spark line: numbers over time, as small as a word.

import { svg } from "./dom.js";
import { counted } from "./format.js";

const WIDTH = 96;
const HEIGHT = 20;

/**
 * Bars, oldest first; the highest is the number `numbers` has most.
 * @param {number[]} numbers entries an hour
 */
export function spark(numbers) {
  const most = Math.max(...numbers, 1);
  const step = WIDTH / Math.max(numbers.length, 24);
  const begin = WIDTH - numbers.length * step;
  const bars = numbers.map((n, i) => {
    if (n === 0) return "";
    const height = Math.max(1.5, (HEIGHT * n) / most);
    const x = begin + i * step;
    return `M${x.toFixed(1)} ${HEIGHT}v${(-height).toFixed(1)}h${(step - 1).toFixed(1)}v${height.toFixed(1)}z`;
  });
  const label = numbers.length === 0 ? "no requests" : `at most ${counted(most, "request")} an hour`;
  const drawing = svg("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none" });
  drawing.setAttribute("role", "img");
  drawing.setAttribute("aria-label", label);
  drawing.append(svg("path", { d: bars.join("") || "M0 0" }));
  return drawing;
}
